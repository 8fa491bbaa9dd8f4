//! What is done to the sums of a product before they leave the registers.

use pulp::Simd;

use super::super::{clamp::Clamp, registers::load};

/// What becomes of the sums of a product.
pub(in crate::ops::flex) trait Finish<S: Simd>: Copy + Sync {
    /// Are the sums added to what is there?
    const ADDS: bool;

    /// For the rows from `first` on, of a product of this width.
    #[inline(always)]
    fn skip(self, _first: usize, _width: usize) -> Self {
        self
    }

    /// What is written in the place of a register of sums.
    #[inline(always)]
    fn finish(self, _simd: S, sums: S::f32s, _place: Place) -> S::f32s {
        sums
    }
}

/// Where a register of sums belongs.
#[derive(Clone, Copy)]
pub(in crate::ops::flex) struct Place {
    pub(super) row: usize,
    pub(super) panel: usize,
    /// Columns of the right side.
    pub(super) width: usize,
}

/// Adds the sums to what is there.
#[derive(Clone, Copy)]
pub(in crate::ops::flex) struct Accumulate;

impl<S: Simd> Finish<S> for Accumulate {
    const ADDS: bool = true;
}

/// Writes the sums.
#[derive(Clone, Copy)]
pub(in crate::ops::flex) struct Sums;

impl<S: Simd> Finish<S> for Sums {
    const ADDS: bool = false;
}

/// Writes `clamp(sums + bias) + residual`.
#[derive(Clone, Copy)]
pub(in crate::ops::flex) struct Write<'a, S: Simd> {
    /// One register a panel; none if there is no bias.
    pub bias: &'a [S::f32s],
    /// Row-major, of the product's width.
    pub residual: Option<&'a [f32]>,
    pub clamp: Clamp,
}

impl<S: Simd> Finish<S> for Write<'_, S> {
    const ADDS: bool = false;

    fn skip(self, first: usize, width: usize) -> Self {
        Self { residual: self.residual.map(|residual| &residual[first * width..]), ..self }
    }

    #[inline(always)]
    fn finish(self, simd: S, sums: S::f32s, place: Place) -> S::f32s {
        let mut y = sums;
        if let Some(&bias) = self.bias.get(place.panel) {
            y = simd.add_f32s(y, bias);
        }
        y = self.clamp.apply(simd, y);
        if let Some(residual) = self.residual {
            let row = &residual[place.row * place.width..][..place.width];
            y = simd.add_f32s(y, load(simd, &row[place.panel * S::F32_LANES..]));
        }
        y
    }
}
