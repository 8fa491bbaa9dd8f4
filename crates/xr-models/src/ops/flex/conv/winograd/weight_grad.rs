use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{
    super::{
        super::{
            arch::vectorize,
            product::{Accumulate, Columns, MAX_LANES, Panels, Target, multiply_panels},
            registers::{load, store},
        },
        window::Window,
    },
    PLACES, TAPS,
    part::Part,
    tiles::{REACH, Tiles, in_steps},
    transforms::{KernelGrad, transform},
};

/// Tiles whose products are summed before they are written.
const STEP: usize = 96;

/// Channels of either side of a block.
const BLOCK: usize = 128;

/// Blocks, or parts of the batch for blocks, that a gradient is divided into at least.
const TASKS: usize = 8;

/// The gradient with respect to the weight.
pub(in super::super) struct WeightGrad<'a> {
    pub(in super::super) window: Window,
    pub(in super::super) x: &'a [f32],
    pub(in super::super) grad: &'a [f32],
}

impl WithSimd for WeightGrad<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let tiles = Tiles::new(self.window);
        let blocks = Blocks::new::<S>(self.window, tiles.count());
        let mut grads = vec![0.0; blocks.shares * blocks.count() * blocks.values()];
        grads.par_chunks_mut(blocks.values()).enumerate().for_each(|(task, out)| {
            let (share, block) = (task / blocks.count(), task % blocks.count());
            let size = tiles.count().div_ceil(blocks.shares);
            let tiles = share * size..tiles.count().min((share + 1) * size);
            self.accumulate(simd, blocks, block, tiles, out);
        });
        self.kernels(simd, blocks, &grads)
    }
}

impl WeightGrad<'_> {
    /// Adds what these tiles give to a block of the gradient of the factors.
    fn accumulate<S: Simd>(
        &self,
        simd: S,
        blocks: Blocks,
        block: usize,
        tiles: Range<usize>,
        out: &mut [f32],
    ) {
        let ([from, to], [rows, stride]) = (blocks.of(block), blocks.sides);
        let x = Part::all(self.x, self.window.channels[0]).some(&from);
        let grad = Part::all(self.grad, self.window.channels[1]).some(&to);
        let (all, count) = (Tiles::new(self.window), to.len().div_ceil(S::F32_LANES));
        let (mut factors, mut panels) = (Vec::new(), Panels::empty());
        for step in in_steps(tiles, STEP) {
            factors.resize(PLACES * step.len() * from.len(), 0.0);
            let registers = panels.resize(simd, step.len(), PLACES * count);
            vectorize(
                simd,
                #[inline(always)]
                || {
                    x.input_factors(simd, all, step.clone(), &mut factors);
                    grad.grad_factors(simd, all, step.clone(), registers);
                },
            );
            let lefts = factors.chunks_exact(step.len() * from.len());
            for (place, (left, out)) in lefts.zip(out.chunks_exact_mut(rows * stride)).enumerate() {
                let left = Columns(left, from.len());
                let target = Target { out, rows: from.len(), stride };
                let columns = place * count..(place + 1) * count;
                multiply_panels(simd, left, &panels, columns, Accumulate, target);
            }
        }
    }

    /// The gradient of the weight from that of the factors.
    fn kernels<S: Simd>(&self, simd: S, blocks: Blocks, grads: &[f32]) -> Vec<f32> {
        let [from, to] = self.window.channels;
        let mut out = vec![0.0; to * from * TAPS];
        out.par_chunks_mut(S::F32_LANES * from * TAPS).enumerate().for_each(|(panel, out)| {
            vectorize(
                simd,
                #[inline(always)]
                || {
                    for channel in 0..from {
                        let out = &mut out[channel * TAPS..];
                        let place = blocks.place(channel, panel * S::F32_LANES);
                        kernels_of(simd, blocks, grads, place, out, from * TAPS);
                    }
                },
            );
        });
        out
    }
}

/// The kernels from one channel to a register of others, which lie `stride` values after one another.
#[inline(always)]
fn kernels_of<S: Simd>(
    simd: S,
    blocks: Blocks,
    grads: &[f32],
    place: usize,
    out: &mut [f32],
    stride: usize,
) {
    transform::<KernelGrad, S, REACH, 3>(
        simd,
        #[inline(always)]
        |i| blocks.row(simd, grads, place, i),
        #[inline(always)]
        |tap, register| {
            let mut line = [0.0; MAX_LANES];
            store(simd, &mut line, register);
            let places = out[tap..].iter_mut().step_by(stride);
            places.zip(line).take(S::F32_LANES).for_each(|(place, value)| *place = value);
        },
    );
}

/// The gradient of the factors in blocks of channels, for each share of the batch: `[share, block,
/// place, channel in, channel out]`.
#[derive(Clone, Copy)]
struct Blocks {
    channels: [usize; 2],
    /// Of a block.
    sides: [usize; 2],
    /// Of the batch.
    shares: usize,
}

impl Blocks {
    fn new<S: Simd>(window: Window, tiles: usize) -> Self {
        let [from, to] = window.channels.map(|channels| channels.min(BLOCK));
        let sides = [from, to.next_multiple_of(S::F32_LANES)];
        let blocks = Self { channels: window.channels, sides, shares: 1 };
        let shares = TASKS.div_ceil(blocks.count()).min(tiles.div_ceil(STEP)).max(1);
        Self { shares, ..blocks }
    }

    /// Blocks along both sides.
    fn along(self) -> [usize; 2] {
        [0, 1].map(|i| self.channels[i].div_ceil(self.sides[i]))
    }

    fn count(self) -> usize {
        self.along().iter().product()
    }

    /// Values of a block.
    fn values(self) -> usize {
        PLACES * self.sides[0] * self.sides[1]
    }

    /// Channels in and out of a block.
    fn of(self, block: usize) -> [Range<usize>; 2] {
        let columns = self.along()[1];
        let channels = |i: usize, number: usize| {
            number * self.sides[i]..self.channels[i].min((number + 1) * self.sides[i])
        };
        [channels(0, block / columns), channels(1, block % columns)]
    }

    /// Where two channels are, in the first share at the first place.
    #[inline(always)]
    fn place(self, from: usize, to: usize) -> usize {
        let [rows, columns] = self.sides;
        let block = from / rows * self.along()[1] + to / columns;
        block * self.values() + from % rows * columns + to % columns
    }

    /// A register at each of a row of places, summed over the shares.
    #[inline(always)]
    fn row<S: Simd>(self, simd: S, grads: &[f32], place: usize, i: usize) -> [S::f32s; REACH] {
        let [rows, columns] = self.sides;
        let mut sums = [simd.splat_f32s(0.0); REACH];
        for share in grads.chunks_exact(self.count() * self.values()) {
            for j in 0..REACH {
                let at = place + (i * REACH + j) * rows * columns;
                sums[j] = simd.add_f32s(sums[j], load(simd, &share[at..]));
            }
        }
        sums
    }
}
