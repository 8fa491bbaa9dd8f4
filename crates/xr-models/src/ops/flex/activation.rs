use burn::backend::flex::FlexTensor;
use pulp::{Simd, WithSimd};

use super::{
    super::activation::Activation,
    arch::Arch,
    blocks,
    clamp::Clamp,
    registers::{load, store},
    storage::{contiguous, unique, values, values_mut},
};

pub(super) fn forward(x: FlexTensor, activation: Activation) -> FlexTensor {
    let mut out = unique(x);
    let clamp = activation.into();
    blocks::for_each(values_mut(&mut out), |x| Arch::new().dispatch(Forward { x, clamp }));
    out
}

pub(super) fn backward(output: FlexTensor, grad: FlexTensor, activation: Activation) -> FlexTensor {
    let (y, mut out) = (contiguous(output), unique(grad));
    let clamp = activation.into();
    blocks::for_each_pair(values_mut(&mut out), values(&y), |grad, y| {
        Arch::new().dispatch(Backward { y, grad, clamp });
    });
    out
}

/// `x` ← `clamp(x)`
struct Forward<'a> {
    x: &'a mut [f32],
    clamp: Clamp,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for x in self.x.chunks_mut(S::F32_LANES) {
            let y = self.clamp.apply(simd, load(simd, x));
            store(simd, x, y);
        }
    }
}

/// `grad` ← `grad` where the output `y` isn't at an end of the interval, 0 where it is.
struct Backward<'a> {
    y: &'a [f32],
    grad: &'a mut [f32],
    clamp: Clamp,
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let y = self.y.chunks(S::F32_LANES);
        for (grad, y) in self.grad.chunks_mut(S::F32_LANES).zip(y) {
            let masked = self.clamp.gradient(simd, load(simd, y), load(simd, grad));
            store(simd, grad, masked);
        }
    }
}
