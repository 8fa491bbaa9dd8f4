use burn::tensor::Device;

use crate::BoxError;

/// Training data as a table of batches: any of them can be made at any time.
///
/// That is what lets a run go on at the step where it was killed: no iterator has to be wound
/// forward. Whatever is random in a batch comes from a seed, the epoch and the step.
pub trait Batches: Sync {
    /// What a model takes.
    type Batch: Send;

    /// Batches of an epoch.
    fn steps(&self) -> usize;

    /// Batch `step` of `epoch`, both counted from 0, and the picture of each of its rows.
    ///
    /// It is called on a thread of its own, ahead of training, and draws nothing from Burn's random
    /// generator: dropout uses that at the same time.
    ///
    /// # Errors
    /// Whatever keeps the batch from being made; training stops with it.
    fn batch(
        &self,
        epoch: usize,
        step: usize,
        device: &Device,
    ) -> Result<(Self::Batch, Vec<u32>), BoxError>;
}
