use std::{
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::Device;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use xr_data::{
    Corpus, Embeddings, EmbeddingsWriter, Manifest, Picture, Skipped, Split, atomic,
    dataset::{self, Strictness},
};
use xr_eval::{Banks, EvalConfig, Scores, evaluate, evaluate_corrected, plot};
use xr_index::{ExactIndex, Metric, QueryBank, SearchParams, VectorIndex};
use xr_models::{Checkpoint, embed, embed::Embedder};
use xr_train::{Observer, Validation, Warning, diagnose, read_log};

use crate::{
    Encoders, Error, FrozenEncoders, Recipe, Result, curves, features::drop_undecodable,
    fit_from_scratch, fit_head, fit_tuned, progress,
};

const RECIPE: &str = "recipe.json";
const MANIFESTS: &str = "manifests.json";
const CHECKPOINT: &str = "checkpoint";
const TRAINING: &str = "training";
const CURVES: &str = "curves.png";
const ROWS: &str = "pictures.safetensors";
const NAMES: &str = "pictures.json";
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
/// | `pictures.safetensors`, `pictures.json` | embeddings of pictures to search, and their names |
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

/// What [`Run::embed_pictures`] did.
#[derive(Clone, Debug)]
pub struct EmbeddedPictures {
    /// Pictures embedded.
    pub pictures: usize,
    /// Pictures that were left out.
    pub skipped: Vec<Skipped>,
}

/// A picture that was found.
#[derive(Clone, Debug)]
pub struct Match {
    /// The picture.
    pub picture: Picture,
    /// Its cosine with the query.
    pub score: f32,
}

/// A split as the model embeds it.
struct Embedded {
    image: Embeddings,
    text: Embeddings,
    split: Split,
    manifest: Manifest,
}

/// `pictures.json`: which pictures the rows of `pictures.safetensors` are of.
#[derive(Debug, Serialize, Deserialize)]
struct Searchable {
    /// What to open.
    data: String,
    /// Names, in the order of the rows.
    names: Vec<String>,
}

impl Run {
    /// Trains in folder `dir`, or goes on where training stopped there.
    ///
    /// # Errors
    /// [`Error::OtherRecipe`] if the folder holds a run with another recipe; those of the data, the
    /// weights and the training.
    pub fn train(
        recipe: &Recipe,
        dir: &Path,
        options: &Options,
        device: &Device,
        observer: &mut dyn Observer,
    ) -> Result<TrainedRun> {
        let run = Self::create(recipe, dir)?;
        let mut corpus = run.corpus(options)?;
        let training = dir.join(TRAINING);
        let trained = match &recipe.encoders {
            Encoders::Pretrained { image, text, tuning } => {
                let encoders = FrozenEncoders::load(image, text, device)?;
                let cache = &options.cache;
                // Dropping pictures leaves the splits without them.
                let features =
                    encoders.features(&mut corpus, recipe.views, cache, options.strict)?;
                let (c, e, f) = (&corpus, &encoders, &features);
                match tuning {
                    None => fit_head(recipe, c, e, f, &training, observer)?,
                    Some(_) => {
                        fit_tuned(recipe, c, e, f, &cache.join("activations"), &training, observer)?
                    }
                }
            }
            Encoders::Scratch { .. } => {
                fit_from_scratch(recipe, &corpus, &training, device, observer)?
            }
        };
        trained.checkpoint.save(&dir.join(CHECKPOINT))?;
        write_json(&dir.join(MANIFESTS), &Manifest::of_each(&corpus))?;
        let records = read_log(&training.join("log.jsonl"))?;
        plot::save(&plot::curves::draw(&curves(&records)), &dir.join(CURVES))?;
        run.write_banks(&corpus, options, device)?;
        let warnings = diagnose(&records);
        Ok(TrainedRun { run, best: trained.best, skipped: corpus.skipped, warnings })
    }

    /// Opens the run in folder `dir`.
    ///
    /// # Errors
    /// [`Error::NoRun`] if there is none.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(RECIPE);
        if !path.exists() {
            return Err(Error::NoRun { path: dir.into() });
        }
        Ok(Self { dir: dir.into(), recipe: read_json(&path)? })
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
        self.other_corpus(&self.recipe.data, options)
    }

    /// Another corpus, split as the recipe says.
    ///
    /// # Errors
    /// Of the data set.
    pub fn other_corpus(&self, data: &str, options: &Options) -> Result<Corpus> {
        let mut corpus = dataset::open(data, options.strictness())?;
        self.recipe.split.apply(&mut corpus, self.recipe.split_seed);
        Ok(corpus)
    }

    /// The model of the best epoch.
    ///
    /// # Errors
    /// As [`Checkpoint::load`].
    pub fn checkpoint(&self, device: &Device) -> Result<Checkpoint> {
        Ok(Checkpoint::load(&self.dir.join(CHECKPOINT), device)?)
    }

    /// Embeddings of the pictures and captions of a corpus, in its order, each row of length 1.
    /// Pictures that can't be decoded leave the corpus.
    ///
    /// # Errors
    /// Of the checkpoint, and in a strict run of the first bad picture.
    pub fn embeddings(
        &self,
        corpus: &mut Corpus,
        options: &Options,
        device: &Device,
    ) -> Result<(Embeddings, Embeddings)> {
        let checkpoint = self.checkpoint(device)?;
        let encoders = FrozenEncoders::of(checkpoint.clone());
        let views = checkpoint.config.views;
        let features = encoders.features(corpus, views, &options.cache, options.strict)?;
        Ok(features.embed(&checkpoint))
    }

    /// Scores the model on a split, by cosine similarity.
    ///
    /// # Errors
    /// [`xr_data::Error::WrongSplit`] if the run knows that split of that corpus with other
    /// pictures; those of the checkpoint and the scoring.
    pub fn score(
        &self,
        corpus: &Corpus,
        split: &str,
        options: &Options,
        device: &Device,
    ) -> Result<Scores> {
        let Embedded { image, text, split, manifest } =
            self.embedded(corpus, split, options, device)?;
        Ok(evaluate(&image, &text, &split, &manifest, &EvalConfig::default())?)
    }

    /// [`score`](Self::score), and the same with the correction of `banks`.
    ///
    /// # Errors
    /// As [`score`](Self::score), and if another model made the banks.
    pub fn score_with(
        &self,
        banks: &Banks,
        corpus: &Corpus,
        split: &str,
        options: &Options,
        device: &Device,
    ) -> Result<[Scores; 2]> {
        let Embedded { image, text, split, manifest } =
            self.embedded(corpus, split, options, device)?;
        let config = EvalConfig::default();
        Ok([
            evaluate(&image, &text, &split, &manifest, &config)?,
            evaluate_corrected(&image, &text, banks, &split, &manifest, &config)?,
        ])
    }

    fn embedded(
        &self,
        corpus: &Corpus,
        split: &str,
        options: &Options,
        device: &Device,
    ) -> Result<Embedded> {
        let mut part = corpus.only(&corpus.split(split)?);
        let (image, text) = self.embeddings(&mut part, options, device)?;
        let split = part.split(split)?;
        let manifest = Manifest::of(&part, &split);
        self.check(&manifest)?;
        Ok(Embedded { image, text, split, manifest })
    }

    /// The query banks of the model: training pictures and captions, evenly spread.
    ///
    /// # Errors
    /// [`Error::NoBank`] for a run trained before there were any; those of reading them.
    pub fn banks(&self) -> Result<Banks> {
        if !self.dir.join(BANKS[0]).exists() {
            return Err(Error::NoBank { path: self.dir.clone() });
        }
        let [pictures, captions] = BANKS
            .map(|name| Ok::<_, Error>(QueryBank::new(Embeddings::open(&self.dir.join(name))?)));
        Ok(Banks { pictures: pictures?, captions: captions? })
    }

    fn write_banks(&self, corpus: &Corpus, options: &Options, device: &Device) -> Result<()> {
        let mut part = corpus.only(&corpus.split("train")?.sample(BANK_PICTURES));
        let (pictures, captions) = self.embeddings(&mut part, options, device)?;
        fs::create_dir_all(self.dir.join("bank")).map_err(|e| Error::io(&self.dir, e))?;
        for (name, rows) in BANKS.into_iter().zip([pictures, captions]) {
            rows.save(&self.dir.join(name))?;
        }
        Ok(())
    }

    /// Embeds the pictures of `data`, to be searched by [`search`](Self::search): row by row onto
    /// the disk, so that memory does not grow with their number. Killed and called again, it goes
    /// on where it stopped.
    ///
    /// # Errors
    /// Of the checkpoint and the data; a disk that can't be written.
    pub fn embed_pictures(
        &self,
        data: &str,
        options: &Options,
        device: &Device,
    ) -> Result<EmbeddedPictures> {
        let mut corpus = dataset::open(data, options.strictness())?;
        let embedder = self.embedder(device)?;
        let mut writer = EmbeddingsWriter::create(
            &self.dir.join(ROWS),
            embedder.dim(),
            embedder.fingerprint().clone(),
        )?;
        let run = embed::Run::new(16)
            .with_cache(&options.cache.join("embeddings"))
            .with_observer(progress::bar("pictures"));
        let run = if options.strict { run.strict() } else { run };
        let pictures: Vec<_> = corpus.pictures.iter().collect();
        let failures = embedder.images_into(&pictures, run, |rows| writer.append(rows))?;
        drop_undecodable(&mut corpus, &failures);
        let names = corpus.pictures.iter().map(|p| p.name.clone()).collect();
        writer.finish()?;
        write_json(&self.dir.join(NAMES), &Searchable { data: data.into(), names })?;
        Ok(EmbeddedPictures { pictures: corpus.pictures.len(), skipped: corpus.skipped })
    }

    /// The `k` pictures nearest to `text`, best first.
    ///
    /// # Errors
    /// [`Error::NothingEmbedded`] before [`embed_pictures`](Self::embed_pictures);
    /// [`xr_data::Error::MadeByAnother`] if the model has changed since.
    pub fn search(&self, text: &str, k: usize, device: &Device) -> Result<Vec<Match>> {
        let rows = self.dir.join(ROWS);
        if !rows.exists() {
            return Err(Error::NothingEmbedded { path: self.dir.clone() });
        }
        let pictures = Embeddings::open(&rows)?;
        let embedder = self.embedder(device)?;
        pictures.expect_made_by(embedder.fingerprint(), &rows)?;
        let query = embedder.texts(&[text], embed::Run::new(1))?;
        let index = ExactIndex::new(pictures, Metric::InnerProduct)?;
        let hits = index.search(query.view(), k, &SearchParams::default())?;
        let Searchable { data, names } = read_json(&self.dir.join(NAMES))?;
        let corpus = dataset::open(&data, Strictness::Lenient)?;
        hits.of(0)
            .iter()
            .map(|hit| {
                let name = &names[hit.id as usize];
                let picture = corpus.picture(name)?.clone();
                Ok(Match { picture, score: hit.score })
            })
            .collect()
    }

    /// The model, ready to embed.
    ///
    /// # Errors
    /// As [`checkpoint`](Self::checkpoint).
    pub fn embedder(&self, device: &Device) -> Result<Embedder> {
        Ok(Embedder::load(&self.dir.join(CHECKPOINT), device)?)
    }

    /// Refuses a split that had other pictures when the model was trained.
    fn check(&self, manifest: &Manifest) -> Result<()> {
        let mut known: Vec<Manifest> = read_json(&self.dir.join(MANIFESTS))?;
        let name = |m: &Manifest| (m.corpus.clone(), m.split.clone(), m.drawn);
        let Some(expected) = known.iter().find(|m| name(m) == name(manifest)).cloned() else {
            return Ok(());
        };
        known.extend(dataset::published());
        Ok(manifest.check(&expected, &known)?)
    }

    /// Makes the folder, with its recipe; or finds the same recipe there.
    fn create(recipe: &Recipe, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
        let path = dir.join(RECIPE);
        // Text is compared: a number read from JSON may be off in the last place.
        match fs::read_to_string(&path) {
            Ok(there) if there == json(recipe) => {}
            Ok(_) => return Err(Error::OtherRecipe { path: dir.into() }),
            Err(_) => write_json(&path, recipe)?,
        }
        Ok(Self { dir: dir.into(), recipe: recipe.clone() })
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    serde_json::from_str(&text)
        .map_err(|e| Error::BadFile { path: path.into(), why: e.to_string() })
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    Ok(atomic::write(path, json(value).as_bytes())?)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("string keys and finite numbers")
}
