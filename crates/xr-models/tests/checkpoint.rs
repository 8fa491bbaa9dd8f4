//! A checkpoint folder: what is saved is what is loaded, and what was changed is refused.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use burn::{
    module::Param,
    tensor::{Device, Tensor},
};
use tempfile::TempDir;
use xr_data::{Preprocess, Tokenizer};
use xr_models::{
    Checkpoint, FeatureModelConfig, HeadConfig, ImagePart, ModelConfig, TextPart, TokenBatch,
    encoder::{BertConfig, ImageEncoderConfig, SmallCnnConfig, TextEncoderConfig},
    head::DualEncoderConfig,
};

const FILES: [&str; 6] =
    ["checkpoint.json", "config.json", "head.bpk", "image-0.bpk", "text.bpk", "tokenizer.json"];

fn tokenizer() -> Tokenizer {
    Tokenizer::train_words(["a dog runs", "a cat sleeps"], 20, 8).unwrap()
}

fn config() -> ModelConfig {
    let image = ImagePart {
        encoder: ImageEncoderConfig::SmallCnn(SmallCnnConfig::new().with_channels(vec![4, 6])),
        preprocess: Preprocess::unit(16),
    };
    let bert = BertConfig::new(20, 8, 1, 2, 12).with_positions(8);
    let text = TextPart { encoder: TextEncoderConfig::Bert(bert), context: 8 };
    let head = HeadConfig::DualEncoder(DualEncoderConfig::new().with_latent(5));
    ModelConfig::new(vec![image], text, FeatureModelConfig::new(6, 8, head))
}

fn checkpoint() -> Checkpoint {
    let model = config().init(&Device::flex()).unwrap();
    Checkpoint { config: config(), tokenizer: tokenizer(), model }
}

fn saved() -> (TempDir, PathBuf, Checkpoint) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("best");
    let checkpoint = checkpoint();
    checkpoint.save(&path).unwrap();
    (folder, path, checkpoint)
}

fn load(path: &Path) -> Result<Checkpoint, String> {
    Checkpoint::load(path, &Device::flex()).map_err(|e| e.to_string())
}

/// Embeddings of two pictures and two texts.
fn embeddings(checkpoint: &Checkpoint) -> [Vec<f32>; 2] {
    let device = Device::flex();
    let Checkpoint { config, tokenizer, model } = checkpoint;
    let pixels = Tensor::arange(0..2 * 3 * 16 * 16, &device).float().sin().reshape([2, 3, 16, 16]);
    let tokens = tokenizer.encode(&["a dog", "a cat sleeps"]).unwrap();
    let image = model.embed_image(&[pixels], config.views);
    let text = model.embed_text(&TokenBatch::new(&tokens, &device));
    [image, text].map(|rows| rows.into_data().try_into_vec_as().unwrap())
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A checkpoint with another head, and the same encoders.
fn with_other_head(mut checkpoint: Checkpoint) -> Checkpoint {
    checkpoint.model.features.logit_scale = Param::from_data([3.0], &Device::flex());
    checkpoint
}

#[test]
fn loaded_as_it_was_saved() {
    let (folder, path, saved) = saved();
    let loaded = load(&path).unwrap();
    assert_eq!(loaded.config, saved.config);
    assert_eq!(embeddings(&loaded), embeddings(&saved));
    assert_eq!(loaded.fingerprint(), saved.fingerprint());
    assert_eq!(names(&path), FILES);
    assert_eq!(names(folder.path()), ["best"], "nothing is left behind");
}

#[test]
fn the_fingerprint_is_that_of_what_makes_embeddings() {
    let one = checkpoint();
    let fingerprint = one.fingerprint();
    assert_eq!(one.clone().fingerprint(), fingerprint);
    assert_ne!(with_other_head(one.clone()).fingerprint(), fingerprint);
    let mut preprocessing = one.clone();
    preprocessing.config.image[0].preprocess = Preprocess::siglip(16);
    assert_ne!(preprocessing.fingerprint(), fingerprint);
    let tokenizer = Tokenizer::train_words(["a cat runs"], 20, 8).unwrap();
    assert_ne!(Checkpoint { tokenizer, ..one }.fingerprint(), fingerprint);
}

#[test]
fn every_file_missing() {
    for name in FILES {
        let (_folder, path, _) = saved();
        let file = path.join(name);
        fs::remove_file(&file).unwrap();
        let expected = match name {
            "checkpoint.json" => format!(
                "{}: no checkpoint here, there is no checkpoint.json; name a folder that training \
                 saved, such as RUN/best-loss",
                path.display()
            ),
            _ => format!(
                "{}: missing from its checkpoint; copy the whole folder again",
                file.display()
            ),
        };
        assert_eq!(load(&path).unwrap_err(), expected);
    }
}

#[test]
fn every_file_altered() {
    for name in FILES {
        let (_folder, path, _) = saved();
        let file = path.join(name);
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, bytes).unwrap();
        let error = load(&path).unwrap_err();
        // In checkpoint.json it depends on which byte: a file is then missing or altered, or it
        // isn't readable.
        let culprit = if name == "checkpoint.json" { &path } else { &file };
        assert!(error.starts_with(&culprit.display().to_string()), "{name}: {error}");
        assert!(error.ends_with("copy the whole folder again"), "{name}: {error}");
    }
}

#[test]
fn an_altered_file_is_told_from_its_digests() {
    let (_folder, path, _) = saved();
    let file = path.join("config.json");
    fs::write(&file, "abc").unwrap();
    let error = load(&path).unwrap_err();
    // FIPS 180-2, appendix B.1.
    let start = format!(
        "{}: altered since it was saved (SHA-256 \
         ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad, expected ",
        file.display()
    );
    assert!(error.starts_with(&start), "{error}");
}

#[test]
fn another_fingerprint_than_its_content() {
    let (_folder, path, saved) = saved();
    let manifest = path.join("checkpoint.json");
    let other = with_other_head(saved.clone()).fingerprint();
    let json = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, json.replace(saved.fingerprint().as_str(), other.as_str())).unwrap();
    let error = load(&path).unwrap_err();
    assert!(error.starts_with(&format!("{}: altered", manifest.display())), "{error}");
}

#[test]
fn a_newer_format() {
    let (_folder, path, _) = saved();
    let manifest = path.join("checkpoint.json");
    fs::write(&manifest, r#"{"format": 2, "parts": []}"#).unwrap();
    assert_eq!(
        load(&path).unwrap_err(),
        format!(
            "{}: written in format 2, but this program reads formats up to 1; update the program",
            manifest.display()
        )
    );
}

#[test]
fn weights_that_do_not_fit_the_configuration() {
    let (_folder, path, saved) = saved();
    let mut wider = saved.clone();
    wider.config.features.head = HeadConfig::DualEncoder(DualEncoderConfig::new().with_latent(7));
    wider.save(&path).unwrap();
    assert_eq!(
        load(&path).unwrap_err(),
        format!(
            "{}: not the weights of the model in its config.json: \
             `head.DualEncoder.image.layers.0.bias` should have the shape [7], but has [5]",
            path.join("head.bpk").display()
        )
    );
    let mut deeper = saved;
    deeper.config.image[0].encoder =
        ImageEncoderConfig::SmallCnn(SmallCnnConfig::new().with_channels(vec![4, 6, 6]));
    deeper.save(&path).unwrap();
    assert_eq!(
        load(&path).unwrap_err(),
        format!(
            "{}: not the weights of the model in its config.json: 5 missing, the first is \
             `SmallCnn.stages.2.conv.weight`",
            path.join("image-0.bpk").display()
        )
    );
}

#[test]
fn parts_that_do_not_fit_each_other() {
    let mut config = config();
    config.features.image_width = 7;
    assert_eq!(
        config.init(&Device::flex()).unwrap_err().to_string(),
        "the head takes image features of width 7, but the encoder makes 6; set `image_width` to 6"
    );
    config.features.image_width = 6;
    config.text.context = 9;
    assert_eq!(
        config.init(&Device::flex()).unwrap_err().to_string(),
        "a context of 9 tokens, but the text encoder has only 8 positions; set `context` to 8"
    );
    let (_folder, path, mut saved) = saved();
    let letters: Vec<_> = ('a'..='z').map(String::from).collect();
    saved.tokenizer = Tokenizer::train_words(letters, 99, 8).unwrap();
    saved.save(&path).unwrap();
    assert_eq!(
        load(&path).unwrap_err(),
        "the tokenizer makes 28 kinds of tokens, but the text encoder knows only 20; use the \
         tokenizer that belongs to the weights"
    );
}

#[test]
fn a_folder_of_something_else_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "").unwrap();
    assert_eq!(
        checkpoint().save(folder.path()).unwrap_err().to_string(),
        format!(
            "{}: holds other things than a checkpoint, and saving would delete them; name another \
             folder",
            folder.path().display()
        )
    );
    assert_eq!(names(folder.path()), ["thesis.tex"]);
}

#[test]
fn an_empty_folder_is_used() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint().save(folder.path()).unwrap();
    assert_eq!(names(folder.path()), FILES);
}

/// Between the two renames of a replacement there is no folder of that name for a moment.
#[test]
fn killed_while_replacing() {
    let (_folder, path, saved) = saved();
    fs::rename(&path, path.with_added_extension("old")).unwrap();
    assert_eq!(load(&path).unwrap().fingerprint(), saved.fingerprint());
    let other = with_other_head(saved);
    other.save(&path).unwrap();
    assert_eq!(load(&path).unwrap().fingerprint(), other.fingerprint());
    assert!(!path.with_added_extension("old").exists());
}

/// A save that was killed leaves a half-written folder beside; the next one begins anew.
#[test]
fn killed_while_writing() {
    let (_folder, path, saved) = saved();
    let partial = path.with_added_extension("tmp");
    fs::create_dir(&partial).unwrap();
    fs::write(partial.join("rubbish"), "").unwrap();
    saved.save(&path).unwrap();
    assert_eq!(names(&path), FILES);
    assert!(!partial.exists());
}

#[cfg(unix)]
#[test]
fn equal_encoders_are_not_written_again() {
    use std::os::unix::fs::MetadataExt;
    let (folder, path, saved) = saved();
    let other = folder.path().join("last");
    let number = |path: &Path, name| fs::metadata(path.join(name)).unwrap().ino();
    let other_head = with_other_head(saved);
    other_head.save_sharing(&other, &path).unwrap();
    for (name, same) in [("text.bpk", true), ("image-0.bpk", true), ("head.bpk", false)] {
        assert_eq!(number(&path, name) == number(&other, name), same, "{name}");
    }
    // The first may go or be replaced: the second is complete in itself.
    let text = number(&path, "text.bpk");
    other_head.save(&path).unwrap();
    assert_eq!(number(&path, "text.bpk"), text);
    fs::remove_dir_all(&path).unwrap();
    assert_eq!(load(&other).unwrap().fingerprint(), other_head.fingerprint());
}

#[test]
fn a_truncated_weight_file() {
    let (_folder, path, _) = saved();
    let file = OpenOptions::new().write(true).open(path.join("text.bpk")).unwrap();
    file.set_len(100).unwrap();
    (&file).flush().unwrap();
    let error = load(&path).unwrap_err();
    assert!(error.contains("text.bpk: altered since it was saved"), "{error}");
}
