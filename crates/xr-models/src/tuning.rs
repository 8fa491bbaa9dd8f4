use burn::{
    module::{Lora, Module},
    tensor::{Bool, Int, Tensor},
};

use crate::{
    Error, FeatureModel, HeadOutput, Model, Result,
    encoder::{Bert, ImageEncoder, TextEncoder},
};

/// The parts of a model's encoders that stay as they are: from pixels and tokens to the inputs of an
/// [`Upper`].
#[derive(Clone, Debug)]
pub struct Lower {
    /// Of each image encoder, with batch norms folded.
    pub image: Vec<ImageEncoder>,
    /// Of the text encoder.
    pub text: Bert,
}

/// The parts of a model that fine-tuning trains: the last blocks and layers of its encoders, and its
/// head.
#[derive(Module, Debug)]
pub struct Upper {
    /// Of each image encoder, with batch norms folded.
    pub image: Vec<ImageEncoder>,
    /// Of the text encoder.
    pub text: Bert,
    /// From features to embeddings.
    pub features: FeatureModel,
}

/// Texts as a [`Lower`] leaves them.
#[derive(Clone, Debug)]
pub struct TextStates {
    /// States of the tokens, `[texts, tokens, width]`.
    pub states: Tensor<3>,
    /// True where there is a token, `[texts, tokens]`.
    pub mask: Tensor<2, Bool>,
}

/// Pairs as an [`Upper`] takes them. A picture or text is encoded once, however many pairs it is in.
#[derive(Clone, Debug)]
pub struct UpperBatch {
    /// For each image encoder the activations, `[pictures, channels, rows, columns]`.
    pub image: Vec<Tensor<4>>,
    /// The picture of each pair, `[pairs]`.
    pub picture_of: Tensor<1, Int>,
    /// Texts in groups, so that short ones aren't padded to the longest of all.
    pub texts: Vec<TextStates>,
    /// The text of each pair, counted over all groups, `[pairs]`.
    pub text_of: Tensor<1, Int>,
}

impl Model {
    /// The model in what stays and what is trained: of each image encoder its last `blocks`, with
    /// what follows them, and the last `layers` of the text encoder. Batch norms are folded, with
    /// the statistics that they have.
    ///
    /// # Errors
    /// [`Error::TuningEncoders`] if `blocks` is for another number of image encoders;
    /// [`Error::TuningTooDeep`] if an encoder has fewer blocks or layers; [`Error::TuningText`] for a
    /// text encoder without layers.
    pub fn cut(self, blocks: &[usize], layers: usize) -> Result<(Lower, Upper)> {
        let TextEncoder::Bert(text) = self.text else { return Err(Error::TuningText) };
        let (expected, found) = (self.image.len(), blocks.len());
        if expected != found {
            return Err(Error::TuningEncoders { expected, found });
        }
        let parts = self.image.into_iter().zip(blocks);
        let parts = parts.map(|(encoder, &blocks)| {
            not_deeper("blocks", blocks, encoder.blocks())?;
            let [lower, upper] = encoder.folded().cut(blocks);
            Ok((lower, upper))
        });
        let (lower, upper) = parts.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        not_deeper("layers", layers, text.layers())?;
        let [lower_text, upper_text] = text.cut(layers);
        let upper = Upper { image: upper, text: upper_text, features: self.features };
        Ok((Lower { image: lower, text: lower_text }, upper))
    }
}

impl Upper {
    /// The same with LoRA adapters (Hu et al. 2022): the text encoder's layers stay as they are, and
    /// to each of their matrices a product `a · b` of this rank is added, which is trained in their
    /// place. `a` is drawn from `seed` and `b` is zero, so that nothing changes at first; the product
    /// isn't scaled (their α is the rank).
    pub fn with_adapters(self, rank: usize, seed: u64) -> Self {
        if let Some(device) = self.text.devices().first() {
            device.seed(seed);
        }
        Self { text: self.text.apply_lora(Lora::new(rank, rank as f64)), ..self }
    }

    /// For a step of training with its encoders' products in bf16: see
    /// [`Model::in_mixed_precision`].
    pub fn in_mixed_precision(self) -> Self {
        let image = self.image.into_iter().map(ImageEncoder::in_mixed_precision).collect();
        Self { image, text: self.text.in_bf16(), ..self }
    }

    /// Everything the objective needs.
    ///
    /// # Shapes
    /// - embeddings: `[pairs, latent]`
    pub fn forward(&self, batch: &UpperBatch) -> HeadOutput {
        let image = self.image_features(&batch.image).select(0, batch.picture_of.clone());
        let text = batch.texts.iter().map(|texts| self.text_features(texts));
        let text = Tensor::cat(text.collect(), 0).select(0, batch.text_of.clone());
        self.features.forward(image, text)
    }

    /// The image encoders' outputs, side by side.
    ///
    /// # Shapes
    /// - activations: for each encoder `[pictures, channels, rows, columns]`
    /// - output: `[pictures, image_width]`
    pub fn image_features(&self, activations: &[Tensor<4>]) -> Tensor<2> {
        let each = self.image.iter().zip(activations).map(|(e, x)| e.forward(x.clone()));
        Tensor::cat(each.collect(), 1)
    }

    /// The text encoder's output.
    ///
    /// # Shapes
    /// - output: `[texts, text_width]`
    pub fn text_features(&self, texts: &TextStates) -> Tensor<2> {
        self.text.features(texts.states.clone(), texts.mask.clone())
    }

    /// The whole model again, with batch norms that change nothing, and adapters added to the weights
    /// that they belong to.
    ///
    /// # Panics
    /// If `lower` is of another model.
    pub fn join(self, lower: Lower) -> Model {
        assert_eq!(self.image.len(), lower.image.len(), "the parts of as many encoders");
        let image = lower.image.into_iter().zip(self.image);
        let image = image.map(|(lower, upper)| ImageEncoder::joined([lower, upper]).unfolded());
        Model {
            image: image.collect(),
            text: TextEncoder::Bert(Bert::joined([lower.text, self.text.materialize()])),
            features: self.features,
        }
    }
}

fn not_deeper(what: &'static str, asked: usize, found: usize) -> Result<()> {
    if asked <= found {
        return Ok(());
    }
    Err(Error::TuningTooDeep { what, asked, found })
}

#[cfg(test)]
mod tests {
    use burn::{
        module::{ModuleMapper, ModuleVisitor, Param},
        tensor::{Device, Tolerance},
    };
    use xr_data::Preprocess;

    use super::*;
    use crate::{
        FeatureModelConfig, HeadConfig, ImagePart, ModelConfig, TextPart,
        encoder::{
            BertConfig, ImageEncoderConfig, RecurrentConfig, SmallCnnConfig, TextEncoderConfig,
        },
        head::DualEncoderConfig,
    };

    /// A model of three blocks and two layers.
    fn model(text: TextEncoderConfig) -> Model {
        let image = SmallCnnConfig::new().with_channels(vec![4, 6, 8]);
        let image = ImagePart::new(ImageEncoderConfig::SmallCnn(image), Preprocess::unit(16));
        let head = HeadConfig::DualEncoder(DualEncoderConfig::new().with_latent(4));
        let features = FeatureModelConfig::new(8, 8, head);
        let config = ModelConfig::new(vec![image], TextPart::new(text, 8), features);
        config.init(&Device::flex()).unwrap()
    }

    fn bert() -> TextEncoderConfig {
        TextEncoderConfig::Bert(BertConfig::new(10, 8, 2, 2, 16).with_positions(8))
    }

    /// Counts the values that have gradients.
    #[derive(Default)]
    struct Trained(usize);

    impl ModuleVisitor for Trained {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                self.0 += param.shape().num_elements();
            }
        }
    }

    /// Makes adapters say something: their `b` are zero.
    struct Ones;

    impl ModuleMapper for Ones {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param
                .map(|x| if x.clone().abs().sum().into_scalar::<f32>() == 0. { x + 0.1 } else { x })
        }
    }

    #[test]
    fn adapters_are_all_that_is_trained_of_the_text_encoder_and_become_part_of_its_weights() {
        let (lower, plain) = model(bert()).cut(&[1], 1).unwrap();
        let upper = plain.clone().with_adapters(2, 0);
        // Four matrices of 8 × 8, two of 8 × 16, of one layer; rank 2.
        let factors = 2 * (4 * (8 + 8) + 2 * (8 + 16));
        assert_eq!(upper.text.num_params(), plain.text.num_params() + factors);
        let trained = upper.text.clone().train();
        let mut count = Trained::default();
        trained.visit(&mut count);
        assert_eq!(count.0, factors);

        let device = Device::flex();
        let ids = Tensor::<2, Int>::from_data([[1, 2, 3]], &device);
        let mask = Tensor::<2, Bool>::full([1, 3], true, &device);
        let states = lower.text.states(ids.clone(), mask.clone());
        let texts = TextStates { states, mask: mask.clone() };
        let features = |upper: &Upper| upper.text_features(&texts).into_data();
        features(&upper).assert_eq(&features(&plain), true);

        let upper = Upper { text: upper.text.map(&mut Ones), ..upper };
        let expected = features(&upper);
        let TextEncoder::Bert(whole) = upper.join(lower).text else { unreachable!() };
        let found = whole.forward(ids, mask).into_data();
        found.assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-6));
        let change = found.try_into_vec_as::<f32>();
        assert_ne!(change.unwrap(), features(&plain).try_into_vec_as::<f32>().unwrap());
        assert_eq!(whole.num_params(), model(bert()).text.num_params());
    }

    #[test]
    fn more_than_there_is() {
        let error =
            |blocks: &[usize], layers| model(bert()).cut(blocks, layers).unwrap_err().to_string();
        assert_eq!(
            error(&[], 1),
            "the model has 1 image encoders, but `blocks` says of 0 how many of their last blocks \
             are trained; list one number for each"
        );
        assert_eq!(error(&[4], 1), "the last 4 blocks were to be trained, but the encoder has 3");
        assert_eq!(error(&[3], 3), "the last 3 layers were to be trained, but the encoder has 2");
    }

    #[test]
    fn a_text_encoder_without_layers() {
        let text = TextEncoderConfig::Recurrent(RecurrentConfig::new(10).with_width(8));
        assert_eq!(
            model(text).cut(&[1], 0).unwrap_err().to_string(),
            "only a BERT encoder can be fine-tuned; train a recurrent one whole, from scratch"
        );
    }
}
