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
        // Nothing is cut at an infinite end, not even what is infinite: nothing compares with NaN.
        let [low, high] = [self.low, self.high].map(|x| if x.is_finite() { x } else { f32::NAN });
        let (low, high) = (simd.splat_f32s(low), simd.splat_f32s(high));
        let zero = simd.splat_f32s(0.0);
        let gradient = select(simd, simd.less_than_or_equal_f32s(output, low), zero, gradient);
        select(simd, simd.less_than_or_equal_f32s(high, output), zero, gradient)
    }
}

#[cfg(test)]
mod tests {
    use pulp::WithSimd;

    use super::super::{
        arch,
        registers::{load, store},
    };
    use super::*;

    /// Values cut, and the gradients of their sum.
    struct Cut<'a>(Clamp, &'a [f32]);

    impl WithSimd for Cut<'_> {
        type Output = [Vec<f32>; 2];

        fn with_simd<S: Simd>(self, simd: S) -> [Vec<f32>; 2] {
            let Self(clamp, x) = self;
            let [mut y, mut grad] = [vec![0.0; x.len()], vec![0.0; x.len()]];
            for first in (0..x.len()).step_by(S::F32_LANES) {
                let cut = clamp.apply(simd, load(simd, &x[first..]));
                store(simd, &mut y[first..], cut);
                let slope = clamp.gradient(simd, cut, simd.splat_f32s(1.0));
                store(simd, &mut grad[first..], slope);
            }
            [y, grad]
        }
    }

    #[test]
    fn what_is_not_finite_on_every_instruction_set() {
        const NAN: f32 = f32::NAN;
        const INF: f32 = f32::INFINITY;
        const X: [f32; 6] = [NAN, INF, -INF, -1.0, 3.0, 7.0];
        let cases = [
            (Activation::Identity, [X, [1.0; 6]]),
            (Activation::Relu, [[NAN, INF, 0.0, 0.0, 3.0, 7.0], [1.0, 1.0, 0.0, 0.0, 1.0, 1.0]]),
            (Activation::Relu6, [[NAN, 6.0, 0.0, 0.0, 3.0, 6.0], [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]]),
        ];
        for (arch, (f, expected)) in arch::all().into_iter().flat_map(|a| cases.map(|c| (a, c))) {
            let found = arch.dispatch(Cut(Clamp::of(f).unwrap(), &X));
            // As text: NaN isn't equal to itself.
            assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{arch:?} {f:?}");
        }
    }
}
