use std::path::Path;

use burn::tensor::Device;
use xr_data::{Corpus, Split, Tokenizer};
use xr_models::{
    Checkpoint, FeatureModel, FeatureModelConfig, ImagePart, Model, ModelConfig, TextPart, ZScore,
    encoder::{ImageEncoderConfig, TextEncoderConfig},
};
use xr_train::{
    BoxError, FeatureBatches, Observer, PairBatches, TrainConfig, Trained, Validation, load_best,
    train,
};

use crate::{Encoders, Error, Features, FrozenEncoders, Recipe, Result, validation::validate};

/// The complete model of the best epoch by the metric of [`TrainConfig::select`], or by validation
/// loss where there is none.
#[derive(Debug)]
pub struct Fitted {
    /// The model.
    pub checkpoint: Checkpoint,
    /// What was measured after that epoch.
    pub best: Validation,
}

/// Trains a head on cached features in folder `run`, or goes on where it stopped.
///
/// # Errors
/// [`Error::EmptySplit`] if `train` or `dev` has no captions; those of [`train`].
pub fn fit_head(
    recipe: &Recipe,
    corpus: &Corpus,
    encoders: &FrozenEncoders,
    features: &Features,
    run: &Path,
    observer: &mut dyn Observer,
) -> Result<Fitted> {
    let [train_split, dev_split] = [split(corpus, "train")?, split(corpus, "dev")?];
    let (of_train, of_dev) = (features.of(&train_split), features.of(&dev_split));
    let (config, model) = new_head(recipe, encoders, &of_train);
    let views = of_train.image.iter().collect();
    let batches =
        FeatureBatches::new(views, &of_train.text, &train_split.picture_of, &recipe.train);
    let validate =
        |model: &FeatureModel| validate(recipe, model, &of_dev, &dev_split).map_err(BoxError::from);
    let trained = train(model.clone(), &batches, &recipe.train, validate, run, observer)?;
    let head = load_best(model, run, chosen_by(&recipe.train))?;
    let checkpoint = encoders.with_head(config, head, recipe.views);
    Ok(Fitted { checkpoint, best: best(trained)? })
}

/// Trains encoders and head together from random weights in folder `run`, or goes on where it
/// stopped.
///
/// # Errors
/// As [`fit_head`].
///
/// # Panics
/// If the recipe's encoders are pretrained ones, or [`Recipe::check`] fails.
pub fn fit_from_scratch(
    recipe: &Recipe,
    corpus: &Corpus,
    run: &Path,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Fitted> {
    let [train_split, dev_split] = [split(corpus, "train")?, split(corpus, "dev")?];
    let (config, tokenizer) = scratch(recipe, corpus, &train_split)?;
    let model = config.init(device)?;
    let batches = PairBatches::new(corpus, &train_split, &config, &tokenizer, &recipe.train)
        .with_augment(&recipe.augment);
    let checkpoint =
        |model| Checkpoint { config: config.clone(), tokenizer: tokenizer.clone(), model };
    let validate = |model: &Model| -> Result<_, BoxError> {
        let encoders = FrozenEncoders::of(checkpoint(model.clone()));
        let features = encoders.features_of(corpus, &dev_split, recipe.views)?;
        Ok(validate(recipe, &model.features, &features, &dev_split)?)
    };
    let trained = train(model.clone(), &batches, &recipe.train, validate, run, observer)?;
    let model = load_best(model, run, chosen_by(&recipe.train))?;
    Ok(Fitted { checkpoint: checkpoint(model), best: best(trained)? })
}

/// What was measured after the epoch that is kept.
pub(crate) fn best<M>(trained: Trained<M>) -> Result<Validation> {
    let best = trained.best_metric.or(trained.best_loss);
    best.map(|best| best.validation).ok_or(Error::NoEpoch)
}

pub(crate) fn split(corpus: &Corpus, name: &str) -> Result<Split> {
    let split = corpus.split(name)?;
    if split.captions.is_empty() {
        return Err(Error::EmptySplit { corpus: corpus.name.clone(), split: name.into() });
    }
    Ok(split)
}

pub(crate) fn chosen_by(config: &TrainConfig) -> &str {
    config.select.as_deref().unwrap_or("loss")
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
