use std::{
    io,
    path::{Path, PathBuf},
};

use crate::Fingerprint;

/// What can go wrong with data, each as a sentence that names the file and the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder couldn't be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of ours that isn't what it was when written.
    #[error("{}: damaged ({why}); delete it and it is made again", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// Embeddings or features of another model.
    #[error(
        "{}: made by model {found}, but this is model {expected}; embed it again with this model",
        path.display()
    )]
    MadeByAnother {
        /// The file.
        path: PathBuf,
        /// The model in use.
        expected: Fingerprint,
        /// The model that made the file.
        found: Fingerprint,
    },
    /// A cache that another process is writing to.
    #[error(
        "{}: another process is writing to this cache; wait until it has ended, or use another \
         cache folder",
        path.display()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A picture whose pixels can't be had.
    #[error(
        "{}: not a picture that can be decoded ({why}); replace the file, or remove it to do without",
        path.display()
    )]
    Undecodable {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        why: String,
    },
    /// A split that the corpus doesn't have.
    #[error("the corpus `{corpus}` has no split `{wanted}`; it has {}", list(available))]
    NoSuchSplit {
        /// Name of the corpus.
        corpus: String,
        /// What was asked for.
        wanted: String,
        /// What there is.
        available: Vec<String>,
    },
}

/// The result of working with data.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    pub(crate) fn corrupt(path: &Path, why: impl Into<String>) -> Self {
        Self::Corrupt { path: path.into(), why: why.into() }
    }
}

fn list(splits: &[String]) -> String {
    splits.iter().map(|s| format!("{s}, ")).collect::<String>() + "and all"
}
