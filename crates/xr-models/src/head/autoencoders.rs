use burn::{
    config::Config,
    module::Module,
    tensor::{Device, Tensor},
};

use super::{Latents, Reconstruction};
use crate::mlp::{Mlp, MlpConfig};

/// Configuration of [`Autoencoders`]; the defaults are the sizes of P1.
#[derive(Config, Debug, PartialEq)]
pub struct AutoencodersConfig {
    /// Width of the common space.
    #[config(default = 512)]
    pub latent: usize,
    /// The image encoder; its decoder is the mirror image, without dropout.
    #[config(default = "MlpConfig::new(vec![1024])")]
    pub image: MlpConfig,
    /// The text encoder; its decoder is the mirror image, without dropout.
    #[config(default = "MlpConfig::new(vec![512])")]
    pub text: MlpConfig,
}

/// An autoencoder of each modality.
///
/// The objective pulls the two latents of a pair together, so that a decoder may also be given the
/// other modality's latent: always in a cross-modal autoencoder, which trains them so; in a
/// correspondence autoencoder (Corr-AE) to decode one modality into the other, as far as the
/// latents agree.
#[derive(Module, Debug)]
pub struct Autoencoders {
    /// Image features → latent.
    pub image_encoder: Mlp,
    /// Latent → image features.
    pub image_decoder: Mlp,
    /// Text features → latent.
    pub text_encoder: Mlp,
    /// Latent → text features.
    pub text_decoder: Mlp,
}

/// Which latent a decoder is trained on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Decoding {
    /// That of its own modality: Corr-AE.
    Own,
    /// That of the other: cross-modal autoencoder.
    Other,
}

impl AutoencodersConfig {
    /// The same with dropout in both encoders, after each hidden ReLU.
    pub fn with_dropout(mut self, probability: f64) -> Self {
        self.image = self.image.with_dropout(probability);
        self.text = self.text.with_dropout(probability);
        self
    }

    /// Autoencoders of features of these widths.
    pub fn init(&self, image_width: usize, text_width: usize, device: &Device) -> Autoencoders {
        Autoencoders {
            image_encoder: self.image.init(image_width, self.latent, device),
            image_decoder: self.image.mirrored().init(self.latent, image_width, device),
            text_encoder: self.text.init(text_width, self.latent, device),
            text_decoder: self.text.mirrored().init(self.latent, text_width, device),
        }
    }
}

impl Autoencoders {
    pub(super) fn forward(&self, image: Tensor<2>, text: Tensor<2>, decoding: Decoding) -> Latents {
        let image_latent = self.image_encoder.forward(image.clone());
        let text_latent = self.text_encoder.forward(text.clone());
        let (for_image, for_text) = match decoding {
            Decoding::Own => (image_latent.clone(), text_latent.clone()),
            Decoding::Other => (text_latent.clone(), image_latent.clone()),
        };
        let reconstructions = vec![
            Reconstruction::new(self.image_decoder.forward(for_image), image),
            Reconstruction::new(self.text_decoder.forward(for_text), text),
        ];
        Latents { image: image_latent, text: text_latent, reconstructions }
    }

    pub(super) fn decode_to_text(&self, image: Tensor<2>) -> Tensor<2> {
        self.text_decoder.forward(self.image_encoder.forward(image))
    }

    pub(super) fn decode_to_image(&self, text: Tensor<2>) -> Tensor<2> {
        self.image_decoder.forward(self.text_encoder.forward(text))
    }
}
