//! Pictures a second from files to numbers, and features a second through the cache.
//!
//!     cargo bench --bench data
//!
//! The picture is 500 × 375, as most of the published Flickr8k are: waves and noise from a seed, JPEG.
//! Each on one core; `load` is what training does with a picture that isn't augmented.
//! `cache/…` appends and reopens 1,000 rows of 1,280 numbers.

use std::{hint::black_box, path::Path};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use image::{Rgb, RgbImage, codecs::jpeg::JpegEncoder};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use xr_data::{
    FeatureCache, Fingerprint, Key, Picture, Preprocess, Source, load_augmented, text_key,
};

fn photograph() -> RgbImage {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    RgbImage::from_fn(500, 375, |x, y| {
        let wave = |a: f32, b: f32| 128.0 + 90.0 * (x as f32 * a + y as f32 * b).sin();
        let mut level = |a, b| (wave(a, b) + rng.random_range(-12.0..12.0)) as u8;
        Rgb([level(0.02, 0.01), level(0.05, -0.03), level(-0.01, 0.08)])
    })
}

fn jpeg(path: &Path) -> Picture {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 90)
        .encode_image(&photograph())
        .expect("an RGB picture");
    std::fs::write(path, &bytes).expect("a writable temporary folder");
    Picture { name: "photograph".into(), source: Source::File(path.into()) }
}

fn pictures(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let picture = jpeg(&dir.path().join("photograph.jpg"));
    let decoded = picture.load().expect("just written");
    let mut group = criterion.benchmark_group("pictures");
    group.throughput(Throughput::Elements(1));
    group.bench_function("decode", |b| b.iter(|| picture.load()));
    for (name, preprocess) in [
        ("bicubic/224", Preprocess::efficientnet_lite(224)),
        ("bilinear/224of256", Preprocess::imagenet(224)),
        ("squash/224", Preprocess::siglip(224)),
    ] {
        group.bench_function(format!("resize/{name}"), |b| b.iter(|| preprocess.apply(&decoded)));
    }
    let (lite, mut rng) = (Preprocess::efficientnet_lite(224), ChaCha8Rng::seed_from_u64(0));
    group.bench_function("load", |b| {
        b.iter(|| load_augmented(&picture, &lite, false, &[], &mut rng))
    });
    group.finish();
}

fn cache(criterion: &mut Criterion) {
    const DIM: usize = 1280;
    let keys: Vec<Key> = (0..1000).map(|i: u32| text_key(&i.to_string())).collect();
    let row = [0.5; DIM];
    let rows: Vec<_> = keys.iter().map(|&key| (key, &row[..])).collect();
    let made_by = Fingerprint::of(["bench"]);
    let append = |dir: &Path| {
        let mut cache = FeatureCache::open(dir, &made_by, DIM).expect("a new cache");
        rows.chunks(100).for_each(|block| cache.append(block).expect("space for 5 MB"));
    };
    let mut group = criterion.benchmark_group("cache");
    group.throughput(Throughput::Elements(1000)).sample_size(20);
    group.bench_function("append", |b| {
        b.iter(|| append(tempfile::tempdir().expect("a temporary folder").path()))
    });
    let dir = tempfile::tempdir().expect("a temporary folder");
    append(dir.path());
    group.bench_function("open", |b| {
        b.iter(|| black_box(FeatureCache::open(dir.path(), &made_by, DIM)))
    });
    group.finish();
}

criterion_group!(benches, pictures, cache);
criterion_main!(benches);
