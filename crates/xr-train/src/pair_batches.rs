use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use xr_data::{Augment, Corpus, EpochOrder, Picture, Preprocess, Split, Tokenizer, load_augmented};
use xr_models::{HeadOutput, Model, ModelConfig, PairBatch, TokenBatch, View};

use crate::{
    Batch, Batches, BoxError, Labels, TrainConfig, Trainable,
    random::{self, Purpose},
};

impl Batch for PairBatch {
    fn rows(&self, rows: Range<usize>) -> Self {
        let TokenBatch { ids, mask } = self.texts.clone();
        let pixels = self.pixels.iter().map(|x| x.clone().slice_dim(0, rows.clone()));
        Self {
            pixels: pixels.collect(),
            texts: TokenBatch {
                ids: ids.slice_dim(0, rows.clone()),
                mask: mask.slice_dim(0, rows),
            },
        }
    }

    fn to_device(self, device: &Device) -> Self {
        let TokenBatch { ids, mask } = self.texts;
        Self {
            pixels: self.pixels.into_iter().map(|x| x.to_device(device)).collect(),
            texts: TokenBatch { ids: ids.to_device(device), mask: mask.to_device(device) },
        }
    }
}

impl Trainable for Model {
    type Batch = PairBatch;

    fn forward(&self, batch: &PairBatch) -> HeadOutput {
        self.forward(batch)
    }

    fn in_mixed_precision(&self) -> Self {
        self.clone().in_mixed_precision()
    }
}

/// Batches of pictures and their captions, decoded and cut into tokens as they are asked for.
///
/// Which view of a picture a row shows is drawn for each row of each step from those of the model, and
/// so is how it is [augmented](Self::with_augment).
#[derive(Debug)]
pub struct PairBatches<'a> {
    pictures: Vec<&'a Picture>,
    texts: Vec<&'a str>,
    picture_of: &'a [u32],
    preprocess: Vec<&'a Preprocess>,
    views: &'static [View],
    augment: &'a [Augment],
    tokenizer: &'a Tokenizer,
    order: EpochOrder,
    seed: u64,
}

/// A picture as it is shown once.
struct Shown<'a> {
    picture: &'a Picture,
    view: View,
    /// Augmentation draws from a copy, so that all encoders see the same.
    rng: ChaCha8Rng,
}

impl<'a> PairBatches<'a> {
    /// Batches of `split` for a model of configuration `model`. Batch size, sampling and seed come
    /// from `config`.
    ///
    /// # Panics
    /// If a batch is smaller than the captions that it should have of one picture.
    pub fn new(
        corpus: &'a Corpus,
        split: &'a Split,
        model: &'a ModelConfig,
        tokenizer: &'a Tokenizer,
        config: &TrainConfig,
    ) -> Self {
        let picture_of = &split.picture_of;
        Self {
            pictures: corpus.pictures_of(split).collect(),
            texts: corpus.texts(split).collect(),
            picture_of,
            preprocess: model.image.iter().map(|part| &part.preprocess).collect(),
            views: model.views.each(),
            augment: &[],
            tokenizer,
            order: EpochOrder::new(picture_of, config.sampling, config.batch_size, config.seed),
            seed: config.seed,
        }
    }

    /// The same batches of pictures changed at random by each of `augment` in turn, a function of the
    /// seed, the epoch, the step and the row.
    ///
    /// # Panics
    /// If [`Augment::check`] fails.
    pub fn with_augment(self, augment: &'a [Augment]) -> Self {
        augment.iter().for_each(|one| one.check().expect("numbers that can be drawn from"));
        Self { augment, ..self }
    }

    /// `[batch, 3, side, side]`.
    fn pixels(
        &self,
        rows: &[Shown<'_>],
        preprocess: &Preprocess,
        device: &Device,
    ) -> Result<Tensor<4>, BoxError> {
        let load = |Shown { picture, view, rng }: &Shown<'_>| {
            let flip = *view == View::Flipped;
            load_augmented(picture, preprocess, flip, self.augment, &mut rng.clone())
        };
        let loaded: Vec<_> = rows.par_iter().map(load).collect::<Result<_, _>>()?;
        let side = preprocess.side() as usize;
        let data = TensorData::new(loaded.concat(), [rows.len(), 3, side, side]);
        Ok(Tensor::from_data(data, device))
    }
}

impl Batches for PairBatches<'_> {
    type Batch = PairBatch;

    fn steps(&self) -> usize {
        self.order.steps()
    }

    fn batch(
        &self,
        epoch: usize,
        step: usize,
        device: &Device,
    ) -> Result<(PairBatch, Labels), BoxError> {
        let captions = self.order.batch(epoch, step);
        let pictures: Vec<u32> = captions.iter().map(|&c| self.picture_of[c as usize]).collect();
        let mut rng = random::at(self.seed, Purpose::Views, epoch, step);
        let mut view = || self.views[rng.random_range(0..self.views.len())];
        let shown = |(row, &group): (usize, &u32)| Shown {
            picture: self.pictures[group as usize],
            view: view(),
            rng: random::of_row(self.seed, epoch, step, row),
        };
        let rows: Vec<_> = pictures.iter().enumerate().map(shown).collect();
        let pixels =
            self.preprocess.iter().map(|preprocess| self.pixels(&rows, preprocess, device));
        let pixels = pixels.collect::<Result<_, _>>()?;
        let texts: Vec<_> = captions.iter().map(|&c| self.texts[c as usize]).collect();
        let texts = TokenBatch::new(&self.tokenizer.encode(&texts)?, device);
        Ok((PairBatch { pixels, texts }, Labels { pictures, captions, teacher: None }))
    }
}

#[cfg(test)]
mod tests {
    use xr_data::{
        ColorJitter, RandomCrop, Rotation, Sampling,
        dataset::synthetic::{SyntheticConfig, generate},
    };
    use xr_models::{
        FeatureModelConfig, HeadConfig, ImagePart, TextPart, Views,
        encoder::{ImageEncoderConfig, RecurrentConfig, SmallCnnConfig, TextEncoderConfig},
        head::DualEncoderConfig,
    };

    use super::*;

    fn model(vocabulary: usize) -> ModelConfig {
        let image = SmallCnnConfig::new().with_channels(vec![4, 8]);
        let text = RecurrentConfig::new(vocabulary).with_width(8);
        let head = HeadConfig::DualEncoder(DualEncoderConfig::new().with_latent(4));
        ModelConfig::new(
            vec![ImagePart::new(ImageEncoderConfig::SmallCnn(image), Preprocess::unit(16))],
            TextPart::new(TextEncoderConfig::Recurrent(text), 32),
            FeatureModelConfig::new(8, 8, head),
        )
        .with_views(Views::WithFlip)
    }

    #[test]
    fn augmented_batches_are_a_function_of_epoch_and_step() {
        let corpus = generate(&SyntheticConfig { pictures: 20, ..Default::default() });
        let split = corpus.split("train").unwrap();
        let texts: Vec<_> = corpus.texts(&split).collect();
        let tokenizer = Tokenizer::train_words(&texts, 200, 32).unwrap();
        let config = TrainConfig { batch_size: 8, ..TrainConfig::default() };
        let model = model(tokenizer.vocabulary_size());
        let augment = [
            Augment::ResizedCrop(RandomCrop { area: [0.5, 1.0], aspect: [0.8, 1.25] }),
            Augment::ColorJitter(ColorJitter { brightness: 0.3, ..Default::default() }),
            Augment::Rotation(Rotation { degrees: 10.0 }),
        ];
        let new = || PairBatches::new(&corpus, &split, &model, &tokenizer, &config);
        let pixels = |batches: &PairBatches<'_>, epoch, step| {
            let (batch, _) = batches.batch(epoch, step, &Device::flex()).unwrap();
            batch.pixels[0].to_data()
        };
        let augmented = new().with_augment(&augment);
        assert_eq!(pixels(&augmented, 1, 2), pixels(&new().with_augment(&augment), 1, 2));
        assert_ne!(pixels(&augmented, 1, 2), pixels(&new(), 1, 2));
        assert_eq!(pixels(&new().with_augment(&[]), 1, 2), pixels(&new(), 1, 2));
    }

    #[test]
    fn a_batch_is_a_function_of_epoch_and_step_and_fits_the_model() {
        let corpus = generate(&SyntheticConfig { pictures: 20, ..Default::default() });
        let split = corpus.split("train").unwrap();
        let texts: Vec<_> = corpus.texts(&split).collect();
        let tokenizer = Tokenizer::train_words(&texts, 200, 32).unwrap();
        let config = TrainConfig {
            batch_size: 6,
            sampling: Sampling::PerPicture { captions: 2 },
            ..TrainConfig::default()
        };
        let model = model(tokenizer.vocabulary_size());
        let device = Device::flex();
        let batches = PairBatches::new(&corpus, &split, &model, &tokenizer, &config);
        let (batch, labels) = batches.batch(1, 2, &device).unwrap();
        let (again, _) = batches.batch(1, 2, &device).unwrap();
        assert_eq!(batch.pixels[0].dims(), [6, 3, 16, 16]);
        assert_eq!(batch.pixels[0].to_data(), again.pixels[0].to_data());
        assert!(labels.pictures.chunks(2).all(|pair| pair[0] == pair[1]));
        let output = Trainable::forward(&model.init(&device).unwrap(), &batch);
        assert_eq!((output.image.dims(), output.text.dims()), ([6, 4], [6, 4]));
    }
}
