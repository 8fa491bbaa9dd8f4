use std::{ops::Range, path::Path};

use ndarray::ArrayView2;
use rayon::prelude::*;
use xr_data::{Embeddings, Fingerprint};

use crate::{
    Hit, Hits, IdFilter, IndexSpec, Metric, Result, SearchParams, VectorIndex,
    codes::{Codes, Query},
    error::Side,
    folder::Folder,
    gallery::Gallery,
    scan::{Similarities, scan},
    similarity::{Block, Rows, check_dimensions, prepare, rows_of},
    top_k::{TopK, best_first},
};

/// Candidates scored again for each hit wanted, if the search doesn't say.
const RERANK: usize = 4;
/// Candidates at least: for few hits, some more cost next to nothing.
const CANDIDATES: usize = 32;

/// Compares every query with every vector in bytes, a quarter of what [`ExactIndex`] reads, and
/// scores the best once more with their whole vectors.
///
/// Scores are those of [`ExactIndex`] to the last bit; a neighbour is missed if 8 bits a value put
/// it behind `rerank · k` others (`rerank` is 4 if not given). A range search reads the whole
/// vectors.
///
/// Bytes are made when the index is built or opened, and held in memory beside the embeddings,
/// which may be mapped from a file. Sums of bytes are whole numbers, computed with AVX-512 VNNI or
/// AVX2 where the CPU has them: what is found doesn't depend on the CPU.
///
/// [`ExactIndex`]: crate::ExactIndex
#[derive(Debug)]
pub struct ExactI8Index {
    gallery: Gallery,
    codes: Codes,
}

impl ExactI8Index {
    /// An index of all rows; a hit's id is that of its row in `ids`, or the row.
    ///
    /// # Errors
    /// [`Error::NotFinite`](crate::Error::NotFinite) for the first row that holds NaN or infinity;
    /// [`Error::IdCount`](crate::Error::IdCount) and
    /// [`Error::DuplicateId`](crate::Error::DuplicateId).
    pub fn with_ids(embeddings: Embeddings, ids: Option<Vec<u64>>, metric: Metric) -> Result<Self> {
        Ok(Self::of(Gallery::new(embeddings, ids, metric)?))
    }

    pub(crate) fn from_folder(folder: &Folder) -> Result<Self> {
        Ok(Self::of(Gallery::from_folder(folder)?))
    }

    fn of(gallery: Gallery) -> Self {
        Self { codes: Codes::new(gallery.rows(), gallery.metric()), gallery }
    }

    /// The `k` best of the best `candidates` by bytes.
    fn best(&self, queries: Rows, k: usize, candidates: usize, filter: Option<&IdFilter>) -> Hits {
        let admit = self.gallery.admit(filter);
        let row = |row| admit(row).map(|_| row as u64);
        let coarse = Coarse { codes: &self.codes, queries: self.queries(queries), len: self.len() };
        let rows = scan(&coarse, || TopK::new(candidates), row);
        let hits = rows.into_par_iter().enumerate().map(|(query, rows)| {
            let mut hits = self.score(queries.slice(query..query + 1), &rows);
            hits.sort_unstable_by(best_first);
            hits.truncate(k);
            hits
        });
        self.gallery.scored(hits.collect())
    }

    fn queries(&self, queries: Rows) -> Vec<Query> {
        queries.values.par_chunks(queries.dim).map(|row| Query::new(row, &self.codes)).collect()
    }

    /// The candidates, which name rows, as hits with their true similarity.
    fn score(&self, query: Rows, candidates: &[Hit]) -> Vec<Hit> {
        let admit = self.gallery.admit(None);
        let rows = self.gallery.rows();
        let row = |hit: &Hit| rows.slice(hit.id as usize..hit.id as usize + 1).values;
        let values: Vec<_> = candidates.iter().flat_map(row).copied().collect();
        let mut out = vec![0.0; candidates.len()];
        let rows = Rows { values: &values, dim: query.dim };
        let (metric, stride) = (self.metric(), out.len());
        Block { metric, queries: query, rows, out: &mut out, stride }.compute();
        let ids = candidates.iter().filter_map(|hit| admit(hit.id as usize));
        ids.zip(out).map(|(id, score)| Hit { id, score }).collect()
    }
}

impl VectorIndex for ExactI8Index {
    fn name(&self) -> String {
        IndexSpec::ExactI8.to_string()
    }

    fn dim(&self) -> usize {
        self.gallery.embeddings().dim()
    }

    fn len(&self) -> usize {
        self.gallery.len()
    }

    fn metric(&self) -> Metric {
        self.gallery.metric()
    }

    fn made_by(&self) -> &Fingerprint {
        self.gallery.embeddings().made_by()
    }

    fn bytes(&self) -> usize {
        self.codes.memory() + size_of_val(self.gallery.embeddings().values())
    }

    fn parameters(&self) -> Vec<&'static str> {
        vec!["rerank"]
    }

    fn search(&self, queries: ArrayView2<f32>, k: usize, params: &SearchParams) -> Result<Hits> {
        params.effort.check(self)?;
        check_dimensions(queries.ncols(), self.dim())?;
        let prepared = prepare(&queries, self.metric(), Side::Queries)?;
        let k = k.min(self.len());
        let Some(rows) = rows_of(&prepared).filter(|_| k > 0) else {
            return Ok(Hits::none(queries.nrows()));
        };
        let rerank = params.effort.rerank.map_or(RERANK, |rerank| rerank.get());
        let candidates = k.saturating_mul(rerank).max(CANDIDATES);
        // So many candidates are no fewer than all.
        if candidates >= self.len() {
            return Ok(self.gallery.best(rows, k, params.filter));
        }
        Ok(self.best(rows, k, candidates, params.filter))
    }

    fn within(&self, queries: ArrayView2<f32>, bound: f32, params: &SearchParams) -> Result<Hits> {
        params.effort.check(self)?;
        self.gallery.within(queries, bound, params.filter)
    }

    fn add(&mut self, ids: &[u64], rows: ArrayView2<f32>) -> Result<()> {
        let known = self.len();
        self.gallery.append(ids, rows)?;
        self.codes.append(self.gallery.rows().slice(known..self.len()));
        Ok(())
    }

    fn remove(&mut self, ids: &[u64]) -> Result<usize> {
        let (gallery, codes) = (&mut self.gallery, &mut self.codes);
        let removed = ids.iter().filter_map(|&id| gallery.remove(id));
        Ok(removed.map(|row| codes.swap_remove(row)).count())
    }

    fn save(&self, dir: &Path) -> Result<()> {
        self.gallery.save(dir, IndexSpec::ExactI8)
    }
}

/// Similarities to the bytes.
struct Coarse<'a> {
    codes: &'a Codes,
    queries: Vec<Query>,
    len: usize,
}

impl Similarities for Coarse<'_> {
    fn queries(&self) -> usize {
        self.queries.len()
    }

    fn rows(&self) -> usize {
        self.len
    }

    fn block_rows(&self) -> usize {
        self.codes.block_rows()
    }

    fn compute(&self, queries: Range<usize>, rows: Range<usize>, out: &mut [f32], stride: usize) {
        self.codes.compare(&self.queries[queries], rows, out, stride);
    }
}
