use std::{ops::Range, path::Path};

use ndarray::ArrayView2;
use xr_data::Embeddings;

use crate::{
    Error, Hit, Hits, IdFilter, IndexSpec, Metric, Result,
    error::Side,
    folder::{self, Folder, Header, Part},
    ids::Ids,
    scan::{Similarities, scan},
    similarity::{Block, Rows, block_rows, check_dimensions, prepare, rows_of},
    top_k::{AtLeast, TopK},
};

/// Whole vectors with their ids, ready to be compared: finite, and for cosines of length 1.
#[derive(Debug)]
pub(crate) struct Gallery {
    embeddings: Embeddings,
    ids: Ids,
    metric: Metric,
}

impl Gallery {
    pub fn new(embeddings: Embeddings, ids: Option<Vec<u64>>, metric: Metric) -> Result<Self> {
        let ids = Ids::new(ids, embeddings.rows())?;
        Rows::of(&embeddings).check_finite(Side::Gallery)?;
        let embeddings =
            if metric == Metric::Cosine { embeddings.into_normalized() } else { embeddings };
        Ok(Self { embeddings, ids, metric })
    }

    pub fn embeddings(&self) -> &Embeddings {
        &self.embeddings
    }

    pub fn metric(&self) -> Metric {
        self.metric
    }

    pub fn len(&self) -> usize {
        self.embeddings.rows()
    }

    pub fn rows(&self) -> Rows<'_> {
        Rows::of(&self.embeddings)
    }

    /// The rows that may be found, by their id.
    pub fn admit<'a>(
        &'a self,
        filter: Option<&'a IdFilter>,
    ) -> impl Fn(usize) -> Option<u64> + Sync + 'a {
        move |row| {
            let id = self.ids.of(row);
            filter.is_none_or(|filter| filter.contains(id)).then_some(id)
        }
    }

    /// The `k` best for each query; queries as [`prepare`] leaves them.
    pub fn best(&self, queries: Rows, k: usize, filter: Option<&IdFilter>) -> Hits {
        let hits = scan(&Whole { gallery: self, queries }, || TopK::new(k), self.admit(filter));
        self.scored(hits)
    }

    /// All whose score reaches `bound`, for each query.
    pub fn within(
        &self,
        queries: ArrayView2<f32>,
        bound: f32,
        filter: Option<&IdFilter>,
    ) -> Result<Hits> {
        check_dimensions(queries.ncols(), self.embeddings.dim())?;
        let prepared = prepare(&queries, self.metric, Side::Queries)?;
        let Some(rows) = rows_of(&prepared) else { return Ok(Hits::none(queries.nrows())) };
        let bar = self.metric.score(bound);
        let source = Whole { gallery: self, queries: rows };
        Ok(self.scored(scan(&source, || AtLeast::new(bar), self.admit(filter))))
    }

    /// Similarities as the scores a user sees.
    pub fn scored(&self, mut hits: Vec<Vec<Hit>>) -> Hits {
        for hit in hits.iter_mut().flatten() {
            hit.score = self.metric.score(hit.score);
        }
        Hits::new(hits)
    }

    /// Adds rows at the end, all or none.
    pub fn append(&mut self, ids: &[u64], rows: ArrayView2<f32>) -> Result<()> {
        check_dimensions(rows.ncols(), self.embeddings.dim())?;
        self.ids.check_new(ids, rows.nrows())?;
        let rows = prepare(&rows, self.metric, Side::Gallery)?;
        self.embeddings.append(rows.as_slice().expect("standard layout"));
        self.ids.append(ids);
        Ok(())
    }

    /// Removes a vector and moves the last one to its row, which is returned; none if there is no
    /// such id.
    pub fn remove(&mut self, id: u64) -> Option<usize> {
        let row = self.ids.row(id)?;
        self.ids.swap_remove(row);
        self.embeddings.swap_remove(row);
        Some(row)
    }

    pub fn save(&self, dir: &Path, index: IndexSpec) -> Result<()> {
        let header = Header {
            index,
            metric: self.metric,
            dim: self.embeddings.dim(),
            rows: self.len(),
            made_by: self.embeddings.made_by().clone(),
        };
        let vectors = |path: &Path| Ok(self.embeddings.save(path)?);
        let mut parts: Vec<Part> = vec![("vectors.safetensors", &vectors)];
        let ids = self.ids.given().map(folder::numbers_writer);
        parts.extend(ids.as_ref().map(|ids| (folder::IDS, ids as _)));
        folder::save(dir, header, &parts)
    }

    pub fn from_folder(folder: &Folder) -> Result<Self> {
        let path = folder.part("vectors.safetensors")?;
        let embeddings = Embeddings::open(&path)?;
        let ids = Ids::new(folder.numbers(folder::IDS)?, embeddings.rows())?;
        let header = folder.header();
        let found = (embeddings.rows(), embeddings.dim());
        if found != (header.rows, header.dim) {
            return Err(Error::damaged(&path, "it isn't of the shape that index.json says"));
        }
        Ok(Self { embeddings, ids, metric: header.metric })
    }
}

/// Similarities to the whole vectors.
struct Whole<'a> {
    gallery: &'a Gallery,
    queries: Rows<'a>,
}

impl Similarities for Whole<'_> {
    fn queries(&self) -> usize {
        self.queries.len()
    }

    fn rows(&self) -> usize {
        self.gallery.len()
    }

    fn block_rows(&self) -> usize {
        block_rows(self.queries.dim)
    }

    fn compute(&self, queries: Range<usize>, rows: Range<usize>, out: &mut [f32], stride: usize) {
        let (queries, rows) = (self.queries.slice(queries), self.gallery.rows().slice(rows));
        Block { metric: self.gallery.metric, queries, rows, out, stride }.compute();
    }
}
