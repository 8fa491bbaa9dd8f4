//! Data sets: each a function from a path, or a seed, to a [`Corpus`].

mod assemble;
mod caption_file;
mod clean;
pub mod csv_file;
pub mod flickr8k;
pub mod folder;
pub mod synthetic;

use std::path::Path;

use crate::{Corpus, Error, Manifest, Result};
use synthetic::{MOST_PICTURES, SyntheticConfig};

/// What to do about an input that can't be used: a caption whose picture is missing, for example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// Leave it out and name it in [`Corpus::skipped`].
    #[default]
    Lenient,
    /// Stop at the first with [`Error::Refused`].
    Strict,
}

/// Opens the data set that `spec` names: `synthetic`, `synthetic:PICTURES`,
/// `synthetic:PICTURES:SEED`, a CSV file ([`csv_file`], with `?picture=COLUMN&text=COLUMN` where its
/// columns have other names than usual), or a folder whose layout is recognised ([`flickr8k`],
/// [`folder`]).
///
/// ```
/// use xr_data::dataset::{Strictness, open};
///
/// let corpus = open("synthetic:20:7", Strictness::Lenient)?;
/// assert_eq!(corpus.pictures.len(), 20);
/// # Ok::<(), xr_data::Error>(())
/// ```
///
/// # Errors
/// [`Error::NotADataset`], listing the layouts understood; then what the loader says.
pub fn open(spec: &str, strictness: Strictness) -> Result<Corpus> {
    match spec.strip_prefix("synthetic") {
        Some("") => Ok(synthetic::generate(&SyntheticConfig::default())),
        Some(numbers) if numbers.starts_with(':') => {
            let config = numbered_scenes(&numbers[1..]).ok_or_else(|| Error::NotADataset {
                what: spec.into(),
                why: format!(
                    "expected `synthetic:PICTURES` or `synthetic:PICTURES:SEED` with at most \
                     {MOST_PICTURES} pictures, such as `synthetic:2000:0`"
                ),
            })?;
            Ok(synthetic::generate(&config))
        }
        _ => match csv_file::parse(spec) {
            Some((path, columns)) if !Path::new(spec).is_dir() => {
                csv_file::load(&path, &columns, strictness)
            }
            _ => open_folder(Path::new(spec), strictness),
        },
    }
}

/// The manifests of published splits: what their names stand for, wherever the files come from.
pub fn published() -> Vec<Manifest> {
    flickr8k::official()
}

fn numbered_scenes(numbers: &str) -> Option<SyntheticConfig> {
    let (pictures, seed) = numbers.split_once(':').unwrap_or((numbers, "0"));
    let (pictures, seed) = (pictures.parse().ok()?, seed.parse().ok()?);
    let config = SyntheticConfig { pictures, seed, ..Default::default() };
    (1..=MOST_PICTURES).contains(&pictures).then_some(config)
}

fn open_folder(path: &Path, strictness: Strictness) -> Result<Corpus> {
    if flickr8k::recognises(path) {
        flickr8k::load(path, strictness)
    } else if path.is_dir() {
        folder::load(path, strictness)
    } else {
        Err(Error::NotADataset {
            what: path.display().to_string(),
            why: format!("no such folder; expected {LAYOUTS}"),
        })
    }
}

const LAYOUTS: &str = "`synthetic`, `synthetic:PICTURES[:SEED]`, \
    Flickr8k as published (Flicker8k_Dataset/ and Flickr8k_text/Flickr8k.token.txt), \
    Flickr8k from Kaggle (Images/ and captions.txt), \
    a CSV file with a column of pictures and one of texts (FILE.csv), \
    or a folder of pictures with captions in captions.csv, captions.tsv, captions.txt, in a \
    `name.txt` beside each `name.jpg`, or without";

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(spec: &str) -> String {
        open(spec, Strictness::Lenient).unwrap_err().to_string()
    }

    #[test]
    fn a_missing_folder_lists_the_layouts() {
        assert_eq!(
            refused("/nowhere"),
            "/nowhere: not a data set: no such folder; expected `synthetic`, \
             `synthetic:PICTURES[:SEED]`, Flickr8k as published (Flicker8k_Dataset/ and \
             Flickr8k_text/Flickr8k.token.txt), Flickr8k from Kaggle (Images/ and captions.txt), \
             a CSV file with a column of pictures and one of texts (FILE.csv), or a folder of \
             pictures with captions in captions.csv, captions.tsv, captions.txt, in a `name.txt` \
             beside each `name.jpg`, or without"
        );
    }

    #[test]
    fn an_empty_folder() {
        let dir = tempfile::tempdir().unwrap();
        let message = refused(dir.path().to_str().unwrap());
        assert!(
            message.contains("not a data set: no picture is in it or below; expected"),
            "{message}"
        );
    }

    #[test]
    fn numbers_of_scenes_that_make_no_sense() {
        for spec in
            ["synthetic:", "synthetic:0", "synthetic:50001", "synthetic:9:x", "synthetic:1:2:3"]
        {
            assert_eq!(
                refused(spec),
                format!(
                    "{spec}: not a data set: expected `synthetic:PICTURES` or \
                     `synthetic:PICTURES:SEED` with at most 50000 pictures, such as \
                     `synthetic:2000:0`"
                )
            );
        }
    }

    #[test]
    fn a_folder_called_like_the_generated_set() {
        assert!(refused("synthetically").starts_with("synthetically: not a data set: no such"));
    }
}
