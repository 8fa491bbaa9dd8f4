//! Vectors as bytes, and the inner products of bytes.
//!
//! A row `x` is kept as `round(x / s) + 128` with `s = max|x| / 127`, a query likewise without the
//! 128; so a row is an unsigned byte a value and a query a signed one, which is the form that the
//! instruction `vpdpbusd` of AVX-512 VNNI takes. Sums are whole numbers: they are the same on every
//! CPU.

use std::{array, ops::Range};

use rayon::prelude::*;

use crate::{Metric, prefetch::prefetch_behind, similarity::Rows};

/// A row is filled up with zeros to a multiple of this: a register of AVX-512.
const LANES: usize = 64;
/// What a row's bytes are above its values.
const OFFSET: i32 = 128;
const LARGEST: f32 = 127.0;

/// Queries and rows whose sums are kept in registers together.
const QUERIES: usize = 4;
const ROWS: usize = 2;
/// Rows taken together for a query left over.
const ROWS_OF_ONE: usize = 4;

/// Bytes of rows compared with all queries before going on: they stay in any L2 cache.
const BLOCK_BYTES: usize = 128 * 1024;

/// Rows of bytes.
#[derive(Debug)]
pub(crate) struct Codes {
    bytes: Vec<u8>,
    scales: Vec<Scale>,
    width: usize,
    metric: Metric,
}

/// What makes a similarity of a row's inner product with a query.
#[derive(Clone, Copy, Debug)]
struct Scale {
    factor: f32,
    term: f32,
}

impl Scale {
    /// −(q − g)² = 2 q·g − g² − q², of which q² is the same for all rows and left out.
    fn new(row: &[f32], factor: f32, metric: Metric) -> Self {
        match metric {
            Metric::InnerProduct | Metric::Cosine => Self { factor, term: 0.0 },
            Metric::L2 => {
                Self { factor: 2.0 * factor, term: -row.iter().map(|x| x * x).sum::<f32>() }
            }
        }
    }
}

/// A query as signed values.
#[derive(Debug)]
pub(crate) struct Query {
    bytes: Vec<i8>,
    words: Vec<i16>,
    /// What the rows' offset adds to each inner product.
    offset: i32,
    factor: f32,
}

impl Codes {
    pub fn new(rows: Rows, metric: Metric) -> Self {
        let width = rows.dim.next_multiple_of(LANES);
        let mut codes = Self { bytes: vec![], scales: vec![], width, metric };
        codes.append(rows);
        codes
    }

    /// Adds rows at the end.
    pub fn append(&mut self, rows: Rows) {
        let (known, metric) = (self.bytes.len(), self.metric);
        self.bytes.resize(known + rows.len() * self.width, OFFSET as u8);
        let codes = self.bytes[known..].par_chunks_mut(self.width);
        let scales = rows.values.par_chunks_exact(rows.dim).zip(codes).map(|(row, codes)| {
            let (values, factor) = quantize(row);
            let values = values.map(|value| (i32::from(value) + OFFSET) as u8);
            codes.iter_mut().zip(values).for_each(|(code, value)| *code = value);
            Scale::new(row, factor, metric)
        });
        self.scales.par_extend(scales);
    }

    /// Removes a row and moves the last one there.
    pub fn swap_remove(&mut self, row: usize) {
        let last = self.scales.len() - 1;
        self.bytes.copy_within(last * self.width.., row * self.width);
        self.bytes.truncate(last * self.width);
        self.scales.swap_remove(row);
    }

    pub fn memory(&self) -> usize {
        size_of_val(&self.bytes[..]) + size_of_val(&self.scales[..])
    }

    pub fn block_rows(&self) -> usize {
        (BLOCK_BYTES / self.width).next_multiple_of(ROWS * ROWS_OF_ONE)
    }

    fn row(&self, row: usize) -> &[u8] {
        &self.bytes[row * self.width..][..self.width]
    }

    /// Approximate similarities of all `queries` to `rows`, up to a term of the query alone; that
    /// of query `q` and the `r`-th row goes to `out[q * stride + r]`.
    pub fn compare(&self, queries: &[Query], rows: Range<usize>, out: &mut [f32], stride: usize) {
        with_kernel(Comparison { codes: self, queries, rows, out, stride });
    }
}

impl Query {
    /// `row` of as many values as the rows of `codes`.
    pub fn new(row: &[f32], codes: &Codes) -> Self {
        let (values, factor) = quantize(row);
        let mut bytes: Vec<_> = values.collect();
        bytes.resize(codes.width, 0);
        let words: Vec<_> = bytes.iter().copied().map(i16::from).collect();
        let offset = OFFSET * words.iter().copied().map(i32::from).sum::<i32>();
        Self { bytes, words, offset, factor }
    }
}

/// The values as whole numbers from −127 to 127, and what these are to be multiplied by.
fn quantize(row: &[f32]) -> (impl Iterator<Item = i8>, f32) {
    let largest = row.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let inverse = if largest > 0.0 { LARGEST / largest } else { 0.0 };
    // Largest values so small that the inverse overflows are as good as zeros.
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    (row.iter().map(move |x| (x * inverse).round() as i8), largest / LARGEST)
}

struct Comparison<'a> {
    codes: &'a Codes,
    queries: &'a [Query],
    rows: Range<usize>,
    out: &'a mut [f32],
    stride: usize,
}

impl Comparison<'_> {
    #[inline(always)]
    fn run<K: Kernel>(mut self, kernel: K) {
        let whole = self.queries.len() / QUERIES * QUERIES;
        for query in (0..whole).step_by(QUERIES) {
            self.strip::<K, QUERIES, ROWS>(kernel, query);
        }
        for query in whole..self.queries.len() {
            self.strip::<K, 1, ROWS_OF_ONE>(kernel, query);
        }
    }

    /// `Q` queries against all rows, `R` rows at a time.
    #[inline(always)]
    fn strip<K: Kernel, const Q: usize, const R: usize>(&mut self, kernel: K, query: usize) {
        let whole = self.rows.len() / R * R;
        for row in (0..whole).step_by(R) {
            self.tile::<K, Q, R>(kernel, query, row);
        }
        for row in whole..self.rows.len() {
            self.tile::<K, Q, 1>(kernel, query, row);
        }
    }

    #[inline(always)]
    fn tile<K: Kernel, const Q: usize, const R: usize>(
        &mut self,
        kernel: K,
        first_query: usize,
        first_row: usize,
    ) {
        let queries: [&Query; Q] = array::from_fn(|q| &self.queries[first_query + q]);
        let at = self.rows.start + first_row;
        // Other queries find the rows in the cache.
        if first_query == 0 {
            prefetch_behind(&self.codes.bytes[at * self.codes.width..][..R * self.codes.width]);
        }
        let products =
            kernel.products(queries, array::from_fn::<_, R, _>(|r| self.codes.row(at + r)));
        let scales = &self.codes.scales[at..][..R];
        for (q, products) in products.iter().enumerate() {
            let out = &mut self.out[(first_query + q) * self.stride + first_row..][..R];
            for ((out, product), scale) in out.iter_mut().zip(products).zip(scales) {
                let product = (product - queries[q].offset) as f32 * queries[q].factor;
                *out = product * scale.factor + scale.term;
            }
        }
    }
}

/// Inner products of queries and rows.
trait Kernel: Copy {
    /// For each query that with each row; all of one width, a multiple of [`LANES`].
    fn products<const Q: usize, const R: usize>(
        self,
        queries: [&Query; Q],
        rows: [&[u8]; R],
    ) -> [[i32; R]; Q];
}

/// Runs with the fastest kernel that this CPU has.
fn with_kernel(comparison: Comparison) {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(simd) = x86::Vnni::try_new() {
            return simd.run(comparison);
        }
        if let Some(simd) = pulp::x86::V3::try_new() {
            return simd.vectorize(
                #[inline(always)]
                || comparison.run(simd),
            );
        }
    }
    comparison.run(Plain);
}

/// Whatever the compiler makes of it.
#[derive(Clone, Copy)]
struct Plain;

impl Kernel for Plain {
    #[inline(always)]
    fn products<const Q: usize, const R: usize>(
        self,
        queries: [&Query; Q],
        rows: [&[u8]; R],
    ) -> [[i32; R]; Q] {
        let product = |query: &Query, row: &[u8]| {
            let terms = query.words.iter().zip(row).map(|(&q, &r)| i32::from(q) * i32::from(r));
            terms.sum()
        };
        queries.map(|query| rows.map(|row| product(query, row)))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::{arch::x86_64::*, array};

    use pulp::{cast, x86::V3};

    use super::{Comparison, Kernel, LANES, Query};

    /// The instruction `vpdpbusd`: 64 products of bytes, summed in fours.
    #[derive(Clone, Copy)]
    pub struct Vnni(());

    impl Vnni {
        pub fn try_new() -> Option<Self> {
            let there = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vnni");
            there.then_some(Self(()))
        }

        #[allow(unsafe_code)]
        pub fn run(self, comparison: Comparison) {
            // SAFETY: a `Vnni` exists only where the CPU has these instructions.
            unsafe { self.run_there(comparison) }
        }

        #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
        fn run_there(self, comparison: Comparison) {
            comparison.run(self);
        }
    }

    // Indexed over several arrays at once, so that every loop has a constant length and unrolls.
    #[allow(clippy::needless_range_loop)]
    impl Kernel for Vnni {
        #[inline(always)]
        #[allow(unsafe_code)]
        fn products<const Q: usize, const R: usize>(
            self,
            queries: [&Query; Q],
            rows: [&[u8]; R],
        ) -> [[i32; R]; Q] {
            let queries = queries.map(|query| query.bytes.as_chunks::<LANES>().0);
            let rows = rows.map(|row| row.as_chunks::<LANES>().0);
            let steps = rows[0].len();
            let (queries, rows) = (queries.map(|q| &q[..steps]), rows.map(|r| &r[..steps]));
            // SAFETY: a `Vnni` exists only where the CPU has these instructions, and each load
            // reads the 64 bytes of its array.
            unsafe {
                let mut sums = [[_mm512_setzero_si512(); R]; Q];
                for i in 0..steps {
                    let row: [_; R] =
                        array::from_fn(|r| _mm512_loadu_si512(rows[r][i].as_ptr().cast()));
                    for q in 0..Q {
                        let query = _mm512_loadu_si512(queries[q][i].as_ptr().cast());
                        for r in 0..R {
                            sums[q][r] = _mm512_dpbusd_epi32(sums[q][r], row[r], query);
                        }
                    }
                }
                sums.map(|sums| sums.map(|sum| _mm512_reduce_add_epi32(sum)))
            }
        }
    }

    /// Sixteen values a step, widened to words: `vpmaddwd` adds their products in pairs.
    #[allow(clippy::needless_range_loop)]
    impl Kernel for V3 {
        #[inline(always)]
        fn products<const Q: usize, const R: usize>(
            self,
            queries: [&Query; Q],
            rows: [&[u8]; R],
        ) -> [[i32; R]; Q] {
            let queries = queries.map(|query| query.words.as_chunks::<16>().0);
            let rows = rows.map(|row| row.as_chunks::<16>().0);
            let steps = rows[0].len();
            let (queries, rows) = (queries.map(|q| &q[..steps]), rows.map(|r| &r[..steps]));
            let mut sums = [[self.avx._mm256_setzero_si256(); R]; Q];
            for i in 0..steps {
                let row: [_; R] =
                    array::from_fn(|r| self.avx2._mm256_cvtepu8_epi16(cast(rows[r][i])));
                for q in 0..Q {
                    let query = cast(queries[q][i]);
                    for r in 0..R {
                        let pairs = self.avx2._mm256_madd_epi16(row[r], query);
                        sums[q][r] = self.avx2._mm256_add_epi32(sums[q][r], pairs);
                    }
                }
            }
            sums.map(|sums| sums.map(|sum| cast::<_, [i32; 8]>(sum).iter().sum()))
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn uniform(rows: usize, dim: usize, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..rows * dim).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    fn codes(rows: &[f32], dim: usize, metric: Metric) -> Codes {
        Codes::new(Rows { values: rows, dim }, metric)
    }

    /// 4 · 0.5 + (−2) · 1: all values are multiples of a step.
    #[test]
    fn on_paper() {
        let rows = [127., -64., 32., 127.];
        let mut out = [0.0; 2];
        let codes = codes(&rows, 2, Metric::InnerProduct);
        codes.compare(&[Query::new(&[127., 2.], &codes)], 0..2, &mut out, 2);
        assert_eq!(out, [127. * 127. - 128., 32. * 127. + 254.]);
    }

    #[test]
    fn every_kernel_has_the_same_sums() {
        let (dim, count) = (203, 13);
        let (rows, queries) = (uniform(count, dim, 0), uniform(7, dim, 1));
        for metric in [Metric::InnerProduct, Metric::L2] {
            let codes = codes(&rows, dim, metric);
            let queries: Vec<_> = queries.chunks(dim).map(|row| Query::new(row, &codes)).collect();
            let run = |chosen: bool| {
                let mut out = vec![0.0; queries.len() * count];
                let (codes, queries, rows) = (&codes, &queries[..], 0..count);
                let all = Comparison { codes, queries, rows, out: &mut out, stride: count };
                if chosen {
                    with_kernel(all)
                } else {
                    all.run(Plain)
                }
                out
            };
            assert_eq!(run(true), run(false));
        }
    }

    #[test]
    fn near_the_true_similarity() {
        let dim = 64;
        let (rows, query) = (uniform(50, dim, 0), uniform(1, dim, 1));
        let codes = codes(&rows, dim, Metric::L2);
        let mut out = vec![0.0; 50];
        codes.compare(&[Query::new(&query, &codes)], 0..50, &mut out, 50);
        let square: f32 = query.iter().map(|q| q * q).sum();
        for (row, similarity) in rows.chunks(dim).zip(out) {
            let distance: f32 = row.iter().zip(&query).map(|(x, q)| (x - q) * (x - q)).sum();
            // Each of 64 products is off by at most 1/127, half a step on either side; they cancel.
            assert!((square - similarity - distance).abs() < 0.1);
        }
    }

    #[test]
    fn zeros_and_the_smallest_numbers() {
        let rows = [0.0, 0.0, f32::MIN_POSITIVE / 4.0, 0.0];
        let codes = codes(&rows, 2, Metric::InnerProduct);
        let mut out = [1.0; 2];
        codes.compare(&[Query::new(&[1.0, 1.0], &codes)], 0..2, &mut out, 2);
        assert_eq!(out, [0.0, 0.0]);
    }
}
