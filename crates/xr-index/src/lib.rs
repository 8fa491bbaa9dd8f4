//! Nearest-neighbour search over embeddings.
//!
//! [`VectorIndex`] is what a search needs to know; [`ExactIndex`] compares everything with
//! everything. [`map_blocks`] hands out the similarities themselves, for those who rank a whole
//! gallery.

mod error;
mod exact;
mod metric;
mod similarity;
mod top_k;

use ndarray::ArrayView2;

pub use error::{Error, Result, Side};
pub use exact::ExactIndex;
pub use metric::Metric;
pub use similarity::map_blocks;

/// Finds the vectors most alike to a query; shared by any number of threads.
pub trait VectorIndex: Send + Sync {
    /// Width of the vectors.
    fn dim(&self) -> usize;

    /// Number of vectors.
    fn len(&self) -> usize;

    /// Is there nothing to find?
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What makes two vectors alike.
    fn metric(&self) -> Metric;

    /// The `k` best for each row of `queries`, `[queries, dim]`; all there are if fewer.
    ///
    /// # Errors
    /// [`Error::Dimensions`] for queries of another width, [`Error::NotFinite`] for the first query
    /// that holds NaN or infinity.
    fn search(&self, queries: ArrayView2<f32>, k: usize) -> Result<Hits>;
}

/// One vector found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// The vector's id: its row in the embeddings.
    pub id: u32,
    /// Its [`Metric`] with the query.
    pub score: f32,
}

/// What was found for each query: best first, equal scores by ascending id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hits(Vec<Vec<Hit>>);

impl Hits {
    /// The hits of each query, best first.
    pub fn new(hits: Vec<Vec<Hit>>) -> Self {
        Self(hits)
    }

    /// Number of queries.
    pub fn queries(&self) -> usize {
        self.0.len()
    }

    /// What was found for one query, best first.
    pub fn of(&self, query: usize) -> &[Hit] {
        &self.0[query]
    }

    /// What was found for each query, in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[Hit]> {
        self.0.iter().map(Vec::as_slice)
    }
}
