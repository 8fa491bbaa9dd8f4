//! Products tile by tile, whose sums are in registers.

// Several arrays are indexed at once, so that every loop has a constant length and unrolls.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use pulp::{Simd, bytemuck};

use super::{
    super::{
        arithmetic::Arithmetic,
        registers::{load, store},
    },
    Finish, LINE, Left, Panels, Target, Tile,
    ahead::Ahead,
    finish::Place,
};

/// Steps of the inner dimension taken together: so many of two panels stay in the first cache, and
/// the rounding error of a sum grows with its length.
const STEPS: usize = 384;

/// Steps between two looks at what comes next. A loop over so many isn't unrolled, on purpose: the
/// values of several steps would be loaded at once then, and taken apart again.
const LOOK: usize = 8;

pub(super) struct Product<'a, S: Simd, A, L, F> {
    pub(super) simd: S,
    pub(super) left: L,
    pub(super) right: &'a Panels<S, A>,
    pub(super) panels: Range<usize>,
    pub(super) finish: F,
}

impl<S: Simd, A: Arithmetic<S>, L: Left, F: Finish<S>> Product<'_, S, A, L, F> {
    /// Tiles whose sums are in registers, of so few rows that each row's address is in one too: with
    /// more, the compiler goes through the stack for each value of the left side.
    #[inline(always)]
    pub(super) fn run(&self, target: &mut Target) {
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
        let looks = target.rows.div_ceil(R) * block.steps.len().div_ceil(LOOK);
        let mut ahead = Ahead::new(self.ahead::<V>(block, target.rows), looks);
        let panels = self.panels::<V>(block);
        let whole = self.is_whole::<V>(block);
        for row in (0..target.rows).step_by(R) {
            let first = row.min(target.rows - R);
            let left = self.left.tile::<R>(first, &block.steps);
            let sums = sums(self.simd, self.right.arithmetic, left, panels, &mut ahead);
            if whole && row == first {
                self.bring_whole(&sums, first, block, target);
            } else {
                for r in row - first..R {
                    self.bring(&sums[r], first + r, block, target);
                }
            }
        }
    }

    /// What is to be fetched meanwhile: a share of what is multiplied next, or the next panels.
    #[inline(always)]
    fn ahead<const V: usize>(&self, block: &Block, rows: usize) -> &[f32] {
        let next = self.left.next(rows, self.right.steps);
        if next.is_empty() {
            return self.next_panels::<V>(block);
        }
        let share = next.len().div_ceil(self.panels.len().div_ceil(V)).next_multiple_of(LINE);
        let first = (block.panel - self.panels.start) / V * share;
        &next[first.min(next.len())..next.len().min(first + share)]
    }

    #[inline(always)]
    fn next_panels<const V: usize>(&self, Block { panel, steps }: &Block) -> &[f32] {
        let panels = self.right.count().min(panel + V);
        let rest = &self.right.registers[panels * self.right.steps..];
        let [first, end] = [steps.start, steps.end].map(|step| rest.len().min(step * V));
        bytemuck::cast_slice(&rest[first..end])
    }

    #[inline(always)]
    fn panels<const V: usize>(&self, block: &Block) -> [&[S::f32s]; V] {
        let mut panels: [&[S::f32s]; V] = [&[]; V];
        for v in 0..V {
            panels[v] = &self.right.panel(block.panel + v)[block.steps.clone()];
        }
        panels
    }

    /// Are these all steps, and all columns of `V` panels?
    #[inline(always)]
    fn is_whole<const V: usize>(&self, block: &Block) -> bool {
        block.steps.len() == self.right.steps
            && (block.panel + V) * S::F32_LANES <= self.right.columns(&self.panels).end
    }

    /// Brings the sums of a block that [is whole](Self::is_whole) to their place.
    #[inline(always)]
    fn bring_whole<const R: usize, const V: usize>(
        &self,
        sums: &[[S::f32s; V]; R],
        first: usize,
        block: &Block,
        target: &mut Target,
    ) {
        let column = block.panel * S::F32_LANES - self.right.columns(&self.panels).start;
        let out = &mut target.out[first * target.stride + column..];
        for r in 0..R {
            let (out, _) = S::as_mut_simd_f32s(&mut out[r * target.stride..][..V * S::F32_LANES]);
            for v in 0..V {
                let sums =
                    if F::ADDS { self.simd.add_f32s(out[v], sums[r][v]) } else { sums[r][v] };
                let place =
                    Place { row: first + r, panel: block.panel + v, width: self.right.width };
                out[v] = self.finish.finish(self.simd, sums, place);
            }
        }
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
                sums = self.finish.finish(simd, sums, place);
            }
            store(simd, out, sums);
        }
    }
}

/// A part of a product: some panels from `panel` on, and some steps of the inner dimension.
struct Block {
    panel: usize,
    steps: Range<usize>,
}

/// Of a tile; all of them in registers.
#[inline(always)]
fn sums<S: Simd, A: Arithmetic<S>, const R: usize, const V: usize>(
    simd: S,
    arithmetic: A,
    left: impl Tile<R>,
    right: [&[S::f32s]; V],
    ahead: &mut Ahead,
) -> [[S::f32s; V]; R] {
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    let steps = right[0].len();
    for block in (0..steps).step_by(LOOK) {
        ahead.look();
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
