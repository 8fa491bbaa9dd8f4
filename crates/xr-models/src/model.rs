use burn::{
    config::Config,
    module::Module,
    tensor::{Bool, Device, Int, Tensor, TensorData},
};
use xr_data::{Fingerprint, Preprocess, Tokenizer, Tokens};

use crate::{
    Error, FeatureModel, FeatureModelConfig, HeadOutput, Result,
    encoder::{ImageEncoder, ImageEncoderConfig, TextEncoder, TextEncoderConfig},
    fingerprint::weights_fingerprint,
    ops::l2_normalize,
};

/// Everything that says what a model is, apart from its weights and its tokenizer.
#[derive(Config, Debug, PartialEq)]
pub struct ModelConfig {
    /// The image encoders; their features stand side by side.
    pub image: Vec<ImagePart>,
    /// The text encoder.
    pub text: TextPart,
    /// What makes embeddings of features.
    pub features: FeatureModelConfig,
    /// Which views of a picture its embedding is made of.
    #[config(default = "Views::Original")]
    pub views: Views,
}

/// An image encoder and what its pictures must look like.
#[derive(Config, Debug, PartialEq)]
pub struct ImagePart {
    /// The encoder.
    pub encoder: ImageEncoderConfig,
    /// How a picture becomes its input.
    pub preprocess: Preprocess,
}

/// A text encoder and how long its texts may be.
#[derive(Config, Debug, PartialEq)]
pub struct TextPart {
    /// The encoder.
    pub encoder: TextEncoderConfig,
    /// Longest text in tokens; what is longer is cut.
    pub context: usize,
}

/// Which views of a picture its embedding is made of.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Views {
    /// The picture.
    Original,
    /// The picture and its mirror image: the two embeddings are summed and normalised.
    WithFlip,
}

/// One view of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// As it is.
    Original,
    /// Mirrored left to right.
    Flipped,
}

/// Image encoders, a text encoder, and what brings their features into one space.
#[derive(Module, Debug)]
pub struct Model {
    /// The image encoders; their features stand side by side.
    pub image: Vec<ImageEncoder>,
    /// The text encoder.
    pub text: TextEncoder,
    /// From features to embeddings.
    pub features: FeatureModel,
}

/// Texts as a text encoder takes them.
#[derive(Clone, Debug)]
pub struct TokenBatch {
    /// Token numbers, `[batch, tokens]`.
    pub ids: Tensor<2, Int>,
    /// True where there is a token and false where there is padding, `[batch, tokens]`.
    pub mask: Tensor<2, Bool>,
}

/// Pictures and their texts, row by row.
#[derive(Clone, Debug)]
pub struct PairBatch {
    /// For each image encoder its input, `[batch, 3, side, side]`.
    pub pixels: Vec<Tensor<4>>,
    /// The texts.
    pub texts: TokenBatch,
}

impl ModelConfig {
    /// Do the parts fit each other?
    ///
    /// # Errors
    /// [`Error::WidthMismatch`] when the head's inputs don't fit the encoders' outputs,
    /// [`Error::ContextTooLong`] when the text encoder can't read so far.
    pub fn check(&self) -> Result<()> {
        let image = self.image.iter().map(|part| part.encoder.width()).sum();
        same_width("image", image, self.features.image_width)?;
        same_width("text", self.text.encoder.width(), self.features.text_width)?;
        self.text.check_context()
    }

    /// A model with random weights.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn init(&self, device: &Device) -> Result<Model> {
        self.check()?;
        Ok(Model {
            image: self.image.iter().map(|part| part.encoder.init(device)).collect(),
            text: self.text.encoder.init(device),
            features: self.features.init(device),
        })
    }
}

impl ImagePart {
    /// What identifies features made of this view by this encoder: its configuration and weights,
    /// and the preprocessing.
    pub fn fingerprint(&self, encoder: &ImageEncoder, view: View) -> Fingerprint {
        let weights = weights_fingerprint(encoder);
        Fingerprint::of([&json(self), weights.as_str(), &format!("{view:?}")])
    }
}

impl TextPart {
    /// What identifies features made by this encoder: its configuration and weights, the
    /// tokenizer, and the context.
    pub fn fingerprint(&self, encoder: &TextEncoder, tokenizer: &Tokenizer) -> Fingerprint {
        let weights = weights_fingerprint(encoder);
        Fingerprint::of([&json(self), weights.as_str(), &tokenizer.to_json()])
    }

    /// Does the encoder know every token that the tokenizer makes?
    ///
    /// # Errors
    /// [`Error::UnknownTokens`].
    pub fn check_tokenizer(&self, tokenizer: &Tokenizer) -> Result<()> {
        let tokenizer = tokenizer.vocabulary_size();
        let encoder = match &self.encoder {
            TextEncoderConfig::Bert(config) => config.vocabulary,
            TextEncoderConfig::Recurrent(config) => config.vocabulary,
        };
        match tokenizer <= encoder {
            true => Ok(()),
            false => Err(Error::UnknownTokens { tokenizer, encoder }),
        }
    }

    fn check_context(&self) -> Result<()> {
        match &self.encoder {
            TextEncoderConfig::Bert(config) if self.context > config.positions => {
                let (context, positions) = (self.context, config.positions);
                Err(Error::ContextTooLong { context, positions })
            }
            TextEncoderConfig::Bert(_) | TextEncoderConfig::Recurrent(_) => Ok(()),
        }
    }
}

impl Views {
    /// The views, one after the other.
    pub fn each(self) -> &'static [View] {
        match self {
            Self::Original => &[View::Original],
            Self::WithFlip => &[View::Original, View::Flipped],
        }
    }
}

impl View {
    /// This view of a batch of pictures.
    ///
    /// # Shapes
    /// - input and output: `[batch, 3, height, width]`
    pub fn of(self, pixels: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Original => pixels,
            Self::Flipped => pixels.flip([3]),
        }
    }
}

impl TokenBatch {
    /// Puts tokens on a device.
    pub fn new(tokens: &Tokens, device: &Device) -> Self {
        let shape = [tokens.rows, tokens.width];
        let ids: Vec<i32> = tokens.ids.iter().map(|&id| id as i32).collect();
        Self {
            ids: Tensor::from_data(TensorData::new(ids, shape), device),
            mask: Tensor::from_data(TensorData::new(tokens.mask.clone(), shape), device),
        }
    }
}

impl Model {
    /// The model for inference with its encoders' products in bf16, numbers of 8 bits: faster where
    /// the processor has AVX512-BF16, and slower elsewhere.
    ///
    /// Sums, norms, attention and the head stay in single precision. For training there is
    /// [`in_mixed_precision`](Self::in_mixed_precision).
    pub fn in_bf16(self) -> Self {
        self.folded().in_mixed_precision()
    }

    /// The same function with each batch norm folded into the convolution before it: see
    /// [`ImageEncoder::folded`].
    pub fn folded(self) -> Self {
        Self { image: self.image.into_iter().map(ImageEncoder::folded).collect(), ..self }
    }

    /// The model for a step of training with its encoders' products in bf16 (mixed precision:
    /// Micikevicius et al. 2018): batch norms stay, and gradients go through the rounding to this
    /// model's weights, which are as precise as before.
    pub fn in_mixed_precision(self) -> Self {
        let image = self.image.into_iter().map(ImageEncoder::in_mixed_precision).collect();
        Self { image, text: self.text.in_bf16(), ..self }
    }

    /// Everything the objective needs.
    ///
    /// # Shapes
    /// - embeddings: `[batch, latent]`
    pub fn forward(&self, batch: &PairBatch) -> HeadOutput {
        let image = self.image_features(&batch.pixels);
        self.features.forward(image, self.text_features(&batch.texts))
    }

    /// The image encoders' outputs, side by side.
    ///
    /// # Shapes
    /// - pixels: for each encoder `[batch, 3, side, side]`
    /// - output: `[batch, image_width]`
    ///
    /// # Panics
    /// If there isn't one input for each encoder.
    pub fn image_features(&self, pixels: &[Tensor<4>]) -> Tensor<2> {
        assert_eq!(pixels.len(), self.image.len(), "one input for each image encoder");
        let each = self.image.iter().zip(pixels).map(|(e, pixels)| e.forward(pixels.clone()));
        Tensor::cat(each.collect(), 1)
    }

    /// The text encoder's output.
    ///
    /// # Shapes
    /// - output: `[batch, text_width]`
    pub fn text_features(&self, texts: &TokenBatch) -> Tensor<2> {
        self.text.forward(texts.ids.clone(), texts.mask.clone())
    }

    /// Embeddings of pictures, each row of length 1; the views' embeddings are summed.
    ///
    /// # Shapes
    /// - pixels: for each encoder `[batch, 3, side, side]`
    /// - output: `[batch, latent]`
    pub fn embed_image(&self, pixels: &[Tensor<4>], views: Views) -> Tensor<2> {
        let embed = |view: &View| {
            let pixels: Vec<_> = pixels.iter().map(|p| view.of(p.clone())).collect();
            self.features.embed_image(self.image_features(&pixels))
        };
        match views {
            Views::Original => embed(&View::Original),
            Views::WithFlip => l2_normalize(embed(&View::Original) + embed(&View::Flipped)),
        }
    }

    /// Embeddings of texts, each row of length 1.
    ///
    /// # Shapes
    /// - output: `[batch, latent]`
    pub fn embed_text(&self, texts: &TokenBatch) -> Tensor<2> {
        self.features.embed_text(self.text_features(texts))
    }
}

fn same_width(modality: &'static str, encoders: usize, head: usize) -> Result<()> {
    if encoders == head {
        return Ok(());
    }
    Err(Error::WidthMismatch { modality, encoders, head })
}

pub(crate) fn json(config: &impl serde::Serialize) -> String {
    serde_json::to_string(config).expect("a configuration has string keys and finite numbers")
}
