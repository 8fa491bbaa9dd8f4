//! Losses, one objective and one training loop for cross-modal retrieval.
//!
//! [`train`] takes anything [`Trainable`] and a table of [`Batches`], and fills a folder with
//! checkpoints and a log. Killed at any step and called again on the folder, it ends with the same
//! weights, bit for bit. [`search`](search::search) runs it over a grid of configurations.

mod adam;
mod appended;
mod average;
mod batches;
mod checkpoint;
mod config;
mod diagnose;
mod early_stopping;
mod error;
mod events;
mod exact;
mod feature_batches;
mod folder;
mod gradients;
mod log;
pub mod loss;
mod means;
mod objective;
mod observer;
mod one_batch;
mod optimizer;
mod pair_batches;
mod precision;
mod random;
mod schedule;
pub mod search;
mod step;
mod taught;
mod train;
mod upper_batches;

pub use batches::{Batch, Batches, Labels};
pub use checkpoint::{Best, load_best};
pub use config::TrainConfig;
pub use diagnose::{Warning, diagnose};
pub use error::{BoxError, Error, Result};
pub use feature_batches::{FeatureBatch, FeatureBatches};
pub use log::{EpochRecord, Record, StepRecord, epochs, read_log};
pub use loss::{AlignmentConfig, Distillation, Negatives, Teacher, Triplet};
pub use objective::{Loss, ObjectiveConfig, Weighted};
pub use observer::{Bar, Event, Observer};
pub use one_batch::{Failure, OneBatch, overfit};
pub use optimizer::{Algorithm, Decay, OptimizerConfig, Rate, Rates};
pub use pair_batches::PairBatches;
pub use precision::Precision;
pub use schedule::ScheduleConfig;
pub use taught::Taught;
pub use train::{Outcome, Trainable, Trained, Validation, train};
pub use upper_batches::{Texts, UpperBatches};
