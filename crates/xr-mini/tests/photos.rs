//! The model that is part of the crate, on the photographs that are.

use std::path::Path;

use burn::tensor::Device;
use xr_data::{Embeddings, Picture, Source};
use xr_models::embed::{Embedder, Run};

/// What is seen on some of the photographs.
const SEEN: [(&str, &str); 5] = [
    ("a cat with green eyes", "cat.jpg"),
    ("an orange flower", "flower.jpg"),
    ("stars in the night sky", "galaxies.jpg"),
    ("a man taking a picture", "photographer.jpg"),
    ("a building by a lake", "temple.jpg"),
];

/// The photographs, written into a folder.
fn photographs(dir: &Path) -> Vec<Picture> {
    let picture = |&(name, content): &(&str, &[u8])| {
        let path = dir.join(name);
        std::fs::write(&path, content).unwrap();
        Picture { name: name.into(), source: Source::File(path) }
    };
    xr_mini::PHOTOS.iter().map(picture).collect()
}

/// Embeddings of pictures, and of what is seen on some.
fn embedded(model: &Embedder, pictures: &[Picture]) -> (Embeddings, Embeddings) {
    let (images, failures) =
        model.images(&pictures.iter().collect::<Vec<_>>(), Run::new(4)).unwrap();
    assert!(failures.is_empty());
    (images, model.texts(&SEEN.map(|(words, _)| words), Run::new(8)).unwrap())
}

#[test]
fn finds_the_photographs() {
    let dir = tempfile::tempdir().unwrap();
    let pictures = photographs(dir.path());
    let (images, texts) = embedded(&xr_mini::load(&Device::flex()), &pictures);
    for (cosines, (words, name)) in
        texts.view().dot(&images.view().t()).rows().into_iter().zip(SEEN)
    {
        let best = (0..images.rows()).max_by(|&a, &b| cosines[a].total_cmp(&cosines[b])).unwrap();
        assert_eq!(pictures[best].name, name, "{words}: {cosines:.2}");
    }
}

/// Products of 8 bits turn an embedding by little.
#[test]
fn in_bf16() {
    let dir = tempfile::tempdir().unwrap();
    let (device, pictures) = (Device::flex(), photographs(dir.path()));
    let mut checkpoint = xr_mini::packed().checkpoint(&device).unwrap();
    checkpoint.model = checkpoint.model.in_bf16();
    let rounded = embedded(&Embedder::new(checkpoint), &pictures);
    let single = embedded(&xr_mini::load(&device), &pictures);
    for (rounded, single, least) in [(rounded.0, single.0, 0.999), (rounded.1, single.1, 0.9999)] {
        assert_ne!(rounded.made_by(), single.made_by());
        for row in 0..single.rows() {
            let products = rounded.row(row).iter().zip(single.row(row)).map(|(a, b)| a * b);
            let cosine: f32 = products.sum();
            assert!(cosine > least, "{row}: {cosine}");
        }
    }
}

#[test]
fn the_file_says_what_it_is() {
    let packed = xr_mini::packed();
    let checkpoint = packed.checkpoint(&Device::flex()).unwrap();
    assert_eq!(packed.fingerprint(), &checkpoint.fingerprint());
    assert_eq!(checkpoint.config.features.head.latent(), 256);
    let bank = packed.bank().unwrap();
    assert_eq!(bank.map(|rows| (rows.rows(), rows.dim())), [(1_000, 256), (1_667, 256)]);
}
