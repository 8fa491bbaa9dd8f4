use std::path::Path;

use burn::tensor::Device;
use xr_train::{
    Batches, BoxError, Observer, OneBatch, TrainConfig, Trainable, Validation, load_best, overfit,
    train,
};

use crate::{Error, Result};

/// What is done with a model once it and its batches are there.
pub trait Training {
    /// Trains `model`; returns it as it shall be kept, and what was measured then.
    ///
    /// # Errors
    /// Those of training.
    fn train<M: Trainable>(
        &mut self,
        model: M,
        batches: &impl Batches<Batch = M::Batch>,
        config: &TrainConfig,
        validate: impl FnMut(&M) -> Result<Validation, BoxError>,
    ) -> Result<(M, Validation)>;
}

/// Training in a folder, or going on where it stopped there. The model is that of the best epoch by
/// the metric of [`TrainConfig::select`], or by validation loss where there is none.
pub struct InFolder<'a> {
    /// The folder.
    pub run: &'a Path,
    /// Devices that share out the batches with the model's own, as [`train`](xr_train::train) says.
    pub others: &'a [Device],
    /// Watches.
    pub observer: &'a mut dyn Observer,
}

impl Training for InFolder<'_> {
    fn train<M: Trainable>(
        &mut self,
        model: M,
        batches: &impl Batches<Batch = M::Batch>,
        config: &TrainConfig,
        validate: impl FnMut(&M) -> Result<Validation, BoxError>,
    ) -> Result<(M, Validation)> {
        let Self { run, others, .. } = *self;
        let trained = train(model.clone(), batches, config, others, validate, run, self.observer)?;
        let best = trained.best_metric.or(trained.best_loss).ok_or(Error::NoEpoch)?;
        let chosen_by = config.select.as_deref().unwrap_or("loss");
        Ok((load_best(model, self.run, chosen_by)?, best.validation))
    }
}

/// Training on one batch over and over, in no folder.
pub(crate) struct OnOneBatch<'a> {
    pub steps: usize,
    pub observer: &'a mut dyn Observer,
    /// What came of it.
    pub report: Option<OneBatch>,
}

impl Training for OnOneBatch<'_> {
    fn train<M: Trainable>(
        &mut self,
        model: M,
        batches: &impl Batches<Batch = M::Batch>,
        config: &TrainConfig,
        _validate: impl FnMut(&M) -> Result<Validation, BoxError>,
    ) -> Result<(M, Validation)> {
        let (model, report) = overfit(model, batches, config, self.steps, self.observer)?;
        self.report = Some(report);
        Ok((model, Validation::default()))
    }
}
