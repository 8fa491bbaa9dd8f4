use ndarray::ArrayView2;
use rayon::prelude::*;
use xr_data::Embeddings;

use crate::{
    Hit, Hits, Metric, Result, VectorIndex,
    error::Side,
    similarity::{Block, GROUP, Rows, block_rows, check_dimensions, rows_of},
    top_k::TopK,
};

/// Parts of the work a thread takes one after another, so that none waits long for the slowest.
const PARTS_PER_THREAD: usize = 4;

/// Compares every query with every vector: always right, and the yardstick of every other index.
///
/// Adds nothing to the memory of its embeddings, which may be mapped from a file. A search holds
/// `2k` candidates a query and thread, and one block of scores a thread.
///
/// ```
/// use ndarray::array;
/// use xr_data::{Embeddings, Fingerprint};
/// use xr_index::{ExactIndex, Metric, VectorIndex};
///
/// let gallery = Embeddings::new(vec![1., 0., 0., 1., 0.6, 0.8], 2, Fingerprint::of(["me"]));
/// let index = ExactIndex::new(gallery, Metric::InnerProduct)?;
/// let hits = index.search(array![[0., 2.]].view(), 2)?;
/// assert_eq!(hits.of(0)[0].id, 1);
/// assert_eq!(hits.of(0)[1].score, 1.6);
/// # Ok::<(), xr_index::Error>(())
/// ```
#[derive(Debug)]
pub struct ExactIndex {
    embeddings: Embeddings,
    metric: Metric,
}

impl ExactIndex {
    /// An index of all rows; a hit's id is its row.
    ///
    /// # Errors
    /// [`Error::NotFinite`](crate::Error::NotFinite) for the first row that holds NaN or infinity.
    pub fn new(embeddings: Embeddings, metric: Metric) -> Result<Self> {
        let index = Self { embeddings, metric };
        index.rows().check_finite(Side::Gallery)?;
        Ok(index)
    }

    /// The indexed vectors, `[rows, dim]`.
    pub fn embeddings(&self) -> &Embeddings {
        &self.embeddings
    }

    fn rows(&self) -> Rows<'_> {
        Rows { values: self.embeddings.values(), dim: self.embeddings.dim() }
    }

    /// The best of `queries` (at most [`GROUP`]), with parts of the gallery searched in parallel.
    fn search_group(&self, queries: Rows, k: usize, parts: usize) -> Vec<Vec<Hit>> {
        let rows = self.len().div_ceil(parts).next_multiple_of(block_rows(self.dim()));
        let best = (0..self.len())
            .into_par_iter()
            .step_by(rows)
            .map(|first| self.search_part(queries, first, self.len().min(first + rows), k))
            .reduce_with(|a, b| a.into_iter().zip(b).map(|(a, b)| a.merge(b)).collect());
        best.into_iter().flatten().map(|best| self.finish(best)).collect()
    }

    fn search_part(&self, queries: Rows, first: usize, end: usize, k: usize) -> Vec<TopK> {
        let stride = block_rows(self.dim());
        let mut best: Vec<_> = (0..queries.len()).map(|_| TopK::new(k)).collect();
        let mut out = vec![0.0; queries.len() * stride];
        for block in Rows::blocks(first..end, self.dim()) {
            let (id, len) = (block.start as u32, block.len());
            let rows = self.rows().slice(block);
            Block { metric: self.metric, queries, rows, out: &mut out, stride }.compute();
            for (best, similarities) in best.iter_mut().zip(out.chunks(stride)) {
                best.offer(id, &similarities[..len]);
            }
        }
        best
    }

    fn finish(&self, best: TopK) -> Vec<Hit> {
        let mut hits = best.into_sorted();
        hits.iter_mut().for_each(|hit| hit.score = self.metric.score(hit.score));
        hits
    }
}

impl VectorIndex for ExactIndex {
    fn dim(&self) -> usize {
        self.embeddings.dim()
    }

    fn len(&self) -> usize {
        self.embeddings.rows()
    }

    fn metric(&self) -> Metric {
        self.metric
    }

    fn search(&self, queries: ArrayView2<f32>, k: usize) -> Result<Hits> {
        check_dimensions(queries.ncols(), self.dim())?;
        let queries = queries.as_standard_layout();
        let k = k.min(self.len());
        let Some(rows) = rows_of(&queries).filter(|_| k > 0) else {
            return Ok(Hits::new(vec![vec![]; queries.nrows()]));
        };
        rows.check_finite(Side::Queries)?;
        let groups = rows.len().div_ceil(GROUP);
        let parts = (PARTS_PER_THREAD * rayon::current_num_threads()).div_ceil(groups);
        let hits = (0..rows.len()).into_par_iter().step_by(GROUP).flat_map_iter(|first| {
            let group = rows.slice(first..rows.len().min(first + GROUP));
            self.search_group(group, k, parts)
        });
        Ok(Hits::new(hits.collect()))
    }
}
