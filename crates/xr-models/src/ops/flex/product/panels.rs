use std::{borrow::Cow, ops::Range};

use pulp::{Simd, bytemuck};
use rayon::prelude::*;

use super::{
    super::{
        arch::vectorize,
        arithmetic::{Arithmetic, Single},
        registers::load,
    },
    MAX_LANES, Matrix,
};

/// The right side of a product: a register's width of its columns after the other, step by step.
pub(in crate::ops::flex) struct Panels<S: Simd, A = Single> {
    pub(super) arithmetic: A,
    pub(super) registers: Vec<S::f32s>,
    /// The inner dimension.
    pub(super) depth: usize,
    /// Registers of a panel.
    pub(super) steps: usize,
    pub(super) width: usize,
}

impl<S: Simd> Panels<S> {
    pub fn new(simd: S, matrix: Matrix) -> Self {
        Self::of_steps(simd, Single, matrix, matrix.rows)
    }

    /// Full panels of `depth` steps, one after the other.
    pub fn of_registers(registers: Vec<S::f32s>, depth: usize) -> Self {
        let width = registers.len().checked_div(depth).unwrap_or(0) * S::F32_LANES;
        Self { arithmetic: Single, registers, depth, steps: depth, width }
    }

    /// Of no matrix, to be filled.
    pub fn empty() -> Self {
        Self { arithmetic: Single, registers: vec![], depth: 0, steps: 0, width: 0 }
    }

    /// So many panels of `depth` steps, to be filled panel by panel. The memory stays the same.
    #[inline(always)]
    pub fn resize(&mut self, simd: S, depth: usize, panels: usize) -> &mut [S::f32s] {
        (self.depth, self.steps, self.width) = (depth, depth, panels * S::F32_LANES);
        self.registers.resize(depth * panels, simd.splat_f32s(0.0));
        &mut self.registers
    }

    /// Of another matrix, in the same memory.
    #[inline(always)]
    pub fn refill(&mut self, simd: S, matrix: Matrix) {
        let registers = self.resize(simd, matrix.rows, matrix.columns.div_ceil(S::F32_LANES));
        for (panel, out) in registers.chunks_mut(matrix.rows.max(1)).enumerate() {
            pack(simd, matrix, panel * S::F32_LANES, out);
        }
        self.width = matrix.columns;
    }
}

impl<S: Simd, A: Arithmetic<S>> Panels<S, A> {
    /// Of a matrix that has a row for each step, and the inner dimension `depth`.
    pub fn of_steps(simd: S, arithmetic: A, matrix: Matrix, depth: usize) -> Self {
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
    pub fn rows<'a>(&self, simd: S, rows: &'a [f32]) -> (Cow<'a, [f32]>, usize) {
        (self.arithmetic.rows(simd, rows, self.depth), self.steps)
    }
}

impl<S: Simd, A> Panels<S, A> {
    pub fn count(&self) -> usize {
        self.width.div_ceil(S::F32_LANES)
    }

    /// Columns of these panels.
    pub(super) fn columns(&self, panels: &Range<usize>) -> Range<usize> {
        panels.start * S::F32_LANES..self.width.min(panels.end * S::F32_LANES)
    }

    #[inline(always)]
    pub(super) fn panel(&self, panel: usize) -> &[S::f32s] {
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
