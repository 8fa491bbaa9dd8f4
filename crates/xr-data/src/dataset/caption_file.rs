//! Text files of pictures and captions, line by line.

use std::{fs, path::Path};

use super::assemble::Entry;
use crate::{Error, Result};

/// How a line says which picture and what about it.
#[derive(Clone, Copy)]
pub(super) enum Format {
    /// `picture.jpg#0<TAB>caption`
    Numbered,
    /// `picture.jpg<TAB>caption`
    Tabs,
    /// `picture.jpg,caption`; either may stand in quotes, and an unquoted caption may hold commas.
    Commas,
    /// `picture.jpg`
    List,
}

impl Format {
    /// The picture and the caption of a line, if it has this form.
    fn parse(self, line: &str) -> Option<(String, String)> {
        let (picture, text) = match self {
            Self::List => (line.trim().to_string(), String::new()),
            Self::Commas => commas(line)?,
            Self::Tabs | Self::Numbered => {
                let (picture, text) = line.split_once('\t')?;
                (picture.trim().to_string(), text.trim().to_string())
            }
        };
        match self {
            Self::Numbered => {
                let (picture, number) = picture.rsplit_once('#')?;
                number.parse::<u32>().ok()?;
                Some((picture.into(), text))
            }
            _ => Some((picture, text)),
        }
    }

    fn example(self) -> &'static str {
        match self {
            Self::Numbered => "`picture.jpg#0<TAB>caption`",
            Self::Tabs => "`picture.jpg<TAB>caption`",
            Self::Commas => "`picture.jpg,caption`",
            Self::List => "`picture.jpg`",
        }
    }
}

/// All entries of a file; blank lines and a first line that heads the columns are passed over.
///
/// # Errors
/// [`Error::Io`]; [`Error::Malformed`] when the file isn't UTF-8, has a line of another form, or
/// no entry at all.
pub(super) fn entries(path: &Path, format: Format) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for (number, line) in (1..).zip(text(path)?.lines()).filter(|(_, line)| !line.trim().is_empty())
    {
        let malformed = || Error::malformed(path, number, format.example(), &quoted(line));
        let (picture, text) = format.parse(line).ok_or_else(malformed)?;
        if number == 1 && text.eq_ignore_ascii_case("caption") {
            continue;
        }
        let place = format!("{}, line {number}", path.display());
        entries.push(Entry { place, picture, text });
    }
    if entries.is_empty() {
        return Err(Error::malformed(path, 1, format.example(), "no entry in the whole file"));
    }
    Ok(entries)
}

/// A text file; a byte-order mark at its start is dropped.
///
/// # Errors
/// [`Error::Io`]; [`Error::Malformed`], naming the line that isn't UTF-8.
pub(super) fn text(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let line = 1 + e.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count();
        let found = format!("the byte 0x{:02x}", e.as_bytes()[at]);
        Error::malformed(path, line, "UTF-8 text", &found)
    })?;
    Ok(text.strip_prefix('\u{feff}').map(Into::into).unwrap_or(text))
}

fn commas(line: &str) -> Option<(String, String)> {
    let (picture, rest) = match line.strip_prefix('"') {
        Some(quoted) => {
            let (picture, rest) = unquote(quoted)?;
            (picture, rest.strip_prefix(',')?)
        }
        None => {
            let (picture, rest) = line.split_once(',')?;
            (picture.to_string(), rest)
        }
    };
    let text = match rest.trim().strip_prefix('"') {
        Some(quoted) => unquote(quoted).filter(|(_, rest)| rest.is_empty())?.0,
        None => rest.to_string(),
    };
    Some((picture.trim().into(), text.trim().into()))
}

/// What stands before the closing quote, and what after it; `""` is a quote.
fn unquote(mut rest: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    loop {
        let (before, after) = rest.split_once('"')?;
        text += before;
        match after.strip_prefix('"') {
            Some(more) => {
                text.push('"');
                rest = more;
            }
            None => return Some((text, after)),
        }
    }
}

fn quoted(line: &str) -> String {
    const LONGEST: usize = 60;
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("`{}…`", &line[..end]),
        None => format!("`{line}`"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(content: impl AsRef<[u8]>, format: Format) -> Result<Vec<(String, String)>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.txt");
        fs::write(&path, content).unwrap();
        let entries = entries(&path, format).map_err(|e| {
            e.to_string().replace(&dir.path().display().to_string(), "DIR").replace('\\', "/")
        })?;
        Ok(entries.into_iter().map(|e| (e.picture, e.text)).collect())
    }

    fn pair(picture: &str, text: &str) -> (String, String) {
        (picture.into(), text.into())
    }

    #[test]
    fn commas_inside_and_outside_quotes() {
        let file = "image,caption\r\na.jpg,A dog .\r\n\r\nb.jpg,\"A \"\"big\"\" dog , running\"\r\n\
                    c.jpg,a dog, unquoted\r\n\"d,e.jpg\",two\r\n";
        assert_eq!(
            read(file, Format::Commas).unwrap(),
            [
                pair("a.jpg", "A dog ."),
                pair("b.jpg", "A \"big\" dog , running"),
                pair("c.jpg", "a dog, unquoted"),
                pair("d,e.jpg", "two"),
            ]
        );
    }

    #[test]
    fn numbered_lines() {
        let file = "\u{feff}a.jpg#0\tA dog .\na#b.jpg.1#12\tA cat .";
        let expected = [pair("a.jpg", "A dog ."), pair("a#b.jpg.1", "A cat .")];
        assert_eq!(read(file, Format::Numbered).unwrap(), expected);
    }

    #[test]
    fn a_line_of_another_form() {
        assert_eq!(
            read("a.jpg#0\tA dog .\na.jpg A cat .\n", Format::Numbered).unwrap_err(),
            "DIR/c.txt, line 2: expected `picture.jpg#0<TAB>caption`, found `a.jpg A cat .`"
        );
        assert_eq!(
            read("a.jpg,\"never closed\n", Format::Commas).unwrap_err(),
            "DIR/c.txt, line 1: expected `picture.jpg,caption`, found `a.jpg,\"never closed`"
        );
        let long = read("é".repeat(61), Format::Tabs).unwrap_err();
        assert!(long.ends_with(&format!("found `{}…`", "é".repeat(60))), "{long}");
    }

    #[test]
    fn not_utf_8() {
        assert_eq!(
            read(b"a.jpg,one\nb.jpg,caf\xe9\n", Format::Commas).unwrap_err(),
            "DIR/c.txt, line 2: expected UTF-8 text, found the byte 0xe9"
        );
    }

    #[test]
    fn an_empty_file() {
        for file in ["", "\n \n", "image,caption\n"] {
            assert_eq!(
                read(file, Format::Commas).unwrap_err(),
                "DIR/c.txt, line 1: expected `picture.jpg,caption`, found no entry in the whole file"
            );
        }
    }
}
