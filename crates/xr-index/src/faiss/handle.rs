//! The one place that calls FAISS: an owned index behind functions that can't be misused.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char, c_int},
    os::unix::ffi::OsStrExt,
    path::Path,
    ptr::{self, NonNull},
    slice,
};

// Links FAISS itself.
use faiss_sys as _;

use crate::Effort;

/// What FAISS said.
pub(super) type Result<T> = std::result::Result<T, String>;

/// `faiss::Index`.
#[repr(C)]
struct Index {
    _private: [u8; 0],
}

/// `faiss::RangeSearchResult`.
#[repr(C)]
struct Ranges {
    _private: [u8; 0],
}

#[repr(C)]
struct Search {
    nprobe: usize,
    ef_search: usize,
    rerank: usize,
    allowed: *const u8,
    allowed_bytes: usize,
}

unsafe extern "C" {
    fn xr_faiss_error() -> *const c_char;
    fn xr_faiss_simd() -> c_int;
    fn xr_faiss_factory(
        dim: c_int,
        factory: *const c_char,
        l2: c_int,
        out: *mut *mut Index,
    ) -> c_int;
    fn xr_faiss_read(path: *const c_char, mapped: c_int, out: *mut *mut Index) -> c_int;
    fn xr_faiss_strip_ids(
        index: *mut Index,
        inner: *mut *mut Index,
        map: *mut *mut Index,
        ids: *mut *const i64,
    ) -> c_int;
    fn xr_faiss_write(index: *const Index, ids: *const i64, path: *const c_char) -> c_int;
    fn xr_faiss_free(index: *mut Index);
    fn xr_faiss_dim(index: *const Index) -> c_int;
    fn xr_faiss_len(index: *const Index) -> usize;
    fn xr_faiss_metric(index: *const Index) -> c_int;
    fn xr_faiss_parameters(index: *const Index) -> c_int;
    fn xr_faiss_bytes(index: *const Index, out: *mut usize) -> c_int;
    fn xr_faiss_train(index: *mut Index, n: usize, x: *const f32) -> c_int;
    fn xr_faiss_add(index: *mut Index, n: usize, x: *const f32) -> c_int;
    fn xr_faiss_search(
        index: *const Index,
        n: usize,
        x: *const f32,
        k: usize,
        search: *const Search,
        scores: *mut f32,
        labels: *mut i64,
    ) -> c_int;
    fn xr_faiss_range(
        index: *const Index,
        n: usize,
        x: *const f32,
        radius: f32,
        search: *const Search,
        out: *mut *mut Ranges,
    ) -> c_int;
    fn xr_faiss_range_of(
        found: *const Ranges,
        query: usize,
        scores: *mut *const f32,
        labels: *mut *const i64,
    ) -> usize;
    fn xr_faiss_range_free(found: *mut Ranges);
}

/// How FAISS was compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Simd {
    None,
    Avx2,
    Avx512,
}

impl Simd {
    /// What the compiler was allowed to use.
    pub fn compiled() -> Self {
        // SAFETY: reads a constant.
        match unsafe { xr_faiss_simd() } {
            0 => Self::None,
            1 => Self::Avx2,
            _ => Self::Avx512,
        }
    }
}

/// Which similarity an index computes; larger inner products and smaller distances are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    InnerProduct,
    L2,
    Other,
}

/// An index of FAISS over vectors that are numbered in the order they were added.
#[derive(Debug)]
pub(super) struct Handle(NonNull<Index>);

// SAFETY: an index belongs to no thread; FAISS keeps nothing of it in thread-local storage.
unsafe impl Send for Handle {}

// SAFETY: FAISS documents searches of one CPU index from several threads as safe as long as nobody
// changes it, and here what changes it takes `&mut self`. Searching is `const` in C++, and what it
// needs to write (heaps, tables of visited nodes, distance tables) it allocates anew in each call.
// The parameters of a search are built in that call, too, and never set on the index. What threads
// do share are the counters `indexIVF_stats` and `hnsw_stats`, plain integers that are only added
// to: they may miss counts, and nothing reads them.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: owned by `self`, and freed once.
        unsafe { xr_faiss_free(self.0.as_ptr()) }
    }
}

fn check(code: c_int) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: a NUL-terminated string of this thread, copied before the next call can change it.
    let error = unsafe { CStr::from_ptr(xr_faiss_error()) };
    Err(sentence(&error.to_string_lossy()).into())
}

/// What FAISS says after `Error in FUNCTION at FILE.cpp:LINE: `.
fn sentence(error: &str) -> &str {
    let place = error.split_once(".cpp:").and_then(|(_, rest)| rest.split_once(": "));
    place.map_or(error, |(_, said)| said)
}

fn c_string(bytes: &[u8]) -> Result<CString> {
    CString::new(bytes).map_err(|_| "a NUL byte in a name".into())
}

impl Handle {
    /// # Safety
    /// `make` must leave a new index, which nobody else frees, if it returns 0.
    unsafe fn made_by(make: impl FnOnce(*mut *mut Index) -> c_int) -> Result<Self> {
        let mut index = ptr::null_mut();
        check(make(&mut index))?;
        NonNull::new(index).map(Self).ok_or_else(|| "no index was made".into())
    }

    pub fn factory(dim: usize, factory: &str, l2: bool) -> Result<Self> {
        let dim = c_int::try_from(dim).map_err(|e| e.to_string())?;
        let factory = c_string(factory.as_bytes())?;
        // SAFETY: the string outlives the call, which makes a new index.
        unsafe { Self::made_by(|out| xr_faiss_factory(dim, factory.as_ptr(), l2.into(), out)) }
    }

    /// Reads a file, or maps its vectors where FAISS can; a mapped index must not be changed.
    pub fn read(path: &Path, mapped: bool) -> Result<Self> {
        let path = c_string(path.as_os_str().as_bytes())?;
        // SAFETY: the string outlives the call, which makes a new index.
        unsafe { Self::made_by(|out| xr_faiss_read(path.as_ptr(), mapped.into(), out)) }
    }

    /// Takes an `IDMap` off: the index inside, and the ids of its vectors.
    pub fn strip_ids(self) -> Result<(Self, Option<Vec<i64>>)> {
        let (mut inner, mut map, mut ids) = (ptr::null_mut(), ptr::null_mut(), ptr::null());
        // SAFETY: the index is alive, and the call fills in all three.
        check(unsafe { xr_faiss_strip_ids(self.0.as_ptr(), &mut inner, &mut map, &mut ids) })?;
        let Some(inner) = NonNull::new(inner).filter(|_| !map.is_null()) else {
            return Ok((self, None));
        };
        // The map, which owns its index no more, is `self` and freed at the end.
        let inner = Self(inner);
        // SAFETY: the map has an id for each vector, and is alive.
        let ids = unsafe { slice::from_raw_parts(ids, inner.len()) }.to_vec();
        Ok((inner, Some(ids)))
    }

    /// Writes a file, of an `IDMap` if there are ids.
    ///
    /// # Panics
    /// If there is another number of ids than of vectors.
    pub fn write(&self, ids: Option<&[i64]>, path: &Path) -> Result<()> {
        assert!(ids.is_none_or(|ids| ids.len() == self.len()), "an id for each vector");
        let path = c_string(path.as_os_str().as_bytes())?;
        let ids = ids.map_or(ptr::null(), <[i64]>::as_ptr);
        // SAFETY: the index, the string and as many ids as it has vectors outlive the call.
        check(unsafe { xr_faiss_write(self.0.as_ptr(), ids, path.as_ptr()) })
    }

    pub fn dim(&self) -> usize {
        // SAFETY: the index is alive.
        unsafe { xr_faiss_dim(self.0.as_ptr()) as usize }
    }

    pub fn len(&self) -> usize {
        // SAFETY: the index is alive.
        unsafe { xr_faiss_len(self.0.as_ptr()) }
    }

    pub fn kind(&self) -> Kind {
        // SAFETY: the index is alive.
        match unsafe { xr_faiss_metric(self.0.as_ptr()) } {
            0 => Kind::InnerProduct,
            1 => Kind::L2,
            _ => Kind::Other,
        }
    }

    /// Names of the search parameters that it has.
    pub fn parameters(&self) -> Vec<&'static str> {
        // SAFETY: the index is alive.
        let bits = unsafe { xr_faiss_parameters(self.0.as_ptr()) };
        let names = [(1, "nprobe"), (2, "ef_search"), (4, "rerank")];
        names.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| name).collect()
    }

    /// Bytes of the file that it would be.
    pub fn bytes(&self) -> Result<usize> {
        let mut bytes = 0;
        // SAFETY: the index is alive, and the call fills in `bytes`.
        check(unsafe { xr_faiss_bytes(self.0.as_ptr(), &mut bytes) })?;
        Ok(bytes)
    }

    /// Number of vectors in `values`.
    fn rows(&self, values: &[f32]) -> usize {
        assert!(values.len().is_multiple_of(self.dim()), "whole vectors");
        values.len() / self.dim()
    }

    pub fn train(&mut self, values: &[f32]) -> Result<()> {
        let rows = self.rows(values);
        // SAFETY: the index is alive and not shared; `values` are `rows` vectors of its width.
        check(unsafe { xr_faiss_train(self.0.as_ptr(), rows, values.as_ptr()) })
    }

    pub fn add(&mut self, values: &[f32]) -> Result<()> {
        let rows = self.rows(values);
        // SAFETY: the index is alive and not shared; `values` are `rows` vectors of its width.
        check(unsafe { xr_faiss_add(self.0.as_ptr(), rows, values.as_ptr()) })
    }

    /// The numbers of the `k` best for each query and their scores, −1 where there are no more.
    pub fn search(
        &self,
        queries: &[f32],
        k: usize,
        effort: Effort,
        allowed: Option<&[u8]>,
    ) -> Result<(Vec<i64>, Vec<f32>)> {
        let rows = self.rows(queries);
        let (mut labels, mut scores) = (vec![-1; rows * k], vec![0.0; rows * k]);
        let search = Search::new(effort, allowed);
        // SAFETY: the index is alive and nobody changes it; `queries` are `rows` vectors of its
        // width; there are `rows * k` places; the bitmap outlives the call.
        check(unsafe {
            xr_faiss_search(
                self.0.as_ptr(),
                rows,
                queries.as_ptr(),
                k,
                &search,
                scores.as_mut_ptr(),
                labels.as_mut_ptr(),
            )
        })?;
        Ok((labels, scores))
    }

    /// For each query the numbers and scores of all that are better than `radius`.
    pub fn range(
        &self,
        queries: &[f32],
        radius: f32,
        effort: Effort,
        allowed: Option<&[u8]>,
    ) -> Result<Vec<Vec<(i64, f32)>>> {
        let rows = self.rows(queries);
        let search = Search::new(effort, allowed);
        let mut found = ptr::null_mut();
        // SAFETY: as in `search`; the call leaves a result of `rows` queries.
        check(unsafe {
            let (index, x) = (self.0.as_ptr(), queries.as_ptr());
            xr_faiss_range(index, rows, x, radius, &search, &mut found)
        })?;
        // SAFETY: the result is of `rows` queries and freed after the last of them.
        unsafe {
            let hits = (0..rows).map(|query| hits_of(found, query)).collect();
            xr_faiss_range_free(found);
            Ok(hits)
        }
    }
}

/// # Safety
/// `found` is alive and has this query.
unsafe fn hits_of(found: *const Ranges, query: usize) -> Vec<(i64, f32)> {
    let (mut scores, mut labels) = (ptr::null(), ptr::null());
    // SAFETY: as promised; the call fills in both.
    let count = unsafe { xr_faiss_range_of(found, query, &mut scores, &mut labels) };
    if count == 0 {
        return vec![];
    }
    // SAFETY: there are `count` of each.
    let (labels, scores) =
        unsafe { (slice::from_raw_parts(labels, count), slice::from_raw_parts(scores, count)) };
    labels.iter().copied().zip(scores.iter().copied()).collect()
}

impl Search {
    fn new(effort: Effort, allowed: Option<&[u8]>) -> Self {
        Self {
            nprobe: effort.nprobe.map_or(0, |n| n.get()),
            ef_search: effort.ef_search.map_or(0, |n| n.get().min(c_int::MAX as usize)),
            rerank: effort.rerank.map_or(0, |n| n.get()),
            allowed: allowed.map_or(ptr::null(), <[u8]>::as_ptr),
            allowed_bytes: allowed.map_or(0, <[u8]>::len),
        }
    }
}
