//! Pictures against Pillow and torchvision: `reference/fixtures_preprocess.py` makes the fixtures.

use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use serde::Deserialize;
use xr_data::{Interpolation, Picture, Preprocess, Resize, Source, load_augmented};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/image").join(name)
}

fn at(path: &Path) -> Picture {
    Picture { name: "a picture".into(), source: Source::File(path.into()) }
}

fn load(name: &str) -> RgbImage {
    at(&fixture(name)).load().unwrap()
}

#[derive(Deserialize)]
struct Cases {
    decode: Vec<String>,
    resize: Vec<ResizeCase>,
    normalize: NormalizeCase,
}

#[derive(Deserialize)]
struct ResizeCase {
    source: String,
    resize: Resize,
    interpolation: Interpolation,
    expected: String,
}

#[derive(Deserialize)]
struct NormalizeCase {
    source: String,
    values: Vec<f32>,
}

fn cases() -> Cases {
    serde_json::from_slice(&std::fs::read(fixture("cases.json")).unwrap()).unwrap()
}

/// How many values differ by how many levels: `[equal, by 1, by 2, …]`.
fn differences(a: &RgbImage, b: &RgbImage) -> Vec<usize> {
    assert_eq!(a.dimensions(), b.dimensions());
    let mut counts = vec![0; 256];
    a.iter().zip(b.iter()).for_each(|(&a, &b)| counts[a.abs_diff(b) as usize] += 1);
    counts.truncate(1 + counts.iter().rposition(|&n| n > 0).unwrap());
    counts
}

fn mean(differences: &[usize]) -> f64 {
    let sum: usize = differences.iter().enumerate().map(|(by, n)| by * n).sum();
    sum as f64 / differences.iter().sum::<usize>() as f64
}

/// Weights of 16 bits against Pillow's 32 tip the rounding of a few values, by one level in each of
/// the two passes: one value in a hundred differs, one in 30,000 by two levels.
#[test]
fn resized_as_torchvision_does() {
    for case in cases().resize {
        let preprocess = Preprocess {
            resize: case.resize,
            interpolation: case.interpolation,
            ..Preprocess::unit(1)
        };
        let found = differences(&preprocess.pixels(&load(&case.source)), &load(&case.expected));
        let what = format!("{} {:?} {:?}: {found:?}", case.source, case.resize, case.interpolation);
        println!("{what}");
        assert!(found.len() <= 3 && mean(&found) < 0.025, "{what}");
    }
}

/// The numbers, through ToTensor and Normalize: one level is 0.018 at most.
#[test]
fn normalized_as_torchvision_does() {
    let case = cases().normalize;
    let found =
        Preprocess { resize: Resize::Shortest { size: 8, crop: 7 }, ..Preprocess::imagenet(7) }
            .apply(&load(&case.source));
    assert_eq!(found.len(), case.values.len());
    let exact = found.iter().zip(&case.values).filter(|(a, b)| (*a - *b).abs() < 1e-6).count();
    assert!(found.iter().zip(&case.values).all(|(a, b)| (a - b).abs() < 0.018));
    assert!(exact * 100 >= found.len() * 97, "{exact} of {}", found.len());
}

/// Equal where nothing is lost in compression; 16 bits are rounded here and cut off there; JPEG is
/// decoded with another inverse cosine transform and, at half colour resolution, other upsampling.
#[test]
fn decoded_as_pillow_does() {
    for name in cases().decode {
        let found = differences(&load(&name), &load(&format!("decoded-{name}.png")));
        println!("{name}: {found:?}");
        let (most, on_average) = match () {
            () if name.ends_with(".jpg") => (3, 0.4),
            () if name.starts_with("16-bit") => (1, 0.5),
            () => (0, 0.0),
        };
        assert!(found.len() <= most + 1 && mean(&found) <= on_average, "{name}: {found:?}");
    }
}

#[test]
fn the_published_recipes() {
    let recipes = [
        (Preprocess::efficientnet_lite(4), -127.0 / 128.0),
        (Preprocess::imagenet(4), -0.485 / 0.229),
        (Preprocess::clip(4), -0.481_454_66 / 0.268_629_54),
        (Preprocess::siglip(4), -1.0),
        (Preprocess::unit(4), 0.0),
    ];
    for (preprocess, black) in recipes {
        let found = preprocess.apply(&RgbImage::new(9, 7))[0];
        assert!((found - black).abs() < 1e-6, "{found}, not {black}: {preprocess:?}");
    }
    assert_eq!(Preprocess::imagenet(224).resize, Resize::Shortest { size: 256, crop: 224 });
}

/// What checkpoints hold.
#[test]
fn as_json() {
    let json = r#"{"resize":{"squash":{"size":8}},"interpolation":"bicubic","mean":[0.5,0.5,0.5],"std":[0.5,0.5,0.5]}"#;
    assert_eq!(serde_json::to_string(&Preprocess::siglip(8)).unwrap(), json);
    assert_eq!(serde_json::from_str::<Preprocess>(json).unwrap(), Preprocess::siglip(8));
}

/// Only what the crop keeps is computed: the whole of this picture would be 134 GB at that size.
#[test]
fn a_very_long_picture() {
    let pixels = Preprocess::clip(200).pixels(&RgbImage::from_pixel(1, 2_000_000, Rgb([9; 3])));
    assert!(pixels.iter().all(|&level| level == 9));
}

#[test]
fn loaded_for_training() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (at(&fixture("61x47.png")), at(&dir.path().join("none.jpg")));
    let unit = Preprocess::unit(2);
    let load = |picture: &Picture, flip| {
        load_augmented(picture, &unit, flip, &[], &mut ChaCha8Rng::seed_from_u64(0))
    };
    assert_eq!(
        load(&bad, false).unwrap_err().to_string(),
        format!(
            "{}: No such file or directory (os error 2)",
            dir.path().join("none.jpg").display()
        )
    );
    let (plain, flipped) = (load(&good, false).unwrap(), load(&good, true).unwrap());
    assert_eq!(plain, unit.apply(&good.load().unwrap()));
    for (there, here) in plain.chunks(2).zip(flipped.chunks(2)) {
        assert_eq!([there[1], there[0]], here);
    }
}

/// The sentence for a file of these bytes, without the folder.
fn refusal(name: &str, bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let error = at(&path).load().unwrap_err().to_string();
    error.replace(&format!("{}/", dir.path().display()), "")
}

fn not_decoded(name: &str, why: &str) -> String {
    format!(
        "{name}: not a picture that can be decoded ({why}); \
         replace the file, or remove it to do without"
    )
}

#[test]
fn an_empty_file() {
    assert_eq!(refusal("a.jpg", b""), not_decoded("a.jpg", "the file is empty"));
}

#[test]
fn not_a_picture() {
    assert_eq!(
        refusal("a.jpg", b"<html>Not found</html>"),
        not_decoded("a.jpg", "The image format could not be determined")
    );
}

/// Wherever it is cut: the decoder alone would paint the rest grey.
#[test]
fn a_truncated_jpeg() {
    for name in ["420.jpg", "progressive.jpg", "orientation-6.jpg"] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        for length in (2..bytes.len() - 1).step_by(61).chain([bytes.len() - 2]) {
            let sentence = refusal("cut.jpg", &bytes[..length]);
            assert_eq!(sentence, not_decoded("cut.jpg", "the JPEG data ends too early"));
        }
    }
}

#[test]
fn a_truncated_png() {
    let bytes = std::fs::read(fixture("61x47.png")).unwrap();
    let sentence = refusal("cut.png", &bytes[..bytes.len() / 2]);
    assert!(sentence.starts_with("cut.png: not a picture that can be decoded ("), "{sentence}");
}

/// A few bytes that promise 65,535 × 65,535 pixels, 12.9 GB, are refused before it is allocated.
#[test]
fn a_decompression_bomb() {
    let mut bytes = std::fs::read(fixture("444.jpg")).unwrap();
    let frame = bytes.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    bytes[frame + 5..frame + 9].fill(0xff);
    assert_eq!(refusal("bomb.jpg", &bytes), not_decoded("bomb.jpg", "Memory limit exceeded"));
}
