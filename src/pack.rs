use burn::tensor::{Device, Tensor};
use xr_data::{Corpus, Embeddings};
use xr_models::{Checkpoint, FeatureModel, Inputs, Packed, Steps};

use crate::{Features, FrozenEncoders, Options, Result, Run, features::matrix};

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
    /// Training pictures that weights are rounded for, and that are in its query bank, which has twice
    /// as many of their captions.
    pub bank: usize,
}

impl Default for Reduction {
    /// That of xr-mini: less than ten million bytes.
    fn default() -> Self {
        let steps = Steps { image: 0.06, text: 0.35 };
        Self { words: 7_000, context: 64, latent: 256, steps, bank: 1_000 }
    }
}

/// Makes one small file of the model of a run, with a query bank of its training data.
///
/// It keeps the words that the training captions need and the most frequent others, the dimensions
/// in which the embeddings of the training data are longest, and weights rounded for what layers are
/// given with some of the training data. The head is fitted to what the rounded encoders make of it.
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
    let mut checkpoint = checkpoint.with_fewer_dimensions(
        &[banks.pictures.queries(), banks.captions.queries()],
        reduction.latent,
    );
    // Folded once: what is observed is known by its weights.
    checkpoint.model = checkpoint.model.folded();
    let mut part = corpus.only(&train.sample(reduction.bank));
    let mut inputs = Inputs::default();
    let before = inputs.observe(|| features(&checkpoint, &mut part, options))?;
    let packed = Packed::new(&checkpoint, reduction.steps, &inputs);
    let after = features(&packed.checkpoint(device)?, &mut part, options)?;
    let head = refitted(checkpoint.model.features, &before, &after, device);
    let packed = packed.with_head(&head, reduction.steps.image);
    with_bank(packed, &after, reduction, device)
}

/// Features of a corpus. They are computed, not read from a cache, so that layers can be observed.
fn features(checkpoint: &Checkpoint, corpus: &mut Corpus, options: &Options) -> Result<Features> {
    let encoders = FrozenEncoders::of(checkpoint.clone());
    encoders.features(corpus, checkpoint.config.views, None, options.strict)
}

/// The head that makes of the features of rounded encoders what this one made of those before.
fn refitted(
    head: FeatureModel,
    before: &Features,
    after: &Features,
    device: &Device,
) -> FeatureModel {
    let rows = |of: &Embeddings| matrix(of.values().to_vec(), of.dim(), device);
    let views = |of: &Features| Tensor::cat(of.image.iter().map(rows).collect(), 0);
    let image = [views(before), views(after)];
    head.refitted(image, [rows(&before.text), rows(&after.text)])
}

/// With a query bank of the pictures that have these features, and of two captions for each.
fn with_bank(
    packed: Packed,
    features: &Features,
    reduction: &Reduction,
    device: &Device,
) -> Result<Packed> {
    let (pictures, captions) = features.embed(&packed.checkpoint(device)?);
    let every = captions.rows().div_ceil(2 * reduction.bank).max(1);
    let some: Vec<_> = (0..captions.rows() as u32).step_by(every).collect();
    let captions = captions.select(&some);
    Ok(packed.with_bank([&pictures, &captions], reduction.steps.text)?)
}
