// Several arrays are indexed at once, so that every loop has a constant length and unrolls.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

/// The left side of a product. Values after it are taken for what is multiplied next, and brought
/// towards the cache meanwhile.
pub(in crate::ops::flex) trait Left: Copy + Sync {
    /// As many values after so many rows and steps, or as many as there are.
    fn next(&self, rows: usize, steps: usize) -> &[f32];

    /// `R` rows from `first` on.
    fn tile<const R: usize>(self, first: usize, steps: &Range<usize>) -> impl Tile<R>;
}

/// Some steps of `R` rows of the left side.
pub(in crate::ops::flex) trait Tile<const R: usize> {
    /// The values at a step.
    fn at(&self, step: usize) -> [f32; R];
}

/// Rows that begin so many values after one another.
#[derive(Clone, Copy)]
pub(in crate::ops::flex) struct Rows<'a>(pub &'a [f32], pub usize);

impl Left for Rows<'_> {
    #[inline(always)]
    fn next(&self, rows: usize, _: usize) -> &[f32] {
        after(self.0, rows * self.1)
    }

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
pub(in crate::ops::flex) struct Columns<'a>(pub &'a [f32], pub usize);

impl Left for Columns<'_> {
    #[inline(always)]
    fn next(&self, _: usize, steps: usize) -> &[f32] {
        after(self.0, steps * self.1)
    }

    #[inline(always)]
    fn tile<const R: usize>(self, first: usize, steps: &Range<usize>) -> impl Tile<R> {
        Columns(&self.0[steps.start * self.1 + first..], self.1)
    }
}

/// As many values again after the first `len`.
#[inline(always)]
fn after(values: &[f32], len: usize) -> &[f32] {
    let rest = &values[len.min(values.len())..];
    &rest[..len.min(rest.len())]
}

impl<const R: usize> Tile<R> for Columns<'_> {
    #[inline(always)]
    fn at(&self, step: usize) -> [f32; R] {
        *self.0[step * self.1..].first_chunk().expect("R rows")
    }
}
