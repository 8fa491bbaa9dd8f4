//! Matrix products, tile by tile in registers, and what is done to the sums before they leave them.
//!
//! Every sum is made in the order of the inner dimension, whatever the tile it is computed in: how
//! rows are divided among threads doesn't change a bit.

use pulp::Simd;
use rayon::prelude::*;

use super::{
    arch::vectorize,
    clamp::Clamp,
    registers::{load, store},
};

/// Values that a task reads and writes: they should stay in a core's own cache.
const TASK_VALUES: usize = 1 << 16;

/// Rows below which a product isn't divided further: the right side is read anew by each task.
const MIN_ROWS: usize = 24;

/// Products that are added up one by one before they are added to the rest: the rounding error of a
/// sum grows with its length.
const CHAIN: usize = 128;

/// Values of the widest register, that of AVX-512.
const MAX_LANES: usize = 16;

/// Tasks that a product of few rows is divided into.
const TASKS: usize = 8;

/// A matrix in a slice.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) values: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Is the slice column after column?
    pub(super) transposed: bool,
}

/// The right side of a product: a register's width of its columns after the other, row by row.
pub(super) struct Panels<S: Simd> {
    registers: Vec<S::f32s>,
    depth: usize,
    width: usize,
}

impl<S: Simd> Panels<S> {
    pub(super) fn new(simd: S, matrix: Matrix) -> Self {
        let (depth, width) = (matrix.rows, matrix.columns);
        let count = width.div_ceil(S::F32_LANES);
        let mut registers = vec![simd.splat_f32s(0.0); depth * count];
        let panels = registers.par_chunks_mut(depth.max(1)).enumerate();
        panels.for_each(|(panel, out)| {
            vectorize(
                simd,
                #[inline(always)]
                || pack(simd, matrix, panel * S::F32_LANES, out),
            )
        });
        Self { registers, depth, width }
    }

    /// Of no matrix, to be filled.
    pub(super) fn empty() -> Self {
        Self { registers: vec![], depth: 0, width: 0 }
    }

    /// Of another matrix, in the same memory.
    #[inline(always)]
    pub(super) fn refill(&mut self, simd: S, matrix: Matrix) {
        (self.depth, self.width) = (matrix.rows, matrix.columns);
        let count = self.width.div_ceil(S::F32_LANES);
        self.registers.resize(self.depth * count, simd.splat_f32s(0.0));
        for (panel, out) in self.registers.chunks_mut(self.depth.max(1)).enumerate() {
            pack(simd, matrix, panel * S::F32_LANES, out);
        }
    }

    fn count(&self) -> usize {
        self.width.div_ceil(S::F32_LANES)
    }

    #[inline(always)]
    fn panel(&self, panel: usize) -> &[S::f32s] {
        &self.registers[panel * self.depth..][..self.depth]
    }
}

/// One panel: the columns from `first` on.
#[inline(always)]
fn pack<S: Simd>(simd: S, matrix: Matrix, first: usize, out: &mut [S::f32s]) {
    let width = S::F32_LANES.min(matrix.columns - first);
    if matrix.transposed {
        let mut columns: [&[f32]; MAX_LANES] = [&[]; MAX_LANES];
        for (lane, column) in columns[..width].iter_mut().enumerate() {
            *column = &matrix.values[(first + lane) * matrix.rows..][..matrix.rows];
        }
        let rows = pulp::bytemuck::cast_slice_mut::<_, f32>(out).chunks_exact_mut(S::F32_LANES);
        for (k, row) in rows.enumerate() {
            row.iter_mut().zip(&columns[..width]).for_each(|(value, column)| *value = column[k]);
        }
    } else {
        for (row, out) in matrix.values.chunks_exact(matrix.columns).zip(out) {
            *out = load(simd, &row[first..first + width]);
        }
    }
}

/// The left side of a product.
pub(super) trait Left: Copy + Sync {
    /// The function from a place along the inner dimension to the values there of `R` rows from
    /// `first` on.
    fn tile<const R: usize>(self, first: usize, depth: usize) -> impl Fn(usize) -> [f32; R];
}

/// Row after row.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a>(pub(super) &'a [f32]);

impl Left for Rows<'_> {
    #[inline(always)]
    fn tile<const R: usize>(self, first: usize, depth: usize) -> impl Fn(usize) -> [f32; R] {
        let mut rows: [&[f32]; R] = [&[]; R];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = &self.0[(first + r) * depth..][..depth];
        }
        #[inline(always)]
        move |k| {
            let mut values = [0.0; R];
            for r in 0..R {
                values[r] = rows[r][k];
            }
            values
        }
    }
}

/// Column after column of so many rows.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a>(pub(super) &'a [f32], pub(super) usize);

impl Left for Columns<'_> {
    #[inline(always)]
    fn tile<const R: usize>(self, first: usize, _: usize) -> impl Fn(usize) -> [f32; R] {
        #[inline(always)]
        move |k| *self.0[k * self.1 + first..].first_chunk().expect("R rows from `first` on")
    }
}

/// What becomes of the sums of a product.
pub(super) trait Finish<S: Simd>: Copy + Sync {
    /// May a sum be finished twice?
    const REPEATABLE: bool;

    /// Brings a register of sums to its place: `out` begins there and ends with the row.
    fn finish(self, simd: S, sums: S::f32s, row: usize, panel: usize, out: &mut [f32]);
}

/// Adds the sums to what is there.
#[derive(Clone, Copy)]
pub(super) struct Accumulate;

impl<S: Simd> Finish<S> for Accumulate {
    const REPEATABLE: bool = false;

    #[inline(always)]
    fn finish(self, simd: S, sums: S::f32s, _: usize, _: usize, out: &mut [f32]) {
        store(simd, out, simd.add_f32s(load(simd, out), sums));
    }
}

/// Writes `clamp(sums + bias) + residual`.
#[derive(Clone, Copy)]
pub(super) struct Write<'a, S: Simd> {
    /// One register a panel; none if there is no bias.
    pub(super) bias: &'a [S::f32s],
    /// A matrix of the output's size.
    pub(super) residual: Option<Matrix<'a>>,
    pub(super) clamp: Clamp,
}

impl<S: Simd> Write<'_, S> {
    /// The sums alone.
    pub(super) fn sums() -> Self {
        Self { bias: &[], residual: None, clamp: Clamp::NONE }
    }

    /// For the rows from `first` on.
    pub(super) fn skip(self, first: usize) -> Self {
        Self { residual: self.residual.map(|residual| residual.skip(first)), ..self }
    }
}

impl<S: Simd> Finish<S> for Write<'_, S> {
    const REPEATABLE: bool = true;

    #[inline(always)]
    fn finish(self, simd: S, sums: S::f32s, row: usize, panel: usize, out: &mut [f32]) {
        let mut y = sums;
        if let Some(&bias) = self.bias.get(panel) {
            y = simd.add_f32s(y, bias);
        }
        if self.clamp != Clamp::NONE {
            y = self.clamp.apply(simd, y);
        }
        if let Some(residual) = self.residual {
            let row = &residual.values[row * residual.columns..][..residual.columns];
            y = simd.add_f32s(y, load(simd, &row[panel * S::F32_LANES..]));
        }
        store(simd, out, y);
    }
}

/// `finish(left · right)`, into the rows of `out`.
#[inline(always)]
pub(super) fn multiply<S: Simd>(
    simd: S,
    left: impl Left,
    right: &Panels<S>,
    finish: impl Finish<S>,
    out: &mut [f32],
) {
    let mut panel = 0;
    while panel < right.count() {
        // Two panels at a time, and three at last rather than one, which would wait for its sums.
        panel += match right.count() - panel {
            1 => strip_of_one(simd, left, right, panel, finish, out),
            3 => strip_of_three(simd, left, right, panel, finish, out),
            _ => strip_of_two(simd, left, right, panel, finish, out),
        };
    }
}

macro_rules! strip_of {
    ($name:ident, $panels:literal, $rows:literal, $rows_of_many:literal) => {
        /// As many rows at a time as there are registers for their sums.
        #[inline(always)]
        fn $name<S: Simd>(
            simd: S,
            left: impl Left,
            right: &Panels<S>,
            panel: usize,
            finish: impl Finish<S>,
            out: &mut [f32],
        ) -> usize {
            if S::REGISTER_COUNT > 16 {
                strip::<S, $rows_of_many, $panels>(simd, left, right, panel, finish, out);
            } else {
                strip::<S, $rows, $panels>(simd, left, right, panel, finish, out);
            }
            $panels
        }
    };
}

strip_of!(strip_of_one, 1, 8, 16);
strip_of!(strip_of_two, 2, 6, 12);
strip_of!(strip_of_three, 3, 3, 8);

/// All rows against `V` panels, `R` rows at a time.
#[inline(always)]
fn strip<S: Simd, const R: usize, const V: usize>(
    simd: S,
    left: impl Left,
    right: &Panels<S>,
    panel: usize,
    finish: impl Finish<S>,
    out: &mut [f32],
) {
    let rows = out.len() / right.width;
    let whole = rows / R * R;
    for row in (0..whole).step_by(R) {
        tile::<S, R, V>(simd, left, right, [row, panel], finish, out);
    }
    if whole < rows {
        rest::<S, _, R, V>(simd, left, right, [whole, panel], finish, out);
    }
}

/// The rows from `whole` on, fewer than `R`: with some of those before once more if that is allowed.
#[inline(always)]
fn rest<S: Simd, F: Finish<S>, const R: usize, const V: usize>(
    simd: S,
    left: impl Left,
    right: &Panels<S>,
    [whole, panel]: [usize; 2],
    finish: F,
    out: &mut [f32],
) {
    let rows = out.len() / right.width;
    if F::REPEATABLE && rows >= R {
        return tile::<S, R, V>(simd, left, right, [rows - R, panel], finish, out);
    }
    for row in whole..rows {
        tile::<S, 1, V>(simd, left, right, [row, panel], finish, out);
    }
}

#[inline(always)]
fn tile<S: Simd, const R: usize, const V: usize>(
    simd: S,
    left: impl Left,
    right: &Panels<S>,
    [row, panel]: [usize; 2],
    finish: impl Finish<S>,
    out: &mut [f32],
) {
    let mut panels: [&[S::f32s]; V] = [&[]; V];
    for (v, out) in panels.iter_mut().enumerate() {
        *out = right.panel(panel + v);
    }
    let sums = sums(simd, right.depth, left.tile::<R>(row, right.depth), panels);
    for r in 0..R {
        let out = &mut out[(row + r) * right.width..][..right.width];
        for v in 0..V {
            let out = &mut out[(panel + v) * S::F32_LANES..];
            finish.finish(simd, sums[r][v], row + r, panel + v, out);
        }
    }
}

// Indexed over several arrays at once, so that every loop has a constant length and unrolls.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
fn sums<S: Simd, const R: usize, const V: usize>(
    simd: S,
    depth: usize,
    left: impl Fn(usize) -> [f32; R],
    right: [&[S::f32s]; V],
) -> [[S::f32s; V]; R] {
    let zeros = [[simd.splat_f32s(0.0); V]; R];
    let (mut sums, mut earlier) = (zeros, zeros);
    let mut panels: [&[S::f32s]; V] = [&[]; V];
    for v in 0..V {
        panels[v] = &right[v][..depth];
    }
    for first in (0..depth).step_by(CHAIN) {
        if first > 0 {
            add(simd, &mut earlier, sums);
            sums = zeros;
        }
        for k in first..depth.min(first + CHAIN) {
            let left = left(k);
            let mut right = [simd.splat_f32s(0.0); V];
            for v in 0..V {
                right[v] = panels[v][k];
            }
            for r in 0..R {
                let value = simd.splat_f32s(left[r]);
                for v in 0..V {
                    sums[r][v] = simd.mul_add_e_f32s(value, right[v], sums[r][v]);
                }
            }
        }
    }
    if depth > CHAIN {
        add(simd, &mut sums, earlier);
    }
    sums
}

#[allow(clippy::needless_range_loop)] // as above
#[inline(always)]
fn add<S: Simd, const R: usize, const V: usize>(
    simd: S,
    sums: &mut [[S::f32s; V]; R],
    others: [[S::f32s; V]; R],
) {
    for r in 0..R {
        for v in 0..V {
            sums[r][v] = simd.add_f32s(sums[r][v], others[r][v]);
        }
    }
}

/// Rows of a product that are one task, by its size alone.
pub(super) fn rows_of_task(rows: usize, depth: usize, width: usize) -> usize {
    let cached = (TASK_VALUES / (depth + width)).max(MIN_ROWS);
    rows.div_ceil(TASKS).clamp(MIN_ROWS, cached)
}

/// `finish(left · right)` on all threads, into the rows of `out`.
pub(super) fn multiply_rows<S: Simd>(
    simd: S,
    left: &[f32],
    right: &Panels<S>,
    finish: Write<S>,
    out: &mut [f32],
) {
    let (depth, width) = (right.depth, right.width);
    if out.is_empty() {
        return;
    }
    let rows = rows_of_task(out.len() / width, depth, width);
    out.par_chunks_mut(rows * width).enumerate().for_each(|(task, out)| {
        let first = task * rows;
        let left = &left[first * depth..];
        let finish = finish.skip(first);
        vectorize(
            simd,
            #[inline(always)]
            || multiply(simd, Rows(left), right, finish, out),
        );
    });
}

impl Matrix<'_> {
    /// Of the same values, rows for columns.
    pub(super) fn transpose(self) -> Self {
        let Self { values, rows, columns, transposed } = self;
        Self { values, rows: columns, columns: rows, transposed: !transposed }
    }

    /// All rows from `first` on.
    fn skip(self, first: usize) -> Self {
        let values = &self.values[first * self.columns..];
        Self { values, rows: self.rows - first, ..self }
    }
}
