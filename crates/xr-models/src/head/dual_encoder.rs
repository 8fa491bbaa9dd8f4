use burn::{
    config::Config,
    module::Module,
    tensor::{Device, Tensor},
};

use super::Latents;
use crate::mlp::{Mlp, MlpConfig};

/// Configuration of a [`DualEncoder`].
#[derive(Config, Debug, PartialEq)]
pub struct DualEncoderConfig {
    /// Width of the common space.
    #[config(default = 1024)]
    pub latent: usize,
    /// The image projection; one linear map behind dropout unless it has hidden widths.
    #[config(default = "MlpConfig::new(vec![]).with_input_dropout(0.4)")]
    pub image: MlpConfig,
    /// The text projection.
    #[config(default = "MlpConfig::new(vec![]).with_input_dropout(0.1)")]
    pub text: MlpConfig,
}

/// One projection for each modality into a common space, and nothing else.
///
/// The defaults, a linear map to 1024 behind dropout of 0.4 on image and 0.1 on text features, are
/// what served best over frozen EfficientNet-Lite and MiniLM features.
#[derive(Module, Debug)]
pub struct DualEncoder {
    /// Image features → latent.
    pub image: Mlp,
    /// Text features → latent.
    pub text: Mlp,
}

impl DualEncoderConfig {
    /// A dual encoder over features of these widths.
    pub fn init(&self, image_width: usize, text_width: usize, device: &Device) -> DualEncoder {
        DualEncoder {
            image: self.image.init(image_width, self.latent, device),
            text: self.text.init(text_width, self.latent, device),
        }
    }
}

impl DualEncoder {
    pub(super) fn forward(&self, image: Tensor<2>, text: Tensor<2>) -> Latents {
        Latents {
            image: self.encode_image(image),
            text: self.encode_text(text),
            reconstructions: Vec::new(),
        }
    }

    pub(super) fn encode_image(&self, image: Tensor<2>) -> Tensor<2> {
        self.image.forward(image)
    }

    pub(super) fn encode_text(&self, text: Tensor<2>) -> Tensor<2> {
        self.text.forward(text)
    }
}
