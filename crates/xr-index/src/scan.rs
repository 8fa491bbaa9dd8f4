use std::ops::Range;

use rayon::prelude::*;

use crate::{Hit, similarity::GROUP, top_k::Collect};

/// Parts of the work a thread takes one after another, so that none waits long for the slowest.
const PARTS_PER_THREAD: usize = 4;

/// Similarities of queries to rows, computed a block at a time.
pub(crate) trait Similarities: Sync {
    /// Number of queries.
    fn queries(&self) -> usize;

    /// Number of rows.
    fn rows(&self) -> usize;

    /// Rows that are computed together: as many as fit the cache.
    fn block_rows(&self) -> usize;

    /// That of the `q`-th query and the `r`-th row goes to `out[q * stride + r]`.
    fn compute(&self, queries: Range<usize>, rows: Range<usize>, out: &mut [f32], stride: usize);
}

/// What `empty` becomes for each query when it has seen all rows; `id` is the id of a row that may
/// be found. All cores take part, also for a single query.
///
/// A thread holds what it collected for a group of queries, and one block of similarities.
pub(crate) fn scan<C: Collect>(
    source: &impl Similarities,
    empty: impl Fn() -> C + Sync,
    id: impl Fn(usize) -> Option<u64> + Sync,
) -> Vec<Vec<Hit>> {
    let groups = source.queries().div_ceil(GROUP).max(1);
    let parts = (PARTS_PER_THREAD * rayon::current_num_threads()).div_ceil(groups);
    let scan = Scan { source, empty, id, parts };
    let firsts = (0..source.queries()).into_par_iter().step_by(GROUP);
    firsts.flat_map_iter(|first| scan.group(first..source.queries().min(first + GROUP))).collect()
}

struct Scan<'a, S, E, I> {
    source: &'a S,
    empty: E,
    id: I,
    parts: usize,
}

impl<C, S, E, I> Scan<'_, S, E, I>
where
    C: Collect,
    S: Similarities,
    E: Fn() -> C + Sync,
    I: Fn(usize) -> Option<u64> + Sync,
{
    /// Searches parts of the rows in parallel.
    fn group(&self, queries: Range<usize>) -> Vec<Vec<Hit>> {
        let rows = self.source.rows();
        let part = rows.div_ceil(self.parts).next_multiple_of(self.source.block_rows());
        let found = (0..rows)
            .into_par_iter()
            .step_by(part)
            .map(|first| self.part(queries.clone(), first..rows.min(first + part)))
            .reduce_with(|a, b| a.into_iter().zip(b).map(|(a, b)| a.merge(b)).collect())
            .unwrap_or_else(|| queries.map(|_| (self.empty)()).collect());
        found.into_iter().map(Collect::into_sorted).collect()
    }

    fn part(&self, queries: Range<usize>, rows: Range<usize>) -> Vec<C> {
        let stride = self.source.block_rows();
        let mut found: Vec<_> = queries.clone().map(|_| (self.empty)()).collect();
        let mut out = vec![0.0; queries.len() * stride];
        for first in rows.clone().step_by(stride) {
            let block = first..rows.end.min(first + stride);
            let len = block.len();
            self.source.compute(queries.clone(), block, &mut out, stride);
            for (found, similarities) in found.iter_mut().zip(out.chunks(stride)) {
                found.offer(first, &similarities[..len], &self.id);
            }
        }
        found
    }
}
