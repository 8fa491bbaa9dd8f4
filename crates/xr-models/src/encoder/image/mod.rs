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
}
