//! Convolutions that mix all channels, as matrix products.

mod forward;
mod input_grad;
mod weight_grad;

use std::borrow::Cow;

pub(super) use self::{forward::Forward, input_grad::InputGrad, weight_grad::WeightGrad};
use super::window::Window;

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
