use burn::{
    config::Config,
    module::Module,
    tensor::{Device, Tensor},
};

use super::{Latents, Reconstruction};
use crate::mlp::{Mlp, MlpConfig};

/// Configuration of a [`CrossAe`]; the defaults are the paper's.
#[derive(Config, Debug, PartialEq)]
pub struct CrossAeConfig {
    /// Width of the common space.
    #[config(default = 512)]
    pub latent: usize,
    /// The image encoder; its decoder is the mirror image, without dropout.
    #[config(default = "MlpConfig::new(vec![1024]).with_dropout(0.3)")]
    pub image: MlpConfig,
    /// The text encoder; its decoder is the mirror image, without dropout.
    #[config(default = "MlpConfig::new(vec![512]).with_dropout(0.3)")]
    pub text: MlpConfig,
}

/// Cross-modal autoencoder: the image latent is decoded into the text features, the text latent
/// into the image features.
///
/// Dropout stands in the encoders, after each hidden ReLU; the paper says "in the encoders" and no
/// more.
#[derive(Module, Debug)]
pub struct CrossAe {
    /// Image features → latent.
    pub image_encoder: Mlp,
    /// Latent → image features.
    pub image_decoder: Mlp,
    /// Text features → latent.
    pub text_encoder: Mlp,
    /// Latent → text features.
    pub text_decoder: Mlp,
}

impl CrossAeConfig {
    /// A head over features of these widths.
    pub fn init(&self, image_width: usize, text_width: usize, device: &Device) -> CrossAe {
        CrossAe {
            image_encoder: self.image.init(image_width, self.latent, device),
            image_decoder: self.image.mirrored().init(self.latent, image_width, device),
            text_encoder: self.text.init(text_width, self.latent, device),
            text_decoder: self.text.mirrored().init(self.latent, text_width, device),
        }
    }
}

impl CrossAe {
    pub(super) fn forward(&self, image: Tensor<2>, text: Tensor<2>) -> Latents {
        let image_latent = self.encode_image(image.clone());
        let text_latent = self.encode_text(text.clone());
        let reconstructions = vec![
            Reconstruction::new(self.image_decoder.forward(text_latent.clone()), image),
            Reconstruction::new(self.text_decoder.forward(image_latent.clone()), text),
        ];
        Latents { image: image_latent, text: text_latent, reconstructions }
    }

    pub(super) fn encode_image(&self, image: Tensor<2>) -> Tensor<2> {
        self.image_encoder.forward(image)
    }

    pub(super) fn encode_text(&self, text: Tensor<2>) -> Tensor<2> {
        self.text_encoder.forward(text)
    }

    pub(super) fn decode_to_text(&self, image: Tensor<2>) -> Tensor<2> {
        self.text_decoder.forward(self.encode_image(image))
    }

    pub(super) fn decode_to_image(&self, text: Tensor<2>) -> Tensor<2> {
        self.image_decoder.forward(self.encode_text(text))
    }
}
