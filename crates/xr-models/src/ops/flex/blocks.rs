//! Work in parallel on blocks of values.

// The one place where values are given out before they are written.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use rayon::prelude::*;

/// Values of a block: 64 KiB, so that a block stays in the cache from one pass over it to the next.
/// It doesn't depend on the number of threads, and so neither does any result.
pub(in crate::ops) const BLOCK: usize = 16 * 1024;

/// Runs `f` on blocks that make up `values`.
pub(in crate::ops) fn for_each(values: &mut [f32], f: impl Fn(&mut [f32]) + Send + Sync) {
    if values.len() <= BLOCK {
        return f(values);
    }
    values.par_chunks_mut(BLOCK).for_each(f);
}

/// Runs `f` on blocks that make up `values`, and those at the same places of `other`.
///
/// # Panics
/// If the lengths differ.
pub(in crate::ops) fn for_each_pair(
    values: &mut [f32],
    other: &[f32],
    f: impl Fn(&mut [f32], &[f32]) + Send + Sync,
) {
    for_each_rows(values, other, 1, f);
}

/// [`for_each_pair`], on blocks of whole rows.
///
/// # Panics
/// If the lengths differ.
pub(in crate::ops) fn for_each_rows(
    values: &mut [f32],
    other: &[f32],
    width: usize,
    f: impl Fn(&mut [f32], &[f32]) + Send + Sync,
) {
    assert_eq!(values.len(), other.len());
    let block = BLOCK.next_multiple_of(width.max(1));
    if values.len() <= block {
        return f(values, other);
    }
    values.par_chunks_mut(block).zip(other.par_chunks(block)).for_each(|(v, o)| f(v, o));
}

/// New values, block by block: `fill` gets the number of a block and the block, full of zeros.
///
/// The zeros are written by the thread that fills the block, into its cache, and not to memory by
/// one thread for all, as `vec![0.0; len]` would.
///
/// # Panics
/// If blocks are empty.
pub(in crate::ops) fn generate(
    len: usize,
    block: usize,
    fill: impl Fn(usize, &mut [f32]) + Send + Sync,
) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    let room = &mut values.spare_capacity_mut()[..len];
    let fill = |(number, block): (usize, &mut [MaybeUninit<f32>])| fill(number, zeroed(block));
    if len <= block.max(BLOCK) {
        room.chunks_mut(block).enumerate().for_each(fill);
    } else {
        room.par_chunks_mut(block).enumerate().for_each(fill);
    }
    // SAFETY: `len` values are reserved, and they are the blocks, all of which have been zeroed.
    unsafe { values.set_len(len) };
    values
}

fn zeroed(block: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    block.fill(MaybeUninit::new(0.0));
    // SAFETY: all of it has just been written.
    unsafe { block.assume_init_mut() }
}
