//! Models made small: fewer words, fewer dimensions, rounded weights, one file.

use std::sync::{Mutex, PoisonError};

use burn::tensor::{Device, Tensor};
use miniz_oxide::{deflate::compress_to_vec_zlib, inflate::decompress_to_vec_zlib};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use xr_data::{Embeddings, Fingerprint, Preprocess, Tokenizer};
use xr_models::{
    Checkpoint, FeatureModelConfig, HeadConfig, ImagePart, Inputs, ModelConfig, Packed, Steps,
    TextPart, TokenBatch, ZScore,
    encoder::{BertConfig, ImageEncoderConfig, SmallCnnConfig, TextEncoderConfig},
    head::DualEncoderConfig,
};

const PIECES: [&str; 12] =
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "the", "dog", "cat", "sleeps", "runs", "red", "car"];

const STEPS: Steps = Steps { image: 0.03, text: 0.2 };

/// Held while weights are drawn: all tests draw from the device's one generator.
static DRAWING: Mutex<()> = Mutex::new(());

fn tokenizer() -> Tokenizer {
    let vocabulary: serde_json::Map<_, _> =
        PIECES.iter().zip(0..).map(|(&piece, id)| (piece.into(), Value::from(id))).collect();
    let special = |id: usize| {
        json!({
            "id": id, "content": PIECES[id], "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true
        })
    };
    let token = |id: usize| json!({"id": PIECES[id], "ids": [id], "tokens": [PIECES[id]]});
    let frame = |id: usize| json!({"SpecialToken": {"id": PIECES[id], "type_id": 0}});
    let single = json!([frame(2), {"Sequence": {"id": "A", "type_id": 0}}, frame(3)]);
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "decoder": null, "added_tokens": [special(0), special(1), special(2), special(3)],
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing", "single": single, "pair": single,
            "special_tokens": {"[CLS]": token(2), "[SEP]": token(3)}
        },
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary
        }
    });
    Tokenizer::from_json(&json.to_string(), 8).unwrap()
}

fn checkpoint() -> Checkpoint {
    let image = ImagePart {
        encoder: ImageEncoderConfig::SmallCnn(SmallCnnConfig::new().with_channels(vec![4, 6])),
        preprocess: Preprocess::unit(16),
    };
    let bert = BertConfig::new(PIECES.len(), 8, 2, 2, 12).with_positions(8);
    let text = TextPart { encoder: TextEncoderConfig::Bert(bert), context: 8 };
    let head = HeadConfig::DualEncoder(DualEncoderConfig::new().with_latent(5));
    let config = ModelConfig::new(vec![image], text, FeatureModelConfig::new(6, 8, head));
    let device = Device::flex();
    let _alone = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
    device.seed(0);
    let model = config.init(&device).unwrap();
    let checkpoint = Checkpoint { config, tokenizer: tokenizer(), model };
    // Weights are drawn when they are first read.
    checkpoint.fingerprint();
    checkpoint
}

fn image(checkpoint: &Checkpoint) -> Embeddings {
    let pixels = Tensor::arange(0..8 * 3 * 16 * 16, &Device::flex()).float();
    let pixels = (pixels * 0.37).sin().reshape([8, 3, 16, 16]);
    rows(checkpoint, checkpoint.model.embed_image(&[pixels], checkpoint.config.views))
}

fn text(checkpoint: &Checkpoint, texts: &[&str]) -> Embeddings {
    let tokens = checkpoint.tokenizer.encode(texts).unwrap();
    rows(checkpoint, checkpoint.model.embed_text(&TokenBatch::new(&tokens, &Device::flex())))
}

fn rows(checkpoint: &Checkpoint, rows: Tensor<2>) -> Embeddings {
    let [_, dim] = rows.dims();
    Embeddings::new(rows.into_data().try_into_vec_as().unwrap(), dim, checkpoint.fingerprint())
}

/// The least cosine of a row with the same row of another.
fn likeness(a: &Embeddings, b: &Embeddings) -> f32 {
    let (a, b) = (a.view(), b.view());
    let pairs = a.rows().into_iter().zip(b.rows());
    pairs.map(|(a, b)| a.dot(&b)).fold(f32::INFINITY, f32::min)
}

#[test]
fn kept_words_mean_what_they_did() {
    let model = checkpoint();
    let small = model.clone().with_fewer_words(&["the red car"], 9, 6).unwrap();
    assert_eq!(small.tokenizer.vocabulary_size(), 9);
    assert_eq!(small.tokenizer.context(), 6);
    let texts = ["the red car", "a red car", "a a a a a a a a a a"];
    assert_eq!(text(&small, &texts[..2]).values(), text(&model, &texts[..2]).values());
    assert_eq!(text(&small, &texts[2..]).rows(), 1);
    // A word that isn't kept is unknown, as nothing it is made of is kept either.
    let [cat, unknown] = [&["a cat"], &["a [UNK]"]].map(|texts| text(&small, texts));
    assert_eq!(cat.values(), unknown.values());
}

#[test]
fn cosines_stay_when_the_dimensions_left_are_those_in_use() {
    let model = checkpoint();
    let texts = text(&model, &["a dog"]);
    let rows = image(&model).select(&[0]);
    // Two rows span two dimensions.
    let small = model.clone().with_fewer_dimensions(&[&texts, &rows], 2);
    assert_eq!(small.config.features.head.latent(), 2);
    let before = texts.view().row(0).dot(&rows.view().row(0));
    let (texts, rows) = (text(&small, &["a dog"]), image(&small));
    assert_eq!(texts.dim(), 2);
    let after = texts.view().row(0).dot(&rows.view().row(0));
    assert!((before - after).abs() < 1e-5, "{before} {after}");
}

#[test]
fn as_it_was_but_for_rounding() {
    let model = checkpoint();
    // Steps of a fifth are 25 dB: an amplitude of .06, in each of a few layers.
    for (step, least) in [(0.2, 0.97), (0.02, 0.9997)] {
        let packed =
            Packed::from_bytes(&nearest(&model, Steps { image: step, text: step }).to_bytes())
                .unwrap();
        let read = packed.checkpoint(&Device::flex()).unwrap();
        assert_eq!(&read.fingerprint(), packed.fingerprint());
        assert_ne!(read.fingerprint(), model.fingerprint());
        let texts = ["a dog", "the cat sleeps"];
        let found = [
            likeness(&image(&read), &image(&model)),
            likeness(&text(&read, &texts), &text(&model, &texts)),
        ];
        assert!(found.iter().all(|&cosine| cosine > least), "{step}: {found:?}");
    }
}

fn nearest(checkpoint: &Checkpoint, steps: Steps) -> Packed {
    Packed::new(checkpoint, steps, &Inputs::default())
}

#[test]
fn weights_rounded_for_what_layers_are_given_change_embeddings_less() {
    let model = checkpoint();
    let texts = ["a dog", "the cat sleeps", "a red car runs", "the dog", "red", "a cat runs"];
    let mut inputs = Inputs::default();
    inputs.observe(|| text(&model, &texts));
    let expected = text(&model, &texts);
    let off = |inputs: &Inputs, step: f32| {
        let packed = Packed::new(&model, Steps { image: 0.2, text: step }, inputs);
        let found = text(&packed.checkpoint(&Device::flex()).unwrap(), &texts);
        let pairs = found.values().iter().zip(expected.values());
        pairs.map(|(a, b)| ((a - b) / step).powi(2)).sum::<f32>()
    };
    // Of a model so small each single rounding is a matter of luck.
    let mean = |inputs| (1..=20).map(|i| off(inputs, 1.0 + 0.2 * i as f32)).sum::<f32>() / 20.0;
    let [plain, fitted] = [mean(&Inputs::default()), mean(&inputs)];
    assert!(fitted < 0.8 * plain, "{fitted} {plain}");
}

/// The filters of the first convolution are 27 weights each, those of the second 36.
#[test]
fn short_rows_are_rounded_more_finely() {
    let steps = Steps { image: 0.05, text: 0.5 };
    let model = checkpoint();
    let bytes = nearest(&model, steps).to_bytes();
    let content = decompress_to_vec_zlib(&bytes).unwrap();
    let file = SafeTensors::deserialize(&content).unwrap();
    let dtypes = file.iter().filter(|(name, _)| name.ends_with("conv.weight"));
    let mut dtypes: Vec<_> = dtypes.map(|(name, view)| (name, view.dtype())).collect();
    dtypes.sort_by_key(|(name, _)| *name);
    assert_eq!(dtypes.iter().map(|(_, dtype)| *dtype).collect::<Vec<_>>(), [Dtype::I16, Dtype::I8]);
    let read = Packed::from_bytes(&bytes).unwrap().checkpoint(&Device::flex()).unwrap();
    assert_eq!(read.fingerprint(), *nearest(&model, steps).fingerprint());
}

#[test]
fn another_head() {
    let [model, mut other] = [checkpoint(), checkpoint()];
    let packed = nearest(&model, STEPS);
    let width = 6;
    let features = Embeddings::new(vec![0.5; 2 * width], width, Fingerprint::of(["test"]));
    other.model.features.image_stats = ZScore::fit(&features, &Device::flex());
    let changed = packed.clone().with_head(&other.model.features, STEPS.image);
    assert_ne!(changed.fingerprint(), packed.fingerprint());
    assert_eq!(changed.fingerprint(), nearest(&other, STEPS).fingerprint());
}

#[test]
fn its_query_bank_comes_along() {
    let packed = nearest(&checkpoint(), STEPS);
    assert!(packed.bank().is_none());
    let read = packed.checkpoint(&Device::flex()).unwrap();
    let bank = [image(&read), text(&read, &["a dog", "a cat"])];
    let packed = packed.with_bank(bank.each_ref(), 0.01).unwrap();
    let packed = Packed::from_bytes(&packed.to_bytes()).unwrap();
    let found = packed.bank().unwrap();
    for (found, rows) in found.iter().zip(&bank) {
        assert_eq!(found.made_by(), &read.fingerprint());
        let likeness = likeness(&found.normalized(), rows);
        assert!(likeness > 0.9999, "{likeness}");
    }
    let other = Embeddings::new(vec![1.0; 5], 5, Fingerprint::of(["another"]));
    let error = packed.with_bank([&other, &other], 0.2).unwrap_err().to_string();
    assert!(error.starts_with("the query bank was made by model "), "{error}");
    assert!(error.ends_with("; embed it anew"), "{error}");
}

#[test]
fn what_is_no_packed_model() {
    let error = |bytes: &[u8]| Packed::from_bytes(bytes).unwrap_err().to_string();
    let end = "); expected a file that `xr pack` wrote";
    let bytes = nearest(&checkpoint(), STEPS).to_bytes();
    for cut in [0, 1, 100, bytes.len() - 1] {
        let error = error(&bytes[..cut]);
        assert!(error.starts_with("not a whole packed model (") && error.ends_with(end), "{error}");
    }
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 4;
    assert!(error(&damaged).starts_with("not a whole packed model ("));

    let zipped = |content: &[u8]| compress_to_vec_zlib(content, 1);
    assert!(error(&zipped(b"not tensors")).starts_with("not a whole packed model ("));
    let mut content = decompress_to_vec_zlib(&bytes).unwrap();
    let text = "\"format\":\"1\"".as_bytes();
    let at = content.windows(text.len()).position(|window| window == text).unwrap();
    content[at + text.len() - 2] = b'2';
    assert_eq!(
        error(&zipped(&content)),
        "not a whole packed model (its format is 2; this program reads 1); expected a file that \
         `xr pack` wrote"
    );
}
