use std::path::Path;

use burn::{
    config::Config,
    module::Module,
    nn::{
        Dropout, DropoutConfig, Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear,
        LinearConfig,
    },
    tensor::{Bool, Device, Int, Tensor},
};
use serde::Deserialize;

use crate::{
    Error, Result,
    encoder::in_bf16,
    ops::{self, Activation, add_norm, attention, masked_mean},
};

/// Our names of modules, and those in Hugging Face's files where they differ.
const PUBLISHED_NAMES: [(&str, &str); 13] = [
    ("words.", "word_embeddings."),
    ("positions.", "position_embeddings."),
    ("segments.", "token_type_embeddings."),
    ("norm.", "LayerNorm."),
    ("layers.", "encoder.layer."),
    ("query.", "attention.self.query."),
    ("key.", "attention.self.key."),
    ("value.", "attention.self.value."),
    ("attended.", "attention.output.dense."),
    ("attended_norm.", "attention.output.LayerNorm."),
    ("widen.", "intermediate.dense."),
    ("narrow.", "output.dense."),
    ("narrow_norm.", "output.LayerNorm."),
];

/// Configuration of a [`Bert`].
#[derive(Config, Debug, PartialEq)]
pub struct BertConfig {
    /// Number of tokens known.
    pub vocabulary: usize,
    /// Width of a token's state, and so of the features.
    pub width: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads of each layer; they divide the width.
    pub heads: usize,
    /// Width inside the feed-forward part of a layer.
    pub feed_forward: usize,
    /// Longest text in tokens.
    #[config(default = 512)]
    pub positions: usize,
    /// Kinds of segments; a text is of kind 0.
    #[config(default = 2)]
    pub segments: usize,
    /// Added to the variance by layer norms.
    #[config(default = 1e-12)]
    pub epsilon: f64,
    /// Probability of dropping a value, while training, of the embeddings and of what each half of
    /// a layer adds. Attention weights aren't dropped.
    #[config(default = 0.1)]
    pub dropout: f64,
}

/// What we read of a Hugging Face `config.json`.
#[derive(Deserialize)]
struct HuggingFace {
    model_type: String,
    hidden_act: String,
    #[serde(default = "absolute")]
    position_embedding_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f64,
    hidden_dropout_prob: f64,
}

impl BertConfig {
    /// The sizes of MiniLM with 6 layers, such as `all-MiniLM-L6-v2`.
    pub fn mini_lm() -> Self {
        Self::new(30_522, 384, 6, 12, 1536)
    }

    /// Reads the `config.json` that stands beside published weights.
    ///
    /// # Errors
    /// [`xr_data::Error::Io`] when it can't be read, [`Error::BadModelConfig`] when it describes
    /// another model than a BERT with exact GELU and absolute positions.
    pub fn from_hugging_face(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| xr_data::Error::Io { path: path.into(), source })?;
        serde_json::from_str(&text)
            .map_err(|e| e.to_string())
            .and_then(HuggingFace::into_config)
            .map_err(|why| Error::BadModelConfig { path: path.into(), model: "BERT", why })
    }

    /// An encoder with random weights.
    ///
    /// # Panics
    /// If the heads don't divide the width.
    pub fn init(&self, device: &Device) -> Bert {
        Bert {
            embeddings: Some(self.embeddings(device)),
            layers: (0..self.layers).map(|_| self.layer(device)).collect(),
        }
    }

    fn embeddings(&self, device: &Device) -> Embeddings {
        let table = |rows| EmbeddingConfig::new(rows, self.width).init(device);
        Embeddings {
            words: table(self.vocabulary),
            positions: table(self.positions),
            segments: table(self.segments),
            norm: self.norm(device),
            dropout: DropoutConfig::new(self.dropout).init(),
            epsilon: self.epsilon,
        }
    }

    fn layer(&self, device: &Device) -> Layer {
        assert!(
            self.width.is_multiple_of(self.heads),
            "{} heads can't share a width of {}",
            self.heads,
            self.width
        );
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let square = || linear(self.width, self.width);
        Layer {
            query: square(),
            key: square(),
            value: square(),
            attended: square(),
            attended_norm: self.norm(device),
            widen: linear(self.width, self.feed_forward),
            narrow: linear(self.feed_forward, self.width),
            narrow_norm: self.norm(device),
            dropout: DropoutConfig::new(self.dropout).init(),
            heads: self.heads,
            epsilon: self.epsilon,
        }
    }

    fn norm(&self, device: &Device) -> LayerNorm {
        LayerNormConfig::new(self.width).with_epsilon(self.epsilon).init(device)
    }
}

impl HuggingFace {
    fn into_config(self) -> Result<BertConfig, String> {
        expect("model_type", &self.model_type, "bert")?;
        expect("hidden_act", &self.hidden_act, "gelu")?;
        expect("position_embedding_type", &self.position_embedding_type, "absolute")?;
        Ok(BertConfig {
            vocabulary: self.vocab_size,
            width: self.hidden_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            feed_forward: self.intermediate_size,
            positions: self.max_position_embeddings,
            segments: self.type_vocab_size,
            epsilon: self.layer_norm_eps,
            dropout: self.hidden_dropout_prob,
        })
    }
}

fn absolute() -> String {
    "absolute".into()
}

fn expect(field: &str, found: &str, expected: &str) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("expected `{field}` to be `{expected}`, found `{found}`"))
}

/// BERT (Devlin et al. 2019) with the mean over a text's tokens, as Sentence-BERT takes it.
#[derive(Module, Debug)]
pub struct Bert {
    /// The lower part has them.
    embeddings: Option<Embeddings>,
    layers: Vec<Layer>,
}

/// The sum of what a token, its place and its segment stand for, normalised.
#[derive(Module, Debug)]
struct Embeddings {
    words: Embedding,
    positions: Embedding,
    segments: Embedding,
    norm: LayerNorm,
    dropout: Dropout,
    epsilon: f64,
}

/// Self-attention and a feed-forward part, each added to what it was given and then normalised.
#[derive(Module, Debug)]
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attended: Linear,
    attended_norm: LayerNorm,
    widen: Linear,
    narrow: Linear,
    narrow_norm: LayerNorm,
    dropout: Dropout,
    heads: usize,
    epsilon: f64,
}

impl Bert {
    /// Features of a batch of texts, not normalised.
    ///
    /// # Shapes
    /// - ids: `[batch, tokens]`
    /// - mask: `[batch, tokens]`, true where there is a token
    /// - output: `[batch, width]`
    ///
    /// # Panics
    /// If the texts are longer than there are positions.
    pub fn forward(&self, ids: Tensor<2, Int>, mask: Tensor<2, Bool>) -> Tensor<2> {
        masked_mean(self.states(ids, mask.clone()), mask)
    }

    /// States of the tokens behind the last layer.
    ///
    /// # Shapes
    /// - ids: `[batch, tokens]`
    /// - mask: `[batch, tokens]`, true where there is a token
    /// - output: `[batch, tokens, width]`
    ///
    /// # Panics
    /// If the texts are longer than there are positions, and for the upper part of a
    /// [cut](Self::cut) encoder.
    pub fn states(&self, ids: Tensor<2, Int>, mask: Tensor<2, Bool>) -> Tensor<3> {
        let embeddings = self.embeddings.as_ref().expect("the upper part doesn't take tokens");
        self.through_layers(embeddings.forward(ids), mask)
    }

    /// Features that the upper part of a [cut](Self::cut) encoder makes of what the lower one made.
    ///
    /// # Shapes
    /// - states: `[batch, tokens, width]`
    /// - mask: `[batch, tokens]`, true where there is a token
    /// - output: `[batch, width]`
    pub fn features(&self, states: Tensor<3>, mask: Tensor<2, Bool>) -> Tensor<2> {
        masked_mean(self.through_layers(states, mask.clone()), mask)
    }

    fn through_layers(&self, states: Tensor<3>, mask: Tensor<2, Bool>) -> Tensor<3> {
        self.layers.iter().fold(states, |x, layer| layer.forward(x, mask.clone()))
    }

    /// Number of layers.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// The encoder in two: the lower part, whose [`states`](Self::states) are the input of the upper
    /// one, and the last `layers` layers.
    ///
    /// # Panics
    /// If it has fewer [`layers`](Self::layers).
    pub fn cut(mut self, layers: usize) -> [Self; 2] {
        let layers = self.layers.split_off(self.layers.len() - layers);
        [self, Self { embeddings: None, layers }]
    }

    /// The encoder whose lower and upper part these are.
    pub fn joined([mut lower, upper]: [Self; 2]) -> Self {
        lower.layers.extend(upper.layers);
        lower
    }

    /// The encoder with the weights of its layers rounded to bf16: its products are of rounded values
    /// then, all else is in single precision.
    pub fn in_bf16(mut self) -> Self {
        for layer in &mut self.layers {
            let Layer { query, key, value, attended, widen, narrow, .. } = layer;
            for linear in [query, key, value, attended, widen, narrow] {
                linear.weight = in_bf16(&linear.weight);
            }
        }
        self
    }

    /// The encoder that knows only these tokens, which get the ids 0, 1, 2, …, and texts of at most
    /// `positions` tokens.
    ///
    /// # Panics
    /// For the upper part of a [cut](Self::cut) encoder, and if there are fewer positions.
    pub fn with_tokens(mut self, tokens: &[u32], positions: usize) -> Self {
        let embeddings = self.embeddings.as_mut().expect("the upper part doesn't take tokens");
        let tokens: Vec<_> = tokens.iter().map(|&id| id as i32).collect();
        let words = |weight: Tensor<2>| {
            let tokens = Tensor::from_data(tokens.as_slice(), &weight.device());
            weight.select(0, tokens)
        };
        embeddings.words.weight = embeddings.words.weight.clone().map(words);
        let positions = |weight: Tensor<2>| weight.narrow(0, 0, positions);
        embeddings.positions.weight = embeddings.positions.weight.clone().map(positions);
        self
    }

    /// The name that one of our tensors has in Hugging Face's files: `layers.0.query.weight` is
    /// published as `encoder.layer.0.attention.self.query.weight`.
    pub(crate) fn published_name(ours: &str) -> String {
        // One place in a name for a module, and one for the list it may stand in.
        let parts = ours.split_inclusive('.').map(|part| {
            let published = PUBLISHED_NAMES.iter().find(|(ours, _)| *ours == part);
            published.map_or(part, |(_, theirs)| theirs)
        });
        parts.collect()
    }
}

impl Embeddings {
    /// `[batch, tokens]` → `[batch, tokens, width]`.
    fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let [_, tokens] = ids.dims();
        let [positions, _] = self.positions.weight.dims();
        assert!(tokens <= positions, "a text of {tokens} tokens, but only {positions} positions");
        let position = self.positions.weight.val().narrow(0, 0, tokens);
        let constant = position + self.segments.weight.val().narrow(0, 0, 1);
        let x = self.words.forward(ids);
        let constant = constant.unsqueeze::<3>().expand(x.dims());
        ops::dropout(&self.dropout, norm(&self.norm, x, constant, self.epsilon))
    }
}

impl Layer {
    /// `[batch, tokens, width]` → the same.
    fn forward(&self, x: Tensor<3>, mask: Tensor<2, Bool>) -> Tensor<3> {
        let attended = ops::dropout(&self.dropout, self.attend(x.clone(), mask));
        let x = norm(&self.attended_norm, attended, x, self.epsilon);
        let fed = ops::layer(&self.narrow, self.widened(x.clone()), Activation::Identity);
        norm(&self.narrow_norm, ops::dropout(&self.dropout, fed), x, self.epsilon)
    }

    /// `[batch, tokens, width]` → `[batch, tokens, feed_forward]`.
    fn widened(&self, x: Tensor<3>) -> Tensor<3> {
        ops::layer(&self.widen, x, Activation::Gelu)
    }

    /// `[batch, tokens, width]` → the same.
    fn attend(&self, x: Tensor<3>, mask: Tensor<2, Bool>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let heads = |layer, x| {
            let x: Tensor<3> = ops::layer(layer, x, Activation::Identity);
            x.reshape([batch, tokens, self.heads, width / self.heads]).swap_dims(1, 2)
        };
        let query = heads(&self.query, x.clone());
        let key = heads(&self.key, x.clone());
        let value = heads(&self.value, x);
        let x = attention(query, key, value, mask).swap_dims(1, 2);
        ops::layer(&self.attended, x.reshape([batch, tokens, width]), Activation::Identity)
    }
}

/// The norm of `x + residual`. Burn's norm keeps its epsilon to itself.
fn norm(norm: &LayerNorm, x: Tensor<3>, residual: Tensor<3>, epsilon: f64) -> Tensor<3> {
    let beta = norm.beta.as_ref().expect("made with one").val();
    add_norm(x, residual, norm.gamma.val(), beta, epsilon)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    fn tiny(device: &Device) -> (Fixture, Bert) {
        let fixture = Fixture::open("bert");
        let config = BertConfig::new(40, 16, 2, 4, 24).with_positions(12);
        let encoder = fixture.load(config.init(device), Bert::published_name);
        (fixture, encoder)
    }

    #[test]
    fn equals_transformers() {
        let device = Device::flex();
        let (fixture, encoder) = tiny(&device);
        let (ids, mask) = fixture.texts(&device);
        for layers in 0..=encoder.layers() {
            let parts = encoder.clone().cut(layers);
            let states = parts[0].states(ids.clone(), mask.clone());
            fixture.assert("features", parts[1].features(states, mask.clone()));
            let whole = Bert::joined(parts);
            fixture.assert("features", whole.forward(ids.clone(), mask.clone()));
        }
        fixture.assert("features", encoder.forward(ids, mask));
    }

    #[test]
    fn in_bf16_features_point_the_same_way() {
        let device = Device::flex();
        let (fixture, encoder) = tiny(&device);
        let (ids, mask) = fixture.texts(&device);
        let [single, rounded] = [encoder.clone(), encoder.in_bf16()]
            .map(|encoder| ops::l2_normalize(encoder.forward(ids.clone(), mask.clone())));
        let cosines: Vec<f32> = (single * rounded).sum_dim(1).into_data().try_into_vec().unwrap();
        assert!(cosines.iter().all(|&cosine| cosine > 0.9999 && cosine != 1.0), "{cosines:?}");
    }

    #[test]
    fn padding_changes_nothing() {
        let device = Device::flex();
        let (fixture, encoder) = tiny(&device);
        let (ids, mask) = fixture.texts(&device);
        let [batch, _] = ids.dims();
        let ids = Tensor::cat(vec![ids, Tensor::full([batch, 3], 7, &device)], 1);
        let none = Tensor::<2, Int>::zeros([batch, 3], &device).equal_elem(1);
        fixture.assert("features", encoder.forward(ids, Tensor::cat(vec![mask, none], 1)));
    }

    #[test]
    #[should_panic(expected = "a text of 13 tokens, but only 12 positions")]
    fn a_text_that_is_too_long() {
        let device = Device::flex();
        let ids = Tensor::<2, Int>::zeros([1, 13], &device);
        tiny(&device).1.forward(ids.clone(), ids.equal_elem(0));
    }

    const MINI_LM: &str = r#"{"model_type": "bert", "hidden_act": "gelu", "vocab_size": 30522,
        "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
        "intermediate_size": 1536, "max_position_embeddings": 512, "type_vocab_size": 2,
        "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1, "use_cache": true}"#;

    fn read(json: &str) -> Result<BertConfig> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, json).unwrap();
        BertConfig::from_hugging_face(&path)
    }

    #[test]
    fn the_config_of_mini_lm() {
        assert_eq!(read(MINI_LM).unwrap(), BertConfig::mini_lm());
    }

    #[test]
    fn the_config_of_another_model() {
        let error = read(&MINI_LM.replace("\"bert\"", "\"gpt2\"")).unwrap_err().to_string();
        let why = "not a configuration of BERT: expected `model_type` to be `bert`, found `gpt2`";
        assert!(error.ends_with(&format!("config.json: {why}")), "{error}");
    }

    #[test]
    fn a_config_without_a_size() {
        let error = read(&MINI_LM.replace("hidden_size", "width")).unwrap_err().to_string();
        assert!(error.contains("missing field `hidden_size`"), "{error}");
    }

    #[test]
    fn published_names() {
        for (ours, theirs) in [
            ("embeddings.words.weight", "embeddings.word_embeddings.weight"),
            ("embeddings.norm.bias", "embeddings.LayerNorm.bias"),
            ("layers.3.query.bias", "encoder.layer.3.attention.self.query.bias"),
            ("layers.0.attended.weight", "encoder.layer.0.attention.output.dense.weight"),
            ("layers.0.attended_norm.weight", "encoder.layer.0.attention.output.LayerNorm.weight"),
            ("layers.5.widen.weight", "encoder.layer.5.intermediate.dense.weight"),
            ("layers.5.narrow_norm.bias", "encoder.layer.5.output.LayerNorm.bias"),
        ] {
            assert_eq!(Bert::published_name(ours), theirs);
        }
    }
}
