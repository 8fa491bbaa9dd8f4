use std::ops::Range;

use burn::tensor::Device;

use crate::{BoxError, Teacher};

/// What a model takes at a time: rows, each a picture and a text.
pub trait Batch: Send {
    /// Some of its rows, in their order. A model makes of them what it makes of them in the whole
    /// batch, unless it has batch norms that take their statistics from it.
    fn rows(&self, rows: Range<usize>) -> Self;

    /// The same on another device.
    fn to_device(self, device: &Device) -> Self;
}

/// What the rows of a batch are: what losses hold a model's outputs against.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// The picture of each row. Rows of one picture are right answers of each other.
    pub pictures: Vec<u32>,
    /// The caption of each row.
    pub captions: Vec<u32>,
    /// What a teacher makes of them, if there is one.
    pub teacher: Option<Teacher>,
}

impl Labels {
    /// Rows of these pictures, without a teacher.
    pub fn of(pictures: Vec<u32>) -> Self {
        Self { pictures, ..Self::default() }
    }
}

/// Training data as a table of batches: any of them can be made at any time.
///
/// That is what lets a run go on at the step where it was killed: no iterator has to be wound
/// forward. Whatever is random in a batch comes from a seed, the epoch and the step.
pub trait Batches: Sync {
    /// What a model takes.
    type Batch: Batch;

    /// Batches of an epoch.
    fn steps(&self) -> usize;

    /// Batch `step` of `epoch`, both counted from 0, and what its rows are.
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
    ) -> Result<(Self::Batch, Labels), BoxError>;
}
