//! In what precision a product multiplies. Sums are always in single precision.

use std::borrow::Cow;

use pulp::Simd;

use super::arch::vectorize;

/// How a value of the left side and a register of the right one are multiplied.
pub(super) trait Arithmetic<S: Simd>: Copy + Send + Sync + 'static {
    /// Values of the inner dimension that are multiplied in one step.
    const VALUES: usize;

    /// Rows of `depth` values, each as what its steps need.
    fn rows(self, simd: S, rows: &[f32], depth: usize) -> Cow<'_, [f32]>;

    /// `sums + left · right`, of a step.
    fn multiply_add(self, simd: S, left: f32, right: S::f32s, sums: S::f32s) -> S::f32s;

    /// Runs a kernel, compiled for the instructions of [`multiply_add`](Self::multiply_add).
    fn vectorize<T>(self, simd: S, kernel: impl FnMut() -> T) -> T;
}

/// Values as they are.
#[derive(Clone, Copy)]
pub(super) struct Single;

impl<S: Simd> Arithmetic<S> for Single {
    const VALUES: usize = 1;

    #[inline(always)]
    fn rows(self, _: S, rows: &[f32], _: usize) -> Cow<'_, [f32]> {
        rows.into()
    }

    #[inline(always)]
    fn multiply_add(self, simd: S, left: f32, right: S::f32s, sums: S::f32s) -> S::f32s {
        simd.mul_add_e_f32s(simd.splat_f32s(left), right, sums)
    }

    #[inline(always)]
    fn vectorize<T>(self, simd: S, kernel: impl FnMut() -> T) -> T {
        vectorize(simd, kernel)
    }
}
