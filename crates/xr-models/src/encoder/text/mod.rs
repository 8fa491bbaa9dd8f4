mod bert;
mod recurrent;

use burn::{
    config::Config,
    module::Module,
    tensor::{Bool, Device, Int, Tensor},
};

pub use self::{
    bert::{Bert, BertConfig},
    recurrent::{Cell, Recurrent, RecurrentConfig},
};

/// Which text encoder, and its sizes.
#[derive(Config, Debug, PartialEq)]
pub enum TextEncoderConfig {
    /// A BERT encoder, for published weights.
    Bert(BertConfig),
    /// A bidirectional recurrent network, to be trained from scratch.
    Recurrent(RecurrentConfig),
}

/// A text encoder: token numbers in, one vector of features for each text out.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // a model holds a handful, not an array of them
pub enum TextEncoder {
    /// A BERT encoder, for published weights.
    Bert(Bert),
    /// A bidirectional recurrent network, to be trained from scratch.
    Recurrent(Recurrent),
}

impl TextEncoderConfig {
    /// An encoder with random weights.
    pub fn init(&self, device: &Device) -> TextEncoder {
        match self {
            Self::Bert(c) => TextEncoder::Bert(c.init(device)),
            Self::Recurrent(c) => TextEncoder::Recurrent(c.init(device)),
        }
    }

    /// Width of the features.
    pub fn width(&self) -> usize {
        match self {
            Self::Bert(c) => c.width,
            Self::Recurrent(c) => c.width,
        }
    }
}

impl TextEncoder {
    /// The encoder with the weights of its linear layers rounded to bf16: their products are of
    /// rounded values then, all else is in single precision. Where gradients are tracked, they go
    /// through the rounding to this encoder's weights. A recurrent network stays as it is.
    pub fn in_bf16(self) -> Self {
        match self {
            Self::Bert(encoder) => Self::Bert(encoder.in_bf16()),
            recurrent @ Self::Recurrent(_) => recurrent,
        }
    }

    /// Features of a batch of texts. They don't depend on how far the texts are padded.
    ///
    /// # Shapes
    /// - ids: `[batch, tokens]`
    /// - mask: `[batch, tokens]`, true where there is a token and false where there is padding,
    ///   which follows the tokens
    /// - output: `[batch, width]`
    pub fn forward(&self, ids: Tensor<2, Int>, mask: Tensor<2, Bool>) -> Tensor<2> {
        match self {
            Self::Bert(encoder) => encoder.forward(ids, mask),
            Self::Recurrent(encoder) => encoder.forward(ids, mask),
        }
    }
}
