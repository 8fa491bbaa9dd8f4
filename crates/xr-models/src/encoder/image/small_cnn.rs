use burn::{
    config::Config,
    module::Module,
    nn::PaddingConfig2d,
    tensor::{Device, Tensor},
};

use super::conv_norm::{ConvNorm, ConvNormConfig, PYTORCH_EPSILON};
use crate::ops::{Activation::Relu, global_avg_pool2d};

/// Configuration of a [`SmallCnn`].
#[derive(Config, Debug, PartialEq)]
pub struct SmallCnnConfig {
    /// Channels after each stage; the last is the width of the features.
    #[config(default = "vec![16, 32, 64, 128]")]
    pub channels: Vec<usize>,
}

/// 3 × 3 convolutions of stride 2, each with batch norm and ReLU, then the mean over all places.
///
/// Small enough to be trained from scratch on a processor, on pictures of 64 to 128 pixels.
#[derive(Module, Debug)]
pub struct SmallCnn {
    stages: Vec<ConvNorm>,
}

impl SmallCnnConfig {
    /// An encoder with random weights.
    ///
    /// # Panics
    /// If there is no stage.
    pub fn init(&self, device: &Device) -> SmallCnn {
        assert!(!self.channels.is_empty(), "a SmallCnn has at least one stage");
        let from = std::iter::once(3).chain(self.channels.iter().copied());
        let stages = from.zip(&self.channels).map(|(from, &to)| stage(from, to, device));
        SmallCnn { stages: stages.collect() }
    }

    /// Width of the features.
    pub fn width(&self) -> usize {
        *self.channels.last().expect("a SmallCnn has at least one stage")
    }
}

impl SmallCnn {
    /// Features of a batch of pictures.
    ///
    /// # Shapes
    /// - pixels: `[batch, 3, height, width]`
    /// - output: `[batch, features]`
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<2> {
        global_avg_pool2d(self.activations(pixels))
    }

    /// What the last stage makes.
    ///
    /// # Shapes
    /// - pixels: `[batch, 3, height, width]`
    /// - output: `[batch, channels, …]`, each stage halves height and width
    pub fn activations(&self, pixels: Tensor<4>) -> Tensor<4> {
        self.stages.iter().fold(pixels, |x, stage| stage.forward(x, Relu, None))
    }

    /// The same function with each batch norm folded into its convolution.
    pub fn folded(self) -> Self {
        Self { stages: self.stages.into_iter().map(ConvNorm::folded).collect() }
    }

    /// With the weights of dense convolutions rounded to bf16.
    pub fn in_mixed_precision(self) -> Self {
        Self { stages: self.stages.into_iter().map(ConvNorm::in_mixed_precision).collect() }
    }

    /// The same function with batch norms, as files have it.
    pub fn unfolded(self) -> Self {
        let unfolded = self.stages.into_iter().map(|stage| stage.unfolded(PYTORCH_EPSILON));
        Self { stages: unfolded.collect() }
    }

    pub(super) fn blocks(&self) -> usize {
        self.stages.len()
    }

    pub(super) fn cut(mut self, blocks: usize) -> [Self; 2] {
        let stages = self.stages.split_off(self.stages.len() - blocks);
        [self, Self { stages }]
    }

    pub(super) fn joined([mut lower, upper]: [Self; 2]) -> Self {
        lower.stages.extend(upper.stages);
        lower
    }
}

fn stage(from: usize, to: usize, device: &Device) -> ConvNorm {
    let (channels, padding) = ([from, to], PaddingConfig2d::Explicit(1, 1, 1, 1));
    ConvNormConfig { channels, kernel: 3, stride: 2, groups: 1, padding, epsilon: PYTORCH_EPSILON }
        .init(device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    #[test]
    fn equals_pytorch_folded_or_not() {
        let (fixture, device) = (Fixture::open("small_cnn"), Device::flex());
        let config = SmallCnnConfig::new().with_channels(vec![4, 6]);
        let encoder = fixture.load(config.init(&device), str::to_owned);
        let pixels = fixture.tensor::<4>("pixels", &device);
        fixture.assert("features", encoder.forward(pixels.clone()));
        fixture.assert("features", encoder.folded().forward(pixels));
    }

    #[test]
    fn every_weight_has_a_gradient() {
        let device = Device::flex().autodiff();
        let encoder = SmallCnnConfig::new().with_channels(vec![2, 3]).init(&device);
        let pixels = Tensor::random([2, 3, 8, 8], burn::tensor::Distribution::Default, &device);
        let gradients = encoder.forward(pixels).sum().backward();
        let n = burn::optim::GradientsParams::from_grads(gradients, &encoder).len();
        assert_eq!(n, 2 * 3); // a convolution's weight, γ and β of each stage
    }
}
