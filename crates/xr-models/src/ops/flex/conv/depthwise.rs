//! Convolutions of each channel by itself, with square kernels of 3 or 5 and a stride of 1 or 2.
//!
//! Rows of a picture go through a ring of as many padded rows as the kernel is high, in which the
//! pixels of a register's width of channels lie side by side. No tap is ever outside, and the kernel's
//! loops have constant lengths and read from few places.

use std::{ops::Range, sync::Arc};

use burn::backend::flex::FlexTensor;
use pulp::{Simd, WithSimd, bytemuck};
use rayon::prelude::*;

use super::{
    super::{
        arch::vectorize,
        blocks::{self, Rows},
        clamp::Clamp,
        packed::packed,
        registers::{registers, store},
        storage::{self, contiguous},
    },
    window::{Axis, Window},
};

/// Pixels that are computed side by side: each needs a register for its sum, and they share the
/// weights and most of the input. Seven goes into every width there is on the way from 224 to 7.
const PIXELS: usize = 7;

/// Tasks that a batch is divided into at least, if it has as many rows.
const TASKS: usize = 8;

/// Rows of a task at least: the first of them need rows of the task before.
const MIN_ROWS: usize = 4;

/// `$function::<S, KERNEL, STRIDE>(arguments)` for the window's kernel and stride.
macro_rules! specialised {
    ($window:expr, $($function:ident).+ ($($argument:expr),*)) => {
        match ($window.width.kernel, $window.width.stride) {
            (3, 1) => $($function).+::<S, 3, 1>($($argument),*),
            (3, 2) => $($function).+::<S, 3, 2>($($argument),*),
            (5, 1) => $($function).+::<S, 5, 1>($($argument),*),
            (5, 2) => $($function).+::<S, 5, 2>($($argument),*),
            (kernel, stride) => unreachable!("{kernel} × {kernel} at stride {stride}"),
        }
    };
}

/// Are there kernels for it?
pub(super) fn is_supported(window: Window) -> bool {
    let [height, width] =
        [window.height, window.width].map(|axis| (axis.kernel, axis.stride, axis.dilation));
    let padding = window.height.padding.max(window.width.padding);
    height == width && matches!(width, (3 | 5, 1 | 2, 1)) && padding < width.0
}

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
        specialised!(self.window, self.run(simd))
    }
}

impl Forward<'_> {
    fn run<S: Simd, const K: usize, const STRIDE: usize>(self, simd: S) -> Vec<f32> {
        let Self { window, x, clamp, .. } = self;
        let bias = match self.bias {
            Some(bias) => registers(simd, bias),
            None => no_bias(simd, window),
        };
        let by_row = || {
            let weight = contiguous(self.weight.clone());
            by_row::<S, K>(simd, storage::values(&weight))
        };
        let weights =
            if self.keep_weight { packed(self.weight, by_row) } else { Arc::new(by_row()) };
        let filter = Filter::<S, K> { weights: &weights, bias, clamp };
        let mut out = bands(window, |picture, rows, out| {
            let source = Source { values: pictures(x, window, picture), window, spread: 1 };
            vectorize(
                simd,
                #[inline(always)]
                || band::<S, K, STRIDE>(simd, source, &filter, rows.clone(), out),
            );
        });
        if let Some(residual) = self.residual {
            out.iter_mut().zip(residual).for_each(|(out, residual)| *out += residual);
        }
        out
    }
}

fn no_bias<S: Simd>(simd: S, window: Window) -> Vec<S::f32s> {
    vec![simd.splat_f32s(0.0); window.channels[0].div_ceil(S::F32_LANES)]
}

/// The values of one picture of the input.
fn pictures(x: &[f32], window: Window, picture: usize) -> &[f32] {
    let values = window.pixels_in() * window.channels[0];
    &x[picture * values..][..values]
}

/// The output, made in bands of rows: `f` gets the number of the picture, and takes these of its rows.
fn bands(window: Window, f: impl Fn(usize, Range<usize>, &mut Rows) + Send + Sync) -> Vec<f32> {
    let height = window.height.output;
    let bands = TASKS.div_ceil(window.batch.max(1));
    let rows = height.div_ceil(bands).max(MIN_ROWS);
    let row = window.width.output * window.channels[1];
    blocks::generate_rows(window.values_out(), row, rows, |first, out| {
        let end = (first + rows).min(window.batch * height);
        for picture in first / height..end.div_ceil(height) {
            let [first, end] = [first, end].map(|row| row.saturating_sub(picture * height));
            f(picture, first..end.min(height), out);
        }
    })
}

/// Weights `[channels, 1, height, width]` as `[height, channels, width]`, a register's width of
/// channels each.
fn by_row<S: Simd, const K: usize>(simd: S, weight: &[f32]) -> Vec<[S::f32s; K]> {
    let depth = weight.len().div_ceil(K * K * S::F32_LANES);
    let mut rows = vec![[simd.splat_f32s(0.0); K]; K * depth];
    for (channel, taps) in weight.chunks_exact(K * K).enumerate() {
        let (block, lane) = (channel / S::F32_LANES, channel % S::F32_LANES);
        for (tap, &value) in taps.iter().enumerate() {
            let register = &mut rows[tap / K * depth + block][tap % K];
            bytemuck::cast_slice_mut(std::slice::from_mut(register))[lane] = value;
        }
    }
    rows
}

/// The kernel, and what is done to the sums.
struct Filter<'a, S: Simd, const K: usize> {
    /// See [`by_row`].
    weights: &'a [[S::f32s; K]],
    /// A register's width of channels after the other; zeros if there is no bias.
    bias: Vec<S::f32s>,
    clamp: Clamp,
}

/// A picture as the kernel sees it.
#[derive(Clone, Copy)]
struct Source<'a> {
    values: &'a [f32],
    window: Window,
    /// Pixels from one to the next, zeros between them; rows likewise.
    spread: usize,
}

/// The last rows of a picture, with zeros around them.
struct Ring<'a, S: Simd> {
    source: Source<'a>,
    /// Of a row those of the first channels come first, pixel by pixel.
    registers: Vec<S::f32s>,
    /// Pixels of a row.
    pixels: usize,
    /// Registers of a row.
    pitch: usize,
    /// Rows there is place for.
    slots: usize,
    /// The next row to be read.
    next: usize,
}

impl<'a, S: Simd> Ring<'a, S> {
    /// For output rows from `first` on.
    #[inline(always)]
    fn new(simd: S, source: Source<'a>, first: usize) -> Self {
        let Window { channels: [channels, _], height, width, .. } = source.window;
        let pixels = (width.output - 1) * width.stride + width.kernel;
        let pitch = pixels * channels.div_ceil(S::F32_LANES);
        Self {
            source,
            // The last slot stays zero: it is every row above and below the picture.
            registers: vec![simd.splat_f32s(0.0); pitch * (height.kernel + 1)],
            pixels,
            pitch,
            slots: height.kernel,
            next: (first * height.stride).saturating_sub(height.padding),
        }
    }

    /// The rows under the kernel for a row of the output, which must not be above the one before.
    #[inline(always)]
    fn rows<const K: usize>(&mut self, simd: S, output: usize) -> [&[S::f32s]; K] {
        let axis = self.source.window.height;
        let end = (output * axis.stride + K).saturating_sub(axis.padding);
        while self.next < end.min(axis.input) {
            self.read(simd);
        }
        let mut rows: [&[S::f32s]; K] = [&[]; K];
        for (tap, row) in rows.iter_mut().enumerate() {
            let slot = axis.source(output, tap).map_or(self.slots, |row| row % self.slots);
            *row = &self.registers[slot * self.pitch..][..self.pitch];
        }
        rows
    }

    #[inline(always)]
    fn read(&mut self, simd: S) {
        let Source { values, window, spread } = self.source;
        let row = self.next;
        self.next += 1;
        let slot = &mut self.registers[row % self.slots * self.pitch..][..self.pitch];
        if !row.is_multiple_of(spread) {
            return slot.fill(simd.splat_f32s(0.0));
        }
        let [channels, _] = window.channels;
        let len = window.width.input.div_ceil(spread) * channels;
        let row = &values[row / spread * len..][..len];
        let places = (window.width.padding..self.pixels).step_by(spread);
        read_pixels(simd, row, channels, self.pixels, slot, places);
    }
}

/// Brings pixels to places in a row of so many, those of a register's channels side by side.
#[inline(always)]
fn read_pixels<S: Simd>(
    simd: S,
    row: &[f32],
    channels: usize,
    pixels: usize,
    out: &mut [S::f32s],
    places: impl Iterator<Item = usize>,
) {
    for (place, pixel) in places.zip(row.chunks_exact(channels)) {
        let (whole, rest) = S::as_simd_f32s(pixel);
        let out = &mut out[place..];
        for (c, &register) in whole.iter().enumerate() {
            out[c * pixels] = register;
        }
        if !rest.is_empty() {
            out[whole.len() * pixels] = simd.partial_load_f32s(rest);
        }
    }
}

/// Some rows of one picture of the output.
#[inline(always)]
fn band<S: Simd, const K: usize, const STRIDE: usize>(
    simd: S,
    source: Source,
    filter: &Filter<'_, S, K>,
    rows: Range<usize>,
    out: &mut Rows,
) {
    let [channels, _] = source.window.channels;
    let mut ring = Ring::new(simd, source, rows.start);
    for row in rows {
        let Some(out) = out.take(1) else { return };
        let x = ring.rows::<K>(simd, row);
        let row = Row { simd, x, pixels: x[0].len() / filter.bias.len(), filter, channels };
        row.run::<STRIDE>(out);
    }
}

/// A row of the output: what it is made of.
#[derive(Clone, Copy)]
struct Row<'a, S: Simd, const K: usize> {
    simd: S,
    x: [&'a [S::f32s]; K],
    /// Of a row of `x`.
    pixels: usize,
    filter: &'a Filter<'a, S, K>,
    channels: usize,
}

impl<S: Simd, const K: usize> Row<'_, S, K> {
    #[inline(always)]
    fn run<const STRIDE: usize>(self, out: &mut [f32]) {
        let pixels = out.len() / self.channels;
        if pixels < PIXELS {
            for pixel in 0..pixels {
                self.pixels::<STRIDE, 1>(pixel, out);
            }
            return;
        }
        for pixel in (0..pixels).step_by(PIXELS) {
            // The last block goes back over pixels of the one before rather than past the end.
            self.pixels::<STRIDE, PIXELS>(pixel.min(pixels - PIXELS), out);
        }
    }

    /// `P` pixels from `first` on.
    #[inline(always)]
    fn pixels<const STRIDE: usize, const P: usize>(self, first: usize, out: &mut [f32]) {
        let out = &mut out[first * self.channels..][..P * self.channels];
        for register in 0..self.filter.bias.len() {
            let sums = self.sums::<STRIDE, P>(first * STRIDE, register);
            let channel = register * S::F32_LANES;
            for p in 0..P {
                let out = &mut out[p * self.channels..][channel..self.channels];
                store(self.simd, out, self.filter.clamp.apply(self.simd, sums[p]));
            }
        }
    }

    /// A register of channels of `P` pixels, of which the first is made from `column` on.
    // Indexed over several arrays at once, so that every loop has a constant length and unrolls.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    fn sums<const STRIDE: usize, const P: usize>(
        self,
        column: usize,
        register: usize,
    ) -> [S::f32s; P] {
        let depth = self.filter.bias.len();
        let columns = (P - 1) * STRIDE + K;
        let mut sums = [self.filter.bias[register]; P];
        for tap in 0..K {
            let weights = &self.filter.weights[tap * depth + register];
            let x = &self.x[tap][register * self.pixels + column..][..columns];
            for j in 0..columns {
                for p in 0..P {
                    if j >= p * STRIDE && j - p * STRIDE < K {
                        sums[p] = self.simd.mul_add_e_f32s(x[j], weights[j - p * STRIDE], sums[p]);
                    }
                }
            }
        }
        sums
    }
}

/// The gradient with respect to the input: a convolution of stride 1 with the kernel turned round,
/// over the gradient with zeros put between its pixels where the stride was 2.
pub(super) struct InputGrad<'a> {
    pub(super) window: Window,
    pub(super) weight: &'a [f32],
    pub(super) grad: &'a [f32],
}

impl WithSimd for InputGrad<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        match self.window.width.kernel {
            3 => self.run::<S, 3>(simd),
            _ => self.run::<S, 5>(simd),
        }
    }
}

impl InputGrad<'_> {
    fn run<S: Simd, const K: usize>(self, simd: S) -> Vec<f32> {
        let Self { window, weight, grad } = self;
        let weight: Vec<_> =
            weight.chunks_exact(K * K).flat_map(|taps| taps.iter().rev().copied()).collect();
        let (weights, bias) = (by_row(simd, &weight), no_bias(simd, window));
        let filter = Filter::<S, K> { weights: &weights, bias, clamp: Clamp::NONE };
        let [height, width] = [window.height, window.width].map(reversed);
        let [from, to] = window.channels;
        let back = Window { channels: [to, from], height, width, ..window };
        let (values, spread) = (window.pixels_out() * to, window.width.stride);
        bands(back, |picture, rows, out| {
            let values = &grad[picture * values..][..values];
            let source = Source { values, window: back, spread };
            vectorize(
                simd,
                #[inline(always)]
                || band::<S, K, 1>(simd, source, &filter, rows.clone(), out),
            );
        })
    }
}

fn reversed(axis: Axis) -> Axis {
    Axis {
        input: (axis.output - 1) * axis.stride + 1,
        output: axis.input,
        stride: 1,
        padding: axis.kernel - 1 - axis.padding,
        ..axis
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
        specialised!(self.window, self.run(simd))
    }
}

impl WeightGrad<'_> {
    /// The gradients of single pictures, added in order.
    fn run<S: Simd, const K: usize, const STRIDE: usize>(self, simd: S) -> Vec<f32> {
        let Self { window, x, grad } = self;
        let [channels, _] = window.channels;
        let depth = channels.div_ceil(S::F32_LANES);
        let values = window.pixels_out() * channels;
        let mut sums = vec![simd.splat_f32s(0.0); window.batch * depth * K * K];
        let by_picture = sums.par_chunks_mut(depth * K * K).enumerate();
        by_picture.for_each(|(picture, sums)| {
            let source = Source { values: pictures(x, window, picture), window, spread: 1 };
            let grad = &grad[picture * values..][..values];
            vectorize(
                simd,
                #[inline(always)]
                || add_picture::<S, K, STRIDE>(simd, source, grad, sums),
            );
        });
        from_taps(bytemuck::cast_slice(&sums), [channels, K * K, S::F32_LANES])
    }
}

/// Weights `[channels, taps]` from sums of `[picture, channels / lanes, taps, lanes]`.
fn from_taps(sums: &[f32], [channels, taps, lanes]: [usize; 3]) -> Vec<f32> {
    let picture = channels.div_ceil(lanes) * taps * lanes;
    let place = |channel, tap| (channel / lanes * taps + tap) * lanes + channel % lanes;
    let places = (0..channels).flat_map(|c| (0..taps).map(move |tap| place(c, tap)));
    places.map(|place| sums[place..].iter().step_by(picture).sum()).collect()
}

#[inline(always)]
fn add_picture<S: Simd, const K: usize, const STRIDE: usize>(
    simd: S,
    source: Source,
    grad: &[f32],
    sums: &mut [S::f32s],
) {
    let Window { width, channels: [channels, _], .. } = source.window;
    let mut ring = Ring::new(simd, source, 0);
    let pixels = [ring.pixels, width.output];
    let mut registers = vec![simd.splat_f32s(0.0); width.output * channels.div_ceil(S::F32_LANES)];
    for (y, grad) in grad.chunks_exact(width.output * channels).enumerate() {
        read_pixels(simd, grad, channels, width.output, &mut registers, 0..width.output);
        let row = GradRow { simd, x: ring.rows::<K>(simd, y), grad: &registers, pixels };
        for (register, sums) in sums.chunks_exact_mut(K * K).enumerate() {
            row.add::<STRIDE>(register, sums);
        }
    }
}

/// A row of the output's gradient, and the rows of the input that it goes with.
#[derive(Clone, Copy)]
struct GradRow<'a, S: Simd, const K: usize> {
    simd: S,
    x: [&'a [S::f32s]; K],
    grad: &'a [S::f32s],
    /// Of a row of `x` and of `grad`.
    pixels: [usize; 2],
}

impl<S: Simd, const K: usize> GradRow<'_, S, K> {
    /// What a register of channels gives.
    #[inline(always)]
    fn add<const STRIDE: usize>(self, register: usize, sums: &mut [S::f32s]) {
        let [pixels, outputs] = self.pixels;
        let x = self.x.map(|x| &x[register * pixels..][..pixels]);
        let grad = &self.grad[register * outputs..][..outputs];
        let mut totals = [[self.simd.splat_f32s(0.0); K]; K];
        totals.as_flattened_mut().copy_from_slice(sums);
        let whole = outputs / PIXELS * PIXELS;
        for pixel in (0..whole).step_by(PIXELS) {
            self.block::<STRIDE, PIXELS>(x, grad, pixel, &mut totals);
        }
        for pixel in whole..outputs {
            self.block::<STRIDE, 1>(x, grad, pixel, &mut totals);
        }
        sums.copy_from_slice(totals.as_flattened());
    }

    /// `P` pixels from `first` on.
    // Indexed over several arrays at once, so that every loop has a constant length and unrolls.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    fn block<const STRIDE: usize, const P: usize>(
        self,
        x: [&[S::f32s]; K],
        grad: &[S::f32s],
        first: usize,
        sums: &mut [[S::f32s; K]; K],
    ) {
        let (columns, grad) = ((P - 1) * STRIDE + K, &grad[first..][..P]);
        for y in 0..K {
            let x = &x[y][first * STRIDE..][..columns];
            for j in 0..columns {
                for p in 0..P {
                    if j >= p * STRIDE && j - p * STRIDE < K {
                        let sum = &mut sums[y][j - p * STRIDE];
                        *sum = self.simd.mul_add_e_f32s(x[j], grad[p], *sum);
                    }
                }
            }
        }
    }
}
