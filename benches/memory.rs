//! Memory that a large index takes while it is built, and while it is searched.
//!
//!     cargo bench --bench memory --features faiss -- --out target/bench_memory
//!     cargo bench --bench memory --features faiss -- --out target/bench_memory --rows 100000
//!
//! A process of its own builds each index from a file of vectors and saves it; another opens what was
//! saved and searches it for 500 pictures and 500 texts, one after the other, each time for the ten
//! best. Peak is the most that a process had resident. It counts pages of mapped files too, which
//! the system takes back when it needs them; what was left at the end is given for both kinds. A
//! million vectors of 512 dimensions are clustered and drawn by ChaCha8 from seed 0
//! (`benches/clustered`); they and the indexes take 7 GB of disk. Memory is read from `/proc`:
//! Linux only.

mod clustered;

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use clap::Parser;
use clustered::Clustered;
use ndarray::{Array2, Axis, concatenate};
use serde::{Deserialize, Serialize};
use xr_data::Embeddings;
use xr_index::{Effort, ExactIndex, IndexSpec, Metric, SearchParams, VectorIndex};

const K: usize = 10;
const QUERIES: usize = 500;
/// Each index, and how hard it looks.
const INDEXES: [(&str, &str); 2] =
    [("IVF1024,Flat", "nprobe=16"), ("IVF1024,PQ64,RFlat", "nprobe=16,rerank=16")];

/// Memory that a large index takes.
#[derive(Parser)]
struct Args {
    /// Folder for vectors and indexes.
    #[arg(long)]
    out: PathBuf,
    #[arg(long, default_value_t = 1_000_000)]
    rows: usize,
    #[arg(long, default_value_t = 512)]
    dim: usize,
    /// Number of the index that this process builds.
    #[arg(long, hide = true)]
    build: Option<usize>,
    /// Number of the index that this process searches.
    #[arg(long, hide = true)]
    search: Option<usize>,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a process has done, and what it took.
#[derive(Default, Serialize, Deserialize)]
struct Report {
    seconds: f64,
    /// Kilobytes.
    peak: u64,
    own: u64,
    mapped: u64,
    /// Milliseconds of each query, and the ids found.
    times: Vec<f64>,
    found: Vec<Vec<u64>>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let report = match (args.build, args.search) {
        (Some(number), _) => build(&args.out, number)?,
        (None, Some(number)) => search(&args.out, number)?,
        (None, None) => return measure(&args),
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn measure(args: &Args) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(&args.out)?;
    let truth = vectors(args)?;
    println!("{} vectors of {} dimensions\n", args.rows, args.dim);
    println!(
        "| index | effort | build s, peak MB | open s | search, peak MB | own, mapped MB | recall@{K}, image | text | p50 ms | p99 |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for (number, (spec, effort)) in INDEXES.into_iter().enumerate() {
        let built = child(args, "--build", number)?;
        let searched = child(args, "--search", number)?;
        let [image, text] = [0, QUERIES].map(|first| {
            let some = first..first + QUERIES;
            recall(&searched.found[some.clone()], &truth[some])
        });
        let [p50, p99] = [50, 99].map(|p| percentile(&searched.times, p));
        let [built_peak, peak, own, mapped] =
            [built.peak, searched.peak, searched.own, searched.mapped].map(|kb| kb / 1_000);
        println!(
            "| {spec} | {effort} | {:.0}, {built_peak} | {:.2} | {peak} | {own}, {mapped} | {image:.3} | {text:.3} | {p50:.2} | {p99:.2} |",
            built.seconds, searched.seconds
        );
    }
    Ok(())
}

/// Writes vectors and queries, and returns the ids of the true neighbours.
fn vectors(args: &Args) -> Result<Vec<Vec<u64>>, Box<dyn Error>> {
    let data = Clustered::new(args.rows, QUERIES, args.dim);
    for (name, rows) in [("gallery", &data.gallery), ("image", &data.image), ("text", &data.text)] {
        rows.save(&file(&args.out, name))?;
    }
    let exact = ExactIndex::new(data.gallery, Metric::InnerProduct)?;
    let hits = exact.search(queries(&args.out)?.view(), K, &SearchParams::default())?;
    Ok(hits.iter().map(|hits| hits.iter().map(|hit| hit.id).collect()).collect())
}

fn file(out: &Path, name: &str) -> PathBuf {
    out.join(name).with_extension("safetensors")
}

/// Pictures, then texts.
fn queries(out: &Path) -> Result<Array2<f32>, Box<dyn Error>> {
    let [image, text] = ["image", "text"].map(|name| Embeddings::open(&file(out, name)));
    Ok(concatenate(Axis(0), &[image?.view(), text?.view()])?)
}

fn child(args: &Args, job: &str, number: usize) -> Result<Report, Box<dyn Error>> {
    let output = Command::new(env::current_exe()?)
        .arg("--out")
        .arg(&args.out)
        .args([job, &number.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn build(out: &Path, number: usize) -> Result<Report, Box<dyn Error>> {
    let (start, spec) = (Instant::now(), INDEXES[number].0.parse::<IndexSpec>()?);
    let index = spec.build(Embeddings::open(&file(out, "gallery"))?, None, Metric::InnerProduct)?;
    let seconds = start.elapsed().as_secs_f64();
    index.save(&out.join(number.to_string()))?;
    Report { seconds, ..Report::default() }.with_memory()
}

fn search(out: &Path, number: usize) -> Result<Report, Box<dyn Error>> {
    let effort: Effort = INDEXES[number].1.parse()?;
    let start = Instant::now();
    let index = xr_index::open(&out.join(number.to_string()))?;
    let mut report = Report { seconds: start.elapsed().as_secs_f64(), ..Report::default() };
    let params = SearchParams { filter: None, effort };
    for query in queries(out)?.axis_chunks_iter(Axis(0), 1) {
        let before = Instant::now();
        let hits = index.search(query, K, &params)?;
        report.times.push(before.elapsed().as_secs_f64() * 1e3);
        report.found.push(hits.of(0).iter().map(|hit| hit.id).collect());
    }
    report.with_memory()
}

impl Report {
    /// With the memory of this process, whose index is still there.
    fn with_memory(self) -> Result<Self, Box<dyn Error>> {
        let status = fs::read_to_string("/proc/self/status")?;
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        Ok(Self { peak: of("VmHWM:"), own: of("RssAnon:"), mapped: of("RssFile:"), ..self })
    }
}

fn recall(found: &[Vec<u64>], truth: &[Vec<u64>]) -> f64 {
    let pairs = found.iter().zip(truth);
    let right = pairs.map(|(found, truth)| truth.iter().filter(|id| found.contains(id)).count());
    right.sum::<usize>() as f64 / (K * truth.len()) as f64
}

fn percentile(times: &[f64], p: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable_by(f64::total_cmp);
    times[(times.len() - 1) * p / 100]
}
