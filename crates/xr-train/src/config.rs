use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};
use xr_data::Sampling;

use crate::{ObjectiveConfig, OptimizerConfig, Precision, ScheduleConfig};

/// Everything about training but the model and the data.
///
/// The defaults are those of the modernised correspondence autoencoders (Veiman et al. 2025): Adam
/// at 1e-3 with weight decay 1e-5, batches of 128, 40 epochs. Their temperature, 0.07, is the
/// model's.
///
/// ```
/// use xr_train::TrainConfig;
///
/// let config: TrainConfig = serde_json::from_str(r#"{"optimizer": {"lr": 1e-4}}"#)?;
/// assert_eq!((config.optimizer.lr, config.batch_size), (1e-4, 128));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// What is minimised.
    pub objective: ObjectiveConfig,
    /// Adam, its learning rate and weight decay.
    pub optimizer: OptimizerConfig,
    /// How the learning rate changes.
    pub schedule: ScheduleConfig,
    /// At most this many epochs.
    pub epochs: usize,
    /// What encoders multiply in a step.
    pub precision: Precision,
    /// Captions of a batch, each with its picture.
    pub batch_size: usize,
    /// Rows that go through the model at a time, for a batch whose graph doesn't fit into memory. Loss
    /// and gradients are those of the whole batch (gradient caching, Gao et al. 2021), at the price
    /// of a second forward pass.
    ///
    /// There is no accumulation over batches besides: the loss of a small batch has few negatives,
    /// and a sum of such losses has no more. Encoders whose batch norms take their statistics from
    /// what goes through them take them from so many rows; those of fine-tuned encoders are fixed.
    pub micro_batch: Option<NonZeroUsize>,
    /// Which captions are in an epoch, and how they come together.
    pub sampling: Sampling,
    /// Stop after this many epochs in a row without a lower validation loss.
    pub patience: Option<usize>,
    /// Bound on the length of all gradients together.
    pub clip_norm: Option<f64>,
    /// Evaluate and keep a running mean of the weights, of which each step keeps this share.
    pub average: Option<f64>,
    /// A validation metric, of which more is better, whose best epoch is kept besides that of the
    /// lowest validation loss.
    pub select: Option<String>,
    /// What decides the order of the data, dropout, and initial weights not yet drawn.
    pub seed: u64,
    /// Save every so many steps, besides after every epoch.
    pub save_every: Option<usize>,
    /// Write a line of the log every so many steps, besides after every epoch.
    pub log_every: Option<usize>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            objective: ObjectiveConfig::default(),
            optimizer: OptimizerConfig::default(),
            schedule: ScheduleConfig::default(),
            epochs: 40,
            precision: Precision::F32,
            batch_size: 128,
            micro_batch: None,
            sampling: Sampling::EveryCaption,
            patience: None,
            clip_norm: None,
            average: None,
            select: Some("R@5".into()),
            seed: 0,
            save_every: None,
            log_every: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_round_trip() {
        let config = TrainConfig { average: Some(0.98), ..TrainConfig::default() };
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<TrainConfig>(&json).unwrap(), config);
    }

    #[test]
    fn a_field_that_is_not_there() {
        let error = serde_json::from_str::<TrainConfig>(r#"{"optimizer": {"rate": 1}}"#);
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("unknown field `rate`, expected one of `algorithm`, `lr`"),
            "{error}"
        );
    }
}
