//! The output in squares of four pixels, each with the six pixels of the input that make it.

use std::ops::Range;

use super::super::window::{Axis, Window};

/// Side of a tile.
pub(super) const SIDE: usize = 4;

/// Side of what a tile is made of.
pub(super) const REACH: usize = SIDE + 2;

/// Rows that [`multiply_panels`](super::super::super::product::multiply_panels) multiplies at once.
const ROWS: usize = 6;

/// Pixels of a square, row by row, each counted through the whole batch; none outside the pictures.
pub(super) type Square<const N: usize> = [[Option<usize>; N]; N];

/// The tiles of a batch, picture by picture and row by row. Those at the right and at the bottom
/// may reach beyond the picture.
#[derive(Clone, Copy)]
pub(super) struct Tiles {
    window: Window,
    rows: usize,
    columns: usize,
}

impl Tiles {
    pub(super) fn new(window: Window) -> Self {
        let tiles = |axis: Axis| axis.output.div_ceil(SIDE);
        Self { window, rows: tiles(window.height), columns: tiles(window.width) }
    }

    pub(super) fn count(self) -> usize {
        self.window.batch * self.rows * self.columns
    }

    /// The least number of tiles whose pixels lie side by side, and the number of these pixels.
    pub(super) fn unit(self) -> (usize, usize) {
        let Window { height, width, .. } = self.window;
        if height.output.is_multiple_of(SIDE) {
            (self.columns, SIDE * width.output)
        } else {
            (self.rows * self.columns, height.output * width.output)
        }
    }

    /// The pixels of the input under a tile.
    #[inline(always)]
    pub(super) fn input(self, tile: usize) -> Square<REACH> {
        let Window { height, width, .. } = self.window;
        let place = |axis: Axis, first: usize, i: usize| {
            (first + i).checked_sub(axis.padding).filter(|&place| place < axis.input)
        };
        let (picture, [y, x]) = self.place(tile);
        let mut square = [[None; REACH]; REACH];
        for (i, row) in square.iter_mut().enumerate() {
            let Some(y) = place(height, y, i) else { continue };
            for (j, pixel) in row.iter_mut().enumerate() {
                let pixel_of = |x| (picture * height.input + y) * width.input + x;
                *pixel = place(width, x, j).map(pixel_of);
            }
        }
        square
    }

    /// The pixels of a tile.
    #[inline(always)]
    pub(super) fn output(self, tile: usize) -> Square<SIDE> {
        let Window { height, width, .. } = self.window;
        let (picture, [y, x]) = self.place(tile);
        let mut square = [[None; SIDE]; SIDE];
        for (y, row) in (y..height.output).zip(&mut square) {
            for (x, pixel) in (x..width.output).zip(row) {
                *pixel = Some((picture * height.output + y) * width.output + x);
            }
        }
        square
    }

    /// The picture of a tile, and its first row and column there.
    #[inline(always)]
    fn place(self, tile: usize) -> (usize, [usize; 2]) {
        let (row, column) = (tile / self.columns, tile % self.columns);
        (row / self.rows, [row % self.rows * SIDE, column * SIDE])
    }
}

/// These tiles in steps of at most `most`, all of about the same size: a multiple of the rows that are
/// multiplied at once, as far as it goes.
pub(super) fn in_steps(tiles: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let step = tiles.len().div_ceil(tiles.len().div_ceil(most).max(1));
    let (end, step) = (tiles.end, step.next_multiple_of(ROWS).clamp(1, most));
    tiles.step_by(step).map(move |first| first..end.min(first + step))
}
