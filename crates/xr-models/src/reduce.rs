use burn::{
    linalg::svd,
    tensor::{Device, Tensor, TensorData},
};
use xr_data::Embeddings;

use crate::{
    Checkpoint, Head, HeadConfig, Result,
    encoder::{TextEncoder, TextEncoderConfig},
};

/// Sweeps that the decomposition may take for each singular value; it takes two or three.
const SWEEPS: usize = 60;

impl Checkpoint {
    /// The model with at most `size` pieces of words, those that [`Tokenizer::pruned`] keeps for
    /// `texts`, and texts of at most `context` tokens. Texts of these pieces are embedded as before.
    ///
    /// A recurrent text encoder has the words of its own training texts and stays as it is.
    ///
    /// [`Tokenizer::pruned`]: xr_data::Tokenizer::pruned
    ///
    /// # Errors
    /// As [`Tokenizer::pruned`](xr_data::Tokenizer::pruned).
    pub fn with_fewer_words(mut self, texts: &[&str], size: usize, context: usize) -> Result<Self> {
        let (TextEncoder::Bert(bert), TextEncoderConfig::Bert(config)) =
            (&self.model.text, &mut self.config.text.encoder)
        else {
            return Ok(self);
        };
        let context = context.min(self.config.text.context);
        let (tokenizer, kept) = self.tokenizer.pruned(texts, size)?;
        self.model.text = TextEncoder::Bert(bert.clone().with_tokens(&kept, context));
        (config.vocabulary, config.positions) = (kept.len(), context);
        self.config.text.context = context;
        self.tokenizer = tokenizer.with_context(context)?;
        Ok(self)
    }

    /// The model with embeddings of at most `latent` dimensions: those in which `embeddings` of its
    /// own, each set counting as much as the others, are longest. Nothing is centred, so cosines
    /// stay what they were, but for what is lost.
    ///
    /// A head with decoders, which need all dimensions, stays as it is.
    pub fn with_fewer_dimensions(mut self, embeddings: &[&Embeddings], latent: usize) -> Self {
        let (Head::DualEncoder(head), HeadConfig::DualEncoder(config)) =
            (&mut self.model.features.head, &mut self.config.features.head)
        else {
            return self;
        };
        let device = self.model.features.logit_scale.val().device();
        let sums = embeddings.iter().map(|rows| mean_square(rows, &device));
        let Some(sum) = sums.reduce(|a, b| a + b).filter(|_| latent < config.latent) else {
            return self;
        };
        let (directions, _, _) = svd::<2, 1>(sum, SWEEPS);
        let map = directions.narrow(1, 0, latent);
        head.image = head.image.clone().followed_by(&map);
        head.text = head.text.clone().followed_by(&map);
        config.latent = latent;
        self
    }
}

/// Mean over the rows of the products of each two dimensions, `[dim, dim]`.
fn mean_square(rows: &Embeddings, device: &Device) -> Tensor<2> {
    let rows = rows.normalized();
    let data = TensorData::new(rows.values().to_vec(), [rows.rows(), rows.dim()]);
    let x = Tensor::<2>::from_data(data, device);
    x.clone().transpose().matmul(x) / rows.rows() as f64
}
