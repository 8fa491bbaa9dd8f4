//! Flickr8k (Hodosh, Young and Hockenmaier, 2013): 8,091 photos with five captions each.
//!
//! Two layouts are understood. As published:
//!
//! ```text
//! Flicker8k_Dataset/*.jpg                     (or Flickr8k_Dataset/)
//! Flickr8k_text/Flickr8k.token.txt            picture.jpg#0<TAB>caption
//! Flickr8k_text/Flickr_8k.{train,dev,test}Images.txt
//! ```
//!
//! and from Kaggle: `Images/` with `captions.txt`, lines `picture.jpg,caption`. The text files may
//! also lie at the root, and the lists of the official splits beside either layout; a list that is
//! missing just gives no such split. Other photos in the Kaggle layout are loaded too; they don't get
//! the name `flickr8k` but that of their folder.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    Strictness,
    assemble::{Entry, Found, pictures_under},
    caption_file::{Format, entries},
    folder,
};
use crate::{Corpus, Error, Manifest, Result};

const NAME: &str = "flickr8k";
const TEXT_FOLDERS: [&str; 2] = ["Flickr8k_text", ""];
const PICTURE_FOLDERS: [&str; 3] = ["Flicker8k_Dataset", "Flickr8k_Dataset", "Images"];
const CAPTION_FILES: [(&str, Format); 2] =
    [("Flickr8k.token.txt", Format::Numbered), ("captions.txt", Format::Commas)];

/// Loads `folder`. The name of a picture is its file name.
///
/// A caption whose picture is missing (five lines of the published file) and a picture that a
/// split lists but is missing are skipped, or fatal in strict mode. A picture without captions
/// stays: it can be found, though nothing can be found for it. Pictures are not decoded.
///
/// # Errors
/// [`Error::NotADataset`] when the pictures or the captions aren't there, naming the files looked
/// for; [`Error::Malformed`] when a text file isn't what it should be; [`Error::Refused`] in
/// strict mode.
pub fn load(folder: &Path, strictness: Strictness) -> Result<Corpus> {
    let pictures = picture_folder(folder).ok_or_else(|| expected_in(folder, "no pictures"))?;
    let (captions, format) =
        caption_file(folder).ok_or_else(|| expected_in(folder, "no captions"))?;
    let (files, skipped) = pictures_under(&pictures)?;
    if files.is_empty() {
        return Err(expected_in(folder, &format!("no picture in {}", pictures.display())));
    }
    let captions = entries(&captions, format)?;
    let splits = splits(folder)?;
    let name = match format {
        Format::Commas if !files.keys().all(|name| is_photo_id(name)) => folder::name_of(folder),
        _ => NAME.into(),
    };
    Found { folder, name, files, captions, splits, skipped }.assemble(strictness)
}

/// Is this a name such as `1000268201_693b08cb0e.jpg`? The Kaggle layout says nothing else of
/// what it holds.
fn is_photo_id(name: &str) -> bool {
    let id = name.strip_suffix(".jpg").and_then(|id| id.split_once('_'));
    id.is_some_and(|(number, secret)| {
        number.bytes().all(|b| b.is_ascii_digit())
            && secret.len() == 10
            && secret.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

/// Does `folder` look like either layout?
pub(super) fn recognises(folder: &Path) -> bool {
    picture_folder(folder).is_some() && caption_file(folder).is_some()
        || text_file(folder, CAPTION_FILES[0].0).is_some()
}

/// The manifests of the official splits `train` and `dev`.
///
/// The sums are those of the published lists, computed by
/// `LC_ALL=C sort Flickr_8k.devImages.txt | head -c -1 | sha256sum`; the captions are five for each
/// picture. (No sum of `test` yet.)
pub fn official() -> Vec<Manifest> {
    let split = |split: &str, pictures, sha256: &str| Manifest {
        corpus: NAME.into(),
        split: split.into(),
        drawn: None,
        pictures,
        captions: 5 * pictures,
        sha256: sha256.to_string().into(),
    };
    vec![split("train", 6_000, TRAIN_SHA256), split("dev", 1_000, DEV_SHA256)]
}

const TRAIN_SHA256: &str = "36510bd90ccee351dc0909b24530deaa6e730b706a3b194fbabab99198b02d44";
const DEV_SHA256: &str = "51c9cff8a4e3cd845101a5848b8f8d33681429c6b8395d9fddf581ce5a69e942";

fn splits(folder: &Path) -> Result<BTreeMap<String, Vec<Entry>>> {
    ["train", "dev", "test"]
        .into_iter()
        .filter_map(|split| {
            let file = text_file(folder, &format!("Flickr_8k.{split}Images.txt"))?;
            Some(entries(&file, Format::List).map(|list| (split.to_string(), list)))
        })
        .collect()
}

fn picture_folder(folder: &Path) -> Option<PathBuf> {
    PICTURE_FOLDERS.iter().map(|name| folder.join(name)).find(|path| path.is_dir())
}

fn caption_file(folder: &Path) -> Option<(PathBuf, Format)> {
    CAPTION_FILES.iter().find_map(|&(name, format)| Some((text_file(folder, name)?, format)))
}

fn text_file(folder: &Path, name: &str) -> Option<PathBuf> {
    TEXT_FOLDERS.iter().map(|sub| folder.join(sub).join(name)).find(|path| path.is_file())
}

fn expected_in(folder: &Path, why: &str) -> Error {
    Error::NotADataset {
        what: folder.display().to_string(),
        why: format!(
            "{why}; Flickr8k is expected as Flicker8k_Dataset/ with \
             Flickr8k_text/Flickr8k.token.txt, or as Images/ with captions.txt"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::Skipped;

    const PICTURES: &str = "Flicker8k_Dataset";
    const TOKENS: &str = "Flickr8k_text/Flickr8k.token.txt";

    /// A folder with these files; loaders don't decode, so pictures may be empty.
    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        dir
    }

    fn published() -> tempfile::TempDir {
        folder(&[
            ("Flicker8k_Dataset/b.jpg", b""),
            ("Flicker8k_Dataset/a.jpg", b""),
            ("Flicker8k_Dataset/Thumbs.db", b""),
            (
                TOKENS,
                b"b.jpg#0\tA dog .\nb.jpg#1\tA big dog .\na.jpg#0\tA cat .\n\
                  gone.jpg.1#0\tNothing .\ngone.jpg#1\tNothing at all .\n",
            ),
            ("Flickr8k_text/Flickr_8k.trainImages.txt", b"b.jpg\nlost.jpg\n"),
            ("Flickr8k_text/Flickr_8k.devImages.txt", b"a.jpg\n"),
        ])
    }

    fn message(dir: &tempfile::TempDir, strictness: Strictness) -> String {
        let message = load(dir.path(), strictness).unwrap_err().to_string();
        message.replace(&dir.path().display().to_string(), "DIR")
    }

    #[test]
    fn as_published() {
        let dir = published();
        let corpus = load(dir.path(), Strictness::Lenient).unwrap();
        let names: Vec<_> = corpus.pictures.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["a.jpg", "b.jpg"]);
        let captions: Vec<_> =
            corpus.captions.iter().map(|c| (c.picture, c.text.as_str())).collect();
        assert_eq!(captions, [(0, "A cat ."), (1, "A dog ."), (1, "A big dog .")]);
        let expected = [("dev".to_string(), vec![0]), ("train".to_string(), vec![1])];
        assert_eq!(corpus.splits, BTreeMap::from(expected));
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = published();
        let corpus = load(dir.path(), Strictness::Lenient).unwrap();
        let at = |file: &str, line, picture| Skipped {
            what: format!("{}, line {line}", dir.path().join(file).display()),
            why: format!("there is no picture `{picture}`"),
        };
        assert_eq!(
            corpus.skipped,
            [
                at(TOKENS, 4, "gone.jpg.1"),
                at(TOKENS, 5, "gone.jpg"),
                at("Flickr8k_text/Flickr_8k.trainImages.txt", 2, "lost.jpg"),
            ]
        );
    }

    #[test]
    fn what_is_missing_is_fatal_in_strict_mode() {
        assert_eq!(
            message(&published(), Strictness::Strict),
            "DIR/Flickr8k_text/Flickr8k.token.txt, line 4: there is no picture `gone.jpg.1` (3 such \
             in all); mend the data, or do without `strict` to skip them"
        );
    }

    #[test]
    fn a_split_whose_list_is_missing() {
        let corpus = load(published().path(), Strictness::Lenient).unwrap();
        assert_eq!(
            corpus.split("test").unwrap_err().to_string(),
            "the corpus `flickr8k` has no split `test`; it has dev, train, and all"
        );
    }

    #[test]
    fn text_files_at_the_root_and_the_other_spelling() {
        let dir = folder(&[
            ("Flickr8k_Dataset/a.jpg", b""),
            ("Flickr8k.token.txt", b"a.jpg#0\tA cat .\n"),
            ("Flickr_8k.testImages.txt", b"a.jpg\n"),
        ]);
        let corpus = load(dir.path(), Strictness::Strict).unwrap();
        assert_eq!((corpus.captions.len(), &corpus.splits["test"]), (1, &vec![0]));
    }

    #[test]
    fn from_kaggle() {
        let dir = folder(&[
            ("Images/a.jpg", b""),
            ("captions.txt", b"image,caption\na.jpg,\"A cat , asleep .\"\na.jpg,A cat .\n"),
        ]);
        assert!(recognises(dir.path()));
        let corpus = load(dir.path(), Strictness::Strict).unwrap();
        let texts: Vec<_> = corpus.captions.iter().map(|c| c.text.as_str()).collect();
        assert_eq!(texts, ["A cat , asleep .", "A cat ."]);
        assert!(corpus.splits.is_empty());
        assert_eq!(corpus.name, dir.path().file_name().unwrap().to_str().unwrap());
    }

    #[test]
    fn photos_from_kaggle_are_known_by_their_names() {
        let dir = folder(&[
            ("Images/1000268201_693b08cb0e.jpg", b""),
            ("captions.txt", b"1000268201_693b08cb0e.jpg,A child .\n"),
        ]);
        assert_eq!(load(dir.path(), Strictness::Strict).unwrap().name, "flickr8k");
    }

    #[test]
    fn captions_without_pictures() {
        let expected = "; Flickr8k is expected as Flicker8k_Dataset/ with \
                        Flickr8k_text/Flickr8k.token.txt, or as Images/ with captions.txt";
        let dir = folder(&[(TOKENS, b"a.jpg#0\tA cat .\n")]);
        assert!(recognises(dir.path()));
        let found = message(&dir, Strictness::Lenient);
        assert_eq!(found, format!("DIR: not a data set: no pictures{expected}"));
        fs::create_dir(dir.path().join(PICTURES)).unwrap();
        let found = message(&dir, Strictness::Lenient);
        let why = "no picture in DIR/Flicker8k_Dataset";
        assert_eq!(found, format!("DIR: not a data set: {why}{expected}"));
    }

    #[test]
    fn captions_of_other_pictures() {
        let dir = folder(&[("Images/z.jpg", b""), ("captions.txt", b"a.jpg,A cat .\n")]);
        assert_eq!(
            message(&dir, Strictness::Lenient),
            "DIR: not a data set: none of its 1 captions is about a picture in it; the last: \
             DIR/captions.txt, line 1: there is no picture `a.jpg`"
        );
    }

    #[test]
    fn a_caption_file_that_is_not_text() {
        let dir = folder(&[("Images/a.jpg", b""), ("captions.txt", b"a.jpg,A \xff .\n")]);
        assert_eq!(
            message(&dir, Strictness::Lenient),
            "DIR/captions.txt, line 1: expected UTF-8 text, found the byte 0xff"
        );
    }
}
