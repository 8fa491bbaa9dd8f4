use std::{collections::HashMap, ops::Range};

use burn::{
    module::Module,
    tensor::{Device, Int, Tensor},
};
use rand::Rng;
use xr_data::{EpochOrder, Tokenizer};
use xr_models::{
    HeadOutput, TextStates, TokenBatch, Upper, UpperBatch, embed::Activations, encoder::Bert,
};

use crate::{
    Batch, Batches, BoxError, Labels, TrainConfig, Trainable,
    random::{self, Purpose},
};

/// Texts that are padded to the longest of them. Captions differ threefold in length.
const GROUP: usize = 64;

impl Batch for UpperBatch {
    /// The pictures and texts of these pairs: a picture whose pairs come into two parts is in both.
    fn rows(&self, rows: Range<usize>) -> Self {
        let device = &self.picture_of.device();
        let tensor = |rows: &[u32]| Tensor::from_data(rows, device);
        let (pictures, picture_of) = distinct(&numbers(&self.picture_of, &rows));
        let pictures = tensor(&pictures);
        let (texts, text_of) = some_texts(&self.texts, &numbers(&self.text_of, &rows));
        Self {
            image: self.image.iter().map(|x| x.clone().select(0, pictures.clone())).collect(),
            picture_of: tensor(&picture_of),
            texts,
            text_of: tensor(&text_of),
        }
    }

    fn to_device(self, device: &Device) -> Self {
        let texts = self.texts.into_iter().map(|TextStates { states, mask }| TextStates {
            states: states.to_device(device),
            mask: mask.to_device(device),
        });
        Self {
            image: self.image.into_iter().map(|x| x.to_device(device)).collect(),
            picture_of: self.picture_of.to_device(device),
            texts: texts.collect(),
            text_of: self.text_of.to_device(device),
        }
    }
}

fn numbers(of: &Tensor<1, Int>, rows: &Range<usize>) -> Vec<u32> {
    of.clone().slice_dim(0, rows.clone()).try_into_vec_as().expect("places of rows")
}

/// The texts `wanted`, in the groups that they were in, and the new place of each.
fn some_texts(groups: &[TextStates], wanted: &[u32]) -> (Vec<TextStates>, Vec<u32>) {
    let mut texts = wanted.to_vec();
    texts.sort_unstable();
    texts.dedup();
    let (mut some, mut first) = (vec![], 0);
    for group in groups {
        let end = first + group.states.dims()[0] as u32;
        let of_group = texts.iter().filter(|&&text| first <= text && text < end);
        let rows: Vec<u32> = of_group.map(|text| text - first).collect();
        if !rows.is_empty() {
            some.push(select(group, &rows));
        }
        first = end;
    }
    let place = |text| texts.binary_search(text).expect("one of them") as u32;
    (some, wanted.iter().map(place).collect())
}

fn select(TextStates { states, mask }: &TextStates, rows: &[u32]) -> TextStates {
    let rows = Tensor::<1, Int>::from_data(rows, &states.device());
    let states = states.clone().select(0, rows.clone());
    TextStates { states, mask: mask.clone().select(0, rows) }
}

impl Trainable for Upper {
    type Batch = UpperBatch;

    fn forward(&self, batch: &UpperBatch) -> HeadOutput {
        self.forward(batch)
    }

    fn in_mixed_precision(&self) -> Self {
        self.clone().in_mixed_precision()
    }
}

/// Batches for what fine-tuning trains: pictures as activations on disk, captions through the lower
/// part of the text encoder.
///
/// Which view of a picture a step shows is drawn for each picture of each step.
#[derive(Debug)]
pub struct UpperBatches<'a> {
    views: &'a [Vec<Activations>],
    texts: &'a Texts<'a>,
    captions: Vec<&'a str>,
    picture_of: &'a [u32],
    order: EpochOrder,
    seed: u64,
}

/// From texts to the input of an [`Upper`].
#[derive(Debug)]
pub struct Texts<'a> {
    tokenizer: &'a Tokenizer,
    lower: Bert,
}

impl<'a> UpperBatches<'a> {
    /// Batches of `captions`, of which caption `i` is of picture `picture_of[i]`: a row of each of
    /// `views`, which have a table for each image encoder. Batch size, sampling and seed come from
    /// `config`.
    ///
    /// # Panics
    /// If there is no view, a caption has no picture, or a batch is smaller than the captions that
    /// it should have of one picture.
    pub fn new(
        views: &'a [Vec<Activations>],
        texts: &'a Texts<'a>,
        captions: Vec<&'a str>,
        picture_of: &'a [u32],
        config: &TrainConfig,
    ) -> Self {
        assert!(!views.is_empty(), "at least one view of the pictures");
        assert_eq!(captions.len(), picture_of.len(), "one picture for each caption");
        let order = EpochOrder::new(picture_of, config.sampling, config.batch_size, config.seed);
        Self { views, texts, captions, picture_of, order, seed: config.seed }
    }

    /// For each encoder the activations of these pictures, each in a view of its own.
    fn image(&self, pictures: &[u32], rng: &mut impl Rng, device: &Device) -> Vec<Tensor<4>> {
        let views = pictures.iter().map(|_| &self.views[rng.random_range(0..self.views.len())]);
        let views: Vec<_> = views.collect();
        let of = |encoder: usize| {
            let rows = views.iter().zip(pictures);
            Activations::batch(rows.map(|(view, &p)| (&view[encoder], p as usize)), device)
        };
        (0..self.views[0].len()).map(of).collect()
    }
}

impl<'a> Texts<'a> {
    /// Texts cut into tokens by `tokenizer` and then given to `lower`, the lower part of a text
    /// encoder.
    pub fn new(tokenizer: &'a Tokenizer, lower: Bert) -> Self {
        Self { tokenizer, lower: lower.valid() }
    }

    /// Texts in groups of similar length, and the place that each has among them.
    ///
    /// # Errors
    /// The tokenizer's.
    pub fn states(
        &self,
        texts: &[&str],
        device: &Device,
    ) -> Result<(Vec<TextStates>, Vec<u32>), BoxError> {
        let tokens = self.tokenizer.encode(texts)?;
        let by_length = tokens.by_length();
        let groups = by_length.chunks(GROUP).map(|rows| {
            let TokenBatch { ids, mask } = TokenBatch::new(&tokens.select(rows), &self.device());
            let states = self.lower.states(ids, mask.clone());
            match device.is_autodiff() {
                true => TextStates {
                    states: Tensor::from_inner(states),
                    mask: Tensor::from_inner(mask),
                },
                false => TextStates { states, mask },
            }
        });
        Ok((groups.collect(), places(&by_length)))
    }

    fn device(&self) -> Device {
        self.lower.devices().remove(0)
    }
}

impl Batches for UpperBatches<'_> {
    type Batch = UpperBatch;

    fn steps(&self) -> usize {
        self.order.steps()
    }

    fn batch(
        &self,
        epoch: usize,
        step: usize,
        device: &Device,
    ) -> Result<(UpperBatch, Labels), BoxError> {
        let captions = self.order.batch(epoch, step);
        let picture_of: Vec<u32> = captions.iter().map(|&c| self.picture_of[c as usize]).collect();
        let labels = Labels { pictures: picture_of, captions, teacher: None };
        let (pictures, picture_of) = distinct(&labels.pictures);
        let mut rng = random::at(self.seed, Purpose::Views, epoch, step);
        let image = self.image(&pictures, &mut rng, device);
        let texts: Vec<_> = labels.captions.iter().map(|&c| self.captions[c as usize]).collect();
        let (texts, text_of) = self.texts.states(&texts, device)?;
        let rows = |rows: &[u32]| Tensor::from_data(rows, device);
        let (picture_of, text_of) = (rows(&picture_of), rows(&text_of));
        Ok((UpperBatch { image, picture_of, texts, text_of }, labels))
    }
}

/// Each value once, in the order of its first appearance, and where each of `values` is among them.
fn distinct(values: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let (mut place, mut each) = (HashMap::new(), vec![]);
    let places = values.iter().map(|&value| {
        *place.entry(value).or_insert_with(|| {
            each.push(value);
            each.len() as u32 - 1
        })
    });
    let places = places.collect();
    (each, places)
}

/// Where each of 0, 1, … is in `order`.
fn places(order: &[usize]) -> Vec<u32> {
    let mut places = vec![0; order.len()];
    for (place, &row) in (0..).zip(order) {
        places[row] = place;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_once_and_where_it_is() {
        assert_eq!(distinct(&[7, 7, 3, 9, 3]), (vec![7, 3, 9], vec![0, 0, 1, 2, 1]));
        assert_eq!(places(&[2, 0, 1]), [1, 2, 0]);
    }
}
