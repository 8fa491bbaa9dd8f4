//! FAISS through xr, on index files that every FAISS reads.
//!
//!     python reference/bench_faiss.py --out target/bench_faiss
//!
//! calls this: with `--make` it writes queries (`queries.f32`, row-major, little-endian) and index
//! files, without it searches them on one thread, one query after the other, and prints a line of
//! JSON for each index and effort. The first is an index of one vector of 8 dimensions: what it
//! takes is what a call costs. The others are of vectors drawn from seed 0 (`benches/clustered`).

mod clustered;

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use clap::Parser;
use clustered::Clustered;
use ndarray::{Array2, Axis, concatenate};
use serde_json::json;
use xr_data::{Embeddings, Fingerprint};
use xr_index::{FaissIndex, Metric, SearchParams, VectorIndex};

const K: usize = 10;
const QUERIES: usize = 500;
const TINY: &str = "Flat";
/// Factory strings, and how hard each looks.
const INDEXES: [(&str, &[&str]); 3] = [
    (TINY, &["default"]),
    ("IVF2048,Flat", &["nprobe=4", "nprobe=32"]),
    ("HNSW32", &["ef_search=64", "ef_search=128"]),
];

/// FAISS through xr.
#[derive(Parser)]
struct Args {
    /// Folder of queries and index files.
    #[arg(long)]
    out: PathBuf,
    /// Write them.
    #[arg(long)]
    make: bool,
    #[arg(long, default_value_t = 100_000)]
    rows: usize,
    #[arg(long, default_value_t = 512)]
    dim: usize,
    /// Seconds for each measurement.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    if args.make { make(&args) } else { measure(&args) }
}

fn make(args: &Args) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(&args.out)?;
    let data = Clustered::new(args.rows, QUERIES, args.dim);
    let queries = concatenate(Axis(0), &[data.image.view(), data.text.view()])?;
    let bytes: Vec<_> = queries.iter().flat_map(|x| x.to_le_bytes()).collect();
    fs::write(args.out.join("queries.f32"), bytes)?;
    for (factory, _) in INDEXES {
        let rows = match factory {
            TINY => Embeddings::new(vec![1.0; 8], 8, made_by()),
            _ => Embeddings::new(data.gallery.values().to_vec(), args.dim, made_by()),
        };
        let index = FaissIndex::build(factory, rows, None, Metric::InnerProduct)?;
        index.export(&file(&args.out, factory))?;
    }
    Ok(())
}

fn made_by() -> Fingerprint {
    Fingerprint::of(["bench"])
}

fn file(out: &Path, factory: &str) -> PathBuf {
    out.join(format!("{factory}.index"))
}

fn measure(args: &Args) -> Result<(), Box<dyn Error>> {
    let bytes = fs::read(args.out.join("queries.f32"))?;
    let values = bytes.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect();
    let queries = Array2::from_shape_vec((2 * QUERIES, args.dim), values)?;
    for (factory, efforts) in INDEXES {
        let index = FaissIndex::import(&file(&args.out, factory), factory, false, made_by())?;
        let tiny = Array2::ones((1, index.dim()));
        let queries = if factory == TINY { &tiny } else { &queries };
        for effort in efforts {
            let params = SearchParams { filter: None, effort: effort.parse()? };
            let us = microseconds(&index, queries, &params, args.seconds)?;
            println!("{}", json!({ "index": factory, "effort": effort, "us": us }));
        }
    }
    Ok(())
}

/// Of one query, on average.
fn microseconds(
    index: &FaissIndex,
    queries: &Array2<f32>,
    params: &SearchParams,
    seconds: f64,
) -> Result<f64, Box<dyn Error>> {
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed().as_secs_f64() < seconds {
        // The clock is looked at once for all queries: it isn't what is measured.
        for query in queries.axis_chunks_iter(Axis(0), 1).cycle().take(2 * QUERIES) {
            index.search(query, K, params)?;
            count += 1;
        }
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / f64::from(count))
}
