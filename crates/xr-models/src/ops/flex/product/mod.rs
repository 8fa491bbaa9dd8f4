//! Matrix products, tile by tile in registers, and what is done to the sums before they leave them.
//!
//! The right side is packed; the left one is read where it lies. Every sum is made in the order of
//! the inner dimension, so an output depends neither on the tile or the thread that it falls to nor
//! on how many rows the product has.

mod ahead;
mod finish;
mod left;
mod matrix;
mod panels;
#[cfg(test)]
mod tests;
mod tiles;

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

pub(in crate::ops) use self::matrix::Matrix;
use self::tiles::Product;
pub(super) use self::{
    finish::{Accumulate, Finish, Sums, Write},
    left::{Columns, Left, Rows, Tile},
    panels::Panels,
};
use super::{arch::Arch, arithmetic::Arithmetic, blocks};

/// Values that a task reads and writes: they should stay in a core's own cache.
const TASK_VALUES: usize = 96 * 1024;

/// Rows of a task are a multiple of it: there is a tile's height for every instruction set in it.
pub(super) const ROWS: usize = 12;

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

/// Numbers of a right side that stays in a core's own cache: such a one is read anew for each
/// [`ROWS_AT_ONCE`], so that these and what becomes of them stay in the first cache.
const SMALL: usize = 48 * 1024;

const ROWS_AT_ONCE: usize = 24;

/// Values of a line of the cache.
pub(super) const LINE: usize = 16;

/// Values of the widest register, that of AVX-512.
pub(super) const MAX_LANES: usize = 16;

/// `finish(left · right)` on all threads, both sides row-major. What `then` does to parts of it, it
/// does while they are in the cache.
pub(super) fn product<S: Simd, A: Arithmetic<S>>(
    simd: S,
    left: &[f32],
    right: &Panels<S, A>,
    finish: impl Finish<S>,
    then: impl Fn(&mut [f32]) + Send + Sync,
) -> Vec<f32> {
    let (depth, width) = (right.depth, right.width);
    let rows = left.len().checked_div(depth).unwrap_or(0);
    if rows <= FEW_ROWS && rows * depth * width >= PARALLEL {
        return by_columns(simd, left, right, finish, then);
    }
    let task = rows_of_task(rows, depth, width);
    let small = A::VALUES == 1 && depth * width <= SMALL;
    let rows_at_once = if small { ROWS_AT_ONCE } else { task };
    blocks::generate_rows(rows * width, width, task, |first, out| {
        let mut first = first;
        while let Some(out) = out.take(rows_at_once) {
            let (rows, rest) = (out.len() / width, &left[first * depth..]);
            let values = if small { rest } else { &rest[..rows * depth] };
            let (values, steps) = right.rows(simd, values);
            multiply(simd, Rows(&values, steps), right, finish.skip(first, width), out);
            then(out);
            first += rows;
        }
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
    finish: impl Finish<S>,
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
