use std::ops::Range;

use pulp::Simd;

use super::{
    super::super::registers::{load, store},
    PLACES,
    tiles::{REACH, SIDE, Square, Tiles},
    transforms::{Input, OutputGrad, transform},
};

/// Some channels of pictures.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    values: &'a [f32],
    /// From one pixel to the next.
    stride: usize,
    first: usize,
    channels: usize,
}

impl<'a> Part<'a> {
    /// All channels.
    pub(super) fn all(values: &'a [f32], channels: usize) -> Self {
        Self { values, stride: channels, first: 0, channels }
    }

    /// These of them.
    pub(super) fn some(self, channels: &Range<usize>) -> Self {
        Self { first: channels.start, channels: channels.len(), ..self }
    }

    /// The input under tiles, transformed: `[place, tile, channel]`.
    #[inline(always)]
    pub(super) fn input_factors<S: Simd>(
        self,
        simd: S,
        all: Tiles,
        tiles: Range<usize>,
        out: &mut [f32],
    ) {
        let (rows, channels) = (tiles.len(), self.channels);
        for (row, tile) in tiles.enumerate() {
            let pixels = all.input(tile);
            for channel in (0..channels).step_by(S::F32_LANES) {
                transform::<Input, S, REACH, REACH>(
                    simd,
                    #[inline(always)]
                    |i| self.row(simd, &pixels, i, channel),
                    #[inline(always)]
                    |place, register| {
                        let at = (place * rows + row) * channels;
                        store(simd, &mut out[at + channel..at + channels], register);
                    },
                );
            }
        }
    }

    /// The gradient of tiles, transformed: for each place panels of a row a tile.
    #[inline(always)]
    pub(super) fn grad_factors<S: Simd>(
        self,
        simd: S,
        all: Tiles,
        tiles: Range<usize>,
        out: &mut [S::f32s],
    ) {
        let (rows, count) = (tiles.len(), self.channels.div_ceil(S::F32_LANES));
        assert_eq!(out.len(), PLACES * count * rows);
        for (row, tile) in tiles.enumerate() {
            let pixels = all.output(tile);
            for panel in 0..count {
                transform::<OutputGrad, S, SIDE, REACH>(
                    simd,
                    #[inline(always)]
                    |i| self.row(simd, &pixels, i, panel * S::F32_LANES),
                    #[inline(always)]
                    |place, register| out[(place * count + panel) * rows + row] = register,
                );
            }
        }
    }

    /// A register of channels at each pixel of a square's row; zeros outside the pictures.
    #[inline(always)]
    fn row<S: Simd, const N: usize>(
        self,
        simd: S,
        pixels: &Square<N>,
        row: usize,
        channel: usize,
    ) -> [S::f32s; N] {
        let mut registers = [simd.splat_f32s(0.0); N];
        for i in 0..N {
            if let Some(pixel) = pixels[row][i] {
                let pixel = pixel * self.stride + self.first;
                registers[i] = load(simd, &self.values[pixel + channel..pixel + self.channels]);
            }
        }
        registers
    }
}
