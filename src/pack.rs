use burn::tensor::Device;
use ndarray::{Array1, Axis};
use xr_data::{Corpus, Embeddings};
use xr_models::{Checkpoint, Packed, Steps};

use crate::{Error, FrozenEncoders, Options, Result, Run, retriever::embeddings};

/// How small a model is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reduction {
    /// Pieces of words that it knows.
    pub words: usize,
    /// Longest text in tokens.
    pub context: usize,
    /// Dimensions of its embeddings.
    pub latent: usize,
    /// What weights are rounded to.
    pub steps: Steps,
    /// Training pictures in its query bank, which has twice as many of their captions.
    pub bank: usize,
}

impl Default for Reduction {
    /// That of xr-mini: less than ten million bytes.
    fn default() -> Self {
        let steps = Steps { image: 0.03, text: 0.4 };
        Self { words: 7_000, context: 64, latent: 256, steps, bank: 1_000 }
    }
}

/// Makes one small file of the model of a run, with a query bank of its training data.
///
/// It keeps the words that the training captions need and the most frequent others, the dimensions
/// in which the embeddings of the training data are longest, and rounded weights.
///
/// # Errors
/// Of the run and its data; as
/// [`Checkpoint::with_fewer_words`](xr_models::Checkpoint::with_fewer_words).
pub fn pack(
    run: &Run,
    reduction: &Reduction,
    options: &Options,
    device: &Device,
) -> Result<Packed> {
    let retriever = run.retriever(device)?;
    let corpus = run.corpus(options)?;
    let train = corpus.split("train")?;
    let texts: Vec<_> = corpus.texts(&train).collect();
    let banks = retriever.banks();
    let checkpoint = retriever.checkpoint().clone();
    let checkpoint = checkpoint.with_fewer_words(&texts, reduction.words, reduction.context)?;
    let checkpoint = checkpoint.with_fewer_dimensions(
        &[banks.pictures.queries(), banks.captions.queries()],
        reduction.latent,
    );
    let mut part = corpus.only(&train.sample(reduction.bank));
    let checkpoint = unbiased(checkpoint, reduction.steps, &mut part, options, device)?;
    let packed = Packed::new(&checkpoint, reduction.steps);
    let rounded = packed.checkpoint(device)?;
    let (pictures, captions) = embeddings(&rounded, packed.fingerprint(), &mut part, options)?;
    let every = captions.rows().div_ceil(2 * reduction.bank).max(1);
    let some: Vec<_> = (0..captions.rows() as u32).step_by(every).collect();
    let captions = captions.select(&some);
    Ok(packed.with_bank([&pictures, &captions], reduction.steps.text)?)
}

/// The model with its statistics moved by how rounding moves its features in the mean (bias
/// correction: Nagel et al., "Data-free quantization through weight equalization and bias
/// correction", 2019).
fn unbiased(
    mut checkpoint: Checkpoint,
    steps: Steps,
    corpus: &mut Corpus,
    options: &Options,
    device: &Device,
) -> Result<Checkpoint> {
    let mut means = |checkpoint: Checkpoint| {
        let views = checkpoint.config.views;
        let encoders = FrozenEncoders::of(checkpoint);
        let features = encoders.features(corpus, views, &options.cache, options.strict)?;
        let image = features.image.iter().map(mean).reduce(|a, b| a + b).expect("a view or more");
        Ok::<_, Error>([image / features.image.len() as f32, mean(&features.text)])
    };
    let rounded = Packed::new(&checkpoint, steps).checkpoint(device)?;
    let [image, text] = means(rounded)?;
    let [image_before, text_before] = means(checkpoint.clone())?;
    let features = &mut checkpoint.model.features;
    features.image_stats = features.image_stats.moved(&(image - image_before).to_vec());
    features.text_stats = features.text_stats.moved(&(text - text_before).to_vec());
    Ok(checkpoint)
}

fn mean(rows: &Embeddings) -> Array1<f32> {
    rows.view().mean_axis(Axis(0)).expect("a row or more")
}
