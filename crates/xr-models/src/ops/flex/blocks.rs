//! Work in parallel on blocks of values.

// The one place where values are given out before they are written.
#![allow(unsafe_code)]

use std::mem::{self, MaybeUninit};

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
/// one thread for all, as `vec![0.0; len]` would. Up to [`BLOCK`] values aren't shared out.
pub(in crate::ops) fn generate(
    len: usize,
    block: usize,
    fill: impl Fn(usize, &mut [f32]) + Send + Sync,
) -> Vec<f32> {
    let fill = |number, rows: &mut Rows| fill(number, rows.all());
    from_rows(len, [block, 1], len > BLOCK, fill)
}

/// New values in blocks of `count` rows, shared out however few they are: `fill` gets the number
/// of a block's first row, and takes its rows.
pub(in crate::ops) fn generate_rows(
    len: usize,
    row: usize,
    count: usize,
    fill: impl Fn(usize, &mut Rows) + Send + Sync,
) -> Vec<f32> {
    from_rows(len, [row, count], len > row * count, fill)
}

fn from_rows(
    len: usize,
    [row, count]: [usize; 2],
    parallel: bool,
    fill: impl Fn(usize, &mut Rows) + Send + Sync,
) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    let room = &mut values.spare_capacity_mut()[..len];
    let row = row.max(1);
    let fill = |(number, block): (usize, &mut [MaybeUninit<f32>])| {
        let mut rows = Rows { room: block, row };
        fill(number * count, &mut rows);
        rows.all();
    };
    if parallel {
        room.par_chunks_mut(row * count).enumerate().for_each(fill);
    } else {
        room.chunks_mut(row * count).enumerate().for_each(fill);
    }
    // SAFETY: `len` values are reserved; they are the blocks, whose rows have all been taken, and
    // a row is zeroed when it is taken.
    unsafe { values.set_len(len) };
    values
}

/// Rows of a block that are still to be filled, zeroed when they are taken.
pub(in crate::ops) struct Rows<'a> {
    room: &'a mut [MaybeUninit<f32>],
    row: usize,
}

impl<'a> Rows<'a> {
    /// All that are left.
    pub fn all(&mut self) -> &'a mut [f32] {
        zeroed(mem::take(&mut self.room))
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = &'a mut [f32];

    fn next(&mut self) -> Option<&'a mut [f32]> {
        let row = self.room.split_off_mut(..self.row.min(self.room.len()))?;
        (!row.is_empty()).then(|| zeroed(row))
    }
}

fn zeroed(room: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    room.fill(MaybeUninit::new(0.0));
    // SAFETY: all of it has just been written.
    unsafe { room.assume_init_mut() }
}
