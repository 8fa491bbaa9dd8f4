//! Products of matrices.
//!
//! The right factor is packed into panels, as wide as a tile, whose values lie in the order in which
//! they are used; the left one is read where it lies. A tile of sums stays in registers. Every sum
//! is taken in the order of the inner dimension, so an output doesn't depend on the tile, the block
//! or the thread that it falls to, nor on how many rows the product has.

use std::{array, borrow::Cow, ops::Range};

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::blocks;

/// Most rows of a tile.
const TILE_ROWS: usize = 6;
/// Steps of the inner dimension taken together: so many of a panel stay in the first-level cache.
const STEPS: usize = 384;
/// Steps between two hints about what is needed next.
const UNROLLED: usize = 8;
/// Values of a cache line.
const LINE: usize = 16;
/// Rows of a task: what stays of both factors and the product in the second-level cache.
const TASK_ROWS: usize = 48;
/// Up to so many rows, tasks share out the columns instead: the right factor, which is then the
/// larger, is read once.
const FEW_ROWS: usize = 128;
/// Panels of such a task.
const TASK_PANELS: usize = 4;
/// Products of numbers, below which sharing them with another thread takes longer than doing them.
const PARALLEL: usize = 1 << 20;

/// A matrix, transposed or not.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    /// From one row of `values` to the next.
    stride: usize,
    transposed: bool,
}

impl<'a> Matrix<'a> {
    /// Row-major values.
    pub fn new(values: &'a [f32], columns: usize) -> Self {
        let rows = values.len().checked_div(columns).unwrap_or(0);
        Self { values, rows, columns, stride: columns, transposed: false }
    }

    /// Rows that begin `stride` values after one another.
    pub fn strided(values: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        Self { values, rows, columns, stride, transposed: false }
    }

    pub fn transpose(self) -> Self {
        Self { rows: self.columns, columns: self.rows, transposed: !self.transposed, ..self }
    }

    pub fn row_count(self) -> usize {
        self.rows
    }

    pub fn columns(self) -> usize {
        self.columns
    }

    /// Values of some rows, and the distance from one to the next.
    fn rows(self, range: Range<usize>) -> (Cow<'a, [f32]>, usize) {
        if !self.transposed {
            return (self.values[range.start * self.stride..].into(), self.stride);
        }
        let mut rows = vec![0.0; range.len() * self.columns];
        for column in 0..self.columns {
            let values = &self.values[column * self.stride..][range.clone()];
            let targets = rows[column..].iter_mut().step_by(self.columns);
            targets.zip(values).for_each(|(to, from)| *to = *from);
        }
        (rows.into(), self.columns)
    }

    /// Writes some columns, row after row, each row `width` apart.
    fn copy_columns(self, columns: Range<usize>, width: usize, out: &mut [f32]) {
        if self.transposed {
            for (to, column) in columns.enumerate() {
                let values = &self.values[column * self.stride..][..self.rows];
                let targets = out[to..].iter_mut().step_by(width);
                targets.zip(values).for_each(|(to, from)| *to = *from);
            }
        } else {
            for (row, out) in out.chunks_exact_mut(width).enumerate() {
                let values = &self.values[row * self.stride..][columns.clone()];
                out[..columns.len()].copy_from_slice(values);
            }
        }
    }
}

/// The right factor of a product, `[depth, columns]`, packed for an instruction set.
pub(in crate::ops) struct Packed {
    arch: Arch,
    /// Of each panel `[depth, width]`, the last filled up with zeros.
    values: Vec<f32>,
    depth: usize,
    columns: usize,
    width: usize,
}

impl Packed {
    pub fn new(arch: Arch, b: Matrix) -> Self {
        let width = arch.dispatch(PanelWidth);
        let panel = (b.rows * width).max(1);
        let values =
            blocks::generate(b.columns.div_ceil(width) * b.rows * width, panel, |i, out| {
                let first = i * width;
                b.copy_columns(first..b.columns.min(first + width), width, out);
            });
        Self { arch, values, depth: b.rows, columns: b.columns, width }
    }

    pub fn arch(&self) -> Arch {
        self.arch
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    fn panels(&self) -> usize {
        self.columns.div_ceil(self.width)
    }

    fn panel(&self, panel: usize) -> &[f32] {
        &self.values[panel * self.depth * self.width..][..self.depth * self.width]
    }
}

/// `a · b + bias`, row-major, with `finish` applied to parts of it while they are in the cache.
pub(in crate::ops) fn product(
    a: Matrix,
    b: &Packed,
    bias: Option<&[f32]>,
    finish: impl Fn(&mut [f32]) + Send + Sync,
) -> Vec<f32> {
    assert_eq!(a.columns, b.depth, "the inner dimensions of a product");
    if a.rows <= FEW_ROWS && a.rows * b.columns * b.depth >= PARALLEL {
        return by_columns(a, b, bias, finish);
    }
    let block = (TASK_ROWS * b.columns).max(1);
    blocks::generate(a.rows * b.columns, block, |task, out| {
        let first = task * TASK_ROWS;
        let rows = first..a.rows.min(first + TASK_ROWS);
        part(a, rows, b, 0..b.panels(), bias, out);
        finish(out);
    })
}

/// The product of a few rows: each task has all of them, and some columns.
fn by_columns(
    a: Matrix,
    b: &Packed,
    bias: Option<&[f32]>,
    finish: impl Fn(&mut [f32]) + Send + Sync,
) -> Vec<f32> {
    let tasks = (0..b.panels()).into_par_iter().step_by(TASK_PANELS).map(|first| {
        let panels = first..b.panels().min(first + TASK_PANELS);
        let columns = first * b.width..b.columns.min(panels.end * b.width);
        let mut out = vec![0.0; a.rows * columns.len()];
        let bias = bias.map(|bias| &bias[columns.clone()]);
        part(a, 0..a.rows, b, panels, bias, &mut out);
        finish(&mut out);
        (out, columns.len())
    });
    let parts: Vec<_> = tasks.collect();
    let mut out = Vec::with_capacity(a.rows * b.columns);
    for row in 0..a.rows {
        for (part, columns) in &parts {
            out.extend_from_slice(&part[row * columns..][..*columns]);
        }
    }
    out
}

/// Adds some rows of `a` times some panels of `b`, and the bias, to the zeros of `out`.
fn part(
    a: Matrix,
    rows: Range<usize>,
    b: &Packed,
    panels: Range<usize>,
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    if let Some(bias) = bias {
        out.chunks_exact_mut(bias.len().max(1)).for_each(|row| row.copy_from_slice(bias));
    }
    let stride = out.len().checked_div(rows.len()).unwrap_or(0);
    accumulate(a, rows, b, panels, out, stride);
}

/// `out += a · b`, where the rows of `out` begin `stride` values after one another.
pub(in crate::ops) fn add_product(
    arch: Arch,
    a: Matrix,
    b: Matrix,
    out: &mut [f32],
    stride: usize,
) {
    let b = Packed::new(arch, b);
    accumulate(a, 0..a.rows, &b, 0..b.panels(), out, stride);
}

fn accumulate(
    a: Matrix,
    rows: Range<usize>,
    b: &Packed,
    panels: Range<usize>,
    out: &mut [f32],
    stride: usize,
) {
    if rows.is_empty() {
        return;
    }
    let count = rows.len();
    let (rows, row_stride) = a.rows(rows);
    b.arch.dispatch(Accumulate { rows: &rows, row_stride, count, b, panels, out, stride });
}

/// Columns of a panel.
struct PanelWidth;

impl WithSimd for PanelWidth {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        panel_vectors::<S>() * S::F32_LANES
    }
}

/// A quarter of the registers hold a row of a panel and one value of the left factor's; the others
/// hold sums.
#[inline(always)]
const fn panel_vectors<S: Simd>() -> usize {
    S::REGISTER_COUNT / 8
}

/// `out += rows · b`.
struct Accumulate<'a> {
    rows: &'a [f32],
    row_stride: usize,
    count: usize,
    b: &'a Packed,
    panels: Range<usize>,
    out: &'a mut [f32],
    stride: usize,
}

impl WithSimd for Accumulate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match panel_vectors::<S>() {
            4 => self.accumulate::<S, 4>(simd),
            _ => self.accumulate::<S, 2>(simd),
        }
    }
}

impl Accumulate<'_> {
    #[inline(always)]
    fn accumulate<S: Simd, const V: usize>(mut self, simd: S) {
        for first in (0..self.b.depth).step_by(STEPS) {
            let steps = first..self.b.depth.min(first + STEPS);
            for panel in self.panels.clone() {
                self.panel::<S, V>(simd, panel, steps.clone());
            }
        }
    }

    #[inline(always)]
    fn panel<S: Simd, const V: usize>(&mut self, simd: S, panel: usize, steps: Range<usize>) {
        let width = self.b.width;
        let values = &self.b.panel(panel)[steps.start * width..steps.end * width];
        let (values, _) = S::as_simd_f32s(values).0.as_chunks::<V>();
        let column = (panel - self.panels.start) * width;
        let columns = column..column + width.min(self.b.columns - panel * width);
        // Tiles of about the same height: 25 rows are five of 5, and not four of 6 and one of 1.
        let tiles = self.count.div_ceil(TILE_ROWS);
        let height = self.count.div_ceil(tiles);
        let next = match panel + 1 < self.panels.end {
            true => &self.b.panel(panel + 1)[steps.start * width..steps.end * width],
            false => &[],
        };
        let share = next.len().div_ceil(tiles);
        for row in (0..self.count).step_by(height) {
            let from = (row / height * share).min(next.len());
            let ahead = &next[from..next.len().min(from + share)];
            let tile = Tile { row, columns: columns.clone(), steps: steps.clone(), ahead };
            match height.min(self.count - row) {
                1 => self.tile::<S, V, 1>(simd, tile, values),
                2 => self.tile::<S, V, 2>(simd, tile, values),
                3 => self.tile::<S, V, 3>(simd, tile, values),
                4 => self.tile::<S, V, 4>(simd, tile, values),
                5 => self.tile::<S, V, 5>(simd, tile, values),
                _ => self.tile::<S, V, TILE_ROWS>(simd, tile, values),
            }
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const V: usize, const H: usize>(
        &mut self,
        simd: S,
        tile: Tile,
        panel: &[[S::f32s; V]],
    ) {
        let rows: [&[f32]; H] =
            array::from_fn(|h| &self.rows[(tile.row + h) * self.row_stride..][tile.steps.clone()]);
        let sums = sums::<S, V, H>(simd, rows, panel, tile.ahead);
        for (h, sums) in sums.into_iter().enumerate() {
            let row = &mut self.out[(tile.row + h) * self.stride..];
            add_to(simd, &mut row[tile.columns.clone()], sums);
        }
    }
}

/// Where the sums of a tile go, and what they are taken over.
struct Tile<'a> {
    row: usize,
    columns: Range<usize>,
    steps: Range<usize>,
    /// This tile's share of the next panel.
    ahead: &'a [f32],
}

/// Of a tile; all of them in registers. Brings `ahead` towards the cache meanwhile.
// Indexed, so that every loop has a constant length and unrolls.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
fn sums<S: Simd, const V: usize, const H: usize>(
    simd: S,
    rows: [&[f32]; H],
    panel: &[[S::f32s; V]],
    ahead: &[f32],
) -> [[S::f32s; V]; H] {
    let mut sums = [[simd.splat_f32s(0.0); V]; H];
    let (whole, rest) = panel.as_chunks::<UNROLLED>();
    let blocks = whole.len();
    let lines = ahead.len().div_ceil(LINE).div_ceil(blocks.max(1));
    let mut heads: [&[[f32; UNROLLED]]; H] = [&[]; H];
    for h in 0..H {
        heads[h] = &rows[h].as_chunks().0[..blocks];
    }
    for block in 0..blocks {
        for line in block * lines..(block + 1) * lines {
            prefetch(ahead, line * LINE);
        }
        for i in 0..UNROLLED {
            let b = whole[block][i];
            for h in 0..H {
                let a = simd.splat_f32s(heads[h][block][i]);
                for v in 0..V {
                    sums[h][v] = simd.mul_add_e_f32s(a, b[v], sums[h][v]);
                }
            }
        }
    }
    for (i, b) in rest.iter().enumerate() {
        for h in 0..H {
            let a = simd.splat_f32s(rows[h][blocks * UNROLLED + i]);
            for v in 0..V {
                sums[h][v] = simd.mul_add_e_f32s(a, b[v], sums[h][v]);
            }
        }
    }
    sums
}

/// Asks for the cache line of a value that is needed soon; a hint, and only on x86.
#[inline(always)]
#[allow(unsafe_code, unused_variables)]
fn prefetch(values: &[f32], i: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if let Some(value) = values.get(i) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: every x86-64 has the instruction, and the address is a reference's.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(value).cast()) };
    }
}

/// Adds as many as there is room for, whole registers and a part of the next.
#[inline(always)]
fn add_to<S: Simd, const V: usize>(simd: S, out: &mut [f32], sums: [S::f32s; V]) {
    let (whole, rest) = S::as_mut_simd_f32s(out);
    let last = sums[whole.len().min(V - 1)];
    for (out, sum) in whole.iter_mut().zip(sums) {
        *out = simd.add_f32s(*out, sum);
    }
    if !rest.is_empty() {
        let sum = simd.add_f32s(simd.partial_load_f32s(rest), last);
        simd.partial_store_f32s(rest, sum);
    }
}

#[cfg(test)]
mod tests {
    use super::super::arch;
    use super::*;

    /// Rows, inner dimension and columns: one number, nothing whole, more than a task, few rows of
    /// many columns, more steps than are taken together.
    const SIZES: [[usize; 3]; 7] = [
        [1, 1, 1],
        [7, 17, 33],
        [6, 16, 64],
        [130, 9, 70],
        [25, 300, 600],
        [3, 401, 5],
        [97, 20, 1],
    ];

    fn numbers(len: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
        (0..columns).flat_map(|c| values[c..].iter().step_by(columns).copied()).collect()
    }

    /// Summed one by one, in `f64`.
    fn expected([rows, depth, columns]: [usize; 3], a: &[f32], b: &[f32]) -> Vec<f64> {
        let at = |r: usize, c: usize| {
            (0..depth).map(|k| f64::from(a[r * depth + k]) * f64::from(b[k * columns + c])).sum()
        };
        (0..rows * columns).map(|i| at(i / columns, i % columns)).collect()
    }

    fn assert_close(found: &[f32], expected: &[f64], what: &str) {
        assert_eq!(found.len(), expected.len(), "{what}");
        for (&found, expected) in found.iter().zip(expected) {
            assert!((f64::from(found) - expected).abs() < 1e-4, "{what}: {found}, not {expected}");
        }
    }

    #[test]
    fn every_instruction_set_and_layout_against_one_sum_after_the_other() {
        for size @ [rows, depth, columns] in SIZES {
            let (a, b) = (numbers(rows * depth), numbers(depth * columns));
            let (at, bt) = (transposed(&a, depth), transposed(&b, columns));
            let expected = expected(size, &a, &b);
            for arch in arch::all() {
                for a in [Matrix::new(&a, depth), Matrix::new(&at, rows).transpose()] {
                    for b in [Matrix::new(&b, columns), Matrix::new(&bt, depth).transpose()] {
                        let found = product(a, &Packed::new(arch, b), None, |_| ());
                        assert_close(&found, &expected, &format!("{size:?}, {arch:?}"));
                    }
                }
            }
        }
    }

    #[test]
    fn rows_apart_and_a_sum_that_is_there_already() {
        // [1 2; 3 4] · [1; 1] within rows of 3, added to 10 and 20 within rows of 2.
        let a = Matrix::strided(&[1.0, 2.0, 9.0, 3.0, 4.0], 2, 2, 3);
        for arch in arch::all() {
            let mut out = [10.0, 0.0, 20.0];
            add_product(arch, a, Matrix::new(&[1.0, 1.0], 1), &mut out, 2);
            assert_eq!(out, [13.0, 0.0, 27.0]);
        }
    }

    #[test]
    fn a_bias_and_what_comes_after_it() {
        let b = Packed::new(Arch::new(), Matrix::new(&[1.0, 2.0], 2));
        let found = product(Matrix::new(&[1.0, -1.0], 1), &b, Some(&[0.5, 0.0]), |out| {
            out.iter_mut().for_each(|x| *x = x.abs());
        });
        assert_eq!(found, [1.5, 2.0, 0.5, 2.0]);
    }

    #[test]
    fn an_output_depends_on_its_row_and_column_alone() {
        let [rows, depth, columns] = [130, 400, 300];
        let (a, b) = (numbers(rows * depth), numbers(depth * columns));
        let b = Packed::new(Arch::new(), Matrix::new(&b, columns));
        let whole = product(Matrix::new(&a, depth), &b, None, |_| ());
        for row in [0, 77, 129] {
            let row_alone = &a[row * depth..][..depth];
            let alone = product(Matrix::new(row_alone, depth), &b, None, |_| ());
            assert_eq!(alone, whole[row * columns..][..columns], "row {row}");
        }
    }

    #[test]
    fn no_rows() {
        let b = Packed::new(Arch::new(), Matrix::new(&[1.0; 12], 4));
        assert!(product(Matrix::new(&[], 3), &b, Some(&[1.0; 4]), |_| ()).is_empty());
    }
}
