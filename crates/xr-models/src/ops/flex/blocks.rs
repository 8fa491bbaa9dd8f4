//! Work in parallel on blocks of values.

use rayon::prelude::*;

/// Values of a block: 64 KiB, so that a block stays in the cache from one pass over it to the next.
/// It doesn't depend on the number of threads, and so neither does any result.
const BLOCK: usize = 16 * 1024;

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
    assert_eq!(values.len(), other.len());
    if values.len() <= BLOCK {
        return f(values, other);
    }
    values.par_chunks_mut(BLOCK).zip(other.par_chunks(BLOCK)).for_each(|(v, o)| f(v, o));
}
