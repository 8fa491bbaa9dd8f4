//! Image and text encoders, and the heads that bring them into one space.

mod checkpoint;
mod cholesky;
mod device;
pub mod embed;
pub mod encoder;
mod error;
mod feature_model;
mod fingerprint;
#[cfg(test)]
mod fixture;
pub mod head;
mod in_pool;
mod inputs;
mod mlp;
mod model;
pub mod ops;
mod packed;
pub mod pretrained;
mod reduce;
mod refit;
mod tuning;
mod weights_file;
mod zscore;

pub use checkpoint::Checkpoint;
pub use device::device;
pub use embed::Embedder;
pub use error::{Error, Result};
pub use feature_model::{FeatureModel, FeatureModelConfig, HeadOutput, Temperature};
pub use fingerprint::weights_fingerprint;
pub use head::{Head, HeadConfig, Reconstruction};
pub use in_pool::in_pool;
pub use inputs::Inputs;
pub use mlp::{Mlp, MlpConfig};
pub use model::{ImagePart, Model, ModelConfig, PairBatch, TextPart, TokenBatch, View, Views};
pub use packed::{Packed, Steps};
pub use tuning::{Lower, TextStates, Upper, UpperBatch};
pub use zscore::ZScore;
