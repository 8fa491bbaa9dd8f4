use burn::tensor::Device;
use xr_data::{Corpus, Embeddings, Preprocess, Tokenizer, dataset::Strictness};
use xr_models::{
    Checkpoint, ImagePart, Model, ModelConfig, TextPart, Views, ZScore,
    encoder::{
        ImageEncoder, ImageEncoderConfig, RecurrentConfig, SmallCnnConfig, TextEncoderConfig,
    },
    pretrained::{PretrainedImage, PretrainedText, image_part, text_part},
};
use xr_train::{BoxError, PairBatches};

use crate::{
    Encoders, Fitted, FrozenEncoders, ImageTower, Recipe, Result, TextTower, Training,
    fit::{head_config, split},
    progress,
    validation::Validator,
};

/// Training pictures that statistics are taken from, at most.
const SAMPLE: usize = 1000;

/// Trains encoders and head together, from pixels and words. Pictures that can't be decoded leave
/// `corpus`, or in a strict run are an error.
///
/// # Errors
/// As [`fit_head`](crate::fit_head); those of the weights; in a strict run the first picture's that
/// can't be decoded.
///
/// # Panics
/// If the recipe's encoders aren't to be trained from end to end, or [`Recipe::check`] fails.
pub fn fit_end_to_end(
    recipe: &Recipe,
    corpus: &mut Corpus,
    strictness: Strictness,
    device: &Device,
    training: &mut impl Training,
) -> Result<Fitted> {
    let Encoders::EndToEnd { image, text } = &recipe.encoders else {
        panic!("`fit_end_to_end` takes a recipe whose encoders are trained from end to end");
    };
    let image = image.begin(device)?;
    corpus.drop_undecodable(strictness, progress::bar("pictures"))?;
    let text = text.begin(corpus, device)?;
    let begun = standardized(recipe, corpus, begin(recipe, image, text, device)?)?;
    fit_whole(recipe, corpus, begun, training)
}

/// Trains all of a model.
fn fit_whole(
    recipe: &Recipe,
    corpus: &Corpus,
    Checkpoint { config, tokenizer, model }: Checkpoint,
    training: &mut impl Training,
) -> Result<Fitted> {
    let [train_split, dev_split] = [split(corpus, "train")?, split(corpus, "dev")?];
    let batches = PairBatches::new(corpus, &train_split, &config, &tokenizer, &recipe.train)
        .with_augment(&recipe.augment);
    let checkpoint = |model: Model| {
        let image = model.image.into_iter().map(ImageEncoder::unfolded).collect();
        let model = Model { image, ..model };
        Checkpoint { config: config.clone(), tokenizer: tokenizer.clone(), model }
    };
    let validator = Validator::new(recipe, corpus, &train_split, &dev_split);
    let validate = |model: &Model| -> Result<_, BoxError> {
        let encoders = FrozenEncoders::of(checkpoint(model.clone()));
        let features = encoders.features_of(corpus, &dev_split, recipe.views)?;
        Ok(validator.measure(&model.features, &features)?)
    };
    let (model, best) = training.train(model, &batches, &recipe.train, validate)?;
    Ok(Fitted { checkpoint: checkpoint(model), best })
}

/// The model before training.
fn begin(
    recipe: &Recipe,
    image: Vec<PretrainedImage>,
    text: PretrainedText,
    device: &Device,
) -> Result<Checkpoint> {
    let (parts, image): (Vec<_>, _) = image.into_iter().map(|i| (i.part, i.encoder)).unzip();
    let width = parts.iter().map(|part: &ImagePart| part.encoder.width()).sum();
    let head = head_config(recipe, (width, text.part.encoder.width()));
    let config = ModelConfig::new(parts, text.part, head).with_views(recipe.views);
    config.check()?;
    let features = config.features.init(device);
    let model = Model { image, text: text.encoder, features };
    Ok(Checkpoint { config, tokenizer: text.tokenizer, model })
}

/// The model with the statistics of what its published encoders make of some training pictures and
/// their captions: features that are all positive would begin as embeddings that are all alike.
fn standardized(recipe: &Recipe, corpus: &Corpus, begun: Checkpoint) -> Result<Checkpoint> {
    let pretrained = recipe.encoders.pretrained_parts();
    if pretrained.is_empty() {
        return Ok(begun);
    }
    let sample = split(corpus, "train")?.sample(SAMPLE);
    let encoders = FrozenEncoders::of(begun.clone());
    let features = encoders.features_of(corpus, &sample, Views::Original)?;
    let device = &encoders.device();
    let stats = |part, of: &Embeddings| match pretrained.contains(&part) {
        true => ZScore::fit(of, device),
        false => ZScore::identity(of.dim(), device),
    };
    let [image, text] = [("^image", &features.image[0]), ("^text", &features.text)]
        .map(|(part, of)| stats(part, of));
    let model = Model { features: begun.model.features.with_stats(image, text), ..begun.model };
    Ok(Checkpoint { model, ..begun })
}

impl ImageTower {
    /// The encoders before training.
    fn begin(&self, device: &Device) -> Result<Vec<PretrainedImage>> {
        match self {
            Self::Pretrained { weights, folded } => {
                let fold = |image: PretrainedImage| match folded {
                    true => PretrainedImage { encoder: image.encoder.folded(), ..image },
                    false => image,
                };
                weights.iter().map(|path| Ok(fold(image_part(path, device)?))).collect()
            }
            Self::Scratch { channels, side } => {
                let config = SmallCnnConfig::new().with_channels(channels.clone());
                let config = ImageEncoderConfig::SmallCnn(config);
                let encoder = config.init(device);
                let part = ImagePart::new(config, Preprocess::unit(*side));
                Ok(vec![PretrainedImage { part, encoder }])
            }
        }
    }
}

impl TextTower {
    /// The encoder before training, and its tokenizer.
    fn begin(&self, corpus: &Corpus, device: &Device) -> Result<PretrainedText> {
        match *self {
            Self::Pretrained { ref weights } => Ok(text_part(weights, device)?),
            Self::Scratch { cell, width, vocabulary, context } => {
                let train = split(corpus, "train")?;
                let texts: Vec<_> = corpus.texts(&train).collect();
                let tokenizer = Tokenizer::train_words(&texts, vocabulary, context)?;
                let config = RecurrentConfig::new(tokenizer.vocabulary_size())
                    .with_cell(cell)
                    .with_embedding(width)
                    .with_hidden(width)
                    .with_width(width);
                let config = TextEncoderConfig::Recurrent(config);
                let encoder = config.init(device);
                let part = TextPart::new(config, context);
                Ok(PretrainedText { part, encoder, tokenizer })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{ops::ControlFlow, path::Path};

    use xr_data::dataset::synthetic::{SyntheticConfig, generate};
    use xr_models::{
        HeadConfig,
        encoder::{BertConfig, Cell, ResNetBlock, ResNetConfig, TextEncoder},
        head::DualEncoderConfig,
        weights_fingerprint,
    };
    use xr_train::{Event, Observer};

    use super::*;
    use crate::{InFolder, alone, validation::validate};

    /// Encoders that could have been published, and what is trained with them.
    #[derive(Clone, Copy, Debug)]
    struct Case {
        folded: bool,
        gru: bool,
    }

    impl Case {
        fn recipe(self) -> Recipe {
            let text = (!self.gru).then(|| "published".into());
            let encoders = Encoders::end_to_end(vec!["published".into()], text);
            let mut recipe = Recipe::lost_and_found("synthetic", encoders);
            recipe.head = HeadConfig::DualEncoder(DualEncoderConfig::new().with_latent(8));
            (recipe.train.batch_size, recipe.train.epochs) = (16, 3);
            recipe
        }

        fn image(self, device: &Device) -> PretrainedImage {
            let config = ResNetConfig::new(vec![1, 1], ResNetBlock::Basic).with_channels(4);
            let config = ImageEncoderConfig::ResNet(config);
            let encoder = config.init(device);
            let encoder = if self.folded { encoder.folded() } else { encoder };
            PretrainedImage { part: ImagePart::new(config, Preprocess::imagenet(32)), encoder }
        }

        fn text(self, corpus: &Corpus, device: &Device) -> PretrainedText {
            let scratch =
                TextTower::Scratch { cell: Cell::Gru, width: 8, vocabulary: 200, context: 32 };
            let made = scratch.begin(corpus, device).unwrap();
            if self.gru {
                return made;
            }
            let words = made.tokenizer.vocabulary_size();
            let config =
                TextEncoderConfig::Bert(BertConfig::new(words, 8, 2, 2, 16).with_positions(32));
            let encoder = config.init(device);
            PretrainedText { part: TextPart::new(config, 32), encoder, ..made }
        }

        /// Before training, and after it in folder `run`.
        fn fitted(self, run: &Path, observer: &mut dyn Observer) -> [Checkpoint; 2] {
            let device = Device::flex();
            device.seed(0);
            let corpus = generate(&SyntheticConfig { pictures: 60, ..Default::default() });
            let (image, text) = (self.image(&device), self.text(&corpus, &device));
            let begun = begin(&self.recipe(), vec![image], text, &device).unwrap();
            // Weights are drawn when they are first read.
            let head = weights_fingerprint(&begun.model.features);
            let before = standardized(&self.recipe(), &corpus, begun).unwrap();
            assert_ne!(weights_fingerprint(&before.model.features), head, "with statistics");
            let training = &mut InFolder { run, others: &[], observer };
            let Fitted { checkpoint, best } =
                fit_whole(&self.recipe(), &corpus, before.clone(), training).unwrap();
            let dev = corpus.split("dev").unwrap();
            let features = FrozenEncoders::of(checkpoint.clone());
            let features = features.features_of(&corpus, &dev, self.recipe().views).unwrap();
            let found =
                validate(&self.recipe(), &checkpoint.model.features, &features, &dev).unwrap();
            assert_eq!(found.metrics, best.metrics, "{self:?}");
            [before, checkpoint]
        }
    }

    const CASES: [Case; 4] = [
        Case { folded: true, gru: true },
        Case { folded: true, gru: false },
        Case { folded: false, gru: true },
        Case { folded: false, gru: false },
    ];

    #[test]
    fn both_encoders_are_trained_and_the_model_is_the_one_that_was_validated() {
        let _turn = alone();
        for case in CASES {
            let dir = tempfile::tempdir().unwrap();
            let [before, after] = case.fitted(&dir.path().join("run"), &mut ());
            let weights = |checkpoint: &Checkpoint| {
                let Model { image, text, .. } = checkpoint.model.clone();
                let image = image.into_iter().map(ImageEncoder::unfolded).collect::<Vec<_>>();
                (weights_fingerprint(&image), weights_fingerprint(&text))
            };
            let (was, is) = (weights(&before), weights(&after));
            assert!(was.0 != is.0 && was.1 != is.1, "{case:?}");
            assert_eq!(matches!(after.model.text, TextEncoder::Recurrent(_)), case.gru);
            after.save(&dir.path().join("checkpoint")).unwrap();
            let loaded = Checkpoint::load(&dir.path().join("checkpoint"), &Device::flex()).unwrap();
            assert_eq!(loaded.fingerprint(), after.fingerprint(), "{case:?}");
        }
    }

    #[test]
    fn interrupted_and_resumed_it_ends_with_the_same_weights() {
        let _turn = alone();
        let case = Case { folded: true, gru: true };
        let dir = tempfile::tempdir().unwrap();
        let run = |name: &str, observer: &mut dyn Observer| {
            case.fitted(&dir.path().join(name), observer)[1].fingerprint()
        };
        let whole = run("whole", &mut ());
        let mut stop = |event: Event<'_>| match event {
            Event::Step(step) if step.epoch == 2 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        run("cut", &mut stop);
        assert_eq!(run("cut", &mut ()), whole);
    }
}
