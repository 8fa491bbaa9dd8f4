//! The nouns of cross-modal retrieval: pictures, captions, splits, relevance, embeddings.

pub mod atomic;
mod corpus;
pub mod dataset;
mod embeddings;
mod embeddings_writer;
mod error;
mod fingerprint;
pub mod image;
mod relevance;

pub use corpus::{Caption, Corpus, Picture, Skipped, Source, Split};
pub use embeddings::Embeddings;
pub use embeddings_writer::EmbeddingsWriter;
pub use error::{Error, Result};
pub use fingerprint::Fingerprint;
pub use relevance::Relevance;
