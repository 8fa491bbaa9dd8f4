use pulp::{Simd, WithSimd};

use super::{super::window::Window, convolution::convolve, weights::Weights};

/// `x * weight`.
pub(in super::super) struct Forward<'a> {
    pub(in super::super) window: Window,
    pub(in super::super) x: &'a [f32],
    pub(in super::super) weight: &'a [f32],
}

impl WithSimd for Forward<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self { window, x, weight } = self;
        let weights = Weights { values: weight, channels: window.channels, turned: false };
        convolve(simd, window, x, weights)
    }
}
