use std::{
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::Device;
use serde::{Serialize, de::DeserializeOwned};
use xr_data::{
    Corpus, Embeddings, Manifest, Skipped, SplitSpec, atomic,
    dataset::{self, Strictness},
};
use xr_eval::{Banks, plot};
use xr_index::QueryBank;
use xr_models::{Checkpoint, embed};
use xr_train::{Observer, Validation, Warning, diagnose, read_log};

use crate::{
    Error, InFolder, Recipe, Result, Retriever, curves, fit::fit, progress, retriever::embeddings,
};

const RECIPE: &str = "recipe.json";
const MANIFESTS: &str = "manifests.json";
const CHECKPOINT: &str = "checkpoint";
const TRAINING: &str = "training";
const CURVES: &str = "curves.png";
const BANKS: [&str; 2] = ["bank/pictures.safetensors", "bank/captions.safetensors"];
/// Training pictures in the query banks, at most; their captions come along.
const BANK_PICTURES: usize = 2000;

/// The folder of an experiment, complete in itself.
///
/// | in the folder | what |
/// |---|---|
/// | `recipe.json` | the [`Recipe`] |
/// | `manifests.json` | which pictures each split has |
/// | `training/` | log, and states to go on from |
/// | `checkpoint/` | the model of the best epoch |
/// | `bank/` | embeddings of training pictures and captions, for the query-bank correction |
/// | `curves.png` | losses and recalls over the epochs |
/// | `pictures.json`, `pictures-N.safetensors` | a [`Shelf`](crate::Shelf) of pictures to search |
#[derive(Clone, Debug)]
pub struct Run {
    dir: PathBuf,
    recipe: Recipe,
}

/// Where features are kept, and what happens to inputs that can't be used.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder of the feature caches; one serves all runs.
    pub cache: PathBuf,
    /// Whether a picture or caption that can't be used is an error, and not left out.
    pub strict: bool,
}

impl Options {
    /// What a loader does about inputs that can't be used.
    pub fn strictness(&self) -> Strictness {
        if self.strict { Strictness::Strict } else { Strictness::Lenient }
    }

    /// How pictures are embedded: from the cache where they are there, under a progress bar.
    pub(crate) fn embedding(&self) -> embed::Run<'static> {
        let run = embed::Run::new(16)
            .with_cache(&self.cache.join("embeddings"))
            .with_observer(progress::bar("pictures"));
        if self.strict { run.strict() } else { run }
    }
}

/// What training leaves besides the folder.
#[derive(Clone, Debug)]
pub struct TrainedRun {
    /// The folder.
    pub run: Run,
    /// Validation of the epoch that was kept.
    pub best: Validation,
    /// Inputs that were left out.
    pub skipped: Vec<Skipped>,
    /// What its log gives to think about.
    pub warnings: Vec<Warning>,
}

impl Run {
    /// Trains in folder `dir`, or goes on where training stopped there. Several devices share out each
    /// batch, as [`xr_train::train`] says; all else is done on the first.
    ///
    /// # Errors
    /// [`Error::OtherRecipe`] if the folder holds a run with another recipe; those of
    /// [`Recipe::check`], the data, the weights and the training.
    ///
    /// # Panics
    /// If no device is given.
    pub fn train(
        recipe: &Recipe,
        dir: &Path,
        options: &Options,
        devices: &[Device],
        observer: &mut dyn Observer,
    ) -> Result<TrainedRun> {
        let (device, others) = devices.split_first().expect("at least one device");
        recipe.check()?;
        let run = Self::create(recipe, dir)?;
        let mut corpus = run.corpus(options)?;
        let training = dir.join(TRAINING);
        let folder = &mut InFolder { run: &training, others, observer };
        let trained = fit(recipe, &mut corpus, options, device, folder)?;
        trained.checkpoint.save(&dir.join(CHECKPOINT))?;
        write_json(&dir.join(MANIFESTS), &Manifest::of_each(&corpus))?;
        let records = read_log(&training.join("log.jsonl"))?;
        plot::save(&plot::curves::draw(&curves(&records)), &dir.join(CURVES))?;
        run.write_banks(&trained.checkpoint, &corpus, options)?;
        let warnings = diagnose(&records);
        Ok(TrainedRun { run, best: trained.best, skipped: corpus.skipped, warnings })
    }

    /// Is a run in folder `dir`?
    pub fn is_at(dir: &Path) -> bool {
        dir.join(RECIPE).exists()
    }

    /// Opens the run in folder `dir`.
    ///
    /// # Errors
    /// [`Error::NoRun`] if there is none.
    pub fn open(dir: &Path) -> Result<Self> {
        if !Self::is_at(dir) {
            return Err(Error::NoRun { path: dir.into() });
        }
        Ok(Self { dir: dir.into(), recipe: read_json(&dir.join(RECIPE))? })
    }

    /// What the experiment is.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The corpus of the recipe, with its splits.
    ///
    /// # Errors
    /// Of the data set.
    pub fn corpus(&self, options: &Options) -> Result<Corpus> {
        let Recipe { data, split, split_seed, .. } = &self.recipe;
        corpus(data, split, *split_seed, options)
    }

    /// The model of the best epoch.
    ///
    /// # Errors
    /// As [`Checkpoint::load`].
    pub fn checkpoint(&self, device: &Device) -> Result<Checkpoint> {
        Ok(Checkpoint::load(&self.dir.join(CHECKPOINT), device)?)
    }

    /// The model, to embed, score and search.
    ///
    /// # Errors
    /// [`Error::NoBank`] for a run trained before there were query banks; those of its files.
    pub fn retriever(&self, device: &Device) -> Result<Retriever> {
        if !self.dir.join(BANKS[0]).exists() {
            return Err(Error::NoBank { path: self.dir.clone() });
        }
        let [pictures, captions] = BANKS
            .map(|name| Ok::<_, Error>(QueryBank::new(Embeddings::open(&self.dir.join(name))?)));
        let banks = Banks { pictures: pictures?, captions: captions? };
        let split = (self.recipe.split, self.recipe.split_seed);
        let known = read_json(&self.dir.join(MANIFESTS))?;
        Ok(Retriever::new(self.checkpoint(device)?, banks, split, known))
    }

    /// Embeds training pictures and captions, evenly spread.
    fn write_banks(
        &self,
        checkpoint: &Checkpoint,
        corpus: &Corpus,
        options: &Options,
    ) -> Result<()> {
        let mut part = corpus.only(&corpus.split("train")?.sample(BANK_PICTURES));
        let rows = embeddings(checkpoint, &checkpoint.fingerprint(), &mut part, options)?;
        fs::create_dir_all(self.dir.join("bank")).map_err(|e| Error::io(&self.dir, e))?;
        for (name, rows) in BANKS.into_iter().zip(<[_; 2]>::from(rows)) {
            rows.save(&self.dir.join(name))?;
        }
        Ok(())
    }

    /// Makes the folder, with its recipe; or finds the same recipe there.
    fn create(recipe: &Recipe, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
        let path = dir.join(RECIPE);
        // Both are read from text: a number may be off in the last place then, and what a file of an
        // older version lacks has its default.
        let read = |text: &str| serde_json::from_str::<Recipe>(text).ok();
        match fs::read_to_string(&path) {
            Ok(there) if read(&there) == read(&json(recipe)) => {}
            Ok(_) => return Err(Error::OtherRecipe { path: dir.into() }),
            Err(_) => write_json(&path, recipe)?,
        }
        Ok(Self { dir: dir.into(), recipe: recipe.clone() })
    }
}

/// The data set that `data` names, split.
pub(crate) fn corpus(
    data: &str,
    split: &SplitSpec,
    seed: u64,
    options: &Options,
) -> Result<Corpus> {
    let mut corpus = dataset::open(data, options.strictness())?;
    split.apply(&mut corpus, seed);
    Ok(corpus)
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    serde_json::from_str(&text).map_err(|e| Error::bad_file(path, &e))
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    Ok(atomic::write(path, json(value).as_bytes())?)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("string keys and finite numbers")
}
