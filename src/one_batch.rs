use burn::tensor::Device;
use xr_data::{Corpus, Sampling};
use xr_train::{Observer, OneBatch};

use crate::{
    Options, Recipe, Result,
    fit::{fit, split},
    run::corpus,
    training::OnOneBatch,
};

/// Captions of the batch, each of a picture of its own.
const ROWS: usize = 32;
/// Steps, at most.
const STEPS: usize = 200;

/// Can what `recipe` describes learn at all? Trains it on 32 pairs of its training part over and over,
/// which takes a minute where the training takes hours. Nothing is left behind but what the caches
/// keep of these pictures.
///
/// # Errors
/// Those of the data, the weights and the training; that it doesn't learn is none, but a
/// [`failure`](OneBatch::failure) of the report.
pub fn overfit_one_batch(
    recipe: &Recipe,
    options: &Options,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<OneBatch> {
    recipe.check()?;
    // A teacher would refuse this part of its training data, and isn't needed to learn it by heart.
    let mut recipe = Recipe { teacher: None, ..recipe.clone() };
    recipe.train.batch_size = ROWS;
    recipe.train.sampling = Sampling::PerPicture { captions: 1 };
    let mut part = some_of(&corpus(&recipe.data, &recipe.split, recipe.split_seed, options)?)?;
    let mut training = OnOneBatch { steps: STEPS, observer, report: None };
    fit(&recipe, &mut part, options, device, &mut training)?;
    Ok(training.report.expect("fitting trains"))
}

/// As many training pictures as a batch has, which are the dev part, too.
fn some_of(corpus: &Corpus) -> Result<Corpus> {
    let mut part = corpus.only(&split(corpus, "train")?.sample(ROWS));
    let pictures = part.splits["train"].clone();
    part.splits.insert("dev".into(), pictures);
    Ok(part)
}
