use std::ops::Range;

use pulp::Simd;

use super::{
    super::{
        super::{
            arch::vectorize,
            blocks,
            product::{Panels, Rows, Sums, Target, multiply_panels},
            registers::{load, store},
        },
        window::Window,
    },
    PLACES,
    part::Part,
    tiles::{REACH, SIDE, Tiles, in_steps},
    transforms::{Output, transform},
    weights::{PANELS, Weights},
};

/// Tiles that are multiplied together: transformed, they should stay in a core's own cache.
const STEP: usize = 48;

/// Tasks that a convolution is divided into, if it has tiles enough; and at least, if they are few.
const TASKS: usize = 32;
const MIN_TASKS: usize = 4;

/// `x * weights`.
pub(super) fn convolve<S: Simd>(simd: S, window: Window, x: &[f32], weights: Weights) -> Vec<f32> {
    let (tiles, width) = (Tiles::new(window), window.channels[1]);
    let panels = weights.transformed(simd);
    let convolution = Convolution { simd, tiles, window, x, panels: &panels };
    // Steps of tiles whose pixels lie side by side, all of about the same size.
    let (unit, pixels) = tiles.unit();
    let units = tiles.count() / unit;
    let steps = units.div_ceil((STEP / unit).max(1)).max(units.min(MIN_TASKS));
    let step = units.div_ceil(steps);
    let row = step * pixels * width;
    blocks::generate_rows(window.values_out(), row, steps.div_ceil(TASKS), |first, rows| {
        let (mut buffers, mut first) = (Buffers::default(), first * step);
        while let Some(out) = rows.take(1) {
            let tiles = first * unit..(first + out.len() / (pixels * width)) * unit;
            for tiles in in_steps(tiles, STEP) {
                convolution.run(tiles, &mut buffers, first * pixels, out);
            }
            first += step;
        }
    })
}

/// A convolution while it runs.
struct Convolution<'a, S: Simd> {
    simd: S,
    tiles: Tiles,
    window: Window,
    x: &'a [f32],
    panels: &'a Panels<S>,
}

/// Of a task.
#[derive(Default)]
struct Buffers {
    /// The input, transformed: `[place, tile, channel]`.
    factors: Vec<f32>,
    /// What it is multiplied to: `[place, tile, column]`.
    products: Vec<f32>,
}

impl<S: Simd> Convolution<'_, S> {
    /// Writes these tiles to `out`, which begins with the pixel `first`.
    fn run(&self, tiles: Range<usize>, buffers: &mut Buffers, first: usize, out: &mut [f32]) {
        let Buffers { factors, products } = buffers;
        let count = self.panels.count();
        factors.resize(PLACES * tiles.len() * self.window.channels[0], 0.0);
        self.transform(tiles.clone(), factors);
        for panel in (0..count).step_by(PLACES * PANELS) {
            let panels = panel..count.min(panel + PLACES * PANELS);
            products.resize(tiles.len() * panels.len() * S::F32_LANES, 0.0);
            self.multiply(factors, panels, products);
            self.write(tiles.clone(), products, panel / PLACES * S::F32_LANES, first, out);
        }
    }

    fn transform(&self, tiles: Range<usize>, factors: &mut [f32]) {
        let (simd, part) = (self.simd, Part::all(self.x, self.window.channels[0]));
        vectorize(
            simd,
            #[inline(always)]
            || part.input_factors(simd, self.tiles, tiles.clone(), factors),
        );
    }

    /// The products of the factors with some panels.
    fn multiply(&self, factors: &[f32], panels: Range<usize>, products: &mut [f32]) {
        let depth = self.window.channels[0];
        let (count, rows) = (panels.len() / PLACES, factors.len() / (PLACES * depth));
        let stride = count * S::F32_LANES;
        let lefts = factors.chunks_exact(rows * depth);
        for (place, (left, out)) in lefts.zip(products.chunks_exact_mut(rows * stride)).enumerate()
        {
            let (left, first) = (Rows(left, depth), panels.start + place * count);
            let target = Target { out, rows, stride };
            let panels = first..first + count;
            multiply_panels(self.simd, left, self.panels, panels, Sums, target);
        }
    }

    /// The products of output channels from `channel` on, transformed, to where they belong.
    fn write(
        &self,
        tiles: Range<usize>,
        products: &[f32],
        channel: usize,
        first: usize,
        out: &mut [f32],
    ) {
        let (simd, rows) = (self.simd, tiles.len());
        let stride = products.len() / (PLACES * rows);
        let columns = stride.min(self.window.channels[1] - channel);
        vectorize(
            simd,
            #[inline(always)]
            || {
                for (row, tile) in tiles.clone().enumerate() {
                    for column in (0..columns).step_by(S::F32_LANES) {
                        let products = Products { products, rows, stride, row, column };
                        self.write_tile(tile, products, channel + column, first, out);
                    }
                }
            },
        );
    }

    /// A register of channels of one tile.
    #[inline(always)]
    fn write_tile(
        &self,
        tile: usize,
        products: Products,
        channel: usize,
        first: usize,
        out: &mut [f32],
    ) {
        let (simd, width) = (self.simd, self.window.channels[1]);
        let pixels = self.tiles.output(tile);
        transform::<Output, S, REACH, SIDE>(
            simd,
            #[inline(always)]
            |i| products.row(simd, i),
            #[inline(always)]
            |place, register| {
                if let Some(pixel) = pixels[place / SIDE][place % SIDE] {
                    let pixel = (pixel - first) * width;
                    store(simd, &mut out[pixel + channel..pixel + width], register);
                }
            },
        );
    }
}

/// Some products `[place, row, column]`, of which one row and register is meant.
#[derive(Clone, Copy)]
struct Products<'a> {
    products: &'a [f32],
    rows: usize,
    stride: usize,
    row: usize,
    column: usize,
}

impl Products<'_> {
    /// At a row of places.
    #[inline(always)]
    fn row<S: Simd>(self, simd: S, i: usize) -> [S::f32s; REACH] {
        let mut registers = [simd.splat_f32s(0.0); REACH];
        for j in 0..REACH {
            let at = ((i * REACH + j) * self.rows + self.row) * self.stride + self.column;
            registers[j] = load(simd, &self.products[at..]);
        }
        registers
    }
}
