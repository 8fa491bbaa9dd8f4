//! Exact search: every query against every vector, the ten best.
//!
//!     cargo bench --bench search
//!
//! `search/50000x512/64` is 64 queries in a gallery of 50,000 vectors of 512 dimensions; the other
//! sizes likewise. Vectors are uniform in [-1, 1), drawn by ChaCha8 from seed 0: the speed doesn't
//! depend on their values. 500,000 of them take 1 GB. `reference/bench_search.py` measures NumPy and
//! FAISS on the same shapes; `RAYON_NUM_THREADS` limits the threads.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ndarray::ArrayView2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use xr_data::{Embeddings, Fingerprint};
use xr_index::{ExactIndex, Metric, SearchParams, VectorIndex};

const DIM: usize = 512;
const K: usize = 10;

fn search(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("search");
    group.sample_size(10);
    for rows in [50_000, 500_000] {
        let gallery = Embeddings::new(uniform(rows), DIM, Fingerprint::of(["bench"]));
        let index = ExactIndex::new(gallery, Metric::InnerProduct).expect("finite vectors");
        let params = SearchParams::default();
        for batch in [1, 64] {
            let queries = uniform(batch);
            let queries =
                ArrayView2::from_shape((batch, DIM), &queries).expect("batch × DIM values");
            group.throughput(Throughput::Elements(batch as u64));
            let id = BenchmarkId::new(format!("{rows}x{DIM}"), batch);
            group.bench_function(id, |bencher| bencher.iter(|| index.search(queries, K, &params)));
        }
    }
}

fn uniform(rows: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    (0..rows * DIM).map(|_| rng.random_range(-1.0..1.0)).collect()
}

criterion_group!(benches, search);
criterion_main!(benches);
