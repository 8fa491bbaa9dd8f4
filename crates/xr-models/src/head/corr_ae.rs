use burn::{
    config::Config,
    module::Module,
    tensor::{Device, Tensor},
};

use super::{Latents, Reconstruction};
use crate::mlp::{Mlp, MlpConfig};

/// Configuration of a [`CorrAe`]; the defaults are the paper's.
#[derive(Config, Debug, PartialEq)]
pub struct CorrAeConfig {
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

/// Correspondence autoencoder: each modality is encoded and decoded back into itself, while the
/// objective pulls the two latents of a pair together.
///
/// The shape of Feng, Wang and Li, "Cross-modal retrieval with correspondence autoencoder" (2014),
/// with ReLU layers in place of restricted Boltzmann machines. To decode a picture into text, the
/// text decoder is applied to the image latent, which works as far as the latents agree.
#[derive(Module, Debug)]
pub struct CorrAe {
    /// Image features → latent.
    pub image_encoder: Mlp,
    /// Latent → image features.
    pub image_decoder: Mlp,
    /// Text features → latent.
    pub text_encoder: Mlp,
    /// Latent → text features.
    pub text_decoder: Mlp,
}

impl CorrAeConfig {
    /// A head over features of these widths.
    pub fn init(&self, image_width: usize, text_width: usize, device: &Device) -> CorrAe {
        CorrAe {
            image_encoder: self.image.init(image_width, self.latent, device),
            image_decoder: self.image.mirrored().init(self.latent, image_width, device),
            text_encoder: self.text.init(text_width, self.latent, device),
            text_decoder: self.text.mirrored().init(self.latent, text_width, device),
        }
    }
}

impl CorrAe {
    pub(super) fn forward(&self, image: Tensor<2>, text: Tensor<2>) -> Latents {
        let image_latent = self.encode_image(image.clone());
        let text_latent = self.encode_text(text.clone());
        let reconstructions = vec![
            Reconstruction::new(self.image_decoder.forward(image_latent.clone()), image),
            Reconstruction::new(self.text_decoder.forward(text_latent.clone()), text),
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
