use burn::tensor::Device;
use xr_data::{Corpus, Split, Tokenizer};
use xr_models::{
    Checkpoint, FeatureModel, FeatureModelConfig, ImagePart, Model, ModelConfig, TextPart, ZScore,
    encoder::{ImageEncoderConfig, TextEncoderConfig},
};
use xr_train::{BoxError, FeatureBatches, PairBatches, Validation};

use crate::{
    Encoders, Error, Features, FrozenEncoders, Options, Recipe, Result, Training,
    distil::Distilling, fit_tuned, validation::Validator,
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
/// Those of the weights, the teacher, and of [`fit_head`], [`fit_tuned`] or [`fit_from_scratch`].
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
        return fit_from_scratch(recipe, corpus, device, training);
    };
    let (encoders, cache) = (FrozenEncoders::load(image, text, device)?, &options.cache);
    // Dropping pictures leaves the splits without them.
    let features = encoders.features(corpus, recipe.views, cache, options.strict)?;
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

/// Trains encoders and head together from random weights.
///
/// # Errors
/// As [`fit_head`].
///
/// # Panics
/// If the recipe's encoders are pretrained ones, or [`Recipe::check`] fails.
pub fn fit_from_scratch(
    recipe: &Recipe,
    corpus: &Corpus,
    device: &Device,
    training: &mut impl Training,
) -> Result<Fitted> {
    let [train_split, dev_split] = [split(corpus, "train")?, split(corpus, "dev")?];
    let (config, tokenizer) = scratch(recipe, corpus, &train_split)?;
    let model = config.init(device)?;
    let batches = PairBatches::new(corpus, &train_split, &config, &tokenizer, &recipe.train)
        .with_augment(&recipe.augment);
    let checkpoint =
        |model| Checkpoint { config: config.clone(), tokenizer: tokenizer.clone(), model };
    let validator = Validator::new(recipe, corpus, &train_split, &dev_split);
    let validate = |model: &Model| -> Result<_, BoxError> {
        let encoders = FrozenEncoders::of(checkpoint(model.clone()));
        let features = encoders.features_of(corpus, &dev_split, recipe.views)?;
        Ok(validator.measure(&model.features, &features)?)
    };
    let (model, best) = training.train(model, &batches, &recipe.train, validate)?;
    Ok(Fitted { checkpoint: checkpoint(model), best })
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

fn head_config(recipe: &Recipe, (image, text): (usize, usize)) -> FeatureModelConfig {
    FeatureModelConfig::new(image, text, recipe.head.clone()).with_temperature(recipe.temperature)
}

/// What encoders from scratch look like, and the tokenizer of the training captions.
fn scratch(recipe: &Recipe, corpus: &Corpus, train: &Split) -> Result<(ModelConfig, Tokenizer)> {
    let Encoders::Scratch { channels, side, cell, text_width, vocabulary, context } =
        &recipe.encoders
    else {
        panic!("`fit_from_scratch` takes a recipe whose encoders are from scratch");
    };
    let texts: Vec<_> = corpus.texts(train).collect();
    let tokenizer = Tokenizer::train_words(&texts, *vocabulary, *context)?;
    let image = Encoders::small_cnn(channels);
    let text = Encoders::recurrent(*cell, *text_width, tokenizer.vocabulary_size());
    let head = head_config(recipe, (image.width(), *text_width));
    let image = ImagePart::new(ImageEncoderConfig::SmallCnn(image), Encoders::preprocess(*side));
    let text = TextPart::new(TextEncoderConfig::Recurrent(text), *context);
    Ok((ModelConfig::new(vec![image], text, head).with_views(recipe.views), tokenizer))
}
