//! `min(max(x, low), high)`, which is what ReLU and ReLU6 are.

use pulp::Simd;

use super::{super::activation::Activation, arch::select};

/// The interval that an activation cuts values to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Clamp {
    low: f32,
    high: f32,
}

impl Clamp {
    /// All numbers.
    pub(super) const NONE: Self = Self { low: f32::NEG_INFINITY, high: f32::INFINITY };

    /// `None` if the activation does something else.
    pub(super) fn of(activation: Activation) -> Option<Self> {
        let (low, high) = match activation {
            Activation::Identity => return Some(Self::NONE),
            Activation::Relu => (0.0, f32::INFINITY),
            Activation::Relu6 => (0.0, 6.0),
            Activation::Gelu | Activation::QuickGelu => return None,
        };
        Some(Self { low, high })
    }

    // Compared and selected: a NaN stays one, which a processor's minimum and maximum don't agree on.
    #[inline(always)]
    pub(super) fn apply<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        let (low, high) = (simd.splat_f32s(self.low), simd.splat_f32s(self.high));
        let x = select(simd, simd.less_than_f32s(x, low), low, x);
        select(simd, simd.less_than_f32s(high, x), high, x)
    }

    /// `gradient` where the activation gave a value inside the interval, 0 where it cut.
    #[inline(always)]
    pub(super) fn gradient<S: Simd>(self, simd: S, output: S::f32s, gradient: S::f32s) -> S::f32s {
        let (low, high) = (simd.splat_f32s(self.low), simd.splat_f32s(self.high));
        let zero = simd.splat_f32s(0.0);
        let gradient = select(simd, simd.less_than_or_equal_f32s(output, low), zero, gradient);
        select(simd, simd.less_than_or_equal_f32s(high, output), zero, gradient)
    }
}
