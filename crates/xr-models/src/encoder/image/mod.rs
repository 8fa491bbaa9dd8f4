mod conv_norm;
mod efficientnet_lite;
mod resnet;
mod small_cnn;

use burn::{
    config::Config,
    module::Module,
    tensor::{Device, Tensor},
};

pub use self::{
    efficientnet_lite::{EfficientNetLite, EfficientNetLiteConfig, Stage},
    resnet::{ResNet, ResNetBlock, ResNetConfig},
    small_cnn::{SmallCnn, SmallCnnConfig},
};

/// Which image encoder, and its sizes.
#[derive(Config, Debug, PartialEq)]
pub enum ImageEncoderConfig {
    /// EfficientNet-Lite, for published weights.
    EfficientNetLite(EfficientNetLiteConfig),
    /// ResNet, for published weights.
    ResNet(ResNetConfig),
    /// A small convolutional network, to be trained from scratch.
    SmallCnn(SmallCnnConfig),
}

/// An image encoder: pixels in, one vector of features for each picture out.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // a model holds a handful, not an array of them
pub enum ImageEncoder {
    /// EfficientNet-Lite, for published weights.
    EfficientNetLite(EfficientNetLite),
    /// ResNet, for published weights.
    ResNet(ResNet),
    /// A small convolutional network, to be trained from scratch.
    SmallCnn(SmallCnn),
}

impl ImageEncoderConfig {
    /// An encoder with random weights.
    pub fn init(&self, device: &Device) -> ImageEncoder {
        match self {
            Self::EfficientNetLite(c) => ImageEncoder::EfficientNetLite(c.init(device)),
            Self::ResNet(c) => ImageEncoder::ResNet(c.init(device)),
            Self::SmallCnn(c) => ImageEncoder::SmallCnn(c.init(device)),
        }
    }

    /// Width of the features.
    pub fn width(&self) -> usize {
        match self {
            Self::EfficientNetLite(c) => c.features,
            Self::ResNet(c) => c.width(),
            Self::SmallCnn(c) => c.width(),
        }
    }
}

impl ImageEncoder {
    /// Features of a batch of pictures.
    ///
    /// # Shapes
    /// - pixels: `[batch, 3, height, width]`, normalised as the encoder's preprocessing does it
    /// - output: `[batch, width]`
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<2> {
        match self {
            Self::EfficientNetLite(encoder) => encoder.forward(pixels),
            Self::ResNet(encoder) => encoder.forward(pixels),
            Self::SmallCnn(encoder) => encoder.forward(pixels),
        }
    }

    /// What the last block makes, before it is pooled: what the lower part of a
    /// [cut](Self::cut) encoder makes for the upper one.
    ///
    /// # Shapes
    /// - pixels: `[batch, 3, height, width]`
    /// - output: `[batch, channels, rows, columns]`
    pub fn activations(&self, pixels: Tensor<4>) -> Tensor<4> {
        match self {
            Self::EfficientNetLite(encoder) => encoder.activations(pixels),
            Self::ResNet(encoder) => encoder.activations(pixels),
            Self::SmallCnn(encoder) => encoder.activations(pixels),
        }
    }

    /// The same function with each batch norm folded into the convolution before it: what to use
    /// for inference, where it is faster. It has other parameters than the model it is made from,
    /// so records of that don't fit it.
    pub fn folded(self) -> Self {
        match self {
            Self::EfficientNetLite(encoder) => Self::EfficientNetLite(encoder.folded()),
            Self::ResNet(encoder) => Self::ResNet(encoder.folded()),
            Self::SmallCnn(encoder) => Self::SmallCnn(encoder.folded()),
        }
    }

    /// The encoder with the weights of its dense convolutions rounded to bf16: their products are of
    /// rounded values then, all else is in single precision. Where gradients are tracked, they go
    /// through the rounding to this encoder's weights. For inference it is to be
    /// [folded](Self::folded) before.
    pub fn in_mixed_precision(self) -> Self {
        match self {
            Self::EfficientNetLite(encoder) => Self::EfficientNetLite(encoder.in_mixed_precision()),
            Self::ResNet(encoder) => Self::ResNet(encoder.in_mixed_precision()),
            Self::SmallCnn(encoder) => Self::SmallCnn(encoder.in_mixed_precision()),
        }
    }

    /// The same function with batch norms again, which change nothing: the parameters that files of
    /// this encoder have.
    pub fn unfolded(self) -> Self {
        match self {
            Self::EfficientNetLite(encoder) => Self::EfficientNetLite(encoder.unfolded()),
            Self::ResNet(encoder) => Self::ResNet(encoder.unfolded()),
            Self::SmallCnn(encoder) => Self::SmallCnn(encoder.unfolded()),
        }
    }

    /// Number of blocks, between which it can be [cut](Self::cut).
    pub fn blocks(&self) -> usize {
        match self {
            Self::EfficientNetLite(encoder) => encoder.blocks(),
            Self::ResNet(encoder) => encoder.blocks(),
            Self::SmallCnn(encoder) => encoder.blocks(),
        }
    }

    /// The encoder in two: the lower part, whose [`activations`](Self::activations) are the input of
    /// the upper one, and the last `blocks` blocks with what follows them.
    ///
    /// # Panics
    /// If it has fewer [`blocks`](Self::blocks).
    pub fn cut(self, blocks: usize) -> [Self; 2] {
        match self {
            Self::EfficientNetLite(encoder) => encoder.cut(blocks).map(Self::EfficientNetLite),
            Self::ResNet(encoder) => encoder.cut(blocks).map(Self::ResNet),
            Self::SmallCnn(encoder) => encoder.cut(blocks).map(Self::SmallCnn),
        }
    }

    /// The encoder whose lower and upper part these are.
    ///
    /// # Panics
    /// If they are parts of different kinds of encoders.
    pub fn joined(parts: [Self; 2]) -> Self {
        match parts {
            [Self::EfficientNetLite(lower), Self::EfficientNetLite(upper)] => {
                Self::EfficientNetLite(EfficientNetLite::joined([lower, upper]))
            }
            [Self::ResNet(lower), Self::ResNet(upper)] => {
                Self::ResNet(ResNet::joined([lower, upper]))
            }
            [Self::SmallCnn(lower), Self::SmallCnn(upper)] => {
                Self::SmallCnn(SmallCnn::joined([lower, upper]))
            }
            _ => panic!("parts of different encoders"),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;

    fn encoders() -> [ImageEncoderConfig; 3] {
        let stages = [(1, 3, 1, 1, 8), (2, 3, 2, 3, 8), (2, 5, 2, 3, 16)];
        let stages = stages.map(|(r, k, s, e, c)| Stage::new(r, k, s, e, c)).into();
        [
            ImageEncoderConfig::EfficientNetLite(EfficientNetLiteConfig::new(8, stages, 32)),
            ImageEncoderConfig::ResNet(
                ResNetConfig::new(vec![1, 2, 1], ResNetBlock::Basic).with_channels(4),
            ),
            ImageEncoderConfig::SmallCnn(SmallCnnConfig::new().with_channels(vec![4, 6, 8])),
        ]
    }

    fn assert_equal(a: Tensor<2>, b: Tensor<2>) {
        a.into_data().assert_eq(&b.into_data(), true);
    }

    #[test]
    fn the_upper_part_of_the_lower_part_is_the_whole() {
        let device = Device::flex();
        let pixels = Tensor::random([2, 3, 32, 32], Distribution::Default, &device);
        for config in encoders() {
            let whole = config.init(&device).folded();
            let features = whole.forward(pixels.clone());
            for blocks in 0..=whole.blocks() {
                let parts = whole.clone().cut(blocks);
                let activations = parts[0].activations(pixels.clone());
                assert_eq!(parts[1].blocks(), blocks);
                assert_equal(parts[1].forward(activations), features.clone());
                assert_equal(ImageEncoder::joined(parts).forward(pixels.clone()), features.clone());
            }
        }
    }

    #[test]
    fn unfolded_and_folded_again_has_the_same_weights() {
        let device = Device::flex();
        for config in encoders() {
            let folded = config.init(&device).folded();
            let weights = crate::weights_fingerprint(&folded);
            let unfolded = folded.unfolded();
            let fresh = config.init(&device);
            assert_eq!(fresh.num_params(), unfolded.num_params());
            assert_eq!(crate::weights_fingerprint(&unfolded.folded()), weights);
        }
    }
}
