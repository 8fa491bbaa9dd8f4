use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{
    super::{
        super::product::{Matrix, Panels, Rows, Sums, multiply, product, rows_of_task},
        window::Window,
    },
    by_pixel,
};

/// The gradient with respect to the input.
pub(in super::super) struct InputGrad<'a> {
    pub(in super::super) window: Window,
    pub(in super::super) weight: &'a [f32],
    pub(in super::super) grad: &'a [f32],
}

impl WithSimd for InputGrad<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        self.run(simd)
    }
}

impl InputGrad<'_> {
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self { window, grad, .. } = self;
        let weight = by_pixel(window, self.weight);
        let panels = Panels::new(simd, Matrix::new(&weight, window.depth()));
        if window.is_pointwise() {
            return product(simd, grad, &panels, Sums, |_| ());
        }
        let mut out = vec![0.0; window.values_in()];
        let pictures = out.par_chunks_mut(window.pixels_in() * window.channels[0]);
        let grads = grad.par_chunks(window.pixels_out() * window.channels[1]);
        let window = Window { batch: 1, ..window };
        pictures
            .zip(grads)
            .for_each(|(out, grad)| scatter_products(simd, window, grad, &panels, out));
        out
    }
}

/// The gradient of one picture, added to `out`.
fn scatter_products<S: Simd>(
    simd: S,
    window: Window,
    grad: &[f32],
    right: &Panels<S>,
    out: &mut [f32],
) {
    let (depth, [_, width]) = (window.depth(), window.channels);
    let rows = rows_of_task(window.pixels_out(), depth, width);
    let mut patches = vec![0.0; rows * depth];
    for (task, grad) in grad.chunks(rows * width).enumerate() {
        let (first, rows) = (task * rows, grad.len() / width);
        let patches = &mut patches[..rows * depth];
        multiply(simd, Rows(grad, width), right, Sums, patches);
        window.scatter(patches, first..first + rows, out);
    }
}
