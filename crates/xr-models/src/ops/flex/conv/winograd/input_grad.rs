use pulp::{Simd, WithSimd};

use super::{
    super::window::{Axis, Window},
    convolution::convolve,
    weights::Weights,
};

/// The gradient with respect to the input: a convolution as well, with the kernels turned around.
pub(in super::super) struct InputGrad<'a> {
    pub(in super::super) window: Window,
    pub(in super::super) weight: &'a [f32],
    pub(in super::super) grad: &'a [f32],
}

impl WithSimd for InputGrad<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let Window { batch, channels: [from, to], height, width } = self.window;
        let (height, width) = (turned(height), turned(width));
        let window = Window { batch, channels: [to, from], height, width };
        let weights = Weights { values: self.weight, channels: window.channels, turned: true };
        convolve(simd, window, self.grad, weights)
    }
}

/// From the output to the input.
fn turned(axis: Axis) -> Axis {
    Axis { input: axis.output, output: axis.input, padding: 2 - axis.padding, ..axis }
}
