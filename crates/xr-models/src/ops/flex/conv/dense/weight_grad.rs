use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{
    super::{
        super::{
            arch::vectorize,
            blocks,
            product::{
                Accumulate, Columns, LINE, MAX_LANES, Matrix, Panels, ROWS, Target, multiply_panels,
            },
        },
        window::Window,
    },
    transposed_blocks,
};

/// Parts of the batch whose gradients are summed one by one, where it has many pixels.
const PARTS: usize = 8;

/// Pixels below which the batch isn't divided by pixels.
const PIXELS: usize = 2048;

/// Values of both sides that a block of the gradient is summed up from before it is written: they
/// should stay in a core's own cache.
const VALUES: usize = 1 << 16;

/// Pixels of such a sum at least.
const MIN_STEPS: usize = 32;

/// And at most: so much of two panels, and of two lines of the other side, stays in the first cache.
const MAX_STEPS: usize = 256;

/// Rows of a block, and what they are a multiple of: a tile's.
const BLOCK_ROWS: [usize; 2] = [96, ROWS];

/// Columns likewise: two or three panels of any width make a tile.
const BLOCK_COLUMNS: [usize; 2] = [192, 3 * MAX_LANES];

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
        self.run(simd)
    }
}

/// The two sides of the products, a row a pixel. Of the narrower one panels are made.
#[derive(Clone, Copy)]
struct Sides<'a> {
    wide: &'a [f32],
    narrow: &'a [f32],
    /// Values of a row of each.
    widths: [usize; 2],
    /// Pixels; the wide side's slice may go on after them.
    pixels: usize,
}

impl WeightGrad<'_> {
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let (depth, [from, to]) = (self.window.depth(), self.window.channels);
        let [wide, narrow] = self.widths();
        let grads = self.summed(simd);
        let by_output = if wide == to { grads } else { transposed(&grads, [wide, narrow]) };
        transposed_blocks(&by_output, [depth / from, from]).into_owned()
    }

    /// Output channels and values under the kernel, the larger number first.
    fn widths(&self) -> [usize; 2] {
        let (depth, [_, to]) = (self.window.depth(), self.window.channels);
        [to.max(depth), to.min(depth)]
    }

    /// Each part of the pixels gives a gradient, of which blocks are computed side by side; then the
    /// parts are added in order.
    fn summed<S: Simd>(&self, simd: S) -> Vec<f32> {
        let [wide, narrow] = self.widths();
        let pixels = self.window.batch * self.window.pixels_out();
        let parts = (pixels / PIXELS).clamp(1, PARTS);
        let part = pixels.div_ceil(parts);
        let rows = wide.div_ceil(PARTS / parts).next_multiple_of(ROWS).min(wide);
        let mut grads = vec![0.0; parts * wide * narrow];
        grads.par_chunks_mut(wide * narrow).enumerate().for_each(|(p, out)| {
            let pixels = p * part..pixels.min((p + 1) * part);
            out.par_chunks_mut(rows * narrow).enumerate().for_each(|(block, out)| {
                self.accumulate(simd, pixels.clone(), block * rows, out);
            });
        });
        let (grad, others) = grads.split_at_mut(wide * narrow);
        for other in others.chunks_exact(wide * narrow) {
            grad.iter_mut().zip(other).for_each(|(sum, value)| *sum += value);
        }
        grads.truncate(wide * narrow);
        grads
    }

    /// Adds what these pixels give to rows of the gradient from `first` on.
    fn accumulate<S: Simd>(&self, simd: S, pixels: Range<usize>, first: usize, out: &mut [f32]) {
        let [wide, narrow] = self.widths();
        let block = block(wide, BLOCK_ROWS) + block(narrow, BLOCK_COLUMNS);
        let steps = (VALUES / block).clamp(MIN_STEPS, MAX_STEPS);
        let (mut panels, mut patches) = (Panels::empty(), Vec::new());
        for pixel in pixels.clone().step_by(steps) {
            let steps = steps.min(pixels.end - pixel);
            let sides = self.sides(pixel..pixels.end, steps, &mut patches);
            sides.add(simd, first, &mut panels, out);
        }
    }

    /// The first `steps` of these pixels.
    fn sides<'b>(
        &'b self,
        pixels: Range<usize>,
        steps: usize,
        patches: &'b mut Vec<f32>,
    ) -> Sides<'b> {
        let [_, to] = self.window.channels;
        let grad = &self.grad[pixels.start * to..pixels.end * to];
        let x = self.patches(pixels, steps, patches);
        let widths @ [wide, _] = self.widths();
        let (wide, narrow) = if wide == to { (grad, x) } else { (x, grad) };
        Sides { wide, narrow, widths, pixels: steps }
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

impl Sides<'_> {
    /// Adds the products to rows of the gradient from `first` on.
    fn add<S: Simd>(self, simd: S, first: usize, panels: &mut Panels<S>, out: &mut [f32]) {
        let [_, narrow] = self.widths;
        for columns in blocks_of(narrow, BLOCK_COLUMNS) {
            let values = &self.narrow[columns.start..];
            let right = Matrix::strided(values, self.pixels, columns.len(), narrow);
            vectorize(
                simd,
                #[inline(always)]
                || panels.refill(simd, right),
            );
            for rows in blocks_of(out.len() / narrow, BLOCK_ROWS) {
                let left = self.columns(first + rows.start..first + rows.end);
                let out = &mut out[rows.start * narrow + columns.start..];
                let target = Target { out, rows: rows.len(), stride: narrow };
                multiply_panels(simd, left, panels, 0..panels.count(), Accumulate, target);
            }
        }
    }

    /// Some of the wide side; what follows is fetched meanwhile, if nothing lies in between.
    fn columns(&self, columns: Range<usize>) -> Columns<'_> {
        let [wide, _] = self.widths;
        let all = columns.len() == wide;
        let end = if all { self.wide.len() } else { self.pixels * wide };
        Columns(&self.wide[columns.start..end], wide)
    }
}

/// The size of blocks, about equal, of at most `max` and a multiple of `unit`.
fn block(len: usize, [max, unit]: [usize; 2]) -> usize {
    len.div_ceil(len.div_ceil(max)).next_multiple_of(unit)
}

fn blocks_of(len: usize, block_of: [usize; 2]) -> impl Iterator<Item = Range<usize>> {
    let block = block(len, block_of);
    (0..len).step_by(block).map(move |first| first..len.min(first + block))
}

/// A matrix, transposed on all threads.
fn transposed(values: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
    blocks::generate(values.len(), LINE * rows, |block, out| {
        for (row, values) in values.chunks_exact(columns).enumerate() {
            let places = out[row..].iter_mut().step_by(rows);
            places.zip(&values[block * LINE..]).for_each(|(place, value)| *place = *value);
        }
    })
}
