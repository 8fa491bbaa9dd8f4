mod handle;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use ndarray::ArrayView2;
use xr_data::{Embeddings, Fingerprint};

use crate::{
    Error, Hit, Hits, IdFilter, IndexSpec, Metric, Result, SearchParams, VectorIndex,
    error::Side,
    folder::{self, Folder, Header, Part},
    positions::Positions,
    similarity::{Rows, check_dimensions, prepare, rows_of},
    top_k::best_first,
};
use handle::{Handle, Kind, Simd};

const FILE: &str = "faiss.index";
const REMOVED: &str = "removed.u64";
/// Vectors added at a time: what FAISS makes of them on the way stays small.
const CHUNK: usize = 65_536;

/// Any index of FAISS, by its factory string.
///
/// Searches from several threads run side by side, without a lock: parameters belong to the search
/// and are never set on the index. FAISS itself uses as many threads for a batch as
/// `OMP_NUM_THREADS` says.
///
/// FAISS sees the vectors' positions; ids, filters and removal are kept beside it, so that all of
/// its types have them, except those that take no filter (`LSH` and fast scans without `IVF`),
/// which can't remove either. A removed vector is passed over; its memory is freed when the index
/// is built anew.
///
/// A range search goes by the scores of the codes: refining (`RFlat`) corrects the scores of what
/// they let through, and finds nothing more. A fast scan (`4fs`) finds nothing for a query of zeros.
#[derive(Debug)]
pub struct FaissIndex {
    handle: Handle,
    factory: String,
    metric: Metric,
    made_by: Fingerprint,
    positions: Positions,
    /// Where the vectors are mapped from. A mapped index is read before it is changed.
    mapped: Option<PathBuf>,
}

impl FaissIndex {
    /// Learns from all rows what `factory` has to learn, and adds them. A hit's id is that of its
    /// row in `ids`, or the row.
    ///
    /// # Errors
    /// [`Error::Faiss`] for what FAISS refuses: an unknown factory string, fewer rows than cells;
    /// [`Error::FaissSimd`]; [`Error::NotFinite`], [`Error::IdCount`] and [`Error::DuplicateId`].
    pub fn build(
        factory: &str,
        embeddings: Embeddings,
        ids: Option<Vec<u64>>,
        metric: Metric,
    ) -> Result<Self> {
        check_simd()?;
        let positions = Positions::new(ids, embeddings.rows())?;
        Rows::of(&embeddings).check_finite(Side::Gallery)?;
        let embeddings =
            if metric == Metric::Cosine { embeddings.into_normalized() } else { embeddings };
        let values = embeddings.values();
        let handle = Handle::factory(embeddings.dim(), factory, metric == Metric::L2);
        let handle = handle.and_then(|mut handle| {
            handle.train(values)?;
            add_in_chunks(&mut handle, values)?;
            Ok(handle)
        });
        let handle = handle.map_err(|why| said(factory, why))?;
        let made_by = embeddings.made_by().clone();
        Ok(Self { handle, factory: factory.into(), metric, made_by, positions, mapped: None })
    }

    /// Reads a file that FAISS wrote, whatever program it did that for. Ids are those of an `IDMap`
    /// around the index, or positions. `factory` is what made the index, for those who ask;
    /// `made_by` the model that made its vectors.
    ///
    /// An index of inner products is taken for one of vectors of length 1, of cosines, if `cosine`
    /// says so: queries are then brought to length 1.
    ///
    /// # Errors
    /// [`Error::Faiss`] if it is no such file, of another metric, or with ids of its own inside an
    /// inverted file.
    pub fn import(path: &Path, factory: &str, cosine: bool, made_by: Fingerprint) -> Result<Self> {
        check_simd()?;
        let refused = |why| said(&path.display().to_string(), why);
        let handle = Handle::read(path, false).and_then(Handle::strip_ids);
        let (handle, ids) = handle.map_err(refused)?;
        let metric = match handle.kind() {
            Kind::InnerProduct if cosine => Metric::Cosine,
            Kind::InnerProduct => Metric::InnerProduct,
            Kind::L2 => Metric::L2,
            Kind::Other => return Err(refused("it is neither of inner products nor of L2".into())),
        };
        let ids = ids.map(|ids| ids.into_iter().map(i64::cast_unsigned).collect());
        let positions = Positions::new(ids, handle.len())?;
        Ok(Self { handle, factory: factory.into(), metric, made_by, positions, mapped: None })
    }

    /// Writes a file that FAISS reads in any language; ids that aren't row numbers are in an
    /// `IDMap` around the index.
    ///
    /// # Errors
    /// [`Error::Faiss`] if vectors were removed, which FAISS would find, or the file can't be
    /// written.
    pub fn export(&self, path: &Path) -> Result<()> {
        if self.positions.removed() > 0 {
            let why = format!(
                "{} removed vectors are still in it; build the index anew first",
                self.positions.removed()
            );
            return Err(said(&self.factory, why));
        }
        let ids = self.positions.given().map(|ids| ids.iter().map(|id| id.cast_signed()).collect());
        let ids: Option<Vec<_>> = ids;
        self.handle.write(ids.as_deref(), path).map_err(|why| said(&self.factory, why))
    }

    pub(crate) fn from_folder(folder: &Folder) -> Result<Self> {
        check_simd()?;
        let path = folder.part(FILE)?;
        let header = folder.header();
        let handle = Handle::read(&path, true)
            .map_err(|why| Error::damaged(&path, format!("FAISS: {why}")))?;
        let mut positions = Positions::new(folder.numbers(folder::IDS)?, handle.len())?;
        for position in folder.numbers(REMOVED)?.into_iter().flatten() {
            positions.remove_at(position as usize);
        }
        if (handle.dim(), positions.len()) != (header.dim, header.rows) {
            return Err(Error::damaged(&path, "it isn't of the shape that index.json says"));
        }
        Ok(Self {
            handle,
            factory: header.index.to_string(),
            metric: header.metric,
            made_by: header.made_by.clone(),
            positions,
            mapped: Some(path),
        })
    }

    fn said(&self, why: String) -> Error {
        said(&self.factory, why)
    }

    /// The positions that a search may find; none if all.
    fn allowed(&self, filter: Option<&IdFilter>) -> Option<Vec<u8>> {
        (filter.is_some() || self.positions.removed() > 0).then(|| self.positions.bitmap(filter))
    }

    /// FAISS' answer for one query, as hits.
    fn hits(&self, found: impl Iterator<Item = (i64, f32)>) -> Vec<Hit> {
        let found = found.filter_map(|(position, score)| {
            // −1 stands for "nothing more".
            let id = self.positions.id(usize::try_from(position).ok()?);
            let score = self.metric.score(score);
            Some(Hit { id, score })
        });
        let mut hits: Vec<_> = found.collect();
        hits.sort_unstable_by(best_first);
        hits.iter_mut().for_each(|hit| hit.score = self.metric.score(hit.score));
        hits
    }

    /// Reads what is only mapped.
    fn make_owned(&mut self) -> Result<()> {
        if let Some(path) = self.mapped.take() {
            self.handle = Handle::read(&path, false).map_err(|why| self.said(why))?;
        }
        Ok(())
    }
}

impl VectorIndex for FaissIndex {
    fn name(&self) -> String {
        self.factory.clone()
    }

    fn dim(&self) -> usize {
        self.handle.dim()
    }

    fn len(&self) -> usize {
        self.positions.len()
    }

    fn metric(&self) -> Metric {
        self.metric
    }

    fn made_by(&self) -> &Fingerprint {
        &self.made_by
    }

    fn bytes(&self) -> usize {
        // It was written, or could be: writing to nowhere fails for types that can't be saved.
        self.handle.bytes().unwrap_or(0)
    }

    fn parameters(&self) -> Vec<&'static str> {
        self.handle.parameters()
    }

    fn search(&self, queries: ArrayView2<f32>, k: usize, params: &SearchParams) -> Result<Hits> {
        params.effort.check(self)?;
        check_dimensions(queries.ncols(), self.dim())?;
        let prepared = prepare(&queries, self.metric, Side::Queries)?;
        let k = k.min(self.len());
        let Some(rows) = rows_of(&prepared).filter(|_| k > 0) else {
            return Ok(Hits::none(queries.nrows()));
        };
        let allowed = self.allowed(params.filter);
        let found = self.handle.search(rows.values, k, params.effort, allowed.as_deref());
        let (labels, scores) = found.map_err(|why| self.said(why))?;
        let found = labels.chunks(k).zip(scores.chunks(k));
        let hits = found
            .map(|(labels, scores)| self.hits(labels.iter().copied().zip(scores.iter().copied())));
        Ok(Hits::new(hits.collect()))
    }

    fn within(&self, queries: ArrayView2<f32>, bound: f32, params: &SearchParams) -> Result<Hits> {
        params.effort.check(self)?;
        check_dimensions(queries.ncols(), self.dim())?;
        let prepared = prepare(&queries, self.metric, Side::Queries)?;
        let Some(rows) = rows_of(&prepared).filter(|_| !self.is_empty()) else {
            return Ok(Hits::none(queries.nrows()));
        };
        // FAISS' radius is not inside.
        let l2 = self.metric == Metric::L2;
        let radius = if l2 { bound.next_up() } else { bound.next_down() };
        let allowed = self.allowed(params.filter);
        let found = self.handle.range(rows.values, radius, params.effort, allowed.as_deref());
        let found = found.map_err(|why| self.said(why))?;
        // A refined score may be on the other side of the bound than the one it replaced.
        let inside = |&(_, score): &(i64, f32)| if l2 { score <= bound } else { score >= bound };
        let hits = found.into_iter().map(|hits| self.hits(hits.into_iter().filter(inside)));
        Ok(Hits::new(hits.collect()))
    }

    fn add(&mut self, ids: &[u64], vectors: ArrayView2<f32>) -> Result<()> {
        check_dimensions(vectors.ncols(), self.dim())?;
        self.positions.check_new(ids, vectors.nrows())?;
        let vectors = prepare(&vectors, self.metric, Side::Gallery)?;
        self.make_owned()?;
        let values = vectors.as_slice().expect("standard layout");
        self.handle.add(values).map_err(|why| said(&self.factory, why))?;
        self.positions.append(ids);
        Ok(())
    }

    fn remove(&mut self, ids: &[u64]) -> Result<usize> {
        Ok(ids.iter().filter(|&&id| self.positions.remove(id)).count())
    }

    fn save(&self, dir: &Path) -> Result<()> {
        let header = Header {
            index: IndexSpec::Faiss(self.factory.clone()),
            metric: self.metric,
            dim: self.dim(),
            rows: self.len(),
            made_by: self.made_by.clone(),
        };
        let index = |path: &Path| match &self.mapped {
            Some(mapped) => fs::copy(mapped, path).map(drop).map_err(|e| Error::io(path, e)),
            None => self.handle.write(None, path).map_err(|why| self.said(why)),
        };
        let ids = self.positions.given().map(folder::numbers_writer);
        let removed = self.positions.removed_positions();
        let removed = (!removed.is_empty()).then(|| folder::numbers_writer(&removed));
        let mut parts: Vec<Part> = vec![(FILE, &index)];
        parts.extend(ids.as_ref().map(|ids| (folder::IDS, ids as _)));
        parts.extend(removed.as_ref().map(|removed| (REMOVED, removed as _)));
        folder::save(dir, header, &parts)
    }
}

fn add_in_chunks(handle: &mut Handle, values: &[f32]) -> handle::Result<()> {
    values.chunks(CHUNK * handle.dim()).try_for_each(|chunk| handle.add(chunk))
}

fn said(index: &str, why: String) -> Error {
    Error::Faiss { index: index.into(), why }
}

/// Refuses a FAISS that was compiled for another CPU than this: without AVX2 it searches several
/// times slower than it could, and with what the CPU lacks the program would be killed.
fn check_simd() -> Result<()> {
    static COMPILED: OnceLock<Simd> = OnceLock::new();
    let compiled = *COMPILED.get_or_init(Simd::compiled);
    let there = simd_of_this_cpu();
    let fits = compiled <= there && (there == Simd::None) == (compiled == Simd::None);
    if fits { Ok(()) } else { Err(Error::FaissSimd { faiss: name(compiled), cpu: name(there) }) }
}

fn simd_of_this_cpu() -> Simd {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
            return Simd::Avx512;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Simd::Avx2;
        }
    }
    Simd::None
}

fn name(simd: Simd) -> &'static str {
    match simd {
        Simd::None => "neither AVX2 nor AVX-512",
        Simd::Avx2 => "AVX2",
        Simd::Avx512 => "AVX-512",
    }
}
