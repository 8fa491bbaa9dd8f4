//! Recall and speed of our indexes, on vectors that other programs can be given.
//!
//!     cargo bench --bench recall --features faiss -- --out target/bench_index
//!
//! Writes `gallery.f32`, `image.f32`, `text.f32` (row-major, little-endian, rows of length 1) and
//! `xr.json`, what was measured. `reference/bench_index.py` calls this and measures FAISS, hnswlib and
//! usearch on the same files. Vectors are drawn from seed 0 (`benches/clustered`), or with
//! `--pictures` and `--texts` read from files of embeddings that `xr embed` wrote.

mod clustered;

use std::{error::Error, fs, path::PathBuf, time::Duration};

use clap::Parser;
use clustered::Clustered;
use xr_data::Embeddings;
use xr_index::{
    IndexSpec, Metric,
    tune::{QuerySample, Tuning, candidates, tune},
};

/// Recall and speed of our indexes.
#[derive(Parser)]
struct Args {
    /// Folder for vectors and measurements.
    #[arg(long)]
    out: PathBuf,
    #[arg(long, default_value_t = 100_000)]
    rows: usize,
    #[arg(long, default_value_t = 512)]
    dim: usize,
    /// Queries of each kind.
    #[arg(long, default_value_t = 1_000)]
    queries: usize,
    /// Indexes to measure; those worth trying if none is named.
    #[arg(long = "index")]
    specs: Vec<IndexSpec>,
    /// Seconds for each measurement.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// A safetensors file with embeddings of pictures; the last of them become queries.
    #[arg(long, requires = "texts")]
    pictures: Option<PathBuf>,
    /// The same of texts, which all become queries.
    #[arg(long, requires = "pictures")]
    texts: Option<PathBuf>,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let data = vectors(&args)?;
    fs::create_dir_all(&args.out)?;
    for (name, rows) in [("gallery", &data.gallery), ("image", &data.image), ("text", &data.text)] {
        let bytes: Vec<_> = rows.values().iter().flat_map(|x| x.to_le_bytes()).collect();
        fs::write(args.out.join(name).with_extension("f32"), bytes)?;
    }
    let samples = [
        QuerySample { kind: "image", queries: data.image.view() },
        QuerySample { kind: "text", queries: data.text.view() },
    ];
    let specs = if args.specs.is_empty() { candidates(data.gallery.rows()) } else { args.specs };
    let time = Duration::from_secs_f64(args.seconds);
    let tuning = Tuning { specs, k: 10, max_bytes: None, max_p99: None, time };
    let report = tune(&data.gallery, Metric::InnerProduct, &samples, &tuning, |measured| {
        eprintln!("{} {} {:.3}", measured.spec, measured.effort, measured.worst_recall());
    })?;
    println!("{}", report.markdown());
    fs::write(args.out.join("xr.json"), serde_json::to_string(&report)?)?;
    Ok(())
}

fn vectors(args: &Args) -> Result<Clustered, Box<dyn Error>> {
    let Some((pictures, texts)) = args.pictures.as_ref().zip(args.texts.as_ref()) else {
        return Ok(Clustered::new(args.rows, args.queries, args.dim));
    };
    let (pictures, texts) = (Embeddings::open(pictures)?, Embeddings::open(texts)?);
    let (rows, queries) = (pictures.rows() as u32, args.queries as u32);
    let searched = rows.saturating_sub(queries.min(rows / 10));
    Ok(Clustered {
        gallery: pictures.select(&(0..searched).collect::<Vec<_>>()),
        image: pictures.select(&(searched..rows).collect::<Vec<_>>()),
        text: texts.select(&(0..queries.min(texts.rows() as u32)).collect::<Vec<_>>()),
    })
}
