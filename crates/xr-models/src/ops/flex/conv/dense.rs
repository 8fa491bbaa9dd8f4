//! Convolutions that mix all channels, as matrix products.

use std::{borrow::Cow, ops::Range, sync::Arc};

use burn::backend::flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{
    super::{
        arch::vectorize,
        blocks,
        clamp::Clamp,
        packed::packed,
        product::{
            Accumulate, Columns, Matrix, Panels, Rows, Write, multiply, product, rows_of_task,
        },
        registers::registers,
        storage::{contiguous, values},
    },
    window::Window,
};

/// Pixels whose products a weight's gradient sums up before it is written: with its two sides it
/// should stay in a core's own cache.
const GRAD_VALUES: usize = 1 << 15;

/// Pixels of such a sum at least.
const MIN_GRAD_STEP: usize = 32;

/// Parts of the batch whose weight gradients are summed one by one, where it has many pixels.
const GRAD_PARTS: usize = 8;

/// Pixels below which a weight's gradient isn't divided by pixels.
const GRAD_PIXELS: usize = 2048;

/// `clamp(x * weight + bias) + residual`.
pub(super) struct Forward<'a> {
    pub(super) window: Window,
    pub(super) x: &'a [f32],
    pub(super) weight: &'a FlexTensor,
    /// Is the weight used again, for other batches?
    pub(super) keep_weight: bool,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) residual: Option<&'a [f32]>,
    pub(super) clamp: Clamp,
}

impl WithSimd for Forward<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        self.run(simd)
    }
}

impl Forward<'_> {
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self { window, x, residual, clamp, .. } = self;
        let panels = if self.keep_weight {
            packed(self.weight, || self.pack(simd))
        } else {
            Arc::new(self.pack(simd))
        };
        let bias = registers(simd, self.bias.unwrap_or_default());
        let finish = Write { bias: &bias, residual, clamp };
        if window.is_pointwise() {
            product(simd, x, &panels, finish, |_| ())
        } else {
            multiply_patches(simd, window, x, &panels, finish)
        }
    }

    fn pack<S: Simd>(&self, simd: S) -> Panels<S> {
        let weight = contiguous(self.weight.clone());
        let weight = by_pixel(self.window, values(&weight));
        Panels::new(simd, Matrix::new(&weight, self.window.depth()).transpose())
    }
}

/// Weights `[out, in, height, width]` as `[out, height, width, in]`.
fn by_pixel(window: Window, weight: &[f32]) -> Cow<'_, [f32]> {
    let taps = window.height.kernel * window.width.kernel;
    transposed_blocks(weight, [window.channels[0], taps])
}

/// Blocks of `rows × columns` values, each transposed.
fn transposed_blocks(values: &[f32], [rows, columns]: [usize; 2]) -> Cow<'_, [f32]> {
    if rows == 1 || columns == 1 {
        return values.into();
    }
    let block = |block: &[f32]| {
        let column = |column| block.iter().skip(column).step_by(columns).copied();
        (0..columns).flat_map(column).collect::<Vec<_>>()
    };
    values.chunks_exact(rows * columns).flat_map(block).collect()
}

fn multiply_patches<S: Simd>(
    simd: S,
    window: Window,
    x: &[f32],
    right: &Panels<S>,
    finish: Write<S>,
) -> Vec<f32> {
    let (depth, [_, width]) = (window.depth(), window.channels);
    let rows = rows_of_task(window.batch * window.pixels_out(), depth, width);
    blocks::generate_rows(window.values_out(), width, rows, |first, out| {
        let out = out.all();
        let rows = out.len() / width;
        let mut patches = vec![0.0; rows * depth];
        window.gather(x, first..first + rows, &mut patches);
        multiply(simd, Rows(&patches, depth), right, finish.skip(first, width), out);
    })
}

/// The gradient with respect to the input.
pub(super) struct InputGrad<'a> {
    pub(super) window: Window,
    pub(super) weight: &'a [f32],
    pub(super) grad: &'a [f32],
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
            return product(simd, grad, &panels, Write::sums(), |_| ());
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
        multiply(simd, Rows(grad, width), right, Write::sums(), patches);
        window.scatter(patches, first..first + rows, out);
    }
}

/// The gradient with respect to the weight.
pub(super) struct WeightGrad<'a> {
    pub(super) window: Window,
    pub(super) x: &'a [f32],
    pub(super) grad: &'a [f32],
}

impl WithSimd for WeightGrad<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        self.run(simd)
    }
}

impl WeightGrad<'_> {
    /// Each part of the pixels gives a gradient, of which blocks of output channels are computed
    /// side by side; then the parts are added in order.
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self { window, .. } = self;
        let (depth, [from, width]) = (window.depth(), window.channels);
        let pixels = window.batch * window.pixels_out();
        let parts = (pixels / GRAD_PIXELS).clamp(1, GRAD_PARTS);
        let part = pixels.div_ceil(parts);
        let block = width.div_ceil(GRAD_PARTS / parts).next_multiple_of(8).min(width);
        let mut grads = vec![0.0; parts * width * depth];
        grads.par_chunks_mut(width * depth).enumerate().for_each(|(p, out)| {
            let pixels = p * part..pixels.min((p + 1) * part);
            out.par_chunks_mut(block * depth).enumerate().for_each(|(b, out)| {
                self.accumulate(simd, pixels.clone(), b * block, out);
            });
        });
        let (grad, others) = grads.split_at_mut(width * depth);
        for other in others.chunks_exact(width * depth) {
            grad.iter_mut().zip(other).for_each(|(sum, value)| *sum += value);
        }
        grads.truncate(width * depth);
        transposed_blocks(&grads, [depth / from, from]).into_owned()
    }

    /// Adds what these pixels give to rows of the gradient, one for each output channel from
    /// `first` on.
    fn accumulate<S: Simd>(&self, simd: S, pixels: Range<usize>, first: usize, out: &mut [f32]) {
        let (depth, [_, width]) = (self.window.depth(), self.window.channels);
        let step = (GRAD_VALUES / (depth + width)).max(MIN_GRAD_STEP);
        let (mut panels, mut patches) = (Panels::empty(), Vec::new());
        for pixel in pixels.clone().step_by(step) {
            let pixels = pixel..pixels.end.min(pixel + step);
            let patches = Matrix::new(self.patches(pixels.clone(), &mut patches), depth);
            let left = Columns(&self.grad[pixels.start * width + first..], width);
            vectorize(
                simd,
                #[inline(always)]
                || panels.refill(simd, patches),
            );
            multiply(simd, left, &panels, Accumulate, out);
        }
    }

    fn patches<'b>(&'b self, pixels: Range<usize>, buffer: &'b mut Vec<f32>) -> &'b [f32] {
        let depth = self.window.depth();
        if self.window.is_pointwise() {
            return &self.x[pixels.start * depth..pixels.end * depth];
        }
        buffer.resize(pixels.len() * depth, 0.0);
        self.window.gather(self.x, pixels, buffer);
        buffer
    }
}
