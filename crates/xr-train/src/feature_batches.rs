use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use rand::Rng;
use xr_data::{Embeddings, EpochOrder};
use xr_models::{FeatureModel, HeadOutput};

use crate::{
    Batch, Batches, BoxError, Labels, TrainConfig, Trainable,
    random::{self, Purpose},
};

/// Features of pictures and their captions, row by row.
#[derive(Clone, Debug)]
pub struct FeatureBatch {
    /// `[batch, image_width]`
    pub image: Tensor<2>,
    /// `[batch, text_width]`
    pub text: Tensor<2>,
}

impl Batch for FeatureBatch {
    fn rows(&self, rows: Range<usize>) -> Self {
        let [image, text] = [&self.image, &self.text].map(|x| x.clone().slice_dim(0, rows.clone()));
        Self { image, text }
    }

    fn to_device(self, device: &Device) -> Self {
        Self { image: self.image.to_device(device), text: self.text.to_device(device) }
    }
}

impl Trainable for FeatureModel {
    type Batch = FeatureBatch;

    fn forward(&self, batch: &FeatureBatch) -> HeadOutput {
        self.forward(batch.image.clone(), batch.text.clone())
    }
}

/// Batches from features held in memory, or mapped from a file.
///
/// A picture may have several views, such as the original and its mirror image; which of them a row
/// shows is drawn for each row of each step.
#[derive(Debug)]
pub struct FeatureBatches<'a> {
    views: Vec<&'a Embeddings>,
    text: &'a Embeddings,
    picture_of: &'a [u32],
    order: EpochOrder,
    seed: u64,
}

impl<'a> FeatureBatches<'a> {
    /// Batches of the captions `text`, in the order of a split, of which caption `i` is of picture
    /// `picture_of[i]`: a row of every one of `views`.
    ///
    /// Batch size, sampling and seed come from `config`.
    ///
    /// # Panics
    /// If there is no view, a caption has no picture, or a batch is smaller than the captions that
    /// it should have of one picture.
    pub fn new(
        views: Vec<&'a Embeddings>,
        text: &'a Embeddings,
        picture_of: &'a [u32],
        config: &TrainConfig,
    ) -> Self {
        assert!(!views.is_empty(), "at least one view of the pictures");
        assert_eq!(text.rows(), picture_of.len(), "one picture for each caption");
        let pictures = picture_of.iter().max().map_or(0, |&last| last as usize + 1);
        assert!(views.iter().all(|view| view.rows() >= pictures), "{pictures} rows in every view");
        let order = EpochOrder::new(picture_of, config.sampling, config.batch_size, config.seed);
        Self { views, text, picture_of, order, seed: config.seed }
    }
}

impl Batches for FeatureBatches<'_> {
    type Batch = FeatureBatch;

    fn steps(&self) -> usize {
        self.order.steps()
    }

    fn batch(
        &self,
        epoch: usize,
        step: usize,
        device: &Device,
    ) -> Result<(FeatureBatch, Labels), BoxError> {
        let captions = self.order.batch(epoch, step);
        let pictures: Vec<u32> = captions.iter().map(|&c| self.picture_of[c as usize]).collect();
        let mut rng = random::at(self.seed, Purpose::Views, epoch, step);
        let image = pictures.iter().map(|&picture| {
            let view = rng.random_range(0..self.views.len());
            self.views[view].row(picture as usize)
        });
        let image = rows(image, self.views[0].dim(), device);
        let text = captions.iter().map(|&caption| self.text.row(caption as usize));
        let text = rows(text, self.text.dim(), device);
        Ok((FeatureBatch { image, text }, Labels { pictures, captions, teacher: None }))
    }
}

pub(crate) fn rows<'a>(
    rows: impl ExactSizeIterator<Item = &'a [f32]>,
    width: usize,
    device: &Device,
) -> Tensor<2> {
    let shape = [rows.len(), width];
    let mut values = Vec::with_capacity(shape[0] * width);
    rows.for_each(|row| values.extend_from_slice(row));
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[cfg(test)]
mod tests {
    use xr_data::{Fingerprint, Sampling};

    use super::*;

    fn column(values: Vec<f32>) -> Embeddings {
        Embeddings::new(values, 1, Fingerprint::of(["test"]))
    }

    #[test]
    fn rows_are_pairs_and_views_are_mixed() {
        // Picture p has the features p and -p; caption c, of picture c / 2, has 10 c.
        let picture_of: Vec<u32> = (0..40).map(|c| c / 2).collect();
        let original = column((0..20).map(|p| p as f32).collect());
        let flipped = column((0..20).map(|p| -(p as f32)).collect());
        let text = column((0..40).map(|c| 10.0 * c as f32).collect());
        let config = TrainConfig { batch_size: 8, ..TrainConfig::default() };
        let batches = FeatureBatches::new(vec![&original, &flipped], &text, &picture_of, &config);
        assert_eq!(batches.steps(), 5);
        let mut flips = 0;
        for step in 0..5 {
            let (batch, Labels { pictures, .. }) = batches.batch(1, step, &Device::flex()).unwrap();
            let image: Vec<f32> = batch.image.try_into_vec_as().unwrap();
            let text: Vec<f32> = batch.text.try_into_vec_as().unwrap();
            for ((image, text), picture) in image.iter().zip(text).zip(pictures) {
                assert_eq!(image.abs(), picture as f32);
                assert_eq!((text / 20.0).floor(), picture as f32);
                flips += usize::from(*image < 0.0);
            }
        }
        assert!((10..30).contains(&flips), "{flips} of 40 are flipped");
    }

    #[test]
    fn a_step_is_the_same_whenever_it_is_made() {
        let picture_of: Vec<u32> = (0..40).map(|c| c / 2).collect();
        let [one, two] = [1., 2.].map(|x| column(vec![x; 20]));
        let text = column((0..40).map(|c| c as f32).collect());
        let sampling = Sampling::PerPicture { captions: 2 };
        let config = TrainConfig { batch_size: 10, sampling, ..TrainConfig::default() };
        let batches = || FeatureBatches::new(vec![&one, &two], &text, &picture_of, &config);
        let read = |batches: &FeatureBatches, epoch, step| {
            let (batch, Labels { pictures, .. }) =
                batches.batch(epoch, step, &Device::flex()).unwrap();
            (batch.image.into_data(), batch.text.into_data(), pictures)
        };
        let wound = batches();
        (0..3).for_each(|step| drop(read(&wound, 2, step)));
        assert_eq!(read(&wound, 2, 3), read(&batches(), 2, 3));
        assert_ne!(read(&wound, 2, 3), read(&wound, 3, 3));
    }
}
