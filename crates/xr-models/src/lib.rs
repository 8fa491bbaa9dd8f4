//! Image and text encoders, and the heads that bring them into one space.

mod error;
mod feature_model;
pub mod head;
mod mlp;
mod zscore;

pub use error::{Error, Result};
pub use feature_model::{FeatureModel, FeatureModelConfig, HeadOutput, Temperature};
pub use head::{Head, HeadConfig, Reconstruction};
pub use mlp::{Mlp, MlpConfig};
pub use zscore::ZScore;
