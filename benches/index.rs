//! Latency of every kind of index.
//!
//!     cargo bench --bench index --features faiss
//!     cargo bench --bench index --features faiss -- --quick
//!
//! `index/exact-i8/100000x512/k10/64` is 64 queries, half of them pictures and half texts, for their
//! ten best among 100,000 vectors of 512 dimensions in the index `exact-i8`. Vectors are clustered
//! and drawn by ChaCha8 from seed 0 (`benches/clustered`). Approximate indexes look as hard as the
//! name of the benchmark says; how much they then find, `reference/bench_index.py` says.
//!
//! In full, up to 1,000,000 vectors of 768 dimensions, it takes about 10 GB and most of an hour;
//! `--quick` takes up to 100,000 of 512 and is what CI runs. Without the feature `faiss` the exact
//! indexes are measured alone. `RAYON_NUM_THREADS` and `OMP_NUM_THREADS` limit the threads.

mod clustered;

use std::{env, time::Duration};

use clustered::Clustered;
use criterion::{BenchmarkId, Criterion, Throughput};
use ndarray::{Array2, Axis, concatenate, s};
use xr_data::Embeddings;
use xr_index::{IndexSpec, Metric, SearchParams, VectorIndex};

/// Which sizes.
struct Grid {
    rows: &'static [usize],
    dims: &'static [usize],
    ks: &'static [usize],
}

const FULL: Grid =
    Grid { rows: &[10_000, 100_000, 1_000_000], dims: &[256, 512, 768], ks: &[1, 10, 100] };
const QUICK: Grid = Grid { rows: &[10_000, 100_000], dims: &[512], ks: &[10] };
const BATCHES: [usize; 2] = [1, 64];

fn main() {
    let quick = env::args().any(|argument| argument == "--quick");
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let grid = if quick { QUICK } else { FULL };
    for &rows in grid.rows {
        for &dim in grid.dims {
            let data = Clustered::new(rows, BATCHES[1], dim);
            for (spec, effort) in specs(rows) {
                let spec: IndexSpec = spec.parse().expect("a specification");
                let effort = effort.parse().expect("an effort");
                let index =
                    spec.build(copy(&data.gallery), None, Metric::InnerProduct).expect("it builds");
                let params = SearchParams { filter: None, effort };
                bench(&mut criterion, &*index, &params, &queries(&data), grid.ks);
            }
        }
    }
    criterion.final_summary();
}

/// Indexes, and how hard they look.
fn specs(rows: usize) -> Vec<(String, &'static str)> {
    let mut specs = vec![("exact".into(), "default"), ("exact-i8".into(), "rerank=4")];
    if cfg!(feature = "faiss") {
        let lists = (rows / 100).clamp(64, 4096);
        specs.extend([
            (format!("IVF{lists},Flat"), "nprobe=8"),
            (format!("IVF{lists},SQ8"), "nprobe=8"),
            (format!("IVF{lists},PQ64x4fs,RFlat"), "nprobe=8,rerank=4"),
            ("HNSW32".into(), "ef_search=64"),
        ]);
    }
    specs
}

fn copy(rows: &Embeddings) -> Embeddings {
    Embeddings::new(rows.values().to_vec(), rows.dim(), rows.made_by().clone())
}

/// Half pictures, half texts.
fn queries(data: &Clustered) -> Array2<f32> {
    let half = BATCHES[1] / 2;
    let (image, text) = (data.image.view(), data.text.view());
    concatenate(Axis(0), &[image.slice(s![..half, ..]), text.slice(s![..half, ..])])
        .expect("rows of one width")
}

fn bench(
    criterion: &mut Criterion,
    index: &dyn VectorIndex,
    params: &SearchParams,
    queries: &Array2<f32>,
    ks: &[usize],
) {
    let mut group = criterion.benchmark_group(format!("index/{}", index.name()));
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for &k in ks {
        for batch in BATCHES {
            let mut chunks = queries.axis_chunks_iter(Axis(0), batch).cycle();
            group.throughput(Throughput::Elements(batch as u64));
            let name = format!("{}x{}/k{k}", index.len(), index.dim());
            group.bench_function(BenchmarkId::new(name, batch), |bencher| {
                bencher.iter(|| {
                    let queries = chunks.next().expect("there are 64");
                    index.search(queries, k, params).expect("finite queries")
                });
            });
        }
    }
}
