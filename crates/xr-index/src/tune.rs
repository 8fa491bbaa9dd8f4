//! Which index, and how hard should it look? Measured, with queries of each kind that will come.

use std::{
    num::NonZeroUsize,
    thread,
    time::{Duration, Instant},
};

use ndarray::{ArrayView2, Axis};
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::Serialize;
use xr_data::Embeddings;

use crate::{
    Effort, Error, ExactIndex, Hits, IndexSpec, Metric, Result, SearchParams, VectorIndex,
};

/// Values tried of a parameter that an index has.
const NPROBES: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
const EF_SEARCHES: [usize; 7] = [16, 32, 64, 128, 256, 512, 1024];
const RERANKS: [usize; 4] = [1, 2, 4, 16];
/// Standard errors on either side of a mean for 95 %.
const TWO_SIDED_95: f64 = 1.96;

/// Queries of one kind, such as embeddings of texts. Texts are unlike the pictures they look for,
/// so an index that finds nearly all neighbours of a picture may miss many of a text: give it both.
#[derive(Clone, Copy, Debug)]
pub struct QuerySample<'a> {
    /// Its name in the report: `text`.
    pub kind: &'a str,
    /// `[queries, dim]`.
    pub queries: ArrayView2<'a, f32>,
}

/// What to try, and what it may cost.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Indexes to try; each with all the efforts it has parameters for.
    pub specs: Vec<IndexSpec>,
    /// Neighbours wanted.
    pub k: usize,
    /// Bytes a vector may take.
    pub max_bytes: Option<f64>,
    /// Milliseconds that 99 of 100 queries may take at most.
    pub max_p99: Option<f64>,
    /// Time for each measurement of speed.
    pub time: Duration,
}

/// What was measured, and what it comes to.
#[derive(Clone, Debug, Serialize)]
pub struct TuneReport {
    /// Number of vectors.
    pub rows: usize,
    /// Their width.
    pub dim: usize,
    /// Neighbours that were wanted.
    pub k: usize,
    /// Threads of the measurement with all.
    pub threads: usize,
    /// In the order they were tried.
    pub measured: Vec<Measured>,
    /// Place of the choice among those measured: of those within the budget the one that misses
    /// the fewest neighbours of the kind it is worst at, and of equals the fastest.
    pub choice: Option<usize>,
}

/// An index at an effort.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// The index.
    pub spec: IndexSpec,
    /// How hard it looked.
    pub effort: Effort,
    /// Of each kind of queries, the share of the `k` true neighbours that was found.
    pub recall: Vec<Recall>,
    /// Milliseconds a query takes on one thread: the median, and what 99 of 100 stay below.
    pub p50: f64,
    /// See `p50`.
    pub p99: f64,
    /// Queries a second on one thread.
    pub qps_one: f64,
    /// Queries a second with all threads asking.
    pub qps_all: f64,
    /// Bytes a vector takes.
    pub bytes: f64,
    /// Seconds that building took, for all efforts of the index together.
    pub build_seconds: f64,
    /// Is nothing else measured both faster and better at its worst kind?
    pub pareto: bool,
}

/// Of one kind of queries.
#[derive(Clone, Debug, Serialize)]
pub struct Recall {
    /// Which kind.
    pub kind: String,
    /// Mean over the queries.
    pub mean: f64,
    /// Half the width of its 95 % interval, from the spread over the queries.
    pub margin: f64,
}

impl Measured {
    /// Of the kind of queries that it is worst at.
    pub fn worst_recall(&self) -> f64 {
        self.recall.iter().map(|recall| recall.mean).fold(f64::INFINITY, f64::min)
    }

    fn is_behind(&self, other: &Self) -> bool {
        let (a, b) = ((self.worst_recall(), self.qps_one), (other.worst_recall(), other.qps_one));
        b.0 >= a.0 && b.1 >= a.1 && b != a
    }

    fn is_within(&self, tuning: &Tuning) -> bool {
        tuning.max_bytes.is_none_or(|max| self.bytes <= max)
            && tuning.max_p99.is_none_or(|max| self.p99 <= max)
    }
}

/// Indexes worth trying for so many vectors: the exact ones, and with the feature `faiss` the usual
/// kinds, with as many lists as FAISS' guidelines have.
pub fn candidates(rows: usize) -> Vec<IndexSpec> {
    let mut specs = vec![IndexSpec::Exact, IndexSpec::ExactI8];
    if cfg!(feature = "faiss") {
        specs.push(IndexSpec::Faiss("HNSW32".into()));
        let lists = (4 * rows.isqrt()).next_power_of_two();
        // FAISS learns a list from 39 vectors at least.
        let lists = if lists * 39 > rows { rows / 39 } else { lists };
        let ivf = ["Flat", "SQ8", "PQ64x4fs,RFlat"].map(|codes| format!("IVF{lists},{codes}"));
        specs.extend(ivf.into_iter().filter(|_| lists > 0).map(IndexSpec::Faiss));
    }
    specs
}

/// Builds each index over `embeddings` and measures it at each effort; `seen` gets each result as
/// soon as it is there.
///
/// The yardstick is [`ExactIndex`]. Latency is that of single queries.
///
/// # Errors
/// Those of [`IndexSpec::build`] and [`VectorIndex::search`]; [`Error::NothingToTune`] without
/// vectors, queries or indexes.
pub fn tune(
    embeddings: &Embeddings,
    metric: Metric,
    samples: &[QuerySample],
    tuning: &Tuning,
    mut seen: impl FnMut(&Measured),
) -> Result<TuneReport> {
    let nothing = samples.iter().all(|sample| sample.queries.is_empty());
    if nothing || embeddings.rows() == 0 || tuning.specs.is_empty() {
        return Err(Error::NothingToTune);
    }
    let copy = || {
        let (values, made_by) = (embeddings.values().to_vec(), embeddings.made_by().clone());
        Embeddings::new(values, embeddings.dim(), made_by)
    };
    let truth = truth(&ExactIndex::new(copy(), metric)?, samples, tuning.k)?;
    let bench = Bench { samples, truth, tuning, one: one_thread()? };
    let mut measured = vec![];
    for spec in &tuning.specs {
        let start = Instant::now();
        let index = spec.build(copy(), None, metric)?;
        let build_seconds = start.elapsed().as_secs_f64();
        for effort in efforts(&*index) {
            measured.push(Measured { build_seconds, ..bench.measure(spec, &*index, effort)? });
            seen(measured.last().expect("just pushed"));
        }
    }
    mark_pareto(&mut measured);
    let (rows, dim, k) = (embeddings.rows(), embeddings.dim(), tuning.k);
    let choice = choose(&measured, tuning);
    Ok(TuneReport { rows, dim, k, threads: threads(), measured, choice })
}

fn truth(exact: &ExactIndex, samples: &[QuerySample], k: usize) -> Result<Vec<Hits>> {
    let search = |sample: &QuerySample| exact.search(sample.queries, k, &SearchParams::default());
    samples.iter().map(search).collect()
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

fn one_thread() -> Result<ThreadPool> {
    ThreadPoolBuilder::new().num_threads(1).build().map_err(|e| Error::Threads(e.to_string()))
}

/// All combinations of the values tried of the parameters that an index has.
fn efforts(index: &dyn VectorIndex) -> Vec<Effort> {
    let has = index.parameters();
    let values = |name, all: &[usize]| -> Vec<Option<NonZeroUsize>> {
        let values = all.iter().map(|&n| NonZeroUsize::new(n));
        if has.contains(&name) { values.collect() } else { vec![None] }
    };
    let mut efforts = vec![];
    for &nprobe in &values("nprobe", &NPROBES) {
        for &ef_search in &values("ef_search", &EF_SEARCHES) {
            for &rerank in &values("rerank", &RERANKS) {
                efforts.push(Effort { nprobe, ef_search, rerank });
            }
        }
    }
    efforts
}

fn mark_pareto(measured: &mut [Measured]) {
    let behind = |a: &Measured| measured.iter().any(|b| a.is_behind(b));
    let pareto: Vec<_> = measured.iter().map(|a| !behind(a)).collect();
    measured.iter_mut().zip(pareto).for_each(|(measured, pareto)| measured.pareto = pareto);
}

fn choose(measured: &[Measured], tuning: &Tuning) -> Option<usize> {
    let within = (0..measured.len()).filter(|&i| measured[i].is_within(tuning));
    within.max_by(|&a, &b| {
        let key = |i: usize| (measured[i].worst_recall(), measured[i].qps_one);
        key(a).partial_cmp(&key(b)).expect("no share and no speed is NaN")
    })
}

struct Bench<'a, 'q> {
    samples: &'a [QuerySample<'q>],
    truth: Vec<Hits>,
    tuning: &'a Tuning,
    one: ThreadPool,
}

impl Bench<'_, '_> {
    fn measure(
        &self,
        spec: &IndexSpec,
        index: &dyn VectorIndex,
        effort: Effort,
    ) -> Result<Measured> {
        let params = SearchParams { filter: None, effort };
        let recall = self.samples.iter().zip(&self.truth).map(|(sample, truth)| {
            let hits = index.search(sample.queries, self.tuning.k, &params)?;
            Ok(recall(sample.kind, &hits, truth))
        });
        let recall = recall.collect::<Result<_>>()?;
        let mut times = self.one.install(|| self.times(index, &params, 0))?;
        let qps_one = times.len() as f64 / times.iter().sum::<Duration>().as_secs_f64();
        times.sort_unstable();
        let percentile = |p: usize| times[(times.len() - 1) * p / 100].as_secs_f64() * 1e3;
        Ok(Measured {
            spec: spec.clone(),
            effort,
            recall,
            p50: percentile(50),
            p99: percentile(99),
            qps_one,
            qps_all: self.qps_of_all(index, &params)?,
            bytes: index.bytes() as f64 / index.len() as f64,
            build_seconds: 0.0,
            pareto: false,
        })
    }

    /// Seconds of single queries, of all kinds in turn, for as long as a measurement takes.
    fn times(
        &self,
        index: &dyn VectorIndex,
        params: &SearchParams,
        first: usize,
    ) -> Result<Vec<Duration>> {
        let queries: Vec<_> = self
            .samples
            .iter()
            .flat_map(|sample| sample.queries.axis_chunks_iter(Axis(0), 1))
            .collect();
        let (start, mut times) = (Instant::now(), vec![]);
        for &query in queries.iter().cycle().skip(first) {
            let before = Instant::now();
            index.search(query, self.tuning.k, params)?;
            times.push(before.elapsed());
            if start.elapsed() > self.tuning.time {
                break;
            }
        }
        Ok(times)
    }

    fn qps_of_all(&self, index: &dyn VectorIndex, params: &SearchParams) -> Result<f64> {
        let start = Instant::now();
        let counts = thread::scope(|scope| {
            let ask = |i: usize| scope.spawn(move || Ok(self.times(index, params, 97 * i)?.len()));
            let threads: Vec<_> = (0..threads()).map(ask).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, Result<usize>>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).sum::<Result<usize>>()
        });
        Ok(counts? as f64 / start.elapsed().as_secs_f64())
    }
}

fn recall(kind: &str, hits: &Hits, truth: &Hits) -> Recall {
    let shares = hits.iter().zip(truth.iter()).map(|(hits, truth)| {
        let found = truth.iter().filter(|t| hits.iter().any(|hit| hit.id == t.id)).count();
        found as f64 / truth.len().max(1) as f64
    });
    let shares: Vec<_> = shares.collect();
    let count = shares.len().max(1) as f64;
    let mean = shares.iter().sum::<f64>() / count;
    let variance = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / count;
    Recall { kind: kind.into(), mean, margin: TWO_SIDED_95 * (variance / count).sqrt() }
}

impl TuneReport {
    /// A table of those that nothing else beats in recall and speed, and of the choice.
    pub fn markdown(&self) -> String {
        let kinds = self.measured.first().map_or(&[][..], |measured| &measured.recall);
        let kinds: String =
            kinds.iter().map(|recall| format!(" recall@{}, {} |", self.k, recall.kind)).collect();
        let rows = self.measured.iter().enumerate();
        let rows = rows.filter(|(i, measured)| measured.pareto || self.choice == Some(*i));
        let rows: String = rows.map(|(i, measured)| measured.row(self.choice == Some(i))).collect();
        format!(
            "{} vectors of {}, {} threads. Recall with its 95 % interval; latency and bytes are of \
             one query and one vector. Bold: the choice.\n\n\
             | index | effort |{kinds} p50 ms | p99 ms | QPS, 1 thread | QPS, all | bytes | build s |\n\
             |---|---|{}---|---|---|---|---|---|\n{rows}",
            self.rows,
            self.dim,
            self.threads,
            "---|".repeat(kinds.matches('|').count()),
        )
    }
}

impl Measured {
    fn row(&self, chosen: bool) -> String {
        let bold = if chosen { "**" } else { "" };
        let recall: String = self
            .recall
            .iter()
            .map(|recall| format!(" {:.3} ± {:.3} |", recall.mean, recall.margin))
            .collect();
        format!(
            "| {bold}{}{bold} | {} |{recall} {:.3} | {:.3} | {:.0} | {:.0} | {:.0} | {:.1} |\n",
            self.spec,
            self.effort,
            self.p50,
            self.p99,
            self.qps_one,
            self.qps_all,
            self.bytes,
            self.build_seconds,
        )
    }
}
