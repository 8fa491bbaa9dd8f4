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
            Accumulate, Columns, Finish, LINE, Matrix, Panels, ROWS, Rows, Sums, Target, Write,
            multiply, multiply_panels, product, rows_of_task,
        },
        registers::registers,
        storage::{contiguous, halves, tensor, values},
    },
    window::Window,
};

/// Values of both sides that a part of a weight's gradient is summed up from before it is written:
/// they should stay in a core's own cache.
const GRAD_VALUES: usize = 1 << 16;

/// Pixels of such a sum at least.
const MIN_GRAD_STEP: usize = 32;

/// And at most: so much of two panels, and of two lines of the other side, stays in the first cache.
const MAX_GRAD_STEP: usize = 256;

/// Rows of such a part.
const GRAD_ROWS: usize = 96;

/// Columns of it.
const GRAD_COLUMNS: usize = 192;

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
        let &Self { bias, residual, clamp, .. } = self;
        if bias.is_none() && residual.is_none() && clamp == Clamp::NONE {
            return self.product(simd, panels, Sums);
        }
        let bias = registers(simd, bias.unwrap_or_default());
        self.product(simd, panels, Write { bias: &bias, residual, clamp })
    }

    fn product<S: Simd, A: Arithmetic<S>>(
        &self,
        simd: S,
        panels: &Panels<S, A>,
        finish: impl Finish<S>,
    ) -> Vec<f32> {
        if self.window.is_pointwise() {
            product(simd, self.x, panels, finish, |_| ())
        } else {
            multiply_patches(simd, self.window, self.x, panels, finish)
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

/// A matrix of so many columns, transposed, on all threads.
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    let rows = values.len() / columns;
    blocks::generate(values.len(), LINE * rows, |block, out| {
        for (row, values) in values.chunks_exact(columns).enumerate() {
            let places = out[row..].iter_mut().step_by(rows);
            places.zip(&values[block * LINE..]).for_each(|(place, value)| *place = *value);
        }
    })
}

fn multiply_patches<S: Simd, A: Arithmetic<S>>(
    simd: S,
    window: Window,
    x: &[f32],
    right: &Panels<S, A>,
    finish: impl Finish<S>,
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
    /// Each part of the pixels gives a gradient, of which blocks are computed side by side; then the
    /// parts are added in order.
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self { window, .. } = self;
        let (depth, [from, width]) = (window.depth(), window.channels);
        let pixels = window.batch * window.pixels_out();
        let parts = (pixels / GRAD_PIXELS).clamp(1, GRAD_PARTS);
        let part = pixels.div_ceil(parts);
        let [wide, narrow] = self.sides();
        let block = wide.div_ceil(GRAD_PARTS / parts).next_multiple_of(ROWS).min(wide);
        let mut grads = vec![0.0; parts * wide * narrow];
        grads.par_chunks_mut(wide * narrow).enumerate().for_each(|(p, out)| {
            let pixels = p * part..pixels.min((p + 1) * part);
            out.par_chunks_mut(block * narrow).enumerate().for_each(|(b, out)| {
                self.accumulate(simd, pixels.clone(), b * block, out);
            });
        });
        let (grad, others) = grads.split_at_mut(wide * narrow);
        for other in others.chunks_exact(wide * narrow) {
            grad.iter_mut().zip(other).for_each(|(sum, value)| *sum += value);
        }
        grads.truncate(wide * narrow);
        let by_output = if wide == width { grads } else { transposed(&grads, narrow) };
        transposed_blocks(&by_output, [depth / from, from]).into_owned()
    }

    /// Output channels and values under the kernel, the larger number first: of the other side
    /// panels are made, of this one rows of the gradient.
    fn sides(&self) -> [usize; 2] {
        let (depth, [_, width]) = (self.window.depth(), self.window.channels);
        [width.max(depth), width.min(depth)]
    }

    /// Adds what these pixels give to rows of the gradient, from the one of the wide side's place
    /// `first` on.
    fn accumulate<S: Simd>(&self, simd: S, pixels: Range<usize>, first: usize, out: &mut [f32]) {
        let ([_, channels], [wide, narrow]) = (self.window.channels, self.sides());
        let rows = out.len() / narrow;
        let [height, width] = [even(rows, GRAD_ROWS), even(narrow, GRAD_COLUMNS)];
        let step = (GRAD_VALUES / (height + width)).clamp(MIN_GRAD_STEP, MAX_GRAD_STEP);
        let (mut panels, mut patches) = (Panels::empty(), Vec::new());
        for pixel in pixels.clone().step_by(step) {
            let steps = step.min(pixels.end - pixel);
            let grad = &self.grad[pixel * channels..pixels.end * channels];
            let patches = self.patches(pixel..pixels.end, steps, &mut patches);
            let (left, right) = if wide == channels { (grad, patches) } else { (patches, grad) };
            for column in (0..narrow).step_by(width) {
                let columns = width.min(narrow - column);
                let right = Matrix::strided(&right[column..], steps, columns, narrow);
                vectorize(
                    simd,
                    #[inline(always)]
                    || panels.refill(simd, right),
                );
                for row in (0..rows).step_by(height) {
                    let height = height.min(rows - row);
                    // What follows is fetched meanwhile, if nothing lies in between.
                    let left = if height == wide { left } else { &left[..steps * wide] };
                    let left = Columns(&left[first + row..], wide);
                    let out = &mut out[row * narrow + column..];
                    let target = Target { out, rows: height, stride: narrow };
                    multiply_panels(simd, left, &panels, 0..panels.count(), Accumulate, target);
                }
            }
        }
    }

    /// What is under the kernel at the first `steps` of these pixels, and at those after them where
    /// that takes no copying.
    fn patches<'b>(
        &'b self,
        pixels: Range<usize>,
        steps: usize,
        buffer: &'b mut Vec<f32>,
    ) -> &'b [f32] {
        let depth = self.window.depth();
        if self.window.is_pointwise() {
            return &self.x[pixels.start * depth..pixels.end * depth];
        }
        buffer.resize(steps * depth, 0.0);
        self.window.gather(self.x, pixels.start..pixels.start + steps, buffer);
        buffer
    }
}

/// The largest part of at most `max`, if `len` is cut into parts as equal as tiles allow.
fn even(len: usize, max: usize) -> usize {
    len.div_ceil(len.div_ceil(max)).next_multiple_of(48).min(max).min(len)
}
