use burn::tensor::Device;
use xr_data::{Corpus, Split};
use xr_models::{Checkpoint, FeatureModel, FeatureModelConfig, ZScore};
use xr_train::{BoxError, FeatureBatches, Validation};

use crate::{
    Encoders, Error, Features, FrozenEncoders, Options, Recipe, Result, Training,
    distil::Distilling, fit_end_to_end, fit_tuned, validation::Validator,
};

/// The complete model that a training kept.
#[derive(Debug)]
pub struct Fitted {
    /// The model.
    pub checkpoint: Checkpoint,
    /// What was measured of it.
    pub best: Validation,
}

/// Trains what `recipe` describes. Pictures that can't be decoded leave `corpus`.
///
/// # Errors
/// Those of the weights, the teacher, and of [`fit_head`], [`fit_tuned`] or [`fit_end_to_end`].
pub(crate) fn fit(
    recipe: &Recipe,
    corpus: &mut Corpus,
    options: &Options,
    device: &Device,
    training: &mut impl Training,
) -> Result<Fitted> {
    let Some(teacher) = &recipe.teacher else {
        return fit_by(recipe, corpus, options, device, training);
    };
    let mut training = Distilling::new(training, teacher, corpus, options, device)?;
    fit_by(recipe, corpus, options, device, &mut training)
}

fn fit_by(
    recipe: &Recipe,
    corpus: &mut Corpus,
    options: &Options,
    device: &Device,
    training: &mut impl Training,
) -> Result<Fitted> {
    let Encoders::Pretrained { image, text, tuning } = &recipe.encoders else {
        return fit_end_to_end(recipe, corpus, options.strictness(), device, training);
    };
    let (encoders, cache) = (FrozenEncoders::load(image, text, device)?, &options.cache);
    // Dropping pictures leaves the splits without them.
    let features = encoders.features(corpus, recipe.views, Some(cache), options.strict)?;
    match tuning {
        None => fit_head(recipe, corpus, &encoders, &features, training),
        Some(_) => {
            let cache = cache.join("activations");
            fit_tuned(recipe, corpus, &encoders, &features, &cache, training)
        }
    }
}

/// Trains a head on cached features.
///
/// # Errors
/// [`Error::EmptySplit`] if `train` or `dev` has no captions; those of the training.
pub fn fit_head(
    recipe: &Recipe,
    corpus: &Corpus,
    encoders: &FrozenEncoders,
    features: &Features,
    training: &mut impl Training,
) -> Result<Fitted> {
    let [train_split, dev_split] = [split(corpus, "train")?, split(corpus, "dev")?];
    let (of_train, of_dev) = (features.of(&train_split), features.of(&dev_split));
    let (config, model) = new_head(recipe, encoders, &of_train);
    let views = of_train.image.iter().collect();
    let batches =
        FeatureBatches::new(views, &of_train.text, &train_split.picture_of, &recipe.train);
    let validator = Validator::new(recipe, corpus, &train_split, &dev_split);
    let validate = |model: &FeatureModel| validator.measure(model, &of_dev).map_err(BoxError::from);
    let (head, best) = training.train(model, &batches, &recipe.train, validate)?;
    Ok(Fitted { checkpoint: encoders.with_head(config, head, recipe.views), best })
}

pub(crate) fn split(corpus: &Corpus, name: &str) -> Result<Split> {
    let split = corpus.split(name)?;
    if split.captions.is_empty() {
        return Err(Error::EmptySplit { corpus: corpus.name.clone(), split: name.into() });
    }
    Ok(split)
}

/// A head with the statistics of the training split's features.
pub(crate) fn new_head(
    recipe: &Recipe,
    encoders: &FrozenEncoders,
    train: &Features,
) -> (FeatureModelConfig, FeatureModel) {
    let (config, device) = (head_config(recipe, encoders.widths()), &encoders.device());
    let [image, text] = [&train.image[0], &train.text].map(|of| ZScore::fit(of, device));
    let head = config.init(device).with_stats(image, text);
    (config, head)
}

pub(crate) fn head_config(recipe: &Recipe, (image, text): (usize, usize)) -> FeatureModelConfig {
    FeatureModelConfig::new(image, text, recipe.head.clone()).with_temperature(recipe.temperature)
}
