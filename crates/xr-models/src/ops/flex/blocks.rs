//! Work in parallel on blocks of values.

// The one place where values are given out before they are written.
#![allow(unsafe_code)]

use std::mem::{self, MaybeUninit};

use rayon::prelude::*;

use super::stream::stream;

/// Values of a block: 64 KiB, so that a block stays in the cache from one pass over it to the next.
/// It doesn't depend on the number of threads, and so neither does any result.
pub(in crate::ops) const BLOCK: usize = 16 * 1024;

/// Values from which on an output is larger than the caches, so that none of it is there when it is
/// read: it is written past them, and the memory behind isn't read first.
const STREAMED: usize = 4 << 20;

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
    from_rows(len, [block, 1], len > BLOCK, len >= STREAMED, fill)
}

/// New values in blocks of `count` rows, shared out however few they are: `fill` gets the number
/// of a block's first row, and takes its rows.
pub(in crate::ops) fn generate_rows(
    len: usize,
    row: usize,
    count: usize,
    fill: impl Fn(usize, &mut Rows) + Send + Sync,
) -> Vec<f32> {
    from_rows(len, [row, count], len > row * count, len >= STREAMED, fill)
}

fn from_rows(
    len: usize,
    [row, count]: [usize; 2],
    parallel: bool,
    streamed: bool,
    fill: impl Fn(usize, &mut Rows) + Send + Sync,
) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    let room = &mut values.spare_capacity_mut()[..len];
    let row = row.max(1);
    let fill = |(number, block): (usize, &mut [MaybeUninit<f32>])| {
        let mut rows = Rows::new(block, row, streamed);
        fill(number * count, &mut rows);
        rows.finish();
    };
    if parallel {
        room.par_chunks_mut(row * count).enumerate().for_each(fill);
    } else {
        room.chunks_mut(row * count).enumerate().for_each(fill);
    }
    // SAFETY: `len` values are reserved; they are the blocks, each of which is finished.
    unsafe { values.set_len(len) };
    values
}

/// Rows of a block that are still to be filled, zeroed when they are taken.
pub(in crate::ops) struct Rows<'a> {
    room: &'a mut [MaybeUninit<f32>],
    row: usize,
    /// Where rows are filled that then go to `taken` past the cache.
    aside: Option<Vec<f32>>,
    taken: &'a mut [MaybeUninit<f32>],
}

impl<'a> Rows<'a> {
    fn new(room: &'a mut [MaybeUninit<f32>], row: usize, streamed: bool) -> Self {
        Self { room, row, aside: streamed.then(Vec::new), taken: &mut [] }
    }

    /// The next of them, `count` if as many are left; `None` if none is.
    pub fn take(&mut self, count: usize) -> Option<&mut [f32]> {
        self.bring();
        let len = (count * self.row).min(self.room.len());
        let rows = self.room.split_off_mut(..len).filter(|rows| !rows.is_empty())?;
        let Some(aside) = &mut self.aside else { return Some(zeroed(rows)) };
        aside.clear();
        aside.resize(len, 0.0);
        self.taken = rows;
        Some(aside)
    }

    /// All that are left.
    pub fn all(&mut self) -> &mut [f32] {
        self.take(self.room.len().div_ceil(self.row)).unwrap_or_default()
    }

    /// Writes what has been filled, and zeros where nothing has.
    fn finish(mut self) {
        self.all();
        self.bring();
    }

    fn bring(&mut self) {
        let taken = mem::take(&mut self.taken);
        if let Some(aside) = self.aside.as_ref().filter(|_| !taken.is_empty()) {
            stream(aside, taken);
        }
    }
}

fn zeroed(room: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    room.fill(MaybeUninit::new(0.0));
    // SAFETY: all of it has just been written.
    unsafe { room.assume_init_mut() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of 5 in blocks of 3, of which some take one row, some two, some all and some none.
    #[test]
    fn rows_past_the_cache_and_through_it() {
        for len in [0, 1, 5, 15, 64, 65, 1003] {
            let fill = |first: usize, rows: &mut Rows| {
                let fill = |rows: &mut [f32]| {
                    assert!(rows.iter().all(|&value| value == 0.0));
                    rows.iter_mut()
                        .zip(1..)
                        .for_each(|(value, i)| *value = (first * 100 + i) as f32);
                };
                rows.take(first % 4).map(fill);
                if first.is_multiple_of(2) {
                    fill(rows.all());
                }
            };
            let [direct, streamed] =
                [false, true].map(|streamed| from_rows(len, [5, 3], true, streamed, fill));
            assert_eq!(direct.len(), len);
            assert_eq!(direct, streamed);
            assert_eq!(direct.first(), (len > 0).then_some(&1.0));
        }
    }
}
