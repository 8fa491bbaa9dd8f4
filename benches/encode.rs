//! Pictures and captions a second through the pretrained encoders.
//!
//!     cargo bench --bench encode
//!
//! `lite0/16` is EfficientNet-Lite0 alone on 16 pictures of 224 × 224, `minilm/64x25` MiniLM alone
//! on 64 rows of 25 tokens: with random weights, on which speed doesn't depend, and on rayon's own
//! threads, as `Embedder` calls them. What a user sees is measured if these are set:
//!
//! - `XR_WEIGHTS`, the folder that `reference/fetch_weights.sh` made, and with it
//! - `XR_PICTURES`, a folder of JPEGs: `lite0/jpeg` decodes, resizes and encodes the first 64;
//! - `XR_CAPTIONS`, a text file with a caption a line: `minilm/captions` cuts the first 2,048 into
//!   tokens, sorts them by length and encodes them.
//!
//! Each runs on the CPU of every backend compiled in (`--features tch`) or on `XR_DEVICE` alone.
//! `RAYON_NUM_THREADS` and `OMP_NUM_THREADS` limit the threads.

mod common;

use std::{env, fs, path::PathBuf};

use burn::tensor::{Bool, Device, Distribution, Int, Tensor};
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, measurement::WallTime,
};
use xr_data::{Picture, Source};
use xr_models::{
    View,
    embed::{Run, image_features, text_features},
    encoder::{BertConfig, EfficientNetLiteConfig},
    in_pool, pretrained,
};

/// One query, a small batch and a large one.
const BATCHES: [usize; 3] = [1, 16, 64];
const LITE0_BATCH: usize = 16;
const MINILM_BATCH: usize = 64;
const TOKENS: usize = 25;

fn lite0(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lite0");
    group.sample_size(10);
    for (name, device) in common::devices() {
        lite0_alone(&mut group, &name, &device);
        if let (Some(weights), Some(folder)) = (path("XR_WEIGHTS"), path("XR_PICTURES")) {
            let weights = weights.join("efficientnet-lite0.pth");
            jpegs(&mut group, &name, &pretrained::image_part(&weights, &device).unwrap(), folder);
        }
    }
}

fn lite0_alone(group: &mut BenchmarkGroup<WallTime>, name: &str, device: &Device) {
    let encoder = EfficientNetLiteConfig::lite0().init(device).folded();
    let in_bf16 = (format!("{name}, bf16"), encoder.clone().in_mixed_precision());
    for (name, encoder) in [(name.to_owned(), encoder), in_bf16] {
        for batch in BATCHES {
            let shape = [batch, 3, 224, 224];
            let pixels = Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), device);
            group.throughput(Throughput::Elements(batch as u64));
            group.bench_function(BenchmarkId::new(batch.to_string(), &name), |bencher| {
                bencher.iter(|| in_pool(|| encoder.forward(pixels.clone()).into_data()));
            });
        }
    }
}

fn jpegs(
    group: &mut BenchmarkGroup<WallTime>,
    name: &str,
    lite0: &pretrained::PretrainedImage,
    folder: PathBuf,
) {
    let pictures = pictures(folder);
    let pictures: Vec<_> = pictures.iter().collect();
    group.throughput(Throughput::Elements(pictures.len() as u64));
    group.bench_function(BenchmarkId::new("jpeg", name), |bencher| {
        bencher.iter(|| {
            let run = Run::new(LITE0_BATCH).strict();
            image_features(&lite0.part, &lite0.encoder, View::Original, &pictures, run).unwrap()
        });
    });
}

fn minilm(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("minilm");
    group.sample_size(10);
    for (name, device) in common::devices() {
        minilm_alone(&mut group, &name, &device);
        if let (Some(weights), Some(file)) = (path("XR_WEIGHTS"), path("XR_CAPTIONS")) {
            let weights = weights.join("minilm");
            captions(&mut group, &name, &pretrained::text_part(&weights, &device).unwrap(), file);
        }
    }
}

fn minilm_alone(group: &mut BenchmarkGroup<WallTime>, name: &str, device: &Device) {
    let encoder = BertConfig::mini_lm().init(device);
    let in_bf16 = (format!("{name}, bf16"), encoder.clone().in_bf16());
    for (name, encoder) in [(name.to_owned(), encoder), in_bf16] {
        for batch in BATCHES {
            let shape = [batch, TOKENS];
            let range = Distribution::Uniform(1000.0, 30_000.0);
            let ids = Tensor::<2, Int>::random(shape, range, device);
            let mask = Tensor::<2, Bool>::full(shape, true, device);
            let id = BenchmarkId::new(format!("{batch}x{TOKENS}"), &name);
            group.throughput(Throughput::Elements(batch as u64));
            group.bench_function(id, |bencher| {
                bencher.iter(|| in_pool(|| encoder.forward(ids.clone(), mask.clone()).into_data()));
            });
        }
    }
}

fn captions(
    group: &mut BenchmarkGroup<WallTime>,
    name: &str,
    minilm: &pretrained::PretrainedText,
    file: PathBuf,
) {
    let text = fs::read_to_string(file).unwrap();
    let captions: Vec<_> = text.lines().take(2048).collect();
    group.throughput(Throughput::Elements(captions.len() as u64));
    group.bench_function(BenchmarkId::new("captions", name), |bencher| {
        bencher.iter(|| {
            let run = Run::new(MINILM_BATCH);
            text_features(&minilm.part, &minilm.encoder, &minilm.tokenizer, &captions, run)
        });
    });
}

fn path(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from)
}

/// The first 64 JPEGs of a folder, by name.
fn pictures(folder: PathBuf) -> Vec<Picture> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jpg"))
        .collect();
    files.sort();
    let picture = |file: PathBuf| Picture {
        name: file.file_name().unwrap().to_string_lossy().into(),
        source: Source::File(file),
    };
    files.into_iter().take(64).map(picture).collect()
}

criterion_group!(benches, lite0, minilm);

fn main() {
    xr::tune_allocator();
    benches();
    Criterion::default().configure_from_args().final_summary();
}
