//! Nearest-neighbour search over embeddings.
//!
//! [`VectorIndex`] is what a search needs to know. An [`IndexSpec`] names an index and builds it:
//!
//! | specification | what | finds |
//! |---|---|---|
//! | `exact` | [`ExactIndex`], compares everything with everything | all |
//! | `exact-i8` | [`ExactI8Index`], the same in bytes, the best scored again | nearly all |
//! | `HNSW32`, `IVF1024,SQ8`, … | any index of FAISS (feature `faiss`) | most |
//! | `http://HOST:PORT/COLLECTION` | a collection on Milvus servers (feature `milvus`) | most |
//!
//! A [`QueryBank`] corrects for items that are near to every query. A [`Catalogue`] keeps items and their embeddings on disk and loses nothing that it acknowledged.
//! [`map_blocks`] hands out the similarities themselves, for those who rank a whole gallery.
//!
//! ```
//! use ndarray::array;
//! use xr_data::{Embeddings, Fingerprint};
//! use xr_index::{IndexSpec, Metric, SearchParams};
//!
//! let rows = Embeddings::new(vec![1., 0., 0., 1., 3., 4.], 2, Fingerprint::of(["model"]));
//! let spec: IndexSpec = "exact".parse()?;
//! let mut index = spec.build(rows, Some(vec![100, 200, 300]), Metric::Cosine)?;
//! index.add(&[400], array![[0., 9.]].view())?;
//! index.remove(&[200])?;
//! let hits = index.search(array![[0., 1.]].view(), 2, &SearchParams::default())?;
//! assert_eq!(hits.of(0).iter().map(|hit| hit.id).collect::<Vec<_>>(), [400, 300]);
//! # Ok::<(), xr_index::Error>(())
//! ```

mod catalogue;
#[cfg(feature = "clip-retrieval")]
mod clip_retrieval;
mod codes;
mod error;
mod exact;
mod exact_i8;
#[cfg(feature = "faiss")]
mod faiss;
mod filter;
mod find_items;
mod folder;
mod gallery;
mod ids;
mod metric;
#[cfg(feature = "milvus")]
mod milvus;
mod params;
#[cfg(feature = "faiss")]
mod positions;
mod prefetch;
mod query_bank;
mod scan;
mod similarity;
mod spec;
mod top_k;
pub mod tune;

use std::{fmt::Debug, path::Path};

use ndarray::ArrayView2;
use xr_data::Fingerprint;

#[cfg(feature = "milvus")]
pub use crate::milvus::{MilvusCatalogue, MilvusIndex, Pushed};
pub use catalogue::{
    Catalogue, Condition, Config, Found, Item, NewItem, Query, Space, SpaceSummary, Summary,
};
#[cfg(feature = "clip-retrieval")]
pub use clip_retrieval::ClipRetrieval;
pub use error::{Error, Result, Side};
pub use exact::ExactIndex;
pub use exact_i8::ExactI8Index;
#[cfg(feature = "faiss")]
pub use faiss::FaissIndex;
pub use filter::IdFilter;
pub use find_items::FindItems;
pub use metric::Metric;
pub use params::{Effort, SearchParams};
pub use query_bank::QueryBank;
pub use similarity::map_blocks;
pub use spec::{IndexSpec, open};

/// Finds the vectors most alike to a query; any number of threads may search at once.
pub trait VectorIndex: Debug + Send + Sync {
    /// What it is called: the [`IndexSpec`] that builds it, if there is one.
    fn name(&self) -> String;

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

    /// The model that made the vectors. What another made can't be compared with them.
    fn made_by(&self) -> &Fingerprint;

    /// Bytes of vectors, codes and graphs that a search may read.
    fn bytes(&self) -> usize;

    /// The fields of [`Effort`] that it has.
    fn parameters(&self) -> Vec<&'static str> {
        vec![]
    }

    /// The `k` best for each row of `queries`, `[queries, dim]`; all that may be found if fewer.
    ///
    /// # Errors
    /// [`Error::Dimensions`] for queries of another width, [`Error::NotFinite`] for the first query
    /// that holds NaN or infinity, [`Error::NotAParameter`] for a parameter of another index.
    fn search(&self, queries: ArrayView2<f32>, k: usize, params: &SearchParams) -> Result<Hits>;

    /// All whose score reaches `bound` for each row of `queries`: not below it, or under
    /// [`Metric::L2`] not above.
    ///
    /// # Errors
    /// As [`search`](Self::search).
    fn within(&self, queries: ArrayView2<f32>, bound: f32, params: &SearchParams) -> Result<Hits>;

    /// Adds vectors, `[vectors, dim]`: all, or none if there is an error.
    ///
    /// # Errors
    /// [`Error::Dimensions`] and [`Error::NotFinite`]; [`Error::IdCount`]; [`Error::DuplicateId`]
    /// if an id is there already.
    fn add(&mut self, ids: &[u64], vectors: ArrayView2<f32>) -> Result<()>;

    /// Removes vectors and returns how many of them were there.
    ///
    /// # Errors
    /// What FAISS or a server says.
    fn remove(&mut self, ids: &[u64]) -> Result<usize>;

    /// Writes a folder that [`open`] opens, in place of the index that may be there: killed at any
    /// time, it leaves the old one or the new one.
    ///
    /// # Errors
    /// [`Error::Io`] when it can't be written, on a full disk for example.
    fn save(&self, dir: &Path) -> Result<()>;
}

/// One vector found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// The vector's id.
    pub id: u64,
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

    /// Nothing, for each query.
    pub(crate) fn none(queries: usize) -> Self {
        Self(vec![vec![]; queries])
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
