//! 3 × 3 convolutions of stride 1 by Winograd's minimal filtering (Lavin and Gray 2016): 36
//! products of numbers where 144 would be, for each tile of 4 × 4 pixels of the output.
//!
//! What isn't a number is seen by the whole tile, and not only by the pixels that it is under.

// Several arrays are indexed at once, so that every loop has a constant length and unrolls.
#![allow(clippy::needless_range_loop)]

mod convolution;
mod forward;
mod input_grad;
mod part;
mod tiles;
mod transforms;
mod weight_grad;
mod weights;

use self::tiles::{REACH, Tiles};
use super::window::{Axis, Window};

pub(super) use self::{forward::Forward, input_grad::InputGrad, weight_grad::WeightGrad};

/// Places that a tile has after its transform: each is a matrix product by itself, of tiles with
/// channels.
const PLACES: usize = REACH * REACH;

const TAPS: usize = 9;

/// Channels from which on the transforms cost less than they save.
const MIN_CHANNELS: usize = 16;

/// Tiles from which on transforming the weight and its gradient costs less than it saves.
const MIN_TILES: usize = 64;

/// Is it a convolution of this kind, and faster so?
pub(super) fn is_supported(window: Window) -> bool {
    let axis = |Axis { kernel, stride, dilation, padding, .. }| {
        (kernel, stride, dilation) == (3, 1, 1) && padding <= 2
    };
    let tiles = Tiles::new(window).count();
    axis(window.height)
        && axis(window.width)
        && window.channels.iter().all(|&channels| channels >= MIN_CHANNELS)
        && tiles >= MIN_TILES
        // Tiles that reach far beyond the picture save nothing.
        && 3 * PLACES * tiles <= 2 * TAPS * window.batch * window.pixels_out()
}
