use std::path::Path;

use ndarray::ArrayView2;
use xr_data::{Embeddings, Fingerprint};

use crate::{
    Hits, IndexSpec, Metric, Result, SearchParams, VectorIndex,
    error::Side,
    folder::Folder,
    gallery::Gallery,
    similarity::{check_dimensions, prepare, rows_of},
};

/// Compares every query with every vector: always right, and the yardstick of every other index.
///
/// Adds nothing to the memory of its embeddings, which may be mapped from a file. A search holds
/// `2k` candidates a query and thread, and one block of scores a thread.
///
/// ```
/// use ndarray::array;
/// use xr_data::{Embeddings, Fingerprint};
/// use xr_index::{ExactIndex, Metric, SearchParams, VectorIndex};
///
/// let gallery = Embeddings::new(vec![1., 0., 0., 1., 0.6, 0.8], 2, Fingerprint::of(["me"]));
/// let index = ExactIndex::new(gallery, Metric::InnerProduct)?;
/// let hits = index.search(array![[0., 2.]].view(), 2, &SearchParams::default())?;
/// assert_eq!(hits.of(0)[0].id, 1);
/// assert_eq!(hits.of(0)[1].score, 1.6);
/// # Ok::<(), xr_index::Error>(())
/// ```
#[derive(Debug)]
pub struct ExactIndex {
    gallery: Gallery,
}

impl ExactIndex {
    /// An index of all rows; a hit's id is its row.
    ///
    /// # Errors
    /// [`Error::NotFinite`](crate::Error::NotFinite) for the first row that holds NaN or infinity.
    pub fn new(embeddings: Embeddings, metric: Metric) -> Result<Self> {
        Self::with_ids(embeddings, None, metric)
    }

    /// An index of all rows; a hit's id is that of its row in `ids`, or the row.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`Error::IdCount`](crate::Error::IdCount) and
    /// [`Error::DuplicateId`](crate::Error::DuplicateId).
    pub fn with_ids(embeddings: Embeddings, ids: Option<Vec<u64>>, metric: Metric) -> Result<Self> {
        Ok(Self { gallery: Gallery::new(embeddings, ids, metric)? })
    }

    /// The indexed vectors, `[rows, dim]`; for [`Metric::Cosine`] of length 1.
    pub fn embeddings(&self) -> &Embeddings {
        self.gallery.embeddings()
    }

    pub(crate) fn from_folder(folder: &Folder) -> Result<Self> {
        Ok(Self { gallery: Gallery::from_folder(folder)? })
    }
}

impl VectorIndex for ExactIndex {
    fn name(&self) -> String {
        IndexSpec::Exact.to_string()
    }

    fn dim(&self) -> usize {
        self.embeddings().dim()
    }

    fn len(&self) -> usize {
        self.gallery.len()
    }

    fn metric(&self) -> Metric {
        self.gallery.metric()
    }

    fn made_by(&self) -> &Fingerprint {
        self.embeddings().made_by()
    }

    fn bytes(&self) -> usize {
        size_of_val(self.embeddings().values())
    }

    fn search(&self, queries: ArrayView2<f32>, k: usize, params: &SearchParams) -> Result<Hits> {
        params.effort.check(self)?;
        check_dimensions(queries.ncols(), self.dim())?;
        let prepared = prepare(&queries, self.metric(), Side::Queries)?;
        let k = k.min(self.len());
        let Some(rows) = rows_of(&prepared).filter(|_| k > 0) else {
            return Ok(Hits::none(queries.nrows()));
        };
        Ok(self.gallery.best(rows, k, params.filter))
    }

    fn within(&self, queries: ArrayView2<f32>, bound: f32, params: &SearchParams) -> Result<Hits> {
        params.effort.check(self)?;
        self.gallery.within(queries, bound, params.filter)
    }

    fn add(&mut self, ids: &[u64], rows: ArrayView2<f32>) -> Result<()> {
        self.gallery.append(ids, rows)
    }

    fn remove(&mut self, ids: &[u64]) -> Result<usize> {
        Ok(ids.iter().filter_map(|&id| self.gallery.remove(id)).count())
    }

    fn save(&self, dir: &Path) -> Result<()> {
        self.gallery.save(dir, IndexSpec::Exact)
    }
}
