//! Features and embeddings in batches: the batch size, the cache and bad pictures change nothing.

use std::{cell::RefCell, fs, path::Path};

use burn::tensor::Device;
use xr_data::{
    Corpus, Embeddings, FeatureCache, Fingerprint, Picture, Preprocess, Source, Tokenizer,
    dataset::synthetic::{SyntheticConfig, generate},
    text_key,
};
use xr_models::{
    Checkpoint, Embedder, FeatureModelConfig, HeadConfig, ImagePart, ModelConfig, TextPart, View,
    Views,
    embed::{Run, image_features, side_by_side, text_features},
    encoder::{ImageEncoderConfig, RecurrentConfig, SmallCnnConfig, TextEncoderConfig},
    head::DualEncoderConfig,
};

/// Batches of other sizes and widths are summed in another order.
const TOLERANCE: f32 = 1e-5;

fn corpus() -> Corpus {
    generate(&SyntheticConfig { pictures: 7, seed: 1, ..Default::default() })
}

fn texts(corpus: &Corpus) -> Vec<&str> {
    corpus.captions.iter().map(|caption| caption.text.as_str()).collect()
}

fn cnn(side: u32) -> ImagePart {
    let config = SmallCnnConfig::new().with_channels(vec![4, 6]);
    let encoder = ImageEncoderConfig::SmallCnn(config);
    ImagePart { encoder, preprocess: Preprocess::unit(side) }
}

fn recurrent(vocabulary: usize) -> TextPart {
    let config = RecurrentConfig::new(vocabulary).with_embedding(4).with_hidden(4).with_width(5);
    TextPart { encoder: TextEncoderConfig::Recurrent(config), context: 16 }
}

/// Two image encoders that want pictures of different sizes.
fn checkpoint(corpus: &Corpus, views: Views) -> Checkpoint {
    let tokenizer = Tokenizer::train_words(texts(corpus), 100, 16).unwrap();
    let head = HeadConfig::DualEncoder(DualEncoderConfig::new().with_latent(3));
    let features = FeatureModelConfig::new(12, 5, head);
    let text = recurrent(tokenizer.vocabulary_size());
    let config = ModelConfig::new(vec![cnn(16), cnn(24)], text, features).with_views(views);
    let model = config.init(&Device::flex()).unwrap();
    Checkpoint { config, tokenizer, model }
}

fn pictures(corpus: &Corpus) -> Vec<&Picture> {
    corpus.pictures.iter().collect()
}

fn assert_close(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    let difference = a.iter().zip(b).fold(0f32, |max, (a, b)| max.max((a - b).abs()));
    assert!(difference <= TOLERANCE, "{difference}");
}

/// Pictures 0, 1, …, but the one at `bad` is a file of text.
fn with_a_bad_picture(folder: &Path, bad: usize) -> Corpus {
    let path = folder.join("bad.jpg");
    fs::write(&path, "not a picture").unwrap();
    let mut corpus = corpus();
    corpus.pictures[bad].source = Source::File(path);
    corpus
}

#[test]
fn the_batch_size_changes_nothing() {
    let corpus = corpus();
    let embedder = Embedder::new(checkpoint(&corpus, Views::Original));
    let embed = |batch| {
        let (images, failures) = embedder.images(&pictures(&corpus), Run::new(batch)).unwrap();
        assert!(failures.is_empty());
        [images, embedder.texts(&texts(&corpus), Run::new(batch)).unwrap()]
    };
    let ([image, text], [image_by_3, text_by_3]) = (embed(1), embed(3));
    assert_eq!((image.rows(), image.dim()), (7, 3));
    assert_eq!((text.rows(), text.dim()), (corpus.captions.len(), 3));
    assert_close(image.values(), image_by_3.values());
    assert_close(text.values(), text_by_3.values());
    assert_eq!(text.made_by(), embedder.fingerprint());
    assert_eq!(image.made_by(), embedder.fingerprint());
    for row in image.view().rows().into_iter().chain(text.view().rows()) {
        assert!((row.dot(&row) - 1.0).abs() < TOLERANCE, "a row of another length than 1");
    }
}

#[test]
fn a_mirrored_picture_has_the_same_embedding_of_both_views() {
    let corpus = corpus();
    let checkpoint = checkpoint(&corpus, Views::WithFlip);
    let folder = tempfile::tempdir().unwrap();
    // 16 and 24 pixels from 48: a mirrored picture is resized to the mirrored result.
    let mirrored: Vec<_> = ["a.png", "b.png"].map(|name| folder.path().join(name)).into();
    let mut picture = Preprocess::unit(48).pixels(&corpus.pictures[0].load().unwrap());
    picture.save(&mirrored[0]).unwrap();
    image::imageops::flip_horizontal_in_place(&mut picture);
    picture.save(&mirrored[1]).unwrap();
    let pair: Vec<_> = mirrored
        .into_iter()
        .map(|path| Picture { name: String::new(), source: Source::File(path) })
        .collect();
    let pair: Vec<_> = pair.iter().collect();
    let embed = |views| {
        let mut checkpoint = checkpoint.clone();
        checkpoint.config.views = views;
        Embedder::new(checkpoint).images(&pair, Run::new(2)).unwrap().0
    };
    let [original, both] = [Views::Original, Views::WithFlip].map(embed);
    assert_close(both.row(0), both.row(1));
    assert_ne!(original.row(0), original.row(1));
}

#[test]
fn rows_go_on_in_order() {
    let corpus = corpus();
    let embedder = Embedder::new(checkpoint(&corpus, Views::Original));
    let whole = embedder.texts(&texts(&corpus), Run::new(1)).unwrap();
    let mut rows = Vec::new();
    let sink = |new: &[f32]| {
        rows.extend_from_slice(new);
        Ok(())
    };
    embedder.texts_into(&texts(&corpus), Run::new(1), sink).unwrap();
    assert_eq!(rows, whole.values());
}

#[test]
fn progress_ends_at_the_total() {
    let corpus = corpus();
    let embedder = Embedder::new(checkpoint(&corpus, Views::Original));
    let seen = RefCell::new(Vec::new());
    let run = || Run::new(3).with_observer(|done, total| seen.borrow_mut().push((done, total)));
    embedder.images(&pictures(&corpus), run()).unwrap();
    assert_eq!(seen.take(), [(3, 7), (6, 7), (7, 7)]);
    embedder.texts(&texts(&corpus)[..4], run()).unwrap();
    assert_eq!(seen.take(), [(0, 4), (3, 4), (4, 4)]);
}

#[test]
fn a_bad_picture_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = with_a_bad_picture(folder.path(), 4);
    let embedder = Embedder::new(checkpoint(&corpus, Views::Original));
    let (images, failures) = embedder.images(&pictures(&corpus), Run::new(3)).unwrap();
    let [failure] = &failures[..] else { panic!("{failures:?}") };
    assert_eq!(failure.position, 4);
    assert!(failure.error.to_string().contains("bad.jpg: not a picture"), "{}", failure.error);
    let mut good = pictures(&corpus);
    good.remove(4);
    let (without, _) = embedder.images(&good, Run::new(3)).unwrap();
    assert_close(images.values(), without.values());
}

#[test]
fn a_bad_picture_is_an_error_when_strict() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = with_a_bad_picture(folder.path(), 4);
    let embedder = Embedder::new(checkpoint(&corpus, Views::Original));
    let error = embedder.images(&pictures(&corpus), Run::new(3).strict()).unwrap_err();
    assert!(error.to_string().contains("bad.jpg: not a picture"), "{error}");
}

/// Rows that nothing would compute: if they come out, they came from the cache.
#[test]
fn what_is_in_the_cache_is_not_computed() {
    let corpus = corpus();
    let embedder = Embedder::new(checkpoint(&corpus, Views::Original));
    let folder = tempfile::tempdir().unwrap();
    let mut cache = FeatureCache::open(folder.path(), embedder.fingerprint(), 3).unwrap();
    let (picture, text) = (&corpus.pictures[5], texts(&corpus)[9]);
    let rows = [(picture.content_key().unwrap(), &[7.0; 3][..]), (text_key(text), &[8.0; 3])];
    cache.append(&rows).unwrap();
    drop(cache);
    let cached = || Run::new(3).with_cache(folder.path());
    let (images, _) = embedder.images(&pictures(&corpus), cached()).unwrap();
    let (computed, _) = embedder.images(&pictures(&corpus), Run::new(3)).unwrap();
    assert_eq!(images.row(5), [7.0; 3]);
    assert_close(images.row(4), computed.row(4));
    assert_close(images.row(6), computed.row(6));
    let texts = embedder.texts(&texts(&corpus), cached()).unwrap();
    assert_eq!(texts.row(9), [8.0; 3]);
}

#[test]
fn a_killed_run_goes_on() {
    let corpus = corpus();
    let embedder = Embedder::new(checkpoint(&corpus, Views::Original));
    let folder = tempfile::tempdir().unwrap();
    let run = || Run::new(2).with_cache(folder.path());
    let cached = || FeatureCache::open(folder.path(), embedder.fingerprint(), 3).unwrap().len();
    let mut batches = 0;
    let killed = embedder.images_into(&pictures(&corpus), run(), |_| {
        batches += 1;
        let source = std::io::Error::other("killed");
        if batches < 3 { Ok(()) } else { Err(xr_data::Error::Io { path: "sink".into(), source }) }
    });
    assert_eq!(killed.unwrap_err().to_string(), "sink: killed");
    assert_eq!(cached(), 6);
    let (whole, _) = embedder.images(&pictures(&corpus), run()).unwrap();
    assert_eq!(cached(), 7);
    let (uncached, _) = embedder.images(&pictures(&corpus), Run::new(2)).unwrap();
    assert_close(whole.values(), uncached.values());
}

#[test]
fn features_say_what_made_them() {
    let corpus = corpus();
    let checkpoint = checkpoint(&corpus, Views::Original);
    let Checkpoint { config, tokenizer, model } = &checkpoint;
    let image = |part: usize, view| -> Embeddings {
        let run = Run::new(4);
        let encoder = &model.image[part];
        image_features(&config.image[part], encoder, view, &pictures(&corpus), run).unwrap().0
    };
    let (one, flipped, other) =
        (image(0, View::Original), image(0, View::Flipped), image(1, View::Original));
    assert_eq!((one.rows(), one.dim()), (7, 6));
    assert_ne!(one.made_by(), flipped.made_by());
    assert_ne!(one.made_by(), other.made_by());
    assert_eq!(one.made_by(), &config.image[0].fingerprint(&model.image[0], View::Original));
    let texts = texts(&corpus);
    let text = text_features(&config.text, &model.text, tokenizer, &texts, Run::new(4)).unwrap();
    assert_eq!((text.rows(), text.dim()), (texts.len(), 5));
    assert_eq!(text.made_by(), &config.text.fingerprint(&model.text, tokenizer));
}

#[test]
fn features_of_two_encoders_stand_side_by_side() {
    let [one, two] = ["one", "two"].map(|name| Fingerprint::of([name]));
    let left = Embeddings::new(vec![1.0, 2.0, 3.0, 4.0], 2, one);
    let right = Embeddings::new(vec![5.0, 6.0], 1, two);
    let both = side_by_side(&[&left, &right]);
    assert_eq!((both.rows(), both.dim()), (2, 3));
    assert_eq!(both.values(), [1.0, 2.0, 5.0, 3.0, 4.0, 6.0]);
    assert_ne!(both.made_by(), side_by_side(&[&right, &left]).made_by());
}
