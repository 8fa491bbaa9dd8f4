//! A run killed at any step and called again ends with the same weights, bit for bit.

mod common;

use std::{
    fs,
    num::NonZeroUsize,
    ops::ControlFlow::{self, Break, Continue},
    path::Path,
};

use burn::{
    module::Module,
    nn::{BatchNorm, BatchNormConfig},
    tensor::Device,
};
use common::{Data, alone, bits, config, model};
use xr_models::{FeatureModel, HeadOutput};
use xr_train::{
    Algorithm, Batches, BoxError, Decay, Error, Event, FeatureBatch, FeatureBatches, Labels,
    Observer, OptimizerConfig, Outcome, Precision, Rate, Record, Result, ScheduleConfig,
    TrainConfig, Trainable, Trained, Validation, load_best, read_log, train,
};

/// Everything that has a state: Adam's moments, dropout, the average, clipping, a plateau schedule
/// that reduces within the few epochs, and a part that is trained from the second on.
fn stateful() -> TrainConfig {
    TrainConfig {
        schedule: ScheduleConfig::Plateau { factor: 0.5, patience: 0 },
        optimizer: OptimizerConfig {
            lr: 0.05,
            rates: vec![Rate { from_epoch: 2, ..Rate::new("^text", 0.5) }],
            ..OptimizerConfig::default()
        },
        average: Some(0.5),
        clip_norm: Some(1.0),
        log_every: Some(1),
        ..config()
    }
}

/// Four steps an epoch, from features.
struct Source<'a> {
    batches: FeatureBatches<'a>,
    /// The only step, over all epochs, that can't be made.
    broken: Option<usize>,
}

impl<'a> Source<'a> {
    fn new(data: &'a Data, config: &TrainConfig) -> Self {
        let views = vec![&data.image];
        let batches = FeatureBatches::new(views, &data.text, &data.picture_of, config);
        Self { batches, broken: None }
    }
}

impl Batches for Source<'_> {
    type Batch = FeatureBatch;

    fn steps(&self) -> usize {
        self.batches.steps()
    }

    fn batch(
        &self,
        epoch: usize,
        step: usize,
        device: &Device,
    ) -> Result<(FeatureBatch, Labels), BoxError> {
        match self.broken {
            Some(broken) if broken == epoch * self.steps() + step => Err("the disk is gone".into()),
            _ => self.batches.batch(epoch, step, device),
        }
    }
}

fn run(
    source: &Source,
    config: &TrainConfig,
    folder: &Path,
    observer: &mut dyn Observer,
) -> Result<Trained<FeatureModel>> {
    let held_out = Data::new(1);
    let validate = |model: &FeatureModel| held_out.validate(model, &config.objective);
    train(model(), source, config, &[], validate, folder, observer)
}

/// The log without what depends on the clock.
fn log(folder: &Path) -> Vec<Record> {
    let mut records = read_log(&folder.join("log.jsonl")).unwrap();
    for record in &mut records {
        match record {
            Record::Step(step) => step.steps_per_second = 0.0,
            Record::Epoch(epoch) => (epoch.steps_per_second, epoch.waited) = (0.0, 0.0),
        }
    }
    records
}

/// Means are sums read back from JSON, where a number may be off in its last place.
fn assert_same_log(a: &[Record], b: &[Record]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        match (a, b) {
            (Record::Epoch(a), Record::Epoch(b)) => {
                assert!((a.loss - b.loss).abs() < 1e-12);
                assert_eq!((a.step, &a.validation), (b.step, &b.validation));
            }
            (a, b) => assert_eq!(a, b),
        }
    }
}

struct Uninterrupted {
    weights: Vec<u32>,
    best: Vec<u32>,
    log: Vec<Record>,
    events: u64,
}

/// Length of TensorBoard's file, which doesn't depend on the clock.
fn events(folder: &Path) -> u64 {
    fs::metadata(folder.join("events.out.tfevents.0.xr")).unwrap().len()
}

fn uninterrupted(config: &TrainConfig, data: &Data) -> Uninterrupted {
    let folder = tempfile::tempdir().unwrap();
    let trained = run(&Source::new(data, config), config, folder.path(), &mut ()).unwrap();
    assert_eq!((trained.outcome, trained.epochs), (Outcome::Finished, 3));
    Uninterrupted {
        weights: bits(&trained.model),
        best: bits(&load_best(model(), folder.path(), "loss").unwrap()),
        log: log(folder.path()),
        events: events(folder.path()),
    }
}

fn assert_same(trained: &Trained<FeatureModel>, folder: &Path, whole: &Uninterrupted) {
    assert_eq!(trained.outcome, Outcome::Finished);
    assert!(bits(&trained.model) == whole.weights, "other weights");
    assert!(bits(&load_best(model(), folder, "loss").unwrap()) == whole.best, "another best");
    assert_same_log(&log(folder), &whole.log);
    assert_eq!(events(folder), whole.events, "events are missing or repeated");
}

/// In the middle of the second epoch.
fn stop_at_six(event: Event<'_>) -> ControlFlow<()> {
    match event {
        Event::Step(record) if record.step == 6 => Break(()),
        _ => Continue(()),
    }
}

fn assert_same_after_six_steps(config: &TrainConfig, data: &Data) {
    let whole = uninterrupted(config, data);
    let folder = tempfile::tempdir().unwrap();
    let source = Source::new(data, config);
    let stopped = run(&source, config, folder.path(), &mut stop_at_six).unwrap();
    assert_eq!(stopped.outcome, Outcome::Interrupted);
    let trained = run(&source, config, folder.path(), &mut ()).unwrap();
    assert_same(&trained, folder.path(), &whole);
}

#[test]
fn interrupted_after_every_step() {
    let _turn = alone();
    let (data, config) = (Data::new(0), stateful());
    let whole = uninterrupted(&config, &data);
    let folder = tempfile::tempdir().unwrap();
    let mut interruptions = 0;
    let trained = loop {
        let mut stop = |event: Event<'_>| match event {
            Event::Step(_) => Break(()),
            _ => Continue(()),
        };
        let trained = run(&Source::new(&data, &config), &config, folder.path(), &mut stop).unwrap();
        if trained.outcome == Outcome::Finished {
            break trained;
        }
        interruptions += 1;
    };
    assert_eq!(interruptions, 12);
    assert_same(&trained, folder.path(), &whole);
}

#[test]
fn interrupted_among_batches_in_pieces() {
    let _turn = alone();
    let micro_batch = NonZeroUsize::new(10);
    let (data, config) = (Data::new(0), TrainConfig { micro_batch, ..stateful() });
    assert_same_after_six_steps(&config, &data);
}

#[test]
fn killed_between_checkpoints() {
    let _turn = alone();
    let (data, config) = (Data::new(0), TrainConfig { save_every: Some(3), ..stateful() });
    let whole = uninterrupted(&config, &data);
    // The first step, within an epoch, at a checkpoint, at the end of an epoch, the last.
    for broken in [0, 1, 5, 6, 7, 8, 11] {
        let folder = tempfile::tempdir().unwrap();
        let source = Source { broken: Some(broken), ..Source::new(&data, &config) };
        let error = run(&source, &config, folder.path(), &mut ()).unwrap_err().to_string();
        let (epoch, step) = (broken / 4 + 1, broken + 1);
        assert_eq!(error, format!("no batch for epoch {epoch}, step {step}: the disk is gone"));
        let trained = run(&Source::new(&data, &config), &config, folder.path(), &mut ()).unwrap();
        assert_same(&trained, folder.path(), &whole);
    }
}

#[test]
fn with_adamw_on_matrices_and_a_cosine() {
    let _turn = alone();
    let optimizer = OptimizerConfig {
        algorithm: Algorithm::AdamW,
        decay: Decay::Matrices,
        weight_decay: 0.1,
        ..OptimizerConfig::default()
    };
    let schedule = ScheduleConfig::Cosine { warmup: 3 };
    let (data, config) = (Data::new(0), TrainConfig { optimizer, schedule, ..config() });
    assert_same_after_six_steps(&config, &data);
}

/// A batch norm in front, whose running statistics are state that no optimizer knows of.
#[derive(Module, Debug)]
struct Normed {
    norm: BatchNorm,
    features: FeatureModel,
}

impl Trainable for Normed {
    type Batch = FeatureBatch;

    fn forward(&self, batch: &FeatureBatch) -> HeadOutput {
        self.features.forward(self.norm.forward(batch.image.clone()), batch.text.clone())
    }
}

#[test]
fn with_running_statistics() {
    let _turn = alone();
    let (data, config) = (Data::new(0), TrainConfig { select: None, average: None, ..stateful() });
    let train_on = |folder: &Path, observer: &mut dyn Observer| {
        let features = model();
        let device = features.devices().remove(0);
        let model = Normed { norm: BatchNormConfig::new(12).init(&device), features };
        let source = Source::new(&data, &config);
        let validate = |_: &Normed| Ok(Validation { loss: 1.0, ..Validation::default() });
        train(model, &source, &config, &[], validate, folder, observer).unwrap()
    };
    let [whole, parts] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let uninterrupted = train_on(whole.path(), &mut ());
    train_on(parts.path(), &mut stop_at_six);
    let resumed = train_on(parts.path(), &mut ());
    assert!(bits(&resumed.model) == bits(&uninterrupted.model));
    let mean: Vec<f32> = resumed.model.norm.running_mean.value().try_into_vec_as().unwrap();
    assert!(mean.iter().any(|&mean| mean != 0.0), "no statistics were taken");
}

#[test]
fn a_finished_run_is_not_trained_again() {
    let _turn = alone();
    let (data, config) = (Data::new(0), config());
    let folder = tempfile::tempdir().unwrap();
    let first = run(&Source::new(&data, &config), &config, folder.path(), &mut ()).unwrap();
    let broken = Source { broken: Some(0), ..Source::new(&data, &config) };
    let second = run(&broken, &config, folder.path(), &mut ()).unwrap();
    assert!(bits(&first.model) == bits(&second.model));
    let best = |trained: Trained<FeatureModel>| trained.best_metric.map(|b| (b.epoch, b.value));
    assert_eq!(best(first), best(second));
}

/// It goes on with the default of a setting that there wasn't yet.
#[test]
fn a_run_from_before_a_setting() {
    let _turn = alone();
    let (data, config) = (Data::new(0), TrainConfig { epochs: 1, ..config() });
    let folder = tempfile::tempdir().unwrap();
    let first = run(&Source::new(&data, &config), &config, folder.path(), &mut ()).unwrap();
    let path = folder.path().join("last/config.json");
    let now = fs::read_to_string(&path).unwrap();
    let before = now.replace("  \"precision\": \"f32\",\n", "");
    assert_ne!(before, now);
    fs::write(&path, before).unwrap();
    let second = run(&Source::new(&data, &config), &config, folder.path(), &mut ()).unwrap();
    assert!(bits(&first.model) == bits(&second.model));
    let other = TrainConfig { precision: Precision::Bf16, ..config };
    let error = run(&Source::new(&data, &other), &other, folder.path(), &mut ()).unwrap_err();
    assert!(
        error.to_string().contains("this run has precision = \"f32\", not \"bf16\";"),
        "{error}"
    );
}

#[test]
fn another_configuration_is_refused() {
    let _turn = alone();
    let (data, config) = (Data::new(0), TrainConfig { epochs: 1, ..config() });
    let folder = tempfile::tempdir().unwrap();
    run(&Source::new(&data, &config), &config, folder.path(), &mut ()).unwrap();
    let other = TrainConfig {
        optimizer: OptimizerConfig { lr: 0.5, ..OptimizerConfig::default() },
        ..config.clone()
    };
    let error = run(&Source::new(&data, &other), &other, folder.path(), &mut ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{}: this run has optimizer.lr = 0.001, not 0.5; to continue it, use its settings, and \
             for a new one another folder",
            folder.path().display()
        )
    );
}

#[test]
fn other_data_is_refused() {
    let _turn = alone();
    let (data, config) = (Data::new(0), TrainConfig { epochs: 1, ..config() });
    let folder = tempfile::tempdir().unwrap();
    run(&Source::new(&data, &config), &config, folder.path(), &mut ()).unwrap();
    let half = Data {
        picture_of: data.picture_of[..48].to_vec(),
        text: data.text.select(&(0..48).collect::<Vec<_>>()),
        image: Data::new(0).image,
    };
    let error = run(&Source::new(&half, &config), &config, folder.path(), &mut ()).unwrap_err();
    assert!(error.to_string().contains("this run has steps per epoch = 4, not 2;"), "{error}");
}

#[test]
fn a_loss_that_is_not_a_number() {
    let _turn = alone();
    let (data, config) = (Data::new(0), config());
    let folder = tempfile::tempdir().unwrap();
    // The second picture's features are NaN from epoch 2 on.
    struct Poisoned<'a>(Source<'a>);
    impl Batches for Poisoned<'_> {
        type Batch = FeatureBatch;
        fn steps(&self) -> usize {
            self.0.steps()
        }
        fn batch(
            &self,
            epoch: usize,
            step: usize,
            device: &Device,
        ) -> Result<(FeatureBatch, Labels), BoxError> {
            let (batch, labels) = self.0.batch(epoch, step, device)?;
            let image = if (epoch, step) == (1, 2) { batch.image * f32::NAN } else { batch.image };
            Ok((FeatureBatch { image, ..batch }, labels))
        }
    }
    let source = Poisoned(Source::new(&data, &config));
    let held_out = Data::new(1);
    let validate = |model: &FeatureModel| held_out.validate(model, &config.objective);
    let error =
        train(model(), &source, &config, &[], validate, folder.path(), &mut ()).unwrap_err();
    let last = folder.path().join("last");
    assert_eq!(
        error.to_string(),
        format!(
            "the loss became NaN at epoch 2, step 7, with learning rate 1e-3; try a smaller \
             `optimizer.lr`, or `clip_norm` 1, in another folder; {} holds the last good weights",
            last.display()
        )
    );
    assert!(matches!(error, Error::NotFinite { .. }));
    let good = load_best(model(), folder.path(), "loss").unwrap();
    assert!(bits(&good).iter().all(|&weight| f32::from_bits(weight).is_finite()));
    // What is whole goes on.
    run(&Source::new(&data, &config), &config, folder.path(), &mut ()).unwrap();
}

#[test]
fn stops_early_and_keeps_the_best() {
    let _turn = alone();
    let (data, config) = (Data::new(0), TrainConfig { patience: Some(2), epochs: 9, ..config() });
    let folder = tempfile::tempdir().unwrap();
    let mut losses = [3.0, 1.0, 2.0, 1.5].into_iter();
    let mut seen = vec![];
    let validate = |model: &FeatureModel| {
        seen.push(bits(model));
        let metrics = [("R@1".to_string(), seen.len() as f64)].into();
        Ok(Validation { loss: losses.next().unwrap(), metrics, ..Validation::default() })
    };
    let source = Source::new(&data, &config);
    let trained = train(model(), &source, &config, &[], validate, folder.path(), &mut ()).unwrap();
    assert_eq!((trained.outcome, trained.epochs), (Outcome::StoppedEarly, 4));
    assert_eq!(trained.best_loss.unwrap().epoch, 2);
    assert_eq!(trained.best_metric.unwrap().epoch, 4);
    assert!(bits(&load_best(model(), folder.path(), "loss").unwrap()) == seen[1]);
    assert!(bits(&load_best(model(), folder.path(), "R@1").unwrap()) == seen[3]);
}

#[test]
fn a_metric_that_is_not_measured() {
    let _turn = alone();
    let (data, config) = (Data::new(0), TrainConfig { select: Some("R@5".into()), ..config() });
    let folder = tempfile::tempdir().unwrap();
    let error = run(&Source::new(&data, &config), &config, folder.path(), &mut ()).unwrap_err();
    assert_eq!(error.to_string(), "validation has no metric `R@5` to select by; it has R@1");
}

#[test]
fn a_model_of_another_shape() {
    let _turn = alone();
    let (data, config) = (Data::new(0), TrainConfig { epochs: 1, ..config() });
    let folder = tempfile::tempdir().unwrap();
    run(&Source::new(&data, &config), &config, folder.path(), &mut ()).unwrap();
    let head = xr_models::HeadConfig::DualEncoder(xr_models::head::DualEncoderConfig::new());
    let other = xr_models::FeatureModelConfig::new(12, 10, head).init(&Device::flex());
    let error = load_best(other, folder.path(), "loss").unwrap_err().to_string();
    assert!(error.contains("best-loss/model.bpk") && error.contains("Missing tensors"), "{error}");
}

#[test]
fn a_model_without_gradients_is_given_them() {
    let _turn = alone();
    let (data, config) = (Data::new(0), TrainConfig { epochs: 1, ..config() });
    let drawn = model();
    bits(&drawn);
    let plain = drawn.valid();
    let [with, without] = [drawn, plain].map(|model| {
        let folder = tempfile::tempdir().unwrap();
        let held_out = Data::new(1);
        let validate = |model: &FeatureModel| held_out.validate(model, &config.objective);
        let source = Source::new(&data, &config);
        bits(&train(model, &source, &config, &[], validate, folder.path(), &mut ()).unwrap().model)
    });
    assert!(with == without);
}
