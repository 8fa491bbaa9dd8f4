mod catalogue;
mod partition;
mod target;

use std::{collections::HashMap, path::Path};

use ndarray::ArrayView2;
use serde_json::Value;
use xr_data::{Embeddings, Fingerprint};

use crate::{
    Effort, Error, Hit, Hits, IdFilter, IndexSpec, Metric, Result, SearchParams, VectorIndex,
    error::Side,
    folder::{self, Folder, Header},
    ids::check_new,
    similarity::{Rows, check_dimensions, prepare, rows_of},
    top_k::best_first,
};
pub use catalogue::{MilvusCatalogue, Pushed};
use partition::{Batch, Contents, MOST, Owned, Partition, Wanted, among};
use target::Target;

/// Ids of a filter in one search; a longer list takes several.
const FILTER: usize = 10_000;

/// A partition of a collection on Milvus servers, which hold the vectors and search them.
///
/// Its address is its specification: `http://HOST:PORT/COLLECTION`, or `https://…`. Behind the
/// collection may come `/PARTITION`, and then settings that say how what isn't there yet is made:
///
/// | setting | value | if absent |
/// |---|---|---|
/// | `index` | `HNSW`, `FLAT`, `IVF_FLAT`, `IVF_SQ8`, `IVF_PQ`, `DISKANN`; or FAISS' string for it, such as `IVF1024,SQ8` | `HNSW` |
/// | `M`, `efConstruction` | of `HNSW` | 16, 200 |
/// | `nlist`; `m`, `nbits` | of `IVF…`; of `IVF_PQ` | 1024; 64, 8 |
/// | `shards` | channels that vectors are written through, by their id | 1 |
/// | `consistency` | what a search sees of what was written: `strong` everything, `session` what this process wrote, `bounded` and `eventually` what is a little older | `session` |
///
/// `USER:PASSWORD@` or `KEY@` before the host says who is asking, or else the environment variable
/// `MILVUS_TOKEN`, `USER:PASSWORD` or `KEY`. It is neither shown nor saved.
///
/// What differs from an index in memory: others may change the collection, and
/// [`len`](VectorIndex::len) is what was there when it was opened, and what was added and removed
/// since through this value. An addition that fails half-way leaves a part. [`save`](VectorIndex::save)
/// writes where the collection is and not what is in it. An id may be anything but 2⁶³, which Milvus
/// can't read. A call waits for the servers, up to five
/// minutes if they don't answer, and must not be made on a thread of an asynchronous runtime.
#[derive(Debug)]
pub struct MilvusIndex {
    partition: Partition,
    contents: Contents,
    len: usize,
}

impl MilvusIndex {
    /// Writes all rows to a partition, which is made, as is the collection, unless it is there. A
    /// hit's id is that of its row in `ids`, or the row.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] if the partition has vectors; [`Error::OtherCollection`] if the
    /// collection is of another model, width or metric; those of [`open`](Self::open);
    /// [`Error::NotFinite`], [`Error::IdCount`] and [`Error::DuplicateId`].
    pub fn build(
        uri: &str,
        embeddings: &Embeddings,
        ids: Option<Vec<u64>>,
        metric: Metric,
    ) -> Result<Self> {
        let ids = ids.unwrap_or_else(|| (0..embeddings.rows() as u64).collect());
        check_new(&ids, embeddings.rows(), |_| false)?;
        Rows::of(embeddings).check_finite(Side::Gallery)?;
        let target = Target::parse(uri)?;
        let contents = Contents {
            dim: embeddings.dim(),
            metric,
            made_by: embeddings.made_by().clone(),
            index: target.index.name.into(),
        };
        let partition = Partition::connect(target)?;
        partition.create(&contents)?;
        let mut index = Self::of(partition)?;
        if index.len > 0 {
            return Err(Error::NotEmpty { collection: index.name(), vectors: index.len });
        }
        index.write(&ids, embeddings.view())?;
        Ok(index)
    }

    /// The index of a partition that is there.
    ///
    /// # Errors
    /// [`Error::MilvusAddress`], [`Error::MilvusUnreachable`], [`Error::NoCollection`],
    /// [`Error::ForeignCollection`], and [`Error::Milvus`] for what the server says.
    pub fn open(uri: &str) -> Result<Self> {
        Self::of(Partition::connect(Target::parse(uri)?)?)
    }

    fn of(mut partition: Partition) -> Result<Self> {
        let collection = partition.target.uri.clone();
        let contents = partition.contents()?;
        let contents = contents.ok_or(Error::NoCollection { collection: collection.clone() })?;
        // The address needn't say again what was made.
        let index = target::index(&contents.index);
        partition.target.index = index.map_err(|_| Error::ForeignCollection { collection })?;
        partition.load()?;
        let len = partition.count()?;
        Ok(Self { partition, contents, len })
    }

    pub(crate) fn from_folder(folder: &Folder) -> Result<Self> {
        let Header { index, metric, dim, made_by, .. } = folder.header();
        let index = Self::open(&index.to_string())?;
        let (made_by, kind) = (made_by.clone(), index.contents.index.clone());
        let expected = Contents { dim: *dim, metric: *metric, made_by, index: kind };
        expected.expect(&index.contents, &index.partition.target)?;
        Ok(index)
    }

    /// Puts vectors there that [`check_new`] and [`present`](Partition::present) let through.
    fn write(&mut self, ids: &[u64], vectors: ArrayView2<f32>) -> Result<()> {
        let vectors = prepare(&vectors, self.contents.metric, Side::Gallery)?;
        let batch = Batch {
            ids: ids.to_vec(),
            values: vectors.as_slice().expect("standard layout").to_vec(),
            owners: ids.to_vec(),
            items: vec![Value::Object(serde_json::Map::new()); ids.len()],
        };
        self.partition.upsert(&batch, self.contents.dim)?;
        self.len += ids.len();
        Ok(())
    }

    /// The `k` best for each query of those that a filter and an expression let through, with the
    /// items they are of.
    fn find(
        &self,
        queries: ArrayView2<f32>,
        wanted: Wanted,
        filter: Option<&IdFilter>,
    ) -> Result<Vec<Vec<Owned>>> {
        check_dimensions(queries.ncols(), self.dim())?;
        let prepared = prepare(&queries, self.metric(), Side::Queries)?;
        let Some(rows) = rows_of(&prepared).filter(|_| wanted.k > 0) else {
            return Ok(vec![vec![]; queries.nrows()]);
        };
        let Some(filter) = filter else {
            return self.partition.search(rows, self.metric(), &wanted);
        };
        let mut found = vec![vec![]; queries.nrows()];
        let ids: Vec<_> = filter.ids().collect();
        for ids in ids.chunks(FILTER) {
            let some = Wanted { filter: among(ids), ..wanted.clone() };
            let some = self.partition.search(rows, self.metric(), &some)?;
            found = found.into_iter().zip(some).map(|(a, b)| self.best(a, b, wanted.k)).collect();
        }
        Ok(found)
    }

    /// The `k` best of two lists.
    fn best(&self, mut a: Vec<Owned>, b: Vec<Owned>, k: usize) -> Vec<Owned> {
        let metric = self.metric();
        let similar = |o: &Owned| Hit { score: metric.score(o.hit.score), ..o.hit };
        a.extend(b);
        a.sort_unstable_by(|a, b| best_first(&similar(a), &similar(b)));
        a.truncate(k);
        a
    }

    /// How hard to look for the `k` best, in the server's words.
    fn effort(&self, effort: Effort, k: usize) -> HashMap<String, String> {
        let Some((name, theirs, default)) = self.partition.target.index.search else {
            return HashMap::new();
        };
        let value = match name {
            "nprobe" => effort.nprobe.map_or(default, |n| n.get()),
            // A walk over a graph finds no more than it keeps.
            _ => effort.ef_search.map_or(default, |n| n.get()).max(k),
        };
        HashMap::from([(theirs.to_owned(), value.to_string())])
    }
}

impl Contents {
    /// Refuses a collection of other contents.
    fn expect(&self, found: &Self, target: &Target) -> Result<()> {
        let differs = |what, expected: String, found: String| {
            let collection = target.uri.clone();
            Err(Error::OtherCollection { collection, what, expected, found })
        };
        if self.dim != found.dim {
            return differs("width", self.dim.to_string(), found.dim.to_string());
        }
        if self.metric != found.metric {
            return differs("metric", self.metric.to_string(), found.metric.to_string());
        }
        if self.made_by != found.made_by {
            return differs("model", self.made_by.to_string(), found.made_by.to_string());
        }
        Ok(())
    }
}

impl VectorIndex for MilvusIndex {
    fn name(&self) -> String {
        self.partition.target.uri.clone()
    }

    fn dim(&self) -> usize {
        self.contents.dim
    }

    fn len(&self) -> usize {
        self.len
    }

    fn metric(&self) -> Metric {
        self.contents.metric
    }

    fn made_by(&self) -> &Fingerprint {
        &self.contents.made_by
    }

    fn bytes(&self) -> usize {
        // Of the vectors: the servers don't say what their index takes.
        self.len * self.dim() * size_of::<f32>()
    }

    fn parameters(&self) -> Vec<&'static str> {
        self.partition.target.index.search.iter().map(|(name, ..)| *name).collect()
    }

    fn search(&self, queries: ArrayView2<f32>, k: usize, params: &SearchParams) -> Result<Hits> {
        params.effort.check(self)?;
        let k = k.min(self.len);
        if k > MOST {
            return Err(Error::TooManyHits { most: MOST });
        }
        let effort = self.effort(params.effort, k);
        let wanted = Wanted { k, bound: None, filter: String::new(), effort };
        Ok(hits(self.find(queries, wanted, params.filter)?))
    }

    fn within(&self, queries: ArrayView2<f32>, bound: f32, params: &SearchParams) -> Result<Hits> {
        params.effort.check(self)?;
        let effort = self.effort(params.effort, 1);
        let wanted = Wanted { k: MOST, bound: Some(bound), filter: String::new(), effort };
        let mut found = self.find(queries, wanted, params.filter)?;
        if found.iter().any(|found| found.len() == MOST) {
            return Err(Error::TooManyHits { most: MOST });
        }
        // Servers round a bound in their own ways.
        let inside = |score| self.metric().score(score) >= self.metric().score(bound);
        found.iter_mut().for_each(|found| found.retain(|owned| inside(owned.hit.score)));
        Ok(hits(found))
    }

    fn add(&mut self, ids: &[u64], vectors: ArrayView2<f32>) -> Result<()> {
        check_dimensions(vectors.ncols(), self.dim())?;
        check_new(ids, vectors.nrows(), |_| false)?;
        prepare(&vectors, self.metric(), Side::Gallery)?;
        if let Some(&id) = self.partition.present(ids)?.first() {
            return Err(Error::DuplicateId { id });
        }
        self.write(ids, vectors)
    }

    fn remove(&mut self, ids: &[u64]) -> Result<usize> {
        let there = self.partition.present(ids)?;
        self.partition.delete(&there)?;
        self.len -= there.len().min(self.len);
        Ok(there.len())
    }

    fn save(&self, dir: &Path) -> Result<()> {
        let header = Header {
            index: IndexSpec::Milvus(self.name()),
            metric: self.metric(),
            dim: self.dim(),
            rows: self.len,
            made_by: self.made_by().clone(),
        };
        folder::save(dir, header, &[])
    }
}

fn hits(found: Vec<Vec<Owned>>) -> Hits {
    let hits = |found: Vec<Owned>| found.into_iter().map(|owned| owned.hit).collect();
    Hits::new(found.into_iter().map(hits).collect())
}
