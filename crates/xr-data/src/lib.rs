//! The nouns of cross-modal retrieval: pictures, captions, splits, relevance, embeddings.

pub mod atomic;
mod batch;
mod cache;
mod corpus;
pub mod dataset;
mod duplicates;
mod embeddings;
mod embeddings_writer;
mod error;
mod fingerprint;
mod image;
mod manifest;
mod pair_dataset;
mod prefetch;
mod random_crop;
mod relevance;
mod split_spec;
mod text;

pub use crate::image::{Interpolation, Preprocess, Resize, load_batch};
pub use batch::{EpochOrder, Sampling};
pub use cache::{CachedRows, FeatureCache, Key, content_keys, text_key};
pub use corpus::{Caption, Corpus, Picture, Skipped, Source, Split};
pub use duplicates::{Look, looks, near_duplicates};
pub use embeddings::{Embeddings, normalize_rows};
pub use embeddings_writer::EmbeddingsWriter;
pub use error::{Error, Result};
pub use fingerprint::Fingerprint;
pub use manifest::{Drawn, Manifest};
pub use pair_dataset::{Pair, PairDataset};
pub use prefetch::prefetch;
pub use random_crop::RandomCrop;
pub use relevance::Relevance;
pub use split_spec::SplitSpec;
pub use text::{Tokenizer, Tokens};
