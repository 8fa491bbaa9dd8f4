//! A CSV file with a heading: a column of pictures and a column of texts.
//!
//! ```text
//! asin,title,imgUrl,stars
//! B014TMV5YE,"Luggage, Black",photos/815dLQKYIYL.jpg,4.5
//! ```
//!
//! Pictures are paths, relative to the file's folder. Amazon Products 2023 has addresses there:
//! [`Download`](crate::Download) makes a folder of them. Texts are cleaned: HTML's character references
//! become characters, and white space of any kind a single space.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord, Trim};

use super::{
    Strictness,
    assemble::{Entry, Found},
    clean::clean,
};
use crate::{Corpus, Error, Result, Skipped};

/// Names that a column of pictures has; the first that is there is taken, in letters of any case.
pub const PICTURE_COLUMNS: [&str; 5] = ["imgUrl", "image_url", "image", "picture", "path"];
/// Names that a column of texts has, likewise.
pub const TEXT_COLUMNS: [&str; 3] = ["title", "caption", "text"];

/// Which columns are meant; `None` is the one with a known name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// Of pictures: [`PICTURE_COLUMNS`] are known.
    pub picture: Option<String>,
    /// Of texts: [`TEXT_COLUMNS`] are known.
    pub text: Option<String>,
}

/// A row that has both.
pub(crate) struct Row {
    /// File and line, for messages.
    pub place: String,
    pub picture: String,
    /// Cleaned.
    pub text: String,
}

/// Loads the file `path`; the corpus is called like it, and has no splits.
///
/// A row without a picture or a text, and one whose picture is missing, is skipped, or fatal in strict
/// mode. Rows with the same picture are its captions. Pictures are not decoded.
///
/// # Errors
/// [`Error::NoSuchColumn`]; [`Error::Malformed`], naming the line, for a row that isn't as long as the
/// heading or not UTF-8; [`Error::NotADataset`] when pictures are addresses, or none is there;
/// [`Error::Refused`] in strict mode; [`Error::Io`].
pub fn load(path: &Path, columns: &Columns, strictness: Strictness) -> Result<Corpus> {
    let (rows, skipped) = rows(path, columns, usize::MAX)?;
    if let Some(row) = rows.iter().find(|row| is_address(&row.picture)) {
        return Err(with_addresses(path, &row.picture));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let file = |row: &Row| (row.picture.clone(), folder.join(&row.picture));
    let files: BTreeMap<String, PathBuf> =
        rows.iter().map(file).filter(|(_, path)| path.is_file()).collect();
    let entry = |row: Row| Entry { place: row.place, picture: row.picture, text: row.text };
    let captions = rows.into_iter().map(entry).collect();
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let splits = BTreeMap::new();
    Found { folder: path, name, files, captions, splits, skipped }.assemble(strictness)
}

/// The path and the columns of `FILE.csv`, `FILE.csv?picture=COLUMN`, and so on, if `spec` is that.
pub(super) fn parse(spec: &str) -> Option<(PathBuf, Columns)> {
    let (path, settings) = match spec.split_once(".csv?") {
        Some(parts) => parts,
        None => (spec.strip_suffix(".csv")?, ""),
    };
    let mut columns = Columns::default();
    for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
        match setting.split_once('=')? {
            ("picture", name) => columns.picture = Some(name.into()),
            ("text", name) => columns.text = Some(name.into()),
            _ => return None,
        }
    }
    Some((format!("{path}.csv").into(), columns))
}

/// Is it the address of a picture, and not a path?
pub(crate) fn is_address(picture: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| {
        picture.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    })
}

/// The first `limit` rows; those without a picture or a text are skipped.
pub(crate) fn rows(
    path: &Path,
    columns: &Columns,
    limit: usize,
) -> Result<(Vec<Row>, Vec<Skipped>)> {
    let in_file = |error| malformed(path, error);
    let mut reader = ReaderBuilder::new().trim(Trim::Headers).from_path(path).map_err(in_file)?;
    let [picture, text] = positions(path, &mut reader, columns)?;
    let (mut rows, mut skipped) = (vec![], vec![]);
    for record in reader.records().take(limit) {
        let record = record.map_err(in_file)?;
        let line = record.position().map_or(0, |position| position.line());
        let place = format!("{}, line {line}", path.display());
        let row = Row { place, picture: record[picture].trim().into(), text: clean(&record[text]) };
        match missing(&row) {
            None => rows.push(row),
            Some(what) => {
                skipped.push(Skipped { what: row.place, why: format!("it has no {what}") });
            }
        }
    }
    if rows.is_empty() {
        return Err(Error::malformed(
            path,
            1,
            "rows with a picture and a text",
            "none in the whole file",
        ));
    }
    Ok((rows, skipped))
}

fn missing(row: &Row) -> Option<&'static str> {
    match row {
        _ if row.picture.is_empty() => Some("picture"),
        _ if row.text.is_empty() => Some("text"),
        _ => None,
    }
}

fn positions<R: std::io::Read>(
    path: &Path,
    reader: &mut Reader<R>,
    columns: &Columns,
) -> Result<[usize; 2]> {
    let heading = reader.headers().map_err(|error| malformed(path, error))?;
    Ok([
        position(path, heading, columns.picture.as_deref(), &PICTURE_COLUMNS)?,
        position(path, heading, columns.text.as_deref(), &TEXT_COLUMNS)?,
    ])
}

fn position(
    path: &Path,
    heading: &StringRecord,
    wanted: Option<&str>,
    known: &[&str],
) -> Result<usize> {
    let wanted = wanted.as_slice();
    let names = if wanted.is_empty() { known } else { wanted };
    let at = |name: &&str| heading.iter().position(|there| there.eq_ignore_ascii_case(name));
    names.iter().find_map(at).ok_or_else(|| Error::NoSuchColumn {
        path: path.into(),
        wanted: names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or "),
        available: heading.iter().map(|name| format!("`{name}`")).collect(),
    })
}

fn malformed(path: &Path, error: csv::Error) -> Error {
    let line = error.position().map_or(1, |position| position.line() as usize);
    match error.into_kind() {
        ErrorKind::Io(error) => Error::io(path, error),
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            let found = format!("{len} fields where there are {expected_len}");
            Error::malformed(path, line, "as many fields as the heading has", &found)
        }
        ErrorKind::Utf8 { err, .. } => Error::malformed(path, line, "UTF-8 text", &err.to_string()),
        other => Error::malformed(path, line, "comma-separated values", &format!("{other:?}")),
    }
}

fn with_addresses(path: &Path, first: &str) -> Error {
    let path = path.display().to_string();
    let why = format!(
        "its pictures are addresses, such as {first}; fetch them with `xr data fetch {path} --out DIR`, \
         and use that folder"
    );
    Error::NotADataset { what: path, why }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A folder with these pictures, and `p.csv`.
    fn folder(pictures: &[&str], table: impl AsRef<[u8]>) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in pictures {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        fs::write(dir.path().join("p.csv"), table).unwrap();
        dir
    }

    fn open(dir: &tempfile::TempDir, settings: &str, strictness: Strictness) -> Result<Corpus> {
        let spec = format!("{}{settings}", dir.path().join("p.csv").display());
        super::super::open(&spec, strictness)
    }

    fn message(table: &str, settings: &str) -> String {
        let dir = folder(&["a.jpg"], table);
        let message = open(&dir, settings, Strictness::Lenient).unwrap_err().to_string();
        message.replace(&dir.path().display().to_string(), "DIR")
    }

    fn captions(corpus: &Corpus) -> Vec<(&str, &str)> {
        let name = |picture: u32| corpus.pictures[picture as usize].name.as_str();
        corpus.captions.iter().map(|c| (name(c.picture), c.text.as_str())).collect()
    }

    #[test]
    fn columns_by_their_names() {
        let table = "\u{feff}asin, Title ,IMGURL\nB1,\"Boots, \"\"brown\"\" &amp; black\",x/b.png\n\
                     B2,A\u{a0} rug,a.jpg\r\nB3,\"Two\nlines\",a.jpg\n";
        let corpus = open(&folder(&["a.jpg", "x/b.png"], table), "", Strictness::Strict).unwrap();
        let expected =
            [("a.jpg", "A rug"), ("a.jpg", "Two lines"), ("x/b.png", "Boots, \"brown\" & black")];
        assert_eq!(captions(&corpus), expected);
        assert_eq!((corpus.name.as_str(), corpus.splits.len()), ("p", 0));
        assert!(corpus.pictures[0].load().is_err(), "the file is there and empty");
    }

    #[test]
    fn columns_that_are_named() {
        let dir = folder(&["a.jpg"], "foto,name,image\na.jpg,A rug,none\n");
        let corpus = open(&dir, "?picture=foto&text=name", Strictness::Strict).unwrap();
        assert_eq!(captions(&corpus), [("a.jpg", "A rug")]);
        assert!(parse("p.csv?split=1").is_none() && parse("folder").is_none());
    }

    #[test]
    fn a_column_that_is_not_there() {
        let hint = "say which is meant: `DIR/p.csv?picture=COLUMN&text=COLUMN`, or --picture COLUMN and \
                    --text COLUMN of `xr data fetch`";
        assert_eq!(
            message("asin,title\nB1,A rug\n", ""),
            format!(
                "DIR/p.csv: there is no column `imgUrl` or `image_url` or `image` or `picture` or \
                 `path`; it has `asin`, `title`; {hint}"
            )
        );
        assert_eq!(
            message("image,title\na.jpg,A rug\n", "?text=name"),
            format!("DIR/p.csv: there is no column `name`; it has `image`, `title`; {hint}")
        );
    }

    #[test]
    fn a_row_that_is_too_short() {
        assert_eq!(
            message("image,title\na.jpg,A rug\na.jpg\n", ""),
            "DIR/p.csv, line 3: expected as many fields as the heading has, found 1 fields where there \
             are 2"
        );
    }

    #[test]
    fn not_utf_8() {
        let dir = folder(&["a.jpg"], b"image,title\na.jpg,caf\xe9\n");
        let message = open(&dir, "", Strictness::Lenient).unwrap_err().to_string();
        assert!(
            message.contains("p.csv, line 2: expected UTF-8 text, found invalid utf-8"),
            "{message}"
        );
    }

    #[test]
    fn rows_without_a_text_or_a_picture_are_skipped() {
        let dir =
            folder(&["a.jpg"], "image,title\na.jpg,A rug\na.jpg, &nbsp; \n,A lamp\nz.jpg,A cup\n");
        let corpus = open(&dir, "", Strictness::Lenient).unwrap();
        assert_eq!(captions(&corpus), [("a.jpg", "A rug")]);
        let skipped: Vec<_> = corpus.skipped.iter().map(ToString::to_string).collect();
        let place = |line| format!("{}, line {line}: ", dir.path().join("p.csv").display());
        assert_eq!(
            skipped,
            [
                place(3) + "it has no text",
                place(4) + "it has no picture",
                place(5) + "there is no picture `z.jpg`"
            ]
        );
        let error = open(&dir, "", Strictness::Strict).unwrap_err().to_string();
        assert!(error.contains("line 3: it has no text (3 such in all); mend the data"), "{error}");
    }

    #[test]
    fn nothing_but_a_heading() {
        assert_eq!(
            message("image,title\n", ""),
            "DIR/p.csv, line 1: expected rows with a picture and a text, found none in the whole file"
        );
        assert!(
            message("", "").contains("; it has none; say which is meant: "),
            "no heading either"
        );
    }

    #[test]
    fn addresses_are_to_be_fetched() {
        assert_eq!(
            message("imgUrl,title\nhttps://a.example/b.jpg,A rug\n", ""),
            "DIR/p.csv: not a data set: its pictures are addresses, such as https://a.example/b.jpg; \
             fetch them with `xr data fetch DIR/p.csv --out DIR`, and use that folder"
        );
    }

    #[test]
    fn a_file_that_is_not_there() {
        let error = super::super::open("/nowhere/p.csv", Strictness::Lenient).unwrap_err();
        assert_eq!(error.to_string(), "/nowhere/p.csv: No such file or directory (os error 2)");
    }
}
