//! Convolutions of each channel by itself, with square kernels of 3 or 5 and a stride of 1 or 2.
//!
//! Rows of a picture go through a ring of as many padded rows as the kernel is high, a register's
//! width of channels after the other. No tap is ever outside, and the kernel's loops have constant
//! lengths.

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
        registers::{load, registers, store},
        storage::{self, contiguous},
    },
    window::{Axis, Window},
};

/// Pixels that are computed side by side: each needs a register for its sum, and they share the
/// weights and most of the input. Seven goes into every width there is on the way from 224 to 7.
const PIXELS: usize = 7;

/// Registers of channels that are summed up for them in one go: with the input they stay in a
/// core's first cache.
const BLOCK: usize = 16;

/// Pixels of the input under so many, at stride 2 and with a kernel of 5.
const MAX_COLUMNS: usize = (PIXELS - 1) * 2 + 5;

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
    registers: Vec<S::f32s>,
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
        let [channels, _] = window.channels;
        let pixels = window.width.input.div_ceil(spread);
        if !row.is_multiple_of(spread) {
            return slot.fill(simd.splat_f32s(0.0));
        }
        let row = &values[row / spread * pixels * channels..][..pixels * channels];
        let depth = channels.div_ceil(S::F32_LANES);
        let slot = &mut slot[window.width.padding * depth..];
        if spread == 1 && channels.is_multiple_of(S::F32_LANES) {
            let slot = bytemuck::cast_slice_mut(slot);
            let len = row.len().min(slot.len());
            slot[..len].copy_from_slice(&row[..len]);
            return;
        }
        let places = slot.chunks_exact_mut(depth).step_by(spread);
        read_pixels(simd, row.chunks_exact(channels), places);
    }
}

#[inline(always)]
fn read_pixels<'a, S: Simd>(
    simd: S,
    pixels: impl Iterator<Item = &'a [f32]>,
    places: impl Iterator<Item = &'a mut [S::f32s]>,
) {
    for (pixel, place) in pixels.zip(places) {
        for (place, channels) in place.iter_mut().zip(pixel.chunks(S::F32_LANES)) {
            *place = load(simd, channels);
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
    for (row, out) in rows.zip(out) {
        let row = Row { simd, x: ring.rows::<K>(simd, row), filter, channels };
        row.run::<STRIDE>(out);
    }
}

/// A row of the output: what it is made of.
#[derive(Clone, Copy)]
struct Row<'a, S: Simd, const K: usize> {
    simd: S,
    x: [&'a [S::f32s]; K],
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
        let depth = self.filter.bias.len();
        let out = &mut out[first * self.channels..][..P * self.channels];
        for block in (0..depth).step_by(BLOCK) {
            let block = block..depth.min(block + BLOCK);
            let mut sums = [[self.simd.splat_f32s(0.0); BLOCK]; P];
            for sums in &mut sums {
                sums[..block.len()].copy_from_slice(&self.filter.bias[block.clone()]);
            }
            for tap in 0..K {
                self.add_row::<STRIDE, P>(tap, first, block.clone(), &mut sums);
            }
            for (sums, out) in sums.iter().zip(out.chunks_exact_mut(self.channels)) {
                self.finish(&sums[..block.len()], &mut out[block.start * S::F32_LANES..]);
            }
        }
    }

    /// Adds what a row of the kernel gives for a block of registers of `P` pixels.
    // Indexed over several arrays at once, so that every loop has a constant length and unrolls.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    fn add_row<const STRIDE: usize, const P: usize>(
        self,
        tap: usize,
        first: usize,
        block: Range<usize>,
        sums: &mut [[S::f32s; BLOCK]; P],
    ) {
        let (simd, depth, len) = (self.simd, self.filter.bias.len(), block.len());
        let weights = &self.filter.weights[tap * depth + block.start..][..len];
        let columns = (P - 1) * STRIDE + K;
        let mut x: [&[S::f32s]; MAX_COLUMNS] = [&[]; MAX_COLUMNS];
        for j in 0..columns {
            x[j] = &self.x[tap][(first * STRIDE + j) * depth + block.start..][..len];
        }
        let len = len.min(BLOCK);
        for c in 0..len {
            let mut totals = [simd.splat_f32s(0.0); P];
            for p in 0..P {
                totals[p] = sums[p][c];
            }
            for j in 0..columns {
                for p in 0..P {
                    if j >= p * STRIDE && j - p * STRIDE < K {
                        let weight = weights[c][j - p * STRIDE];
                        totals[p] = simd.mul_add_e_f32s(x[j][c], weight, totals[p]);
                    }
                }
            }
            for p in 0..P {
                sums[p][c] = totals[p];
            }
        }
    }

    #[inline(always)]
    fn finish(self, sums: &[S::f32s], out: &mut [f32]) {
        let (whole, rest) = S::as_mut_simd_f32s(out);
        let clamp = self.filter.clamp;
        for (out, &sum) in whole.iter_mut().zip(sums) {
            *out = clamp.apply(self.simd, sum);
        }
        if let Some(&sum) = sums.get(whole.len()) {
            store(self.simd, rest, clamp.apply(self.simd, sum));
        }
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
    let depth = channels.div_ceil(S::F32_LANES);
    let mut ring = Ring::new(simd, source, 0);
    let mut registers = vec![simd.splat_f32s(0.0); width.output * depth];
    for (y, grad) in grad.chunks_exact(width.output * channels).enumerate() {
        read_pixels(simd, grad.chunks_exact(channels), registers.chunks_exact_mut(depth));
        let row = GradRow { simd, x: ring.rows::<K>(simd, y), grad: &registers, depth };
        row.run::<STRIDE>(sums);
    }
}

/// A row of the output's gradient, and the rows of the input that it goes with.
#[derive(Clone, Copy)]
struct GradRow<'a, S: Simd, const K: usize> {
    simd: S,
    x: [&'a [S::f32s]; K],
    grad: &'a [S::f32s],
    depth: usize,
}

impl<S: Simd, const K: usize> GradRow<'_, S, K> {
    #[inline(always)]
    fn run<const STRIDE: usize>(self, sums: &mut [S::f32s]) {
        let pixels = self.grad.len() / self.depth;
        let whole = pixels / PIXELS * PIXELS;
        for pixel in (0..whole).step_by(PIXELS) {
            self.block::<STRIDE, PIXELS>(pixel, sums);
        }
        for pixel in whole..pixels {
            self.block::<STRIDE, 1>(pixel, sums);
        }
    }

    /// `P` pixels from `first` on.
    // Indexed over several arrays at once, so that every loop has a constant length and unrolls.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    fn block<const STRIDE: usize, const P: usize>(self, first: usize, sums: &mut [S::f32s]) {
        let Self { simd, depth, .. } = self;
        let columns = (P - 1) * STRIDE + K;
        let mut grad: [&[S::f32s]; P] = [&[]; P];
        for p in 0..P {
            grad[p] = &self.grad[(first + p) * depth..][..depth];
        }
        for y in 0..K {
            let mut x: [&[S::f32s]; MAX_COLUMNS] = [&[]; MAX_COLUMNS];
            for j in 0..columns {
                x[j] = &self.x[y][(first * STRIDE + j) * depth..][..depth];
            }
            for c in 0..depth {
                let sums: &mut [S::f32s; K] =
                    sums[(c * K + y) * K..].first_chunk_mut().expect("K × K sums a channel");
                let mut row = *sums;
                for j in 0..columns {
                    let x = x[j][c];
                    for p in 0..P {
                        if j >= p * STRIDE && j - p * STRIDE < K {
                            let tap = j - p * STRIDE;
                            row[tap] = simd.mul_add_e_f32s(x, grad[p][c], row[tap]);
                        }
                    }
                }
                *sums = row;
            }
        }
    }
}
