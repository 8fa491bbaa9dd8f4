//! Convolutions that mix all channels, as matrix products.

use std::{borrow::Cow, ops::Range, sync::Arc};

use burn::backend::flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{
    super::{
        arch::{Arch, vectorize},
        arithmetic::Arithmetic,
        bf16::{self, rounded},
        blocks,
        clamp::Clamp,
        packed::packed,
        product::{
            Accumulate, Columns, Matrix, Panels, Rows, Write, multiply, product, rows_of_task,
        },
        registers::registers,
        storage::{contiguous, halves, tensor, values},
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
        let panels = if self.keep_weight {
            packed(self.weight, || self.pack(simd))
        } else {
            Arc::new(self.pack(simd))
        };
        self.multiply(simd, &panels)
    }

    /// With a weight in bf16, to which `x` is rounded as well. Sums and output are in single
    /// precision.
    pub(super) fn run_bf16(self) -> Vec<f32> {
        self.run_pairs().unwrap_or_else(|| self.run_rounded())
    }

    /// `None` where the processor doesn't multiply pairs.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn run_pairs(&self) -> Option<Vec<f32>> {
        let (simd, pairs) = bf16::Pairs::detect()?;
        let depth = self.window.depth();
        let panels = packed(self.weight, || {
            let weight = halves(self.weight);
            let steps = bf16::Pairs::in_rows(&by_pixel(self.window, &weight), depth);
            let matrix = Matrix::new(&steps, depth.div_ceil(2)).transpose();
            Panels::of_steps(simd, pairs, matrix, depth)
        });
        Some(self.multiply(simd, &panels))
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn run_pairs(&self) -> Option<Vec<f32>> {
        None
    }

    /// The same in single precision, with values as rounded.
    pub(super) fn run_rounded(&self) -> Vec<f32> {
        let x = rounded(Arch::new(), self.x);
        let shape = self.weight.layout().shape().clone();
        let weight = tensor(bf16::to_single(&halves(self.weight)), shape);
        Arch::new().dispatch(Forward { x: &x, weight: &weight, keep_weight: false, ..*self })
    }

    fn multiply<S: Simd, A: Arithmetic<S>>(&self, simd: S, panels: &Panels<S, A>) -> Vec<f32> {
        let &Self { window, x, residual, clamp, .. } = self;
        let bias = registers(simd, self.bias.unwrap_or_default());
        let finish = Write { bias: &bias, residual, clamp };
        if window.is_pointwise() {
            product(simd, x, panels, finish, |_| ())
        } else {
            multiply_patches(simd, window, x, panels, finish)
        }
    }

    fn pack<S: Simd>(&self, simd: S) -> Panels<S> {
        let weight = contiguous(self.weight.clone());
        let weight = by_pixel(self.window, values(&weight));
        Panels::new(simd, Matrix::new(&weight, self.window.depth()).transpose())
    }
}

/// Weights `[out, in, height, width]` as `[out, height, width, in]`.
fn by_pixel<T: Copy>(window: Window, weight: &[T]) -> Cow<'_, [T]> {
    let taps = window.height.kernel * window.width.kernel;
    transposed_blocks(weight, [window.channels[0], taps])
}

/// Blocks of `rows × columns` values, each transposed.
fn transposed_blocks<T: Copy>(values: &[T], [rows, columns]: [usize; 2]) -> Cow<'_, [T]> {
    if rows == 1 || columns == 1 {
        return values.into();
    }
    let block = |block: &[T]| {
        let column = |column| block.iter().skip(column).step_by(columns).copied();
        (0..columns).flat_map(column).collect::<Vec<_>>()
    };
    values.chunks_exact(rows * columns).flat_map(block).collect()
}

fn multiply_patches<S: Simd, A: Arithmetic<S>>(
    simd: S,
    window: Window,
    x: &[f32],
    right: &Panels<S, A>,
    finish: Write<S>,
) -> Vec<f32> {
    let (depth, [_, width]) = (window.depth(), window.channels);
    let rows = rows_of_task(window.batch * window.pixels_out(), depth, width);
    blocks::generate_rows(window.values_out(), width, rows, |first, out| {
        let out = out.all();
        let rows = out.len() / width;
        let mut patches = vec![0.0; rows * depth];
        window.gather(x, first..first + rows, &mut patches);
        let (patches, steps) = right.rows(simd, &patches);
        multiply(simd, Rows(&patches, steps), right, finish.skip(first, width), out);
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
