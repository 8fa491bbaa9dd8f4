use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{Fingerprint, Manifest, Skipped};

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
    /// A cache, or a folder of fetched pictures, that another process is writing to.
    #[error(
        "{}: another process is writing here; wait until it has ended, or use another folder",
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
    /// A picture that the corpus doesn't have.
    #[error(
        "the corpus `{corpus}` has no picture `{name}`; was it removed or renamed since it was embedded?"
    )]
    NoSuchPicture {
        /// Name of the corpus.
        corpus: String,
        /// What was asked for.
        name: String,
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
    /// A path or a name that isn't that of a data set.
    #[error("{what}: not a data set: {why}")]
    NotADataset {
        /// What was to be opened.
        what: String,
        /// What was found and what expected.
        why: String,
    },
    /// A text file that isn't what it should be.
    #[error("{}, line {line}: expected {expected}, found {found}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The first such line, from 1.
        line: usize,
        /// What should be there.
        expected: &'static str,
        /// What is.
        found: String,
    },
    /// A CSV file without a column that is looked for.
    #[error(
        "{}: there is no column {wanted}; it has {}; say which is meant: `{}?picture=COLUMN&text=COLUMN`, \
         or --picture COLUMN and --text COLUMN of `xr data fetch`",
        path.display(),
        columns(available),
        path.display()
    )]
    NoSuchColumn {
        /// The file.
        path: PathBuf,
        /// The name, or the names, that it might have.
        wanted: String,
        /// What there is.
        available: Vec<String>,
    },
    /// Numbers of an augmentation that nothing can be drawn from.
    #[error("augment: expected {expected}, found {found}")]
    Augment {
        /// What they should be.
        expected: &'static str,
        /// The augmentation, as JSON.
        found: String,
    },
    /// Pictures to fetch, and no client.
    #[error(
        "{}: its pictures can't be fetched, because this program was built without a client; build it \
         with `--features download`",
        table.display()
    )]
    WithoutClient {
        /// The file with their addresses.
        table: PathBuf,
    },
    /// Servers that can't be reached.
    #[error(
        "{failed} addresses in a row could not be reached, the last because of {why}; see to the \
         connection and call it again: it goes on where it stopped"
    )]
    Unreachable {
        /// How many.
        failed: usize,
        /// The last one and why.
        why: String,
    },
    /// An input that can't be used, in strict mode.
    #[error("{first} ({all} such in all); mend the data, or do without `strict` to skip them")]
    Refused {
        /// The first.
        first: Skipped,
        /// How many there are.
        all: usize,
    },
    /// Another part of the data than the one meant.
    #[error("expected {expected}, but found {found}; {hint}")]
    WrongSplit {
        /// What was to be scored.
        expected: Box<Manifest>,
        /// What was about to be.
        found: Box<Manifest>,
        /// What it looks like, and what to do.
        hint: String,
    },
    /// Text that names no partition.
    #[error(
        "`{found}` is no partition; expected `official`, or `random-TRAIN-DEV-TEST` in percent \
         that make 100, such as `random-70-15-15`"
    )]
    SplitSpec {
        /// The text.
        found: String,
    },
    /// Something other than a tokenizer.
    #[error(
        "{what}: not a usable tokenizer ({why}); expected the tokenizer.json that Hugging Face tokenizers writes"
    )]
    Tokenizer {
        /// The file, or where the text comes from.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

/// The result of working with data.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    pub(crate) fn tokenizer(what: impl ToString, why: String) -> Self {
        Self::Tokenizer { what: what.to_string(), why }
    }

    pub(crate) fn malformed(path: &Path, line: usize, expected: &'static str, found: &str) -> Self {
        Self::Malformed { path: path.into(), line, expected, found: found.into() }
    }

    pub(crate) fn corrupt(path: &Path, why: impl Into<String>) -> Self {
        Self::Corrupt { path: path.into(), why: why.into() }
    }
}

fn columns(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn list(splits: &[String]) -> String {
    match splits {
        [] => "only all of it; `xr train --split random-80-10-10` draws train, dev and test".into(),
        splits => splits.iter().map(|s| format!("{s}, ")).collect::<String>() + "and all",
    }
}
