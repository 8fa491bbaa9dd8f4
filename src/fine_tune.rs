use std::path::Path;

use burn::tensor::Tensor;
use xr_data::{Corpus, Embeddings, Fingerprint, Split};
use xr_models::{
    Checkpoint, ImagePart, Lower, Upper,
    embed::{Activations, Sight, activations},
};
use xr_train::{BoxError, Texts, UpperBatches};

use crate::{
    Encoders, Features, Fitted, FrozenEncoders, Recipe, Result, Training,
    features::device_of,
    fit::{new_head, split},
    progress,
    validation::Validator,
};

/// Pictures and texts that are encoded at a time for a validation.
const PICTURES: usize = 64;
const TEXTS: usize = 1024;

/// Pretrained encoders cut in two, and where what their lower parts make is kept.
struct Frozen<'a> {
    corpus: &'a Corpus,
    parts: &'a [ImagePart],
    lower: &'a Lower,
    cache: &'a Path,
}

/// A split that a model is validated on.
struct Held<'a> {
    /// For each view, for each image encoder.
    views: Vec<Vec<Activations>>,
    texts: &'a Texts<'a>,
    captions: Vec<&'a str>,
}

/// Trains the last blocks and layers of pretrained encoders together with a head. What the encoders'
/// frozen parts make of pictures is kept in folder `cache`.
///
/// # Errors
/// As [`fit_head`](crate::fit_head), and those of [`Model::cut`](xr_models::Model::cut).
///
/// # Panics
/// If the recipe doesn't say what is tuned.
pub fn fit_tuned(
    recipe: &Recipe,
    corpus: &Corpus,
    encoders: &FrozenEncoders,
    features: &Features,
    cache: &Path,
    training: &mut impl Training,
) -> Result<Fitted> {
    let Encoders::Pretrained { tuning: Some(tuning), .. } = &recipe.encoders else {
        panic!("`fit_tuned` takes a recipe that says what of pretrained encoders is tuned");
    };
    let [train_split, dev_split] = [split(corpus, "train")?, split(corpus, "dev")?];
    let (config, head) = new_head(recipe, encoders, &features.of(&train_split));
    let Checkpoint { config, tokenizer, model } = encoders.with_head(config, head, recipe.views);
    let (lower, upper) = model.cut(&tuning.blocks, tuning.layers)?;
    let upper = match tuning.adapters {
        Some(rank) => upper.with_adapters(rank, recipe.train.seed),
        None => upper,
    };
    let frozen = Frozen { corpus, parts: &config.image, lower: &lower, cache };
    let views: Vec<_> = recipe.views.each().iter().map(|&view| Sight::View(view)).collect();
    let crops = (0..tuning.crops).map(|number| Sight::Crop(tuning.crop, number));
    let texts = Texts::new(&tokenizer, lower.text.clone());
    let held = Held {
        views: frozen.see(&dev_split, views.iter().copied())?,
        texts: &texts,
        captions: corpus.texts(&dev_split).collect(),
    };
    let seen = frozen.see(&train_split, views.into_iter().chain(crops))?;
    let batches = UpperBatches::new(
        &seen,
        &texts,
        corpus.texts(&train_split).collect(),
        &train_split.picture_of,
        &recipe.train,
    );
    let validator = Validator::new(recipe, corpus, &train_split, &dev_split);
    let validate = |upper: &Upper| -> Result<_, BoxError> {
        Ok(validator.measure(&upper.features, &held.features(upper)?)?)
    };
    let (upper, best) = training.train(upper, &batches, &recipe.train, validate)?;
    let model = upper.join(lower.clone());
    let checkpoint = Checkpoint { config: config.clone(), tokenizer: tokenizer.clone(), model };
    Ok(Fitted { checkpoint, best })
}

impl Frozen<'_> {
    /// A split's pictures, seen in each of these ways: for each image encoder what its lower part
    /// makes.
    fn see(
        &self,
        split: &Split,
        sights: impl Iterator<Item = Sight>,
    ) -> Result<Vec<Vec<Activations>>> {
        let pictures: Vec<_> = self.corpus.pictures_of(split).collect();
        let see = |sight: Sight| {
            let encoders = self.parts.iter().zip(&self.lower.image);
            let see = |(part, lower)| {
                let bar = progress::bar("pictures");
                Ok(activations(part, lower, sight, &pictures, self.cache, bar)?)
            };
            encoders.map(see).collect()
        };
        sights.map(see).collect()
    }
}

impl Held<'_> {
    /// Features as the whole model would make them.
    fn features(&self, upper: &Upper) -> Result<Features, BoxError> {
        let image = self.views.iter().map(|tables| pictures(upper, tables)).collect();
        Ok(Features { image, text: self.texts(upper)? })
    }

    fn texts(&self, upper: &Upper) -> Result<Embeddings, BoxError> {
        let device = device_of(&upper.features);
        let mut rows = vec![];
        for texts in self.captions.chunks(TEXTS) {
            let (groups, places) = self.texts.states(texts, &device)?;
            let features = groups.iter().map(|texts| upper.text_features(texts)).collect();
            let order = Tensor::from_data(places.as_slice(), &device);
            rows.push(Tensor::cat(features, 0).select(0, order));
        }
        Ok(embeddings(rows))
    }
}

/// Features of all pictures of these tables, one for each image encoder.
fn pictures(upper: &Upper, tables: &[Activations]) -> Embeddings {
    let device = device_of(&upper.features);
    let count = tables[0].pictures();
    let batches = (0..count).step_by(PICTURES).map(|first| {
        let batch = |table| {
            let pictures = first..count.min(first + PICTURES);
            Activations::batch(pictures.map(|picture| (table, picture)), &device)
        };
        upper.image_features(&tables.iter().map(batch).collect::<Vec<_>>())
    });
    embeddings(batches.collect())
}

fn embeddings(rows: Vec<Tensor<2>>) -> Embeddings {
    let rows = Tensor::cat(rows, 0);
    let [_, width] = rows.dims();
    let values = rows.into_data().try_into_vec_as().expect("encoders compute in f32");
    Embeddings::new(values, width, Fingerprint::of(["validation"]))
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use burn::tensor::Device;
    use xr_data::{
        Preprocess, Tokenizer,
        dataset::synthetic::{SyntheticConfig, generate},
    };
    use xr_models::{
        FeatureModelConfig, HeadConfig, ModelConfig, TextPart, Views,
        encoder::{BertConfig, ImageEncoderConfig, SmallCnnConfig, TextEncoderConfig},
        head::DualEncoderConfig,
        weights_fingerprint,
    };
    use xr_train::{Event, Observer, read_log};

    use super::*;
    use crate::{InFolder, alone, validation::validate};

    /// Encoders of three stages and of two layers, with random weights.
    fn encoders(corpus: &Corpus) -> FrozenEncoders {
        let captions: Vec<_> = corpus.captions.iter().map(|c| c.text.as_str()).collect();
        let tokenizer = Tokenizer::train_words(&captions, 200, 32).unwrap();
        let image = SmallCnnConfig::new().with_channels(vec![4, 8, 8]);
        let image = ImagePart::new(ImageEncoderConfig::SmallCnn(image), Preprocess::unit(32));
        let text = BertConfig::new(tokenizer.vocabulary_size(), 8, 2, 2, 16).with_positions(32);
        let text = TextPart::new(TextEncoderConfig::Bert(text), 32);
        let head = HeadConfig::DualEncoder(DualEncoderConfig::new().with_latent(8));
        let config = ModelConfig::new(vec![image], text, FeatureModelConfig::new(8, 8, head));
        let device = Device::flex();
        device.seed(0);
        let model = config.init(&device).unwrap();
        // Weights are drawn when they are first read.
        weights_fingerprint(&model);
        FrozenEncoders::of(Checkpoint { config, tokenizer, model })
    }

    fn recipe(adapters: Option<usize>) -> Recipe {
        let encoders = Encoders::Pretrained { image: vec![], text: "".into(), tuning: None };
        let mut recipe = Recipe::fine_tuned("synthetic", encoders);
        let Encoders::Pretrained { tuning: Some(tuning), .. } = &mut recipe.encoders else {
            unreachable!()
        };
        (tuning.blocks, tuning.layers, tuning.crops) = (vec![2], 1, 1);
        tuning.adapters = adapters;
        recipe.views = Views::WithFlip;
        recipe.head = HeadConfig::DualEncoder(DualEncoderConfig::new().with_latent(8));
        (recipe.train.batch_size, recipe.train.epochs) = (16, 3);
        recipe
    }

    /// What `fit_tuned` makes in folder `run`.
    fn fitted(
        recipe: &Recipe,
        run: &Path,
        cache: &Path,
        observer: &mut dyn Observer,
    ) -> Result<(Fitted, Corpus)> {
        let mut corpus = generate(&SyntheticConfig { pictures: 60, ..Default::default() });
        let encoders = encoders(&corpus);
        let features = encoders.features(&mut corpus, recipe.views, Some(cache), true)?;
        let fitted = fit_tuned(
            recipe,
            &corpus,
            &encoders,
            &features,
            cache,
            &mut InFolder { run, others: &[], observer },
        )?;
        Ok((fitted, corpus))
    }

    #[test]
    fn the_whole_model_is_what_was_validated() {
        let _turn = alone();
        for recipe in [recipe(None), recipe(Some(2))] {
            let dir = tempfile::tempdir().unwrap();
            let run = dir.path().join("run");
            let (fitted, mut corpus) = fitted(&recipe, &run, dir.path(), &mut ()).unwrap();
            let checkpoint = fitted.checkpoint;
            // Through pixels, tokens and unfolded batch norms, not activations.
            let whole = FrozenEncoders::of(checkpoint.clone());
            let features =
                whole.features(&mut corpus, recipe.views, Some(dir.path()), true).unwrap();
            let dev = corpus.split("dev").unwrap();
            let model = &checkpoint.model.features;
            let found = validate(&recipe, model, &features.of(&dev), &dev).unwrap();
            assert_eq!(found.metrics, fitted.best.metrics);
            assert!((found.loss - fitted.best.loss).abs() < 1e-5, "{found:?}");
            assert_only_the_upper_part_changed(checkpoint, &corpus, recipe.views);
        }
    }

    fn assert_only_the_upper_part_changed(trained: Checkpoint, corpus: &Corpus, views: Views) {
        let (config, head) = (trained.config.features, trained.model.features.clone());
        let original = encoders(corpus).with_head(config, head, views);
        let [was, is] = [original.model, trained.model].map(|m| m.cut(&[2], 1).unwrap());
        let weights = |lower: &Lower| {
            (weights_fingerprint(&lower.image[0]), weights_fingerprint(&lower.text))
        };
        assert_eq!(weights(&was.0), weights(&is.0));
        assert_ne!(weights_fingerprint(&was.1.image), weights_fingerprint(&is.1.image));
        assert_ne!(weights_fingerprint(&was.1.text), weights_fingerprint(&is.1.text));
    }

    #[test]
    fn interrupted_and_resumed_it_ends_with_the_same_weights() {
        let _turn = alone();
        for recipe in [recipe(None), recipe(Some(2))] {
            let dir = tempfile::tempdir().unwrap();
            let run = |name: &str, observer: &mut dyn Observer| {
                fitted(&recipe, &dir.path().join(name), dir.path(), observer).unwrap().0
            };
            let whole = run("whole", &mut ());
            let mut stop = |event: Event<'_>| match event {
                Event::Step(step) if step.step == 8 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            };
            // The first epoch of three is done, so there is something to return.
            run("cut", &mut stop);
            let log = read_log(&dir.path().join("cut").join("log.jsonl")).unwrap();
            assert_eq!(log.len(), 1);
            let resumed = run("cut", &mut ());
            assert_eq!(resumed.checkpoint.fingerprint(), whole.checkpoint.fingerprint());
        }
    }
}
