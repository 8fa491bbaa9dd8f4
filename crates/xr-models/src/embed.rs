//! Features and embeddings of pictures and texts, in batches.
//!
//! Memory is bounded by the batch: at most three batches of pixels, one being encoded, one waiting
//! and one being decoded, and one window of token rows. What is returned as [`Embeddings`] is held
//! whole; the `_into` functions hand rows on as they are made.

mod activations;
mod pictures;
mod texts;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use xr_data::{Embeddings, FeatureCache, Fingerprint, Picture, Tokenizer};

pub use self::activations::{Activations, Sight, activations};
use self::{pictures::PictureJob, texts::TextJob};
use crate::{
    Checkpoint, ImagePart, Model, ModelConfig, Result, TextPart, View,
    encoder::{ImageEncoder, TextEncoder},
};

/// Where rows go, in order.
type Sink<'a> = &'a mut dyn FnMut(&[f32]) -> xr_data::Result<()>;

/// How embedding proceeds: batch size, cache, progress, and what happens to bad pictures.
pub struct Run<'a> {
    batch: usize,
    cache: Option<PathBuf>,
    observer: Box<dyn FnMut(usize, usize) + 'a>,
    strict: bool,
}

/// A picture that was left out.
#[derive(Debug)]
pub struct Failure {
    /// Its position among the pictures given.
    pub position: usize,
    /// Why.
    pub error: xr_data::Error,
}

/// Makes embeddings with a trained model, stamped with its fingerprint.
#[derive(Debug)]
pub struct Embedder {
    config: ModelConfig,
    tokenizer: Tokenizer,
    model: Model,
    fingerprint: Fingerprint,
}

impl<'a> Run<'a> {
    /// Encodes `batch` pictures or texts at a time, caches nothing, tells no one, and skips
    /// pictures that can't be decoded.
    ///
    /// # Panics
    /// If `batch` is 0.
    pub fn new(batch: usize) -> Self {
        assert!(batch > 0, "a batch has at least one row");
        Self { batch, cache: None, observer: Box::new(|_, _| ()), strict: false }
    }

    /// Takes from the [`FeatureCache`] in this folder what the same model made before, and adds
    /// the rest batch by batch, so that a run that was killed goes on where it stopped.
    pub fn with_cache(self, dir: &Path) -> Self {
        Self { cache: Some(dir.into()), ..self }
    }

    /// Calls `observer(done, total)` after each batch.
    pub fn with_observer(self, observer: impl FnMut(usize, usize) + 'a) -> Self {
        Self { observer: Box::new(observer), ..self }
    }

    /// Makes the first picture that can't be decoded an error.
    pub fn strict(self) -> Self {
        Self { strict: true, ..self }
    }

    fn open_cache(&self, made_by: &Fingerprint, dim: usize) -> Result<Option<FeatureCache>> {
        let open = |dir: &PathBuf| FeatureCache::open(dir, made_by, dim);
        Ok(self.cache.as_ref().map(open).transpose()?)
    }
}

impl fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { batch, cache, strict, observer: _ } = self;
        write!(f, "Run {{ batch: {batch}, cache: {cache:?}, strict: {strict} }}")
    }
}

/// Features of pictures, `[decoded, width]`, and the pictures that were left out.
///
/// # Errors
/// In a [strict](Run::strict) run, the first picture's that can't be decoded; the cache's.
pub fn image_features(
    part: &ImagePart,
    encoder: &ImageEncoder,
    view: View,
    pictures: &[&Picture],
    run: Run,
) -> Result<(Embeddings, Vec<Failure>)> {
    let folded = encoder.valid().folded();
    let encode = |pixels: &[Tensor<4>]| folded.forward(view.of(pixels[0].clone()));
    let job = PictureJob {
        preprocess: vec![&part.preprocess],
        crop: None,
        dim: part.encoder.width(),
        made_by: part.fingerprint(encoder, view),
        device: device_of(encoder),
        encode: &encode,
    };
    let mut values = Vec::with_capacity(pictures.len() * job.dim);
    let failures = job.run(pictures, run, &mut push_to(&mut values))?;
    Ok((Embeddings::new(values, job.dim, job.made_by), failures))
}

/// Features of texts, `[texts, width]`, in the order given.
///
/// # Errors
/// The cache's.
pub fn text_features(
    part: &TextPart,
    encoder: &TextEncoder,
    tokenizer: &Tokenizer,
    texts: &[&str],
    run: Run,
) -> Result<Embeddings> {
    let valid = encoder.valid();
    let job = TextJob {
        tokenizer,
        dim: part.encoder.width(),
        made_by: part.fingerprint(encoder, tokenizer),
        device: device_of(encoder),
        encode: &|texts| valid.forward(texts.ids.clone(), texts.mask.clone()),
    };
    let mut values = Vec::with_capacity(texts.len() * job.dim);
    job.run(texts, run, &mut push_to(&mut values))?;
    Ok(Embeddings::new(values, job.dim, job.made_by))
}

/// Features of the same pictures by several encoders, side by side as [`Model`] has them:
/// `[rows, sum of the widths]`.
///
/// # Panics
/// If the parts have other numbers of rows, or there is none.
pub fn side_by_side(parts: &[&Embeddings]) -> Embeddings {
    let rows = parts[0].rows();
    assert!(parts.iter().all(|part| part.rows() == rows), "parts of the same pictures");
    let row = |row| parts.iter().flat_map(move |part| part.row(row)).copied();
    let dim = parts.iter().map(|part| part.dim()).sum();
    let made_by = Fingerprint::of(parts.iter().map(|part| part.made_by().as_str()));
    Embeddings::new((0..rows).flat_map(row).collect(), dim, made_by)
}

impl Embedder {
    /// An embedder that makes what this checkpoint's model makes.
    pub fn new(checkpoint: Checkpoint) -> Self {
        let fingerprint = checkpoint.fingerprint();
        Self::with_fingerprint(checkpoint, fingerprint)
    }

    /// [`new`](Self::new), for a model whose [fingerprint](Checkpoint::fingerprint) is known: it is
    /// computed from all weights, which takes a tenth of a second or more.
    pub fn with_fingerprint(checkpoint: Checkpoint, fingerprint: Fingerprint) -> Self {
        let Checkpoint { config, tokenizer, model } = checkpoint;
        Self { config, tokenizer, model: model.valid().folded(), fingerprint }
    }

    /// What identifies the embeddings.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Width of the embeddings.
    pub fn dim(&self) -> usize {
        self.config.features.head.latent()
    }

    /// Embeddings of pictures, `[decoded, dim]`, each row of length 1, and the pictures that were
    /// left out.
    ///
    /// # Errors
    /// In a [strict](Run::strict) run, the first picture's that can't be decoded; the cache's.
    pub fn images(&self, pictures: &[&Picture], run: Run) -> Result<(Embeddings, Vec<Failure>)> {
        let mut values = Vec::with_capacity(pictures.len() * self.dim());
        let failures = self.images_into(pictures, run, push_to(&mut values))?;
        Ok((Embeddings::new(values, self.dim(), self.fingerprint.clone()), failures))
    }

    /// [`images`](Self::images), handing on whole rows batch by batch, in order.
    ///
    /// # Errors
    /// As [`images`](Self::images), and what `sink` returns.
    pub fn images_into(
        &self,
        pictures: &[&Picture],
        run: Run,
        mut sink: impl FnMut(&[f32]) -> xr_data::Result<()>,
    ) -> Result<Vec<Failure>> {
        let job = PictureJob {
            preprocess: self.config.image.iter().map(|part| &part.preprocess).collect(),
            crop: None,
            dim: self.dim(),
            made_by: self.fingerprint.clone(),
            device: device_of(&self.model),
            encode: &|pixels| self.model.embed_image(pixels, self.config.views),
        };
        job.run(pictures, run, &mut sink)
    }

    /// Embeddings of texts, `[texts, dim]`, each row of length 1, in the order given.
    ///
    /// # Errors
    /// The cache's.
    pub fn texts(&self, texts: &[&str], run: Run) -> Result<Embeddings> {
        let mut values = Vec::with_capacity(texts.len() * self.dim());
        self.texts_into(texts, run, push_to(&mut values))?;
        Ok(Embeddings::new(values, self.dim(), self.fingerprint.clone()))
    }

    /// [`texts`](Self::texts), handing on whole rows a few thousand at a time, in order.
    ///
    /// # Errors
    /// As [`texts`](Self::texts), and what `sink` returns.
    pub fn texts_into(
        &self,
        texts: &[&str],
        run: Run,
        mut sink: impl FnMut(&[f32]) -> xr_data::Result<()>,
    ) -> Result<()> {
        let job = TextJob {
            tokenizer: &self.tokenizer,
            dim: self.dim(),
            made_by: self.fingerprint.clone(),
            device: device_of(&self.model),
            encode: &|texts| self.model.embed_text(texts),
        };
        job.run(texts, run, &mut sink)
    }
}

fn push_to(values: &mut Vec<f32>) -> impl FnMut(&[f32]) -> xr_data::Result<()> {
    |rows| {
        values.extend_from_slice(rows);
        Ok(())
    }
}

pub(crate) fn device_of<M: Module>(module: &M) -> Device {
    module.devices().into_iter().next().expect("an encoder has weights, and they are on a device")
}

/// The values of `[batch, width]`, row after row.
fn rows_of(output: Tensor<2>) -> Vec<f32> {
    output.into_data().try_into_vec_as().expect("encoders compute in f32")
}
