//! Training on augmented pictures.

use std::{
    ops::ControlFlow::{Break, Continue},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use xr::{
    Device, Encoders, ImageTower, Options, Recipe, Result, Run, TextTower, TrainedRun,
    data::{Augment, Fingerprint},
    models::encoder::Cell,
    train::{Event, Observer, Record, read_log},
};

const AUGMENT: &str = r#"[
    {"resized_crop": {"area": [0.6, 1.0], "aspect": [0.8, 1.25]}},
    {"horizontal_flip": {"probability": 0.5}},
    {"color_jitter": {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.05}},
    {"rotation": {"degrees": 10}},
    {"perspective": {"distortion": 0.2, "probability": 0.5}}
]"#;

/// Weights and dropout are drawn from a generator that all threads share, so these tests take turns.
fn alone() -> MutexGuard<'static, ()> {
    static TRAINING: Mutex<()> = Mutex::new(());
    TRAINING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Three epochs of three steps.
fn recipe(augment: Vec<Augment>) -> Recipe {
    let image = ImageTower::Scratch { channels: vec![4, 8], side: 32 };
    let text = TextTower::Scratch { cell: Cell::Gru, width: 16, vocabulary: 2_000, context: 32 };
    let encoders = Encoders::EndToEnd { image, text };
    let mut recipe = Recipe::dual_encoder("synthetic:60", encoders);
    (recipe.train.batch_size, recipe.train.epochs, recipe.train.log_every) = (32, 3, Some(1));
    recipe.augment = augment;
    recipe
}

fn augment() -> Vec<Augment> {
    serde_json::from_str(AUGMENT).unwrap()
}

fn train(recipe: &Recipe, dir: &Path, observer: &mut dyn Observer) -> Result<TrainedRun> {
    let options = Options { cache: dir.join("cache"), strict: true };
    Run::train(recipe, &dir.join("run"), &options, &[Device::flex()], observer)
}

/// The weights of the best epoch, and the loss of every step.
fn trained(
    recipe: &Recipe,
    observer: &mut dyn Observer,
    dir: &Path,
) -> (Fingerprint, Vec<(usize, f64)>) {
    let run = train(recipe, dir, observer).unwrap().run;
    let log = read_log(&dir.join("run/training/log.jsonl")).unwrap();
    let losses = log.iter().filter_map(|record| match record {
        Record::Step(step) => Some((step.step, step.loss)),
        Record::Epoch(_) => None,
    });
    (run.checkpoint(&Device::flex()).unwrap().fingerprint(), losses.collect())
}

#[test]
fn interrupted_and_resumed_it_ends_with_the_same_weights() {
    let _turn = alone();
    let recipe = recipe(augment());
    let [whole, parts] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let uninterrupted = trained(&recipe, &mut (), whole.path());
    // In the second epoch, so that there is something to return.
    let mut stop = |event: Event<'_>| match event {
        Event::Step(step) if step.step == 5 => Break(()),
        _ => Continue(()),
    };
    let (_, losses) = trained(&recipe, &mut stop, parts.path());
    assert_eq!((losses.len(), uninterrupted.1.len()), (5, 9));
    assert_eq!(trained(&recipe, &mut (), parts.path()), uninterrupted);
}

#[test]
fn it_is_another_training() {
    let _turn = alone();
    let [plain, augmented] = [vec![], augment()]
        .map(|augment| trained(&recipe(augment), &mut (), tempfile::tempdir().unwrap().path()));
    assert_ne!(plain, augmented);
}

/// A recipe of before there was augmentation has none, and its run goes on.
#[test]
fn a_run_from_before() {
    let _turn = alone();
    let (dir, recipe) = (tempfile::tempdir().unwrap(), recipe(vec![]));
    let made = trained(&recipe, &mut (), dir.path());
    let path = dir.path().join("run/recipe.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let before = text.replace("  \"augment\": [],\n", "");
    assert_ne!(before, text);
    std::fs::write(&path, before).unwrap();
    assert_eq!(trained(&recipe, &mut (), dir.path()), made);
}

#[test]
fn what_cannot_be_augmented() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |recipe: &Recipe| train(recipe, dir.path(), &mut ()).unwrap_err().to_string();
    let encoders = Encoders::frozen(vec!["lite0.pth".into()], Some("minilm".into()));
    let mut tuned = Recipe::fine_tuned("synthetic:60", encoders);
    tuned.augment = augment();
    assert_eq!(
        refused(&tuned),
        "`augment` changes pixels at every step, but what pretrained encoders make of a picture is computed \
         once and kept; leave it empty: preset fine-tuned sees random parts of each picture \
         (encoders.pretrained.tuning.crops); or train the encoders whole, with --end-to-end"
    );
    assert_eq!(
        refused(&recipe(vec![Augment::HorizontalFlip { probability: 2.0 }])),
        "augment: expected a probability between 0 and 1, found {\"horizontal_flip\":{\"probability\":2.0}}"
    );
    assert!(!dir.path().join("run").exists(), "nothing was begun");
}
