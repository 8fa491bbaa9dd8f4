//! Losses that bring a picture and its texts together and keep the others apart.
//!
//! Each is a function of a [`HeadOutput`] and of `groups`, the picture of each row. Rows of one
//! picture are positives of each other and never negatives: five captions of one picture in a
//! batch are five right answers. When every row has a picture of its own, each loss is the one of
//! the textbook.

mod distillation;
mod info_nce;
mod mse;
mod sigmoid;
mod triplet;

use burn::tensor::{Bool, Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use xr_models::{HeadOutput, ops::l2_normalize};

pub use self::{
    distillation::{Distillation, Teacher, distillation},
    info_nce::info_nce,
    mse::mse,
    sigmoid::sigmoid,
    triplet::{Negatives, Triplet, triplet},
};

/// Which alignment loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AlignmentConfig {
    /// [`info_nce`].
    InfoNce,
    /// [`sigmoid`].
    Sigmoid,
    /// [`triplet`].
    Triplet(Triplet),
    /// [`mse`] between the embeddings as the head makes them.
    Mse,
}

impl AlignmentConfig {
    /// What the loss is called in logs: its name in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::InfoNce => "info_nce",
            Self::Sigmoid => "sigmoid",
            Self::Triplet(_) => "triplet",
            Self::Mse => "mse",
        }
    }

    /// Does it divide cosines by the model's temperature?
    pub(crate) fn has_temperature(&self) -> bool {
        matches!(self, Self::InfoNce | Self::Sigmoid)
    }

    /// The loss of one batch.
    ///
    /// # Shapes
    /// - output: embeddings `[batch, latent]`
    /// - groups: `batch` picture ids
    /// - loss: `[1]`
    pub fn forward(&self, output: &HeadOutput, groups: &[u32]) -> Tensor<1> {
        match self {
            Self::InfoNce => info_nce(output, groups),
            Self::Sigmoid => sigmoid(output, groups),
            Self::Triplet(config) => triplet(output, groups, config),
            Self::Mse => mse(output.image.clone(), output.text.clone()),
        }
    }
}

/// Cosines of all pictures (rows) with all texts (columns), `[batch, batch]`.
fn cosines(output: &HeadOutput) -> Tensor<2> {
    l2_normalize(output.image.clone()).matmul(l2_normalize(output.text.clone()).transpose())
}

/// Which rows and columns are of one picture, `[batch, batch]`.
///
/// # Panics
/// If `groups` doesn't give one picture to each of the `batch` rows.
fn positives(groups: &[u32], batch: usize, device: &Device) -> Tensor<2, Bool> {
    assert_eq!(groups.len(), batch, "one picture id for each row of the batch");
    let same = groups.iter().flat_map(|a| groups.iter().map(move |b| a == b));
    Tensor::from_data(TensorData::new(same.collect(), [batch, batch]), device)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Embeddings, with cosines multiplied by `scale` and moved by `bias`.
    pub(crate) fn output<const B: usize, const W: usize>(
        image: [[f32; W]; B],
        text: [[f32; W]; B],
        scale: f32,
        bias: f32,
    ) -> HeadOutput {
        let device = Device::flex().autodiff();
        HeadOutput {
            image: Tensor::<2>::from_data(image, &device).require_grad(),
            text: Tensor::<2>::from_data(text, &device).require_grad(),
            reconstructions: vec![],
            logit_scale: Tensor::<1>::from_data([scale], &device).require_grad(),
            logit_bias: Tensor::<1>::from_data([bias], &device).require_grad(),
        }
    }

    #[track_caller]
    pub(crate) fn assert_close(actual: Tensor<1>, expected: f64) {
        let actual: f64 = actual.into_scalar();
        assert!((actual - expected).abs() < 1e-6, "{actual} is not {expected}");
    }

    #[test]
    fn rows_of_one_picture() {
        let same: Vec<bool> = positives(&[7, 3, 7], 3, &Device::flex()).try_into_vec_as().unwrap();
        assert_eq!(same, [true, false, true, false, true, false, true, false, true]);
    }

    #[test]
    #[should_panic(expected = "one picture id for each row of the batch")]
    fn a_row_without_a_picture() {
        positives(&[0], 2, &Device::flex());
    }

    #[test]
    fn a_row_of_zeros_has_a_finite_gradient() {
        let output = output([[0., 0.], [3., 4.]], [[1., 0.], [0., 5.]], 1., 0.);
        let cosines = cosines(&output);
        let gradient = output.image.grad(&cosines.clone().sum().backward()).unwrap();
        assert!(gradient.is_finite().all().into_scalar::<bool>());
        let cosines: Vec<f32> = cosines.try_into_vec_as().unwrap();
        assert_eq!(cosines, [0., 0., 0.6, 0.8]);
    }

    #[test]
    fn names_are_those_of_the_configuration() {
        let triplet = AlignmentConfig::Triplet(Triplet::default());
        for loss in
            [AlignmentConfig::InfoNce, AlignmentConfig::Sigmoid, triplet, AlignmentConfig::Mse]
        {
            let json = serde_json::to_string(&loss).unwrap();
            assert!(
                json.starts_with(&format!("\"{}\"", loss.name()))
                    || json.starts_with(&format!("{{\"{}\"", loss.name())),
                "{json}"
            );
        }
    }
}
