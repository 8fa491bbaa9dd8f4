//! The model that is part of the crate, on the photographs that are.

use burn::tensor::Device;
use xr_data::{Picture, Source};
use xr_models::embed::Run;

/// What is seen on some of the photographs.
const SEEN: [(&str, &str); 5] = [
    ("a cat with green eyes", "cat.jpg"),
    ("an orange flower", "flower.jpg"),
    ("stars in the night sky", "galaxies.jpg"),
    ("a man taking a picture", "photographer.jpg"),
    ("a building by a lake", "temple.jpg"),
];

#[test]
fn finds_the_photographs() {
    let dir = tempfile::tempdir().unwrap();
    let picture = |&(name, content): &(&str, &[u8])| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        Picture { name: name.into(), source: Source::File(path) }
    };
    let pictures: Vec<_> = xr_mini::PHOTOS.iter().map(picture).collect();
    let model = xr_mini::load(&Device::flex());
    let (images, failures) =
        model.images(&pictures.iter().collect::<Vec<_>>(), Run::new(4)).unwrap();
    assert!(failures.is_empty());
    let texts = model.texts(&SEEN.map(|(words, _)| words), Run::new(8)).unwrap();
    for (cosines, (words, name)) in
        texts.view().dot(&images.view().t()).rows().into_iter().zip(SEEN)
    {
        let best = (0..images.rows()).max_by(|&a, &b| cosines[a].total_cmp(&cosines[b])).unwrap();
        assert_eq!(pictures[best].name, name, "{words}: {cosines:.2}");
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
