//! What turns the features of two modalities into embeddings of one space.

mod autoencoders;
mod dual_encoder;

use burn::{
    config::Config,
    module::Module,
    tensor::{Device, Tensor},
};

use self::autoencoders::Decoding;
pub use self::{
    autoencoders::{Autoencoders, AutoencodersConfig},
    dual_encoder::{DualEncoder, DualEncoderConfig},
};
use crate::mlp::Mlp;

/// Which head, and its sizes.
#[derive(Config, Debug, PartialEq)]
pub enum HeadConfig {
    /// A projection of each modality.
    DualEncoder(DualEncoderConfig),
    /// Correspondence autoencoder: each modality is decoded back into itself.
    ///
    /// The shape of Feng, Wang and Li, "Cross-modal retrieval with correspondence autoencoder"
    /// (2014), with ReLU layers in place of restricted Boltzmann machines.
    CorrAe(AutoencodersConfig),
    /// Cross-modal autoencoder: each modality is decoded into the other.
    ///
    /// The paper has dropout of .3 "in the encoders" and says no more; ours stands after each hidden
    /// ReLU, see [`AutoencodersConfig::with_dropout`].
    CrossAe(AutoencodersConfig),
}

/// A head: standardised features in, embeddings (and reconstructions) out.
#[derive(Module, Debug)]
pub enum Head {
    /// A projection of each modality.
    DualEncoder(DualEncoder),
    /// Each modality decoded back into itself.
    CorrAe(Autoencoders),
    /// Each modality decoded into the other.
    CrossAe(Autoencoders),
}

/// What a head makes of one batch of pairs.
#[derive(Clone, Debug)]
pub struct Latents {
    /// Of the pictures, `[batch, latent]`, not normalised.
    pub image: Tensor<2>,
    /// Of the texts, `[batch, latent]`, not normalised.
    pub text: Tensor<2>,
    /// What the decoders made, of image features first; empty for a head without decoders.
    pub reconstructions: Vec<Reconstruction>,
}

/// A decoder's output and what it should have been.
#[derive(Clone, Debug)]
pub struct Reconstruction {
    /// What the decoder made, `[batch, width]`, in the space of standardised features.
    pub output: Tensor<2>,
    /// The standardised features, `[batch, width]`, detached: no gradient reaches an encoder
    /// through its own target.
    pub target: Tensor<2>,
}

impl Reconstruction {
    pub(crate) fn new(output: Tensor<2>, target: Tensor<2>) -> Self {
        Self { output, target: target.detach() }
    }
}

impl HeadConfig {
    /// A head over features of these widths.
    pub fn init(&self, image_width: usize, text_width: usize, device: &Device) -> Head {
        match self {
            Self::DualEncoder(c) => Head::DualEncoder(c.init(image_width, text_width, device)),
            Self::CorrAe(c) => Head::CorrAe(c.init(image_width, text_width, device)),
            Self::CrossAe(c) => Head::CrossAe(c.init(image_width, text_width, device)),
        }
    }

    /// Width of the embeddings.
    pub fn latent(&self) -> usize {
        match self {
            Self::DualEncoder(c) => c.latent,
            Self::CorrAe(c) | Self::CrossAe(c) => c.latent,
        }
    }
}

impl Head {
    /// Latents and reconstructions of a batch of pairs.
    ///
    /// # Shapes
    /// - image: `[batch, image_width]`, text: `[batch, text_width]`, both standardised
    /// - latents: `[batch, latent]`
    pub fn forward(&self, image: Tensor<2>, text: Tensor<2>) -> Latents {
        match self {
            Self::DualEncoder(head) => head.forward(image, text),
            Self::CorrAe(head) => head.forward(image, text, Decoding::Own),
            Self::CrossAe(head) => head.forward(image, text, Decoding::Other),
        }
    }

    /// `[batch, image_width]`, standardised → `[batch, latent]`, not normalised.
    pub fn encode_image(&self, image: Tensor<2>) -> Tensor<2> {
        match self {
            Self::DualEncoder(head) => head.encode_image(image),
            Self::CorrAe(head) | Self::CrossAe(head) => head.image_encoder.forward(image),
        }
    }

    /// `[batch, text_width]`, standardised → `[batch, latent]`, not normalised.
    pub fn encode_text(&self, text: Tensor<2>) -> Tensor<2> {
        match self {
            Self::DualEncoder(head) => head.encode_text(text),
            Self::CorrAe(head) | Self::CrossAe(head) => head.text_encoder.forward(text),
        }
    }

    /// What makes latents: of image features, and of text features.
    pub(crate) fn encoders(&mut self) -> [&mut Mlp; 2] {
        match self {
            Self::DualEncoder(head) => [&mut head.image, &mut head.text],
            Self::CorrAe(head) | Self::CrossAe(head) => {
                [&mut head.image_encoder, &mut head.text_encoder]
            }
        }
    }

    /// A picture in words' terms: `[batch, image_width]` → `[batch, text_width]`, both
    /// standardised; `None` for a head without decoders.
    pub fn decode_to_text(&self, image: Tensor<2>) -> Option<Tensor<2>> {
        match self {
            Self::DualEncoder(_) => None,
            Self::CorrAe(head) | Self::CrossAe(head) => Some(head.decode_to_text(image)),
        }
    }

    /// A text in pictures' terms: `[batch, text_width]` → `[batch, image_width]`, both
    /// standardised; `None` for a head without decoders.
    pub fn decode_to_image(&self, text: Tensor<2>) -> Option<Tensor<2>> {
        match self {
            Self::DualEncoder(_) => None,
            Self::CorrAe(head) | Self::CrossAe(head) => Some(head.decode_to_image(text)),
        }
    }
}
