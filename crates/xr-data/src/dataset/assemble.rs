//! From what a loader found to a corpus: names become positions, and what fits nowhere is skipped.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use super::Strictness;
use crate::{Caption, Corpus, Error, Picture, Result, Skipped, Source};

/// Pictures, captions and splits by name, as files give them.
pub(super) struct Found<'a> {
    pub folder: &'a Path,
    pub name: String,
    /// The pictures by name.
    pub files: BTreeMap<String, PathBuf>,
    pub captions: Vec<Entry>,
    /// The entries of each split's list; their texts are empty.
    pub splits: BTreeMap<String, Vec<Entry>>,
    pub skipped: Vec<Skipped>,
}

/// A line about a picture.
pub(super) struct Entry {
    /// File and line, for messages.
    pub place: String,
    pub picture: String,
    pub text: String,
}

impl Found<'_> {
    /// # Errors
    /// [`Error::NotADataset`] when no caption is about a picture that is there; [`Error::Refused`]
    /// in strict mode, naming the first input that fits nowhere.
    pub fn assemble(self, strictness: Strictness) -> Result<Corpus> {
        let Self { folder, name, files, captions, splits, mut skipped } = self;
        let position: BTreeMap<&str, u32> = files.keys().map(String::as_str).zip(0..).collect();
        let mut find = |entry: &Entry| {
            let found = position.get(entry.picture.as_str()).copied();
            if found.is_none() {
                let why = format!("there is no picture `{}`", entry.picture);
                skipped.push(Skipped { what: entry.place.clone(), why });
            }
            found
        };
        let described = captions.len();
        let mut captions: Vec<_> = captions
            .into_iter()
            .filter_map(|entry| Some(Caption { picture: find(&entry)?, text: entry.text }))
            .collect();
        if captions.is_empty() && described > 0 {
            return Err(of_other_pictures(folder, described, &skipped));
        }
        // Stable: the captions of one picture stay in the order of the file.
        captions.sort_by_key(|caption| caption.picture);
        let mut positions = |entries: Vec<Entry>| -> Vec<u32> {
            entries.iter().filter_map(&mut find).collect::<BTreeSet<_>>().into_iter().collect()
        };
        let splits = splits.into_iter().map(|(name, list)| (name, positions(list))).collect();
        strictness.allow(&skipped)?;
        let picture = |(name, path)| Picture { name, source: Source::File(path) };
        let pictures = files.into_iter().map(picture).collect();
        Ok(Corpus { name, pictures, captions, splits, drawn: None, skipped })
    }
}

fn of_other_pictures(folder: &Path, captions: usize, skipped: &[Skipped]) -> Error {
    let last = skipped.last().expect("every caption was skipped");
    Error::NotADataset {
        what: folder.display().to_string(),
        why: format!("none of its {captions} captions is about a picture in it; the last: {last}"),
    }
}

impl Strictness {
    fn allow(self, skipped: &[Skipped]) -> Result<()> {
        match (self, skipped.first()) {
            (Self::Strict, Some(first)) => {
                Err(Error::Refused { first: first.clone(), all: skipped.len() })
            }
            _ => Ok(()),
        }
    }
}

/// The pictures in `folder` and below, by their path in it with `/` between the parts. Hidden
/// files are not looked at, and links to folders not followed.
///
/// # Errors
/// [`Error::Io`], naming the folder that can't be read.
pub(super) fn pictures_under(folder: &Path) -> Result<(BTreeMap<String, PathBuf>, Vec<Skipped>)> {
    let (mut pictures, mut skipped) = (BTreeMap::new(), Vec::new());
    let mut folders = vec![(String::new(), folder.to_path_buf())];
    while let Some((prefix, folder)) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|e| Error::io(&folder, e))? {
            let entry = entry.map_err(|e| Error::io(&folder, e))?;
            let path = entry.path();
            let Ok(name) = entry.file_name().into_string() else {
                let why = "its name is not UTF-8".into();
                skipped.push(Skipped { what: path.display().to_string(), why });
                continue;
            };
            let name = prefix.clone() + &name;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if entry.file_type().map_err(|e| Error::io(&path, e))?.is_dir() {
                folders.push((name + "/", path));
            } else if is_picture(&path) {
                pictures.insert(name, path);
            }
        }
    }
    Ok((pictures, skipped))
}

/// Does the name end as those of the pictures we decode?
fn is_picture(path: &Path) -> bool {
    const ENDINGS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"];
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    ENDINGS.iter().any(|e| e.eq_ignore_ascii_case(ending))
}
