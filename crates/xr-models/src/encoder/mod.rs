//! What turns pictures and texts into features.

mod image;
mod text;

use burn::{
    module::Param,
    tensor::{DType, Tensor},
};

pub use self::{
    image::{
        EfficientNetLite, EfficientNetLiteConfig, ImageEncoder, ImageEncoderConfig, ResNet,
        ResNetBlock, ResNetConfig, SmallCnn, SmallCnnConfig, Stage,
    },
    text::{Bert, BertConfig, Cell, Recurrent, RecurrentConfig, TextEncoder, TextEncoderConfig},
};

/// A weight rounded to bf16, adapters included; where gradients are tracked, they go through the
/// rounding.
fn in_bf16<const D: usize>(weight: &Param<Tensor<D>>) -> Param<Tensor<D>> {
    Param::initialized(weight.id, weight.val().cast(DType::BF16))
}
