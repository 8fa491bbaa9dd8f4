//! Every layout of `datasets/fixtures` gives the same pictures and captions.

use std::path::{Path, PathBuf};

use xr_data::{
    Corpus,
    dataset::{Strictness, open},
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/fixtures").join(name)
}

fn corpus(name: &str) -> Corpus {
    open(fixture(name).to_str().unwrap(), Strictness::Lenient).unwrap()
}

fn texts(corpus: &Corpus) -> Vec<(u32, &str)> {
    corpus.captions.iter().map(|c| (c.picture, c.text.as_str())).collect()
}

#[test]
fn one_set_in_four_layouts() {
    let published = corpus("flickr8k_published");
    assert_eq!(texts(&published)[1], (0, "A circle , \"bright\" red , on white ."));
    assert_eq!((published.pictures.len(), published.captions.len()), (4, 8));
    for (name, called) in [
        ("flickr8k_kaggle", "flickr8k_kaggle"),
        ("folder", "folder"),
        ("folder_beside", "folder_beside"),
    ] {
        let other = corpus(name);
        assert_eq!(other.name, called);
        assert_eq!(texts(&other), texts(&published), "{name}");
        assert!(other.skipped.is_empty() && other.splits.is_empty(), "{name}");
    }
}

#[test]
fn the_published_layout_has_splits_and_a_caption_without_picture() {
    let corpus = corpus("flickr8k_published");
    assert_eq!(
        ["train", "dev", "test"].map(|s| corpus.splits[s].clone()),
        [vec![0, 1], vec![2], vec![3]]
    );
    let [skipped] = &corpus.skipped[..] else { panic!("{:?}", corpus.skipped) };
    assert!(skipped.what.ends_with("Flickr8k.token.txt, line 9"), "{skipped}");
    assert_eq!(skipped.why, "there is no picture `500_lost.jpg.1`");
}

#[test]
fn pictures_can_be_loaded() {
    for name in ["flickr8k_published", "flickr8k_kaggle", "folder", "folder_beside"] {
        for picture in &corpus(name).pictures {
            assert_eq!(picture.load().unwrap().dimensions(), (40, 32), "{name}");
        }
    }
}
