//! Matrix products, tile by tile in registers, and what is done to the sums before they leave them.
//!
//! The right side is packed; the left one is read where it lies. Every sum is made in the order of
//! the inner dimension, so an output depends neither on the tile or the thread that it falls to nor
//! on how many rows the product has.

// Several arrays are indexed at once, so that every loop has a constant length and unrolls.
#![allow(clippy::needless_range_loop)]

use std::{borrow::Cow, iter, ops::Range};

use pulp::{Simd, WithSimd, bytemuck};
use rayon::prelude::*;

use super::{
    arch::{Arch, vectorize},
    arithmetic::{Arithmetic, Single},
    blocks,
    clamp::Clamp,
    registers::{load, store},
};

/// Steps of the inner dimension taken together: so many of two panels stay in the first cache, and
/// the rounding error of a sum grows with its length.
const STEPS: usize = 384;

/// Steps between two looks at what comes next. A loop over so many isn't unrolled, on purpose: the
/// values of several steps would be loaded at once then, and taken apart again.
const LOOK: usize = 8;

/// Values that a task reads and writes: they should stay in a core's own cache.
const TASK_VALUES: usize = 96 * 1024;

/// Rows of a task are a multiple of it: there is a tile's height for every instruction set in it.
const ROWS: usize = 12;

/// Tasks that a product is divided into at least, if each gets [`MIN_ROWS`].
const TASKS: usize = 8;

/// Rows below which a product isn't divided further: the right side is read anew by each task.
const MIN_ROWS: usize = 24;

/// Up to so many rows, tasks share out the columns instead: the right side, which is then the
/// larger, is read once.
const FEW_ROWS: usize = 128;

/// Registers of columns of such a task.
const TASK_PANELS: usize = 6;

/// Products of numbers, below which sharing them with another thread takes longer than doing them.
const PARALLEL: usize = 1 << 20;

/// Values of the widest register, that of AVX-512.
pub(super) const MAX_LANES: usize = 16;

/// A matrix, transposed or not.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    /// From one row of `values` to the next; from one column if it is transposed.
    stride: usize,
    transposed: bool,
}

impl<'a> Matrix<'a> {
    /// Row-major values.
    pub fn new(values: &'a [f32], columns: usize) -> Self {
        let rows = values.len().checked_div(columns).unwrap_or(0);
        Self::strided(values, rows, columns, columns)
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
}

/// The right side of a product: a register's width of its columns after the other, step by step.
pub(super) struct Panels<S: Simd, A = Single> {
    arithmetic: A,
    registers: Vec<S::f32s>,
    /// The inner dimension.
    depth: usize,
    /// Registers of a panel.
    steps: usize,
    width: usize,
}

impl<S: Simd> Panels<S> {
    pub(super) fn new(simd: S, matrix: Matrix) -> Self {
        Self::of_steps(simd, Single, matrix, matrix.rows)
    }

    /// Full panels of `depth` steps, one after the other.
    pub(super) fn of_registers(registers: Vec<S::f32s>, depth: usize) -> Self {
        let width = registers.len().checked_div(depth).unwrap_or(0) * S::F32_LANES;
        Self { arithmetic: Single, registers, depth, steps: depth, width }
    }

    /// Of no matrix, to be filled.
    pub(super) fn empty() -> Self {
        Self { arithmetic: Single, registers: vec![], depth: 0, steps: 0, width: 0 }
    }

    /// So many panels of `depth` steps, to be filled panel by panel. The memory stays the same.
    #[inline(always)]
    pub(super) fn resize(&mut self, simd: S, depth: usize, panels: usize) -> &mut [S::f32s] {
        (self.depth, self.steps, self.width) = (depth, depth, panels * S::F32_LANES);
        self.registers.resize(depth * panels, simd.splat_f32s(0.0));
        &mut self.registers
    }

    /// Of another matrix, in the same memory.
    #[inline(always)]
    pub(super) fn refill(&mut self, simd: S, matrix: Matrix) {
        let registers = self.resize(simd, matrix.rows, matrix.columns.div_ceil(S::F32_LANES));
        for (panel, out) in registers.chunks_mut(matrix.rows.max(1)).enumerate() {
            pack(simd, matrix, panel * S::F32_LANES, out);
        }
        self.width = matrix.columns;
    }
}

impl<S: Simd, A: Arithmetic<S>> Panels<S, A> {
    /// Of a matrix that has a row for each step, and the inner dimension `depth`.
    pub(super) fn of_steps(simd: S, arithmetic: A, matrix: Matrix, depth: usize) -> Self {
        let (steps, width) = (matrix.rows, matrix.columns);
        assert_eq!(steps, depth.div_ceil(A::VALUES), "a row for each step");
        let count = width.div_ceil(S::F32_LANES);
        let mut registers = vec![simd.splat_f32s(0.0); steps * count];
        let panels = registers.par_chunks_mut(steps.max(1)).enumerate();
        panels.for_each(|(panel, out)| {
            vectorize(
                simd,
                #[inline(always)]
                || pack(simd, matrix, panel * S::F32_LANES, out),
            )
        });
        Self { arithmetic, registers, depth, steps, width }
    }

    /// Rows of the left side as this right side needs them, and the length of each.
    pub(super) fn rows<'a>(&self, simd: S, rows: &'a [f32]) -> (Cow<'a, [f32]>, usize) {
        (self.arithmetic.rows(simd, rows, self.depth), self.steps)
    }
}

impl<S: Simd, A> Panels<S, A> {
    pub(super) fn count(&self) -> usize {
        self.width.div_ceil(S::F32_LANES)
    }

    /// Columns of these panels.
    fn columns(&self, panels: &Range<usize>) -> Range<usize> {
        panels.start * S::F32_LANES..self.width.min(panels.end * S::F32_LANES)
    }

    #[inline(always)]
    fn panel(&self, panel: usize) -> &[S::f32s] {
        &self.registers[panel * self.steps..][..self.steps]
    }
}

/// One panel: the columns from `first` on.
#[inline(always)]
fn pack<S: Simd>(simd: S, matrix: Matrix, first: usize, out: &mut [S::f32s]) {
    let width = S::F32_LANES.min(matrix.columns - first);
    if matrix.transposed {
        let mut columns: [&[f32]; MAX_LANES] = [&[]; MAX_LANES];
        for (lane, column) in columns[..width].iter_mut().enumerate() {
            *column = &matrix.values[(first + lane) * matrix.stride..][..matrix.rows];
        }
        let rows = bytemuck::cast_slice_mut::<_, f32>(out).chunks_exact_mut(S::F32_LANES);
        for (k, row) in rows.enumerate() {
            row[width..].fill(0.0);
            row.iter_mut().zip(&columns[..width]).for_each(|(value, column)| *value = column[k]);
        }
    } else {
        for (row, out) in matrix.values.chunks(matrix.stride.max(1)).zip(out) {
            *out = load(simd, &row[first..first + width]);
        }
    }
}

/// What becomes of the sums of a product.
pub(super) trait Finish<S: Simd>: Copy + Sync {
    /// Are the sums added to what is there?
    const ADDS: bool;

    /// Brings a register of sums to its place: `out` begins there and ends with the row.
    fn finish(self, simd: S, sums: S::f32s, place: Place, out: &mut [f32]);
}

/// Where a register of sums belongs.
#[derive(Clone, Copy)]
pub(super) struct Place {
    row: usize,
    panel: usize,
    /// Columns of the right side.
    width: usize,
}

/// Adds the sums to what is there.
#[derive(Clone, Copy)]
pub(super) struct Accumulate;

impl<S: Simd> Finish<S> for Accumulate {
    const ADDS: bool = true;

    #[inline(always)]
    fn finish(self, simd: S, sums: S::f32s, _: Place, out: &mut [f32]) {
        store(simd, out, sums);
    }
}

/// Writes `clamp(sums + bias) + residual`.
#[derive(Clone, Copy)]
pub(super) struct Write<'a, S: Simd> {
    /// One register a panel; none if there is no bias.
    pub(super) bias: &'a [S::f32s],
    /// Row-major, of the product's width.
    pub(super) residual: Option<&'a [f32]>,
    pub(super) clamp: Clamp,
}

impl<S: Simd> Write<'_, S> {
    /// The sums alone.
    pub(super) fn sums() -> Self {
        Self { bias: &[], residual: None, clamp: Clamp::NONE }
    }

    /// For the rows from `first` on, of a product of this width.
    pub(super) fn skip(self, first: usize, width: usize) -> Self {
        Self { residual: self.residual.map(|residual| &residual[first * width..]), ..self }
    }
}

impl<S: Simd> Finish<S> for Write<'_, S> {
    const ADDS: bool = false;

    #[inline(always)]
    fn finish(self, simd: S, sums: S::f32s, place: Place, out: &mut [f32]) {
        let mut y = sums;
        if let Some(&bias) = self.bias.get(place.panel) {
            y = simd.add_f32s(y, bias);
        }
        if self.clamp != Clamp::NONE {
            y = self.clamp.apply(simd, y);
        }
        if let Some(residual) = self.residual {
            let row = &residual[place.row * place.width..][..place.width];
            y = simd.add_f32s(y, load(simd, &row[place.panel * S::F32_LANES..]));
        }
        store(simd, out, y);
    }
}

/// `finish(left · right)` on all threads, both sides row-major. What `then` does to parts of it, it
/// does while they are in the cache.
pub(super) fn product<S: Simd, A: Arithmetic<S>>(
    simd: S,
    left: &[f32],
    right: &Panels<S, A>,
    finish: Write<S>,
    then: impl Fn(&mut [f32]) + Send + Sync,
) -> Vec<f32> {
    let (depth, width) = (right.depth, right.width);
    let rows = left.len().checked_div(depth).unwrap_or(0);
    if rows <= FEW_ROWS && rows * depth * width >= PARALLEL {
        return by_columns(simd, left, right, finish, then);
    }
    let task = rows_of_task(rows, depth, width);
    blocks::generate_rows(rows * width, width, task, |first, out| {
        let out = out.all();
        let left = &left[first * depth..][..out.len() / width * depth];
        let (left, steps) = right.rows(simd, left);
        multiply(simd, Rows(&left, steps), right, finish.skip(first, width), out);
        then(out);
    })
}

/// Rows of a product that are one task, by its size alone.
pub(super) fn rows_of_task(rows: usize, depth: usize, width: usize) -> usize {
    let cached = (TASK_VALUES / (depth + width).max(1)).max(MIN_ROWS) / ROWS * ROWS;
    rows.div_ceil(TASKS).next_multiple_of(ROWS).clamp(MIN_ROWS, cached)
}

/// The product of a few rows: each task has all of them, and some columns.
fn by_columns<S: Simd, A: Arithmetic<S>>(
    simd: S,
    left: &[f32],
    right: &Panels<S, A>,
    finish: Write<S>,
    then: impl Fn(&mut [f32]) + Send + Sync,
) -> Vec<f32> {
    let rows = left.len() / right.depth;
    let (left, steps) = right.rows(simd, left);
    let tasks = (0..right.count()).into_par_iter().step_by(TASK_PANELS).map(|first| {
        let panels = first..right.count().min(first + TASK_PANELS);
        let stride = right.columns(&panels).len();
        let mut out = vec![0.0; rows * stride];
        let left = Rows(&left, steps);
        let target = Target { out: &mut out, rows, stride };
        multiply_panels(simd, left, right, panels, finish, target);
        then(&mut out);
        (out, stride)
    });
    let parts: Vec<_> = tasks.collect();
    let mut out = Vec::with_capacity(rows * right.width);
    for row in 0..rows {
        for (part, columns) in &parts {
            out.extend_from_slice(&part[row * columns..][..*columns]);
        }
    }
    out
}

/// `finish(left · right)` on this thread, into the rows of `out`.
pub(super) fn multiply<S: Simd, A: Arithmetic<S>>(
    simd: S,
    left: impl Left,
    right: &Panels<S, A>,
    finish: impl Finish<S>,
    out: &mut [f32],
) {
    let stride = right.width;
    let target = Target { rows: out.len().checked_div(stride).unwrap_or(0), out, stride };
    multiply_panels(simd, left, right, 0..right.count(), finish, target);
}

/// `out += left · right` on this thread, where the rows of `out` begin `stride` values after one
/// another.
pub(in crate::ops) fn add_product(
    arch: Arch,
    left: Matrix,
    right: Matrix,
    out: &mut [f32],
    stride: usize,
) {
    arch.dispatch(AddProduct { left, right, target: Target { out, rows: left.rows, stride } });
}

struct AddProduct<'a> {
    left: Matrix<'a>,
    right: Matrix<'a>,
    target: Target<'a>,
}

impl WithSimd for AddProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { left: Matrix { values, stride, transposed, .. }, target, .. } = self;
        let mut right = Panels::empty();
        right.refill(simd, self.right);
        let panels = 0..right.count();
        if transposed {
            let left = Columns(values, stride);
            multiply_panels(simd, left, &right, panels, Accumulate, target);
        } else {
            multiply_panels(simd, Rows(values, stride), &right, panels, Accumulate, target);
        }
    }
}

/// Where a product goes: rows that begin `stride` values after one another.
pub(super) struct Target<'a> {
    pub(super) out: &'a mut [f32],
    pub(super) rows: usize,
    pub(super) stride: usize,
}

/// `finish(left · right)` on this thread, for some panels of the right side.
pub(super) fn multiply_panels<S: Simd, A: Arithmetic<S>>(
    simd: S,
    left: impl Left,
    right: &Panels<S, A>,
    panels: Range<usize>,
    finish: impl Finish<S>,
    mut target: Target,
) {
    let product = Product { simd, left, right, panels, finish };
    right.arithmetic.vectorize(
        simd,
        #[inline(always)]
        || product.run(&mut target),
    );
}

/// The left side of a product.
pub(super) trait Left: Copy + Sync {
    /// `R` rows from `first` on.
    fn tile<const R: usize>(self, first: usize, steps: &Range<usize>) -> impl Tile<R>;
}

/// Some steps of `R` rows of the left side.
pub(super) trait Tile<const R: usize> {
    /// The values at a step.
    fn at(&self, step: usize) -> [f32; R];
}

/// Rows that begin so many values after one another.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a>(pub(super) &'a [f32], pub(super) usize);

impl Left for Rows<'_> {
    #[inline(always)]
    fn tile<const R: usize>(self, first: usize, steps: &Range<usize>) -> impl Tile<R> {
        let mut rows: [&[f32]; R] = [&[]; R];
        for r in 0..R {
            rows[r] = &self.0[(first + r) * self.1 + steps.start..][..steps.len()];
        }
        rows
    }
}

impl<const R: usize> Tile<R> for [&[f32]; R] {
    #[inline(always)]
    fn at(&self, step: usize) -> [f32; R] {
        let mut values = [0.0; R];
        for r in 0..R {
            values[r] = self[r][step];
        }
        values
    }
}

/// Columns that begin so many values after one another.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a>(pub(super) &'a [f32], pub(super) usize);

impl Left for Columns<'_> {
    #[inline(always)]
    fn tile<const R: usize>(self, first: usize, steps: &Range<usize>) -> impl Tile<R> {
        Columns(&self.0[steps.start * self.1 + first..], self.1)
    }
}

impl<const R: usize> Tile<R> for Columns<'_> {
    #[inline(always)]
    fn at(&self, step: usize) -> [f32; R] {
        *self.0[step * self.1..].first_chunk().expect("R rows")
    }
}

struct Product<'a, S: Simd, A, L, F> {
    simd: S,
    left: L,
    right: &'a Panels<S, A>,
    panels: Range<usize>,
    finish: F,
}

impl<S: Simd, A: Arithmetic<S>, L: Left, F: Finish<S>> Product<'_, S, A, L, F> {
    /// Tiles whose sums are in registers, of so few rows that each row's address is in one too: with
    /// more, the compiler goes through the stack for each value of the left side.
    #[inline(always)]
    fn run(&self, target: &mut Target) {
        let Range { start: mut panel, end } = self.panels;
        while panel < end {
            panel += match (end - panel, S::REGISTER_COUNT > 16) {
                (1, _) => self.strip::<8, 8, 1>(panel, target),
                (2 | 4, true) => self.strip::<6, 5, 2>(panel, target),
                (_, true) => self.strip::<6, 5, 3>(panel, target),
                (_, false) => self.strip::<6, 5, 2>(panel, target),
            };
        }
    }

    /// All rows against `V` panels from `panel` on, `R` at a time, or `FEWER` if that leaves less to
    /// be done twice. Returns `V`.
    #[inline(always)]
    fn strip<const R: usize, const FEWER: usize, const V: usize>(
        &self,
        panel: usize,
        target: &mut Target,
    ) -> usize {
        let (rows, steps) = (target.rows, self.right.steps);
        for first in (0..steps.max(1)).step_by(STEPS) {
            let block = Block { panel, steps: first..steps.min(first + STEPS) };
            if rows < FEWER {
                self.tiles::<1, V>(&block, target);
            } else if rows < R || rows.next_multiple_of(FEWER) < rows.next_multiple_of(R) {
                self.tiles::<FEWER, V>(&block, target);
            } else {
                self.tiles::<R, V>(&block, target);
            }
        }
        V
    }

    /// Where fewer than `R` rows are left, the last tile begins earlier; it writes only those.
    #[inline(always)]
    fn tiles<const R: usize, const V: usize>(&self, block: &Block, target: &mut Target) {
        let ahead = self.ahead::<V>(block);
        let share = ahead.len().div_ceil(target.rows.div_ceil(R).max(1)).max(1);
        let shares = ahead.chunks(share).chain(iter::repeat(&[][..]));
        for (row, ahead) in (0..target.rows).step_by(R).zip(shares) {
            let first = row.min(target.rows - R);
            let sums = self.sums::<R, V>(first, block, ahead);
            for r in row - first..R {
                self.bring(&sums[r], first + r, block, target);
            }
        }
    }

    /// What of the next panels is to be fetched meanwhile.
    #[inline(always)]
    fn ahead<const V: usize>(&self, block: &Block) -> &[S::f32s] {
        let panels = self.right.count().min(block.panel + V);
        let rest = &self.right.registers[panels * self.right.steps..];
        &rest[rest.len().min(block.steps.start * V)..rest.len().min(block.steps.end * V)]
    }

    #[inline(always)]
    fn sums<const R: usize, const V: usize>(
        &self,
        first: usize,
        block: &Block,
        ahead: &[S::f32s],
    ) -> [[S::f32s; V]; R] {
        let mut panels: [&[S::f32s]; V] = [&[]; V];
        for (v, panel) in panels.iter_mut().enumerate() {
            *panel = &self.right.panel(block.panel + v)[block.steps.clone()];
        }
        let left = self.left.tile::<R>(first, &block.steps);
        sums(self.simd, self.right.arithmetic, left, panels, ahead)
    }

    /// Brings the sums of one row to their place, or adds them there if there are more to come.
    #[inline(always)]
    fn bring<const V: usize>(
        &self,
        sums: &[S::f32s; V],
        row: usize,
        Block { panel, steps }: &Block,
        target: &mut Target,
    ) {
        let (simd, columns) = (self.simd, self.right.columns(&self.panels));
        let out = &mut target.out[row * target.stride..][..columns.len()];
        for (v, &(mut sums)) in sums.iter().enumerate() {
            let panel = panel + v;
            let out = &mut out[panel * S::F32_LANES - columns.start..];
            if F::ADDS || steps.start > 0 {
                sums = simd.add_f32s(load(simd, out), sums);
            }
            if steps.end == self.right.steps {
                let place = Place { row, panel, width: self.right.width };
                self.finish.finish(simd, sums, place, out);
            } else {
                store(simd, out, sums);
            }
        }
    }
}

/// A part of a product: some panels from `panel` on, and some steps of the inner dimension.
struct Block {
    panel: usize,
    steps: Range<usize>,
}

/// Of a tile; all of them in registers. Brings `ahead` towards the cache meanwhile.
#[inline(always)]
fn sums<S: Simd, A: Arithmetic<S>, const R: usize, const V: usize>(
    simd: S,
    arithmetic: A,
    left: impl Tile<R>,
    right: [&[S::f32s]; V],
    ahead: &[S::f32s],
) -> [[S::f32s; V]; R] {
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    let steps = right[0].len();
    let hints = ahead.len().div_ceil(steps.div_ceil(LOOK).max(1)).max(1);
    let mut ahead = ahead.chunks(hints);
    for block in (0..steps).step_by(LOOK) {
        ahead.next().unwrap_or_default().iter().for_each(prefetch);
        for step in block..steps.min(block + LOOK) {
            let mut values = [simd.splat_f32s(0.0); V];
            for v in 0..V {
                values[v] = right[v][step];
            }
            add_products(simd, arithmetic, left.at(step), values, &mut sums);
        }
    }
    sums
}

#[inline(always)]
fn add_products<S: Simd, A: Arithmetic<S>, const R: usize, const V: usize>(
    simd: S,
    arithmetic: A,
    left: [f32; R],
    right: [S::f32s; V],
    sums: &mut [[S::f32s; V]; R],
) {
    for r in 0..R {
        for v in 0..V {
            sums[r][v] = arithmetic.multiply_add(simd, left[r], right[v], sums[r][v]);
        }
    }
}

/// Asks for a value that is needed soon; a hint, and only on x86.
#[inline(always)]
#[allow(unsafe_code, unused_variables)]
fn prefetch<T>(value: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: every x86-64 has the instruction, and the address is a reference's.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(value).cast()) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::{arch, registers::registers};
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

    /// Miri takes a thousand times as long.
    fn sizes() -> impl Iterator<Item = [usize; 3]> {
        SIZES.into_iter().filter(|size| !cfg!(miri) || size.iter().product::<usize>() < 10_000)
    }

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

    /// `then(left · right + bias)`, as the layers compute it.
    struct Whole<'a, F> {
        left: &'a [f32],
        right: Matrix<'a>,
        bias: &'a [f32],
        then: F,
    }

    impl<F: Fn(&mut [f32]) + Send + Sync> WithSimd for Whole<'_, F> {
        type Output = Vec<f32>;

        fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
            let bias = registers(simd, self.bias);
            let finish = Write { bias: &bias, ..Write::sums() };
            product(simd, self.left, &Panels::new(simd, self.right), finish, self.then)
        }
    }

    fn whole(arch: Arch, left: &[f32], right: Matrix) -> Vec<f32> {
        arch.dispatch(Whole { left, right, bias: &[], then: |_: &mut [f32]| () })
    }

    #[test]
    fn every_instruction_set_and_layout_against_one_sum_after_the_other() {
        for size @ [rows, depth, columns] in sizes() {
            let (a, b) = (numbers(rows * depth), numbers(depth * columns));
            let (at, bt) = (transposed(&a, depth), transposed(&b, columns));
            let expected = expected(size, &a, &b);
            for arch in arch::all() {
                let what = format!("{size:?}, {arch:?}");
                for b in [Matrix::new(&b, columns), Matrix::new(&bt, depth).transpose()] {
                    assert_close(&whole(arch, &a, b), &expected, &what);
                    for a in [Matrix::new(&a, depth), Matrix::new(&at, rows).transpose()] {
                        let mut out = vec![0.0; rows * columns];
                        add_product(arch, a, b, &mut out, columns);
                        assert_close(&out, &expected, &what);
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
        let right = Matrix::new(&[1.0, 2.0], 2);
        let then = |out: &mut [f32]| out.iter_mut().for_each(|x| *x = x.abs());
        let left = &[1.0, -1.0];
        let found = Arch::new().dispatch(Whole { left, right, bias: &[0.5, 0.0], then });
        assert_eq!(found, [1.5, 2.0, 0.5, 2.0]);
    }

    #[test]
    fn an_output_depends_on_its_row_and_column_alone() {
        let [rows, depth, columns] = if cfg!(miri) { [50, 9, 20] } else { [130, 400, 300] };
        let (a, b) = (numbers(rows * depth), numbers(depth * columns));
        let b = Matrix::new(&b, columns);
        let all = whole(Arch::new(), &a, b);
        for row in [0, rows / 2, rows - 1] {
            let alone = whole(Arch::new(), &a[row * depth..][..depth], b);
            assert_eq!(alone, all[row * columns..][..columns], "row {row}");
        }
    }

    #[test]
    fn no_rows() {
        assert!(whole(Arch::new(), &[], Matrix::new(&[1.0; 12], 4)).is_empty());
    }
}
