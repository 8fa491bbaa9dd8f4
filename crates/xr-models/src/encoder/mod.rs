//! What turns pictures and texts into features.

mod image;
mod text;

pub use self::{
    image::{
        EfficientNetLite, EfficientNetLiteConfig, ImageEncoder, ImageEncoderConfig, ResNet,
        ResNetBlock, ResNetConfig, SmallCnn, SmallCnnConfig, Stage,
    },
    text::{Bert, BertConfig, Cell, Recurrent, RecurrentConfig, TextEncoder, TextEncoderConfig},
};
