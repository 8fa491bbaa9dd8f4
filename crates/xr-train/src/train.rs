use std::{
    collections::BTreeMap,
    iter,
    ops::ControlFlow,
    path::Path,
    time::{Duration, Instant},
};

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{Device, Tensor},
};
use serde::{Deserialize, Serialize};
use xr_data::prefetch;
use xr_models::HeadOutput;

use crate::{
    Batch, Batches, Best, BoxError, EpochRecord, Error, Event, Labels, Observer, Rates, Record,
    Result, StepRecord, TrainConfig, average,
    checkpoint::{Run, State, Weights},
    gradients,
    log::Log,
    means::Means,
    random::{self, Purpose},
    step::Step,
};

/// A model that [`train`] can train.
pub trait Trainable: Module {
    /// What it takes.
    type Batch: Batch;

    /// All that the objective needs of a batch.
    fn forward(&self, batch: &Self::Batch) -> HeadOutput;

    /// The same with what its encoders multiply rounded to bf16, for
    /// [`Precision::Bf16`](crate::Precision::Bf16). Gradients go through the rounding to the parameters
    /// of this one. One without encoders stays as it is.
    fn in_mixed_precision(&self) -> Self {
        self.clone()
    }
}

/// What is measured after each epoch, on data not trained on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Decides on the lowest-loss checkpoint, early stopping and the plateau schedule.
    pub loss: f64,
    /// Anything else, by name: `R@5`.
    pub metrics: BTreeMap<String, f64>,
    /// What isn't a score but shows what is going wrong, for [`diagnose`](crate::diagnose): `image
    /// cosine` and `text cosine`, between two embeddings on average; `image dimensions` and `text
    /// dimensions`, their effective ranks; `false negatives`, the share of a batch's captions that
    /// also stand under another of its pictures.
    #[serde(default)]
    pub diagnostics: BTreeMap<String, f64>,
}

impl Validation {
    fn metric(&self, name: &str) -> Result<f64> {
        self.metrics.get(name).copied().ok_or_else(|| Error::NoSuchMetric {
            wanted: name.into(),
            available: self.metrics.keys().cloned().collect(),
        })
    }
}

/// Why training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All epochs are done.
    Finished,
    /// The validation loss stopped falling.
    StoppedEarly,
    /// The observer asked for it; calling [`train`] again goes on.
    Interrupted,
}

/// What [`train`] returns.
#[derive(Debug)]
pub struct Trained<M> {
    /// The model after the last step, for inference: the running mean if the configuration asks
    /// for one. [`load_best`](crate::load_best) brings back the best.
    pub model: M,
    /// Why it ended.
    pub outcome: Outcome,
    /// Epochs finished.
    pub epochs: usize,
    /// The epoch of the lowest validation loss.
    pub best_loss: Option<Best>,
    /// The best epoch by the metric of [`TrainConfig::select`].
    pub best_metric: Option<Best>,
}

/// Trains `model`, or goes on where the run in folder `run` stopped.
///
/// After every epoch `validate` sees the model as it would be used, and the folder holds:
/// - `last/`: all that is needed to go on: killed at any moment and called again, training ends
///   with the same weights, bit for bit, on a CPU backend;
/// - `best-loss/` and `best-<metric>/`: the models of the lowest validation loss and of the highest
///   metric, for [`load_best`](crate::load_best);
/// - `log.jsonl`: see [`Record`]; the same numbers for TensorBoard are beside it.
///
/// The model's device shares out each batch with `others`, such as further GPUs, if there are any:
/// loss and gradients stay those of the whole batch. Batch norms then take their statistics from each
/// device's rows, and the running ones from the first device's. The devices and their order are part of
/// what makes a run repeat bit for bit.
///
/// Weights not drawn yet are drawn from `config.seed`. Dropout draws from Burn's generator, of
/// which a process has one for each backend and which is seeded here at every step: two trainings
/// at once in one process disturb each other's.
///
/// # Errors
/// A folder with another configuration or other data is refused ([`Error::OtherRun`]). A loss,
/// gradient or validation loss that isn't finite ends training ([`Error::NotFinite`]) and leaves
/// `last` as it was. So do errors of `batches` and `validate`, and a disk that can't be written.
pub fn train<M: Trainable>(
    model: M,
    batches: &impl Batches<Batch = M::Batch>,
    config: &TrainConfig,
    others: &[Device],
    mut validate: impl FnMut(&M) -> Result<Validation, BoxError>,
    run: &Path,
    observer: &mut dyn Observer,
) -> Result<Trained<M>> {
    let mut session = Session::open(model, batches.steps(), config, others, run)?;
    let mut flow = observer.observe(session.begin());
    while session.state.outcome.is_none() {
        if flow.is_break() || session.epoch(batches, observer)?.is_break() {
            session.save()?;
            break;
        }
        let epoch = session.state.epoch + 1;
        let validation =
            validate(&session.evaluated()).map_err(|source| Error::Validation { epoch, source })?;
        flow = observer.observe(Event::Epoch(&session.finish_epoch(validation)?));
    }
    Ok(session.into_trained())
}

struct Session<'a, M> {
    config: &'a TrainConfig,
    run: Run,
    log: Log,
    /// The first is the model's.
    devices: Vec<Device>,
    rates: Rates,
    weights: Weights<M>,
    state: State,
    /// When the present epoch began, or was resumed, and after how many of its steps.
    clock: (Instant, usize),
    /// How long it has waited for batches since then.
    waited: Duration,
}

impl<'a, M: Trainable> Session<'a, M> {
    fn open(
        model: M,
        steps: usize,
        config: &'a TrainConfig,
        others: &[Device],
        run: &Path,
    ) -> Result<Self> {
        let run = Run::new(run);
        if steps == 0 {
            return Err(Error::NoBatches);
        }
        let saved = run.state(config, steps)?;
        let (model, device) = on_training_device(model, config.seed);
        let optimizer = |model: &M| config.optimizer.init(model);
        let averaged = config.average.is_some();
        let (weights, state) = match saved {
            Some(state) => (run.load(model, averaged, optimizer)?, state),
            None => (
                Weights {
                    average: averaged.then(|| model.valid()),
                    optimizer: optimizer(&model),
                    model,
                },
                State { steps_per_epoch: steps, ..State::default() },
            ),
        };
        let log = Log::open(run.path(), state.log)?;
        let clock = (Instant::now(), state.step);
        let rates = config.optimizer.rates()?;
        let waited = Duration::ZERO;
        let others = others.iter().map(|device| device.clone().autodiff());
        let devices = iter::once(device).chain(others).collect();
        Ok(Self { config, run, log, devices, rates, weights, state, clock, waited })
    }

    fn begin(&self) -> Event<'static> {
        let steps = self.config.epochs * self.state.steps_per_epoch;
        Event::Begin { step: self.steps_done(), steps }
    }

    fn steps_done(&self) -> usize {
        self.state.epoch * self.state.steps_per_epoch + self.state.step
    }

    /// Makes the steps left of the present epoch.
    fn epoch(
        &mut self,
        batches: &impl Batches<Batch = M::Batch>,
        observer: &mut dyn Observer,
    ) -> Result<ControlFlow<()>> {
        self.clock = (Instant::now(), self.state.step);
        self.waited = Duration::ZERO;
        let steps = self.state.step..self.state.steps_per_epoch;
        let device = self.devices[0].clone();
        let epoch = self.state.epoch;
        let make = |step| batches.batch(epoch, step, &device);
        prefetch(steps, make, |batches| {
            while let Some(made) = timed(&mut self.waited, || batches.next()) {
                let (batch, labels) = made.map_err(|source| self.no_batch(source))?;
                let record = self.step(&batch, &labels)?;
                if observer.observe(Event::Step(&record)).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    fn no_batch(&self, source: BoxError) -> Error {
        Error::Batch { epoch: self.state.epoch + 1, step: self.steps_done() + 1, source }
    }

    fn step(&mut self, batch: &M::Batch, labels: &Labels) -> Result<StepRecord> {
        let (logged, saved) =
            (self.every(self.config.log_every), self.every(self.config.save_every));
        let last = self.state.step + 1 == self.state.steps_per_epoch;
        let (lr, model) = (self.lr(), &self.weights.model);
        let mut rng =
            random::at(self.config.seed, Purpose::Model, self.state.epoch, self.state.step);
        let Step { loss, parts, temperature, gradients } =
            Step::of(model, batch, labels, self.config, &self.devices, &mut rng)?;
        self.finite("loss", loss)?;
        let measured = logged || saved || last || self.config.clip_norm.is_some();
        let grad_norms = measured.then(|| gradients::norms(model, &gradients));
        let grad_norm = grad_norms.as_ref().map(gradients::global_norm);
        self.finite("gradient", grad_norm.unwrap_or_default())?;
        self.update(gradients, lr, grad_norm);
        self.state.step += 1;
        let record = StepRecord {
            epoch: self.state.epoch + 1,
            step: self.steps_done(),
            loss,
            parts,
            lr,
            temperature,
            grad_norm,
            grad_norms: grad_norms.unwrap_or_default(),
            steps_per_second: self.speed(),
        };
        self.state.means.add(&record, labels.pictures.len());
        if logged {
            self.log.write(&Record::Step(record.clone()))?;
        }
        if saved {
            self.save()?;
        }
        Ok(record)
    }

    /// Moves the weights by gradients of length `norm`.
    fn update(&mut self, gradients: GradientsParams, lr: f64, norm: Option<f64>) {
        let Weights { model, average, optimizer } = &mut self.weights;
        let gradients = match (norm, self.config.clip_norm) {
            (Some(norm), Some(max)) => gradients::clip(model, gradients, norm, max),
            _ => gradients,
        };
        *model = optimizer.step(self.rates.at(self.state.epoch, lr), model.clone(), gradients);
        if let (Some(mean), Some(keep)) = (average.take(), self.config.average) {
            *average = Some(average::follow(mean, model, keep));
        }
    }

    fn lr(&self) -> f64 {
        let schedule = &self.config.schedule;
        let total = self.config.epochs * self.state.steps_per_epoch;
        let share = schedule.share(self.steps_done(), total) * self.state.plateau.share(schedule);
        self.config.optimizer.lr * share
    }

    /// Is the step about to be made a multiple of `steps`?
    fn every(&self, steps: Option<usize>) -> bool {
        steps.is_some_and(|steps| (self.steps_done() + 1).is_multiple_of(steps))
    }

    fn finite(&self, what: &'static str, value: f64) -> Result<()> {
        if value.is_finite() {
            return Ok(());
        }
        Err(Error::NotFinite {
            what,
            value,
            epoch: self.state.epoch + 1,
            step: self.steps_done() + 1,
            lr: self.lr(),
            kept: self.run.last(),
        })
    }

    fn speed(&self) -> f64 {
        let (since, before) = self.clock;
        (self.state.step - before) as f64 / since.elapsed().as_secs_f64()
    }

    /// The model as it would be used.
    fn evaluated(&self) -> M {
        self.weights.average.clone().unwrap_or_else(|| self.weights.model.valid())
    }

    fn finish_epoch(&mut self, validation: Validation) -> Result<EpochRecord> {
        self.finite("validation loss", validation.loss)?;
        let record = self.epoch_record(validation);
        let validation = &record.validation;
        self.keep_best(validation)?;
        self.state.plateau.observe(&self.config.schedule, validation.loss);
        let stop = self.state.stopping.observe(self.config.patience, validation.loss);
        self.state = State {
            epoch: self.state.epoch + 1,
            step: 0,
            means: Means::default(),
            ..self.state.clone()
        };
        self.state.outcome = match stop {
            _ if self.state.epoch >= self.config.epochs => Some(Outcome::Finished),
            true => Some(Outcome::StoppedEarly),
            false => None,
        };
        self.log.write(&Record::Epoch(record.clone()))?;
        self.save()?;
        Ok(record)
    }

    fn epoch_record(&self, validation: Validation) -> EpochRecord {
        let waited = self.waited.as_secs_f64() / self.clock.0.elapsed().as_secs_f64();
        let (epoch, step) = (self.state.epoch + 1, self.steps_done());
        let means = self.state.means.record(epoch, step, validation);
        EpochRecord { steps_per_second: self.speed(), waited, ..means }
    }

    fn keep_best(&mut self, validation: &Validation) -> Result<()> {
        let epoch = self.state.epoch + 1;
        let best = |value| Some(Best { epoch, value, validation: validation.clone() });
        let select = self.config.select.as_deref();
        let metric = select.map(|name| validation.metric(name)).transpose()?;
        if self.state.best_loss.as_ref().is_none_or(|so_far| validation.loss < so_far.value) {
            self.state.best_loss = best(validation.loss);
            self.run.save_best("loss", &self.evaluated(), &self.state.best_loss)?;
        }
        if let (Some(name), Some(value)) = (select, metric)
            && self.state.best_metric.as_ref().is_none_or(|so_far| value > so_far.value)
        {
            self.state.best_metric = best(value);
            self.run.save_best(name, &self.evaluated(), &self.state.best_metric)?;
        }
        Ok(())
    }

    fn save(&mut self) -> Result<()> {
        self.state.log = self.log.bytes();
        self.run.save(&self.weights, &self.state, self.config)
    }

    fn into_trained(self) -> Trained<M> {
        Trained {
            model: self.evaluated(),
            outcome: self.state.outcome.unwrap_or(Outcome::Interrupted),
            epochs: self.state.epoch,
            best_loss: self.state.best_loss,
            best_metric: self.state.best_metric,
        }
    }
}

/// The model with gradients and all weights drawn, and the device it trains on.
pub(crate) fn on_training_device<M: Module>(model: M, seed: u64) -> (M, Device) {
    struct Draw;
    impl ModuleVisitor for Draw {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            param.val();
        }
    }
    let device = model.devices().into_iter().next().expect("a model has parameters");
    device.seed(seed);
    model.visit(&mut Draw);
    match device.is_autodiff() {
        true => (model, device),
        false => (model.train(), device.autodiff()),
    }
}

/// Adds the time that `work` takes to `sum`.
fn timed<T>(sum: &mut Duration, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    *sum += start.elapsed();
    done
}
