//! A folder of pictures, with captions or without.
//!
//! Pictures are found in all folders below (not through links to folders, nor hidden ones); the
//! name of a picture is its path in the folder. Captions stand in one of
//!
//! ```text
//! captions.csv    picture.jpg,caption         a caption with commas may stand in quotes
//! captions.tsv    picture.jpg<TAB>caption
//! captions.txt    either; the first line decides
//! ```
//!
//! each caption on its own line, under the heading `image,caption` or none; or, without such a file,
//! in `name.txt` beside `name.jpg`, one caption a line. A folder without captions is a collection
//! to search in.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    LAYOUTS, Strictness,
    assemble::{Entry, Found, pictures_under},
    caption_file::{self, Format},
};
use crate::{Corpus, Error, Result};

const CAPTION_FILES: [&str; 3] = ["captions.csv", "captions.tsv", "captions.txt"];

/// Loads `folder`; the corpus has its name, and no splits.
///
/// A caption whose picture is missing is skipped, or fatal in strict mode. A picture without
/// captions stays. Pictures are not decoded.
///
/// # Errors
/// [`Error::NotADataset`] when there is no picture, or more than one file of captions;
/// [`Error::Malformed`] when a file of captions isn't what it should be; [`Error::Refused`] in
/// strict mode; [`Error::Io`].
pub fn load(folder: &Path, strictness: Strictness) -> Result<Corpus> {
    let (files, skipped) = pictures_under(folder)?;
    if files.is_empty() {
        let why = format!("no picture is in it or below; expected {LAYOUTS}");
        return Err(not_a_dataset(folder, &why));
    }
    let captions = match caption_file(folder)? {
        Some(path) => caption_file::entries(&path, format_of(&path)?)?,
        None => captions_beside(&files)?,
    };
    let name = name_of(folder);
    let splits = BTreeMap::new();
    Found { folder, name, files, captions, splits, skipped }.assemble(strictness)
}

fn caption_file(folder: &Path) -> Result<Option<PathBuf>> {
    let found: Vec<_> = CAPTION_FILES.iter().filter(|name| folder.join(name).is_file()).collect();
    match found[..] {
        [] => Ok(None),
        [name] => Ok(Some(folder.join(name))),
        [first, second, ..] => Err(not_a_dataset(
            folder,
            &format!("it holds both {first} and {second}; remove the one that is not meant"),
        )),
    }
}

fn format_of(path: &Path) -> Result<Format> {
    Ok(match path.extension().and_then(|e| e.to_str()) {
        Some("tsv") => Format::Tabs,
        Some("csv") => Format::Commas,
        _ => {
            let tabs = caption_file::text(path)?.lines().next().is_some_and(|l| l.contains('\t'));
            if tabs { Format::Tabs } else { Format::Commas }
        }
    })
}

fn captions_beside(files: &BTreeMap<String, PathBuf>) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for (picture, path) in files {
        let path = path.with_extension("txt");
        if !path.is_file() {
            continue;
        }
        for (line, text) in (1..).zip(caption_file::text(&path)?.lines()) {
            let place = format!("{}, line {line}", path.display());
            let text = text.trim().to_string();
            entries.push(Entry { place, picture: picture.clone(), text });
        }
    }
    entries.retain(|entry| !entry.text.is_empty());
    Ok(entries)
}

/// What the folder itself is called, also where the path is `.`.
pub(super) fn name_of(folder: &Path) -> String {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.into());
    whole.file_name().map_or_else(|| "folder".into(), |name| name.to_string_lossy().into_owned())
}

fn not_a_dataset(folder: &Path, why: &str) -> Error {
    Error::NotADataset { what: folder.display().to_string(), why: why.into() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        dir
    }

    fn captions(dir: &tempfile::TempDir) -> Vec<(String, String)> {
        let corpus = load(dir.path(), Strictness::Strict).unwrap();
        let name = |picture: u32| corpus.pictures[picture as usize].name.clone();
        corpus.captions.iter().map(|c| (name(c.picture), c.text.clone())).collect()
    }

    fn message(dir: &tempfile::TempDir, strictness: Strictness) -> String {
        let message = load(dir.path(), strictness).unwrap_err().to_string();
        message.replace(&dir.path().display().to_string(), "DIR")
    }

    #[test]
    fn each_form_of_the_caption_file() {
        for (file, content) in [
            ("captions.csv", "image,caption\nsub/a.PNG,\"one, two\"\n"),
            ("captions.tsv", "image\tcaption\nsub/a.PNG\tone, two\n"),
            ("captions.txt", "sub/a.PNG,one, two\n"),
            ("captions.txt", "sub/a.PNG\tone, two\n"),
        ] {
            let dir = folder(&[("sub/a.PNG", ""), ("b.jpg", ""), (file, content)]);
            assert_eq!(captions(&dir), [("sub/a.PNG".into(), "one, two".into())], "{content}");
        }
    }

    #[test]
    fn captions_beside_their_pictures() {
        let dir = folder(&[
            ("x/a.jpg", ""),
            ("x/a.txt", "a dog\n\n a cat \n"),
            ("b.jpeg", ""),
            ("README.txt", "no caption"),
        ]);
        let expected = ["a dog", "a cat"].map(|text| ("x/a.jpg".to_string(), text.to_string()));
        assert_eq!(captions(&dir), expected);
    }

    #[test]
    fn photos_alone() {
        let dir =
            folder(&[("b.webp", ""), ("a/c.tiff", ""), (".hidden/d.jpg", ""), ("._b.jpg", "")]);
        let corpus = load(dir.path(), Strictness::Strict).unwrap();
        let names: Vec<_> = corpus.pictures.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["a/c.tiff", "b.webp"]);
        assert!(corpus.captions.is_empty());
        assert_eq!(Some(corpus.name.as_str()), dir.path().file_name().unwrap().to_str());
        assert_eq!(corpus.split("all").unwrap().pictures, [0, 1]);
    }

    #[test]
    fn a_caption_whose_picture_is_missing() {
        let content = "a.jpg,one\nz.jpg,two\n";
        let dir = folder(&[("a.jpg", ""), ("captions.csv", content)]);
        let corpus = load(dir.path(), Strictness::Lenient).unwrap();
        assert_eq!((corpus.captions.len(), corpus.skipped.len()), (1, 1));
        assert_eq!(
            message(&dir, Strictness::Strict),
            "DIR/captions.csv, line 2: there is no picture `z.jpg` (1 such in all); mend the data, \
             or do without `strict` to skip them"
        );
    }

    #[test]
    fn two_caption_files() {
        let dir = folder(&[("a.jpg", ""), ("captions.csv", ""), ("captions.txt", "")]);
        assert_eq!(
            message(&dir, Strictness::Lenient),
            "DIR: not a data set: it holds both captions.csv and captions.txt; remove the one that \
             is not meant"
        );
    }

    #[test]
    fn captions_alone() {
        let dir = folder(&[("captions.csv", "a.jpg,one\n")]);
        let message = message(&dir, Strictness::Lenient);
        let start = "DIR: not a data set: no picture is in it or below; expected `synthetic`, ";
        assert!(message.starts_with(start), "{message}");
    }
}
