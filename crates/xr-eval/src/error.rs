use std::path::PathBuf;

use xr_data::Fingerprint;

/// What can go wrong in an evaluation or its pictures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Vectors that can't be compared.
    #[error(transparent)]
    Search(#[from] xr_index::Error),
    /// A file that couldn't be written.
    #[error(transparent)]
    Data(#[from] xr_data::Error),
    /// Pictures and texts embedded by two models.
    #[error(
        "the pictures were embedded by model {image} and the texts by model {text}, whose spaces \
         have nothing in common; embed both with one model"
    )]
    TwoModels {
        /// What made the picture embeddings.
        image: Fingerprint,
        /// What made the text embeddings.
        text: Fingerprint,
    },
    /// Embeddings of something else than the split.
    #[error(
        "there are {found} {what} embeddings, but the split `{split}` has {expected}; embed this \
         split"
    )]
    OtherSplit {
        /// `picture` or `caption`.
        what: &'static str,
        /// Rows of the embeddings.
        found: usize,
        /// Rows of the split.
        expected: usize,
        /// Name of the split.
        split: String,
    },
    /// Nothing to score.
    #[error("none of the {queries} queries has an answer in the gallery of {gallery}")]
    NothingToFind {
        /// Number of queries.
        queries: usize,
        /// Number of gallery items.
        gallery: usize,
    },
    /// A picture that the encoder of its format refused.
    #[error("{}: {why}", path.display())]
    Png {
        /// The file.
        path: PathBuf,
        /// What the encoder said.
        why: String,
    },
}

/// The result of an evaluation.
pub type Result<T, E = Error> = std::result::Result<T, E>;
