//! What an evaluation costs once everything is embedded.
//!
//!     cargo bench --bench metrics
//!
//! `metrics/rank/5000x1000` ranks 1,000 pictures for each of 5,000 captions of 512 dimensions, the
//! size of Flickr8k's test part; `metrics/bootstrap-mean/5000` is a 95 % interval of 1,000 resamples over
//! those captions in clusters of five; `bootstrap-median` likewise. Values are drawn by ChaCha8 from
//! seed 0.

use criterion::{Criterion, criterion_group, criterion_main};
use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use xr_data::Relevance;
use xr_eval::{Bootstrap, Ranking, metric::Aggregate};
use xr_index::Metric;

const CAPTIONS: usize = 5_000;
const PICTURES: usize = 1_000;

fn metrics(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("metrics");
    group.sample_size(10);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut rows = |n| Array2::from_shape_simple_fn((n, 512), || rng.random_range(-1f32..1.0));
    let (captions, pictures) = (rows(CAPTIONS), rows(PICTURES));
    let picture_of: Vec<u32> = (0..CAPTIONS as u32).map(|caption| caption / 5).collect();
    let relevance = Relevance::from_groups(PICTURES, &picture_of);
    group.bench_function(format!("rank/{CAPTIONS}x{PICTURES}"), |bencher| {
        let (captions, pictures) = (captions.view(), pictures.view());
        bencher.iter(|| Ranking::of(captions, pictures, &relevance, Metric::InnerProduct))
    });
    let values: Vec<f64> = (0..CAPTIONS).map(|_| rng.random()).collect();
    for (name, aggregate) in [("mean", Aggregate::Mean), ("median", Aggregate::Median)] {
        group.bench_function(format!("bootstrap-{name}/{CAPTIONS}"), |bencher| {
            bencher.iter(|| Bootstrap::default().interval(&values, &picture_of, aggregate))
        });
    }
}

criterion_group!(benches, metrics);
criterion_main!(benches);
