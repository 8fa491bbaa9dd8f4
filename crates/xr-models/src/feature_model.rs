use burn::{
    config::Config,
    module::{Module, Param},
    tensor::{Device, Tensor},
};

use crate::{
    head::{Head, HeadConfig, Reconstruction},
    ops::l2_normalize,
    zscore::ZScore,
};

/// A learned temperature stops at 1/100, as CLIP's does; below it training turns unstable.
const MAX_LOGIT_SCALE: f64 = 100.0;

/// The temperature τ by which cosines are divided before a softmax or sigmoid.
#[derive(Config, Debug, Copy, PartialEq)]
pub enum Temperature {
    /// Stays as it is.
    Fixed(f64),
    /// Starts here and is trained.
    Learnable(f64),
}

/// Configuration of a [`FeatureModel`].
#[derive(Config, Debug, PartialEq)]
pub struct FeatureModelConfig {
    /// Width of the image features.
    pub image_width: usize,
    /// Width of the text features.
    pub text_width: usize,
    /// The head.
    pub head: HeadConfig,
    /// The temperature, and whether it and the bias are trained.
    #[config(default = "Temperature::Fixed(0.07)")]
    pub temperature: Temperature,
    /// Where the bias of a sigmoid loss starts: -10 as in SigLIP, 0 for losses without a bias.
    #[config(default = 0.0)]
    pub logit_bias: f64,
}

/// From features to embeddings: z-score, head, temperature.
///
/// It is what trains on cached features, and the last stage of a whole model.
#[derive(Module, Debug)]
pub struct FeatureModel {
    /// Statistics of the image features of the training split.
    pub image_stats: ZScore,
    /// Statistics of the text features of the training split.
    pub text_stats: ZScore,
    /// The head.
    pub head: Head,
    /// `ln 1/τ`, `[1]`.
    pub logit_scale: Param<Tensor<1>>,
    /// What a sigmoid loss adds to the scaled cosines, `[1]`.
    pub logit_bias: Param<Tensor<1>>,
    learnable: bool,
}

/// All that a training objective needs of one batch of pairs.
#[derive(Clone, Debug)]
pub struct HeadOutput {
    /// Embeddings of the pictures as the head makes them, `[batch, latent]`, not normalised.
    pub image: Tensor<2>,
    /// Embeddings of the texts as the head makes them, `[batch, latent]`, not normalised.
    pub text: Tensor<2>,
    /// What the decoders made and should have made; empty for a head without decoders.
    pub reconstructions: Vec<Reconstruction>,
    /// The factor 1/τ that cosines are multiplied by, `[1]`: already exponentiated, and at most
    /// 100 when learned.
    pub logit_scale: Tensor<1>,
    /// What a sigmoid loss adds to the scaled cosines, `[1]`.
    pub logit_bias: Tensor<1>,
}

impl FeatureModelConfig {
    /// A model whose statistics change nothing until [`FeatureModel::with_stats`] sets them.
    ///
    /// # Panics
    /// If the temperature isn't positive.
    pub fn init(&self, device: &Device) -> FeatureModel {
        let (temperature, learnable) = match self.temperature {
            Temperature::Fixed(t) => (t, false),
            Temperature::Learnable(t) => (t, true),
        };
        assert!(temperature > 0.0, "a temperature is positive, but this one is {temperature}");
        let scalar = |value: f64| Param::from_data([value as f32], device);
        FeatureModel {
            image_stats: ZScore::identity(self.image_width, device),
            text_stats: ZScore::identity(self.text_width, device),
            head: self.head.init(self.image_width, self.text_width, device),
            logit_scale: scalar(-temperature.ln()),
            logit_bias: scalar(self.logit_bias),
            learnable,
        }
    }
}

impl FeatureModel {
    /// The model with these statistics of its inputs.
    pub fn with_stats(self, image: ZScore, text: ZScore) -> Self {
        Self { image_stats: image, text_stats: text, ..self }
    }

    /// Everything the objective needs.
    ///
    /// # Shapes
    /// - image: `[batch, image_width]`, text: `[batch, text_width]`, features as encoders make
    ///   them
    /// - embeddings: `[batch, latent]`
    pub fn forward(&self, image: Tensor<2>, text: Tensor<2>) -> HeadOutput {
        let image = self.image_stats.forward(image);
        let latents = self.head.forward(image, self.text_stats.forward(text));
        let (logit_scale, logit_bias) = self.scale_and_bias();
        HeadOutput {
            image: latents.image,
            text: latents.text,
            reconstructions: latents.reconstructions,
            logit_scale,
            logit_bias,
        }
    }

    /// Embeddings of pictures: features `[batch, image_width]` → `[batch, latent]`, each row of
    /// length 1.
    pub fn embed_image(&self, image: Tensor<2>) -> Tensor<2> {
        l2_normalize(self.head.encode_image(self.image_stats.forward(image)))
    }

    /// Embeddings of texts: features `[batch, text_width]` → `[batch, latent]`, each row of
    /// length 1.
    pub fn embed_text(&self, text: Tensor<2>) -> Tensor<2> {
        l2_normalize(self.head.encode_text(self.text_stats.forward(text)))
    }

    /// The second way to retrieve: a picture decoded into text features, to be searched for among
    /// the texts' own, standardised by `text_stats`. `[batch, image_width]` →
    /// `[batch, text_width]`, standardised; `None` for a head without decoders.
    pub fn decode_to_text(&self, image: Tensor<2>) -> Option<Tensor<2>> {
        self.head.decode_to_text(self.image_stats.forward(image))
    }

    /// The second way to retrieve: a text decoded into image features, to be searched for among
    /// the pictures' own, standardised by `image_stats`. `[batch, text_width]` →
    /// `[batch, image_width]`, standardised; `None` for a head without decoders.
    pub fn decode_to_image(&self, text: Tensor<2>) -> Option<Tensor<2>> {
        self.head.decode_to_image(self.text_stats.forward(text))
    }

    // A fixed temperature is detached rather than frozen: freezing isn't part of a record, and
    // would be lost where a model is loaded or unfrozen.
    fn scale_and_bias(&self) -> (Tensor<1>, Tensor<1>) {
        let (scale, bias) = (self.logit_scale.val(), self.logit_bias.val());
        match self.learnable {
            true => (scale.clamp_max(MAX_LOGIT_SCALE.ln()).exp(), bias),
            false => (scale.exp().detach(), bias.detach()),
        }
    }
}

#[cfg(test)]
mod tests;
