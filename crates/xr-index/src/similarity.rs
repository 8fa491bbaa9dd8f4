//! Similarities of many pairs of vectors.
//!
//! A similarity depends on the two vectors alone: every pair is summed in the same order, in the
//! same lanes, wherever it lies in its block, however many queries come along and whatever thread
//! computes it. So equal vectors tie exactly, which a general matrix product doesn't promise: it
//! sums in another order at the edges of its tiles and for a single query.

use std::{array, ops::Range};

use ndarray::{ArrayView2, CowArray, Ix2};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use xr_data::{Embeddings, normalize_rows};

use crate::{Error, Metric, Result, error::Side, prefetch::prefetch_behind};

/// Queries and gallery rows whose sums are kept in registers together: 4 × 3 sums, 3 rows and one
/// query fill the sixteen registers of AVX2.
const QUERIES: usize = 4;
const ROWS: usize = 3;
/// Rows taken together for a query left over; as many independent sums hide the latency of each.
const ROWS_OF_ONE: usize = 8;

/// Values of gallery rows scored against all queries before going on: 128 KiB stay in any L2 cache.
const BLOCK_VALUES: usize = 32 * 1024;
/// Values of a score block handed to a caller: 4 MiB.
const SCORE_VALUES: usize = 1024 * 1024;
/// Queries that go through the gallery together.
pub(crate) const GROUP: usize = 64;

/// Row-major `[rows, dim]` values.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub values: &'a [f32],
    pub dim: usize,
}

impl<'a> Rows<'a> {
    pub fn of(embeddings: &'a Embeddings) -> Self {
        Self { values: embeddings.values(), dim: embeddings.dim() }
    }

    pub fn len(self) -> usize {
        self.values.len() / self.dim
    }

    pub fn slice(self, rows: Range<usize>) -> Self {
        Self { values: &self.values[rows.start * self.dim..rows.end * self.dim], ..self }
    }

    fn row(self, row: usize) -> &'a [f32] {
        &self.values[row * self.dim..][..self.dim]
    }

    fn tile<const N: usize>(self, first: usize) -> [&'a [f32]; N] {
        array::from_fn(|i| self.row(first + i))
    }

    /// Consecutive ranges of rows that fit the cache.
    pub fn blocks(rows: Range<usize>, dim: usize) -> impl Iterator<Item = Range<usize>> {
        let step = block_rows(dim);
        let end = rows.end;
        rows.step_by(step).map(move |first| first..end.min(first + step))
    }

    /// # Errors
    /// [`Error::NotFinite`] for the first row whose squared length is NaN or infinite. By the
    /// Cauchy–Schwarz inequality no inner product of the others can be.
    pub fn check_finite(self, side: Side) -> Result<()> {
        let bad = |&row: &usize| !self.square(row).is_finite();
        // A few rows take less time than waking another thread does.
        let bad = if self.len() <= GROUP {
            (0..self.len()).find(bad)
        } else {
            (0..self.len()).into_par_iter().find_first(bad)
        };
        bad.map_or(Ok(()), |row| Err(Error::NotFinite { side, row }))
    }

    /// Squared length of a row.
    fn square(self, row: usize) -> f32 {
        let row = self.slice(row..row + 1);
        let mut square = [0.0];
        let metric = Metric::InnerProduct;
        Block { metric, queries: row, rows: row, out: &mut square, stride: 1 }.compute();
        square[0]
    }
}

/// A whole number of tiles of either height.
pub(crate) fn block_rows(dim: usize) -> usize {
    (BLOCK_VALUES / dim).next_multiple_of(ROWS * ROWS_OF_ONE)
}

/// What `f` makes of the similarities of consecutive queries to the whole gallery, block by block:
/// it gets the number of the block's first query and a matrix `[queries of the block, gallery]`.
/// The results come in the order of the blocks.
///
/// **Larger is better** for either metric: under [`Metric::L2`] they are negative squared
/// distances. Equal pairs of vectors have equal similarities to the last bit, and none is NaN.
///
/// Blocks are computed in parallel; each thread holds one, of about 4 MiB or a single query's
/// similarities, whichever is more.
///
/// # Errors
/// [`Error::Dimensions`] if the widths differ, [`Error::NotFinite`] for the first row of either
/// side that holds NaN or infinity.
pub fn map_blocks<T: Send>(
    queries: ArrayView2<f32>,
    gallery: ArrayView2<f32>,
    metric: Metric,
    f: impl Fn(usize, ArrayView2<f32>) -> T + Sync,
) -> Result<Vec<T>> {
    check_dimensions(queries.ncols(), gallery.ncols())?;
    let queries = prepare(&queries, metric, Side::Queries)?;
    let gallery = prepare(&gallery, metric, Side::Gallery)?;
    let (Some(queries), Some(gallery)) = (rows_of(&queries), rows_of(&gallery)) else {
        return Ok(vec![]);
    };
    let step = (SCORE_VALUES / gallery.len()).clamp(1, GROUP);
    let blocks =
        (0..queries.len()).into_par_iter().step_by(step).map_init(Vec::new, |out, first| {
            let group = queries.slice(first..queries.len().min(first + step));
            out.resize(group.len() * gallery.len(), 0.0);
            score_whole(metric, group, gallery, out);
            let shape = (group.len(), gallery.len());
            f(first, ArrayView2::from_shape(shape, out).expect("resized to this shape"))
        });
    Ok(blocks.collect())
}

pub(crate) fn check_dimensions(queries: usize, gallery: usize) -> Result<()> {
    if queries == gallery { Ok(()) } else { Err(Error::Dimensions { queries, gallery }) }
}

/// The rows as they are compared: in standard layout, finite, and for cosines of length 1.
pub(crate) fn prepare<'a>(
    matrix: &'a ArrayView2<f32>,
    metric: Metric,
    side: Side,
) -> Result<CowArray<'a, f32, Ix2>> {
    let mut matrix = matrix.as_standard_layout();
    rows_of(&matrix).map_or(Ok(()), |rows| rows.check_finite(side))?;
    if let (Metric::Cosine, dim @ 1..) = (metric, matrix.ncols()) {
        normalize_rows(matrix.as_slice_mut().expect("standard layout"), dim);
    }
    Ok(matrix)
}

/// The values of a matrix in standard layout; `None` if it has none.
pub(crate) fn rows_of<'a>(matrix: &'a CowArray<'_, f32, Ix2>) -> Option<Rows<'a>> {
    let values = matrix.as_slice().expect("standard layout");
    (!values.is_empty()).then_some(Rows { values, dim: matrix.ncols() })
}

fn score_whole(metric: Metric, queries: Rows, gallery: Rows, out: &mut [f32]) {
    let stride = gallery.len();
    for block in Rows::blocks(0..stride, gallery.dim) {
        let out = &mut out[block.start..];
        Block { metric, queries, rows: gallery.slice(block), out, stride }.compute();
    }
}

/// Similarities of all `queries` to all `rows`; that of query `q` and row `r` goes to
/// `out[q * stride + r]`.
pub(crate) struct Block<'a> {
    pub metric: Metric,
    pub queries: Rows<'a>,
    pub rows: Rows<'a>,
    pub out: &'a mut [f32],
    pub stride: usize,
}

impl Block<'_> {
    pub fn compute(self) {
        Arch::new().dispatch(self);
    }
}

impl WithSimd for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.metric {
            Metric::InnerProduct | Metric::Cosine => self.sum::<S, Product>(simd),
            Metric::L2 => self.sum::<S, SquaredDifference>(simd),
        }
    }
}

impl Block<'_> {
    #[inline(always)]
    fn sum<S: Simd, T: Term>(mut self, simd: S) {
        let whole = self.queries.len() / QUERIES * QUERIES;
        for query in (0..whole).step_by(QUERIES) {
            self.strip::<S, T, QUERIES, ROWS>(simd, query);
        }
        for query in whole..self.queries.len() {
            self.strip::<S, T, 1, ROWS_OF_ONE>(simd, query);
        }
    }

    /// `Q` queries against all rows, `R` rows at a time.
    #[inline(always)]
    fn strip<S: Simd, T: Term, const Q: usize, const R: usize>(&mut self, simd: S, query: usize) {
        let whole = self.rows.len() / R * R;
        for row in (0..whole).step_by(R) {
            self.tile::<S, T, Q, R>(simd, query, row);
        }
        for row in whole..self.rows.len() {
            self.tile::<S, T, Q, 1>(simd, query, row);
        }
    }

    #[inline(always)]
    fn tile<S: Simd, T: Term, const Q: usize, const R: usize>(
        &mut self,
        simd: S,
        query: usize,
        row: usize,
    ) {
        // Other queries find the rows in the cache.
        if query == 0 {
            prefetch_behind(self.rows.slice(row..row + R).values);
        }
        let sums = sums::<S, T, Q, R>(simd, self.queries.tile(query), self.rows.tile(row));
        for (q, sums) in sums.into_iter().enumerate() {
            self.out[(query + q) * self.stride + row..][..R].copy_from_slice(&sums);
        }
    }
}

/// What is summed over the dimensions.
trait Term {
    fn add<S: Simd>(simd: S, sum: S::f32s, a: S::f32s, b: S::f32s) -> S::f32s;
    fn similarity(sum: f32) -> f32;
}

struct Product;

impl Term for Product {
    #[inline(always)]
    fn add<S: Simd>(simd: S, sum: S::f32s, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.mul_add_e_f32s(a, b, sum)
    }

    // A product that underflows may leave −0, which `total_cmp` tells from 0.
    #[inline(always)]
    fn similarity(sum: f32) -> f32 {
        sum + 0.0
    }
}

/// Not ‖q‖² + ‖g‖² − 2q·g, which cancels: a vector's distance to itself is exactly 0 here.
struct SquaredDifference;

impl Term for SquaredDifference {
    #[inline(always)]
    fn add<S: Simd>(simd: S, sum: S::f32s, a: S::f32s, b: S::f32s) -> S::f32s {
        let difference = simd.sub_f32s(a, b);
        simd.mul_add_e_f32s(difference, difference, sum)
    }

    #[inline(always)]
    fn similarity(sum: f32) -> f32 {
        0.0 - sum
    }
}

/// One sum a pair, a vector register each; loops over `Q` and `R` unroll.
// Indexed over several arrays at once, so that every loop has a constant length.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
fn sums<S: Simd, T: Term, const Q: usize, const R: usize>(
    simd: S,
    queries: [&[f32]; Q],
    rows: [&[f32]; R],
) -> [[f32; R]; Q] {
    let mut sums = [[simd.splat_f32s(0.0); R]; Q];
    let (queries, query_tails) = heads_and_tails::<S, Q>(queries);
    let (rows, row_tails) = heads_and_tails::<S, R>(rows);
    let steps = queries[0].len();
    let (queries, rows) = (cut(queries, steps), cut(rows, steps));
    for i in 0..steps {
        let mut row = [simd.splat_f32s(0.0); R];
        for r in 0..R {
            row[r] = rows[r][i];
        }
        add_all::<S, T, Q, R>(simd, &mut sums, &queries, i, &row);
    }
    if !row_tails[0].is_empty() {
        for q in 0..Q {
            let a = simd.partial_load_f32s(query_tails[q]);
            for r in 0..R {
                let b = simd.partial_load_f32s(row_tails[r]);
                sums[q][r] = T::add(simd, sums[q][r], a, b);
            }
        }
    }
    let mut out = [[0.0; R]; Q];
    for q in 0..Q {
        for r in 0..R {
            out[q][r] = T::similarity(simd.reduce_sum_f32s(sums[q][r]));
        }
    }
    out
}

#[inline(always)]
fn add_all<S: Simd, T: Term, const Q: usize, const R: usize>(
    simd: S,
    sums: &mut [[S::f32s; R]; Q],
    queries: &[&[S::f32s]; Q],
    i: usize,
    row: &[S::f32s; R],
) {
    for q in 0..Q {
        let query = queries[q][i];
        for r in 0..R {
            sums[q][r] = T::add(simd, sums[q][r], query, row[r]);
        }
    }
}

#[inline(always)]
fn heads_and_tails<S: Simd, const N: usize>(rows: [&[f32]; N]) -> ([&[S::f32s]; N], [&[f32]; N]) {
    let (mut heads, mut tails): ([&[S::f32s]; N], [&[f32]; N]) = ([&[]; N], [&[]; N]);
    for n in 0..N {
        (heads[n], tails[n]) = S::as_simd_f32s(rows[n]);
    }
    (heads, tails)
}

/// All slices of one known length, so that no bound is checked inside the loop.
#[inline(always)]
fn cut<T, const N: usize>(mut slices: [&[T]; N], len: usize) -> [&[T]; N] {
    for slice in &mut slices {
        *slice = &slice[..len];
    }
    slices
}
