//! Slices, a register at a time.

use pulp::{Simd, bytemuck};

/// The first values of a slice, a register full at most; zeros follow where it is shorter.
#[inline(always)]
pub(super) fn load<S: Simd>(simd: S, values: &[f32]) -> S::f32s {
    match S::as_simd_f32s(values).0.first() {
        Some(&first) => first,
        None => simd.partial_load_f32s(values),
    }
}

/// Writes a register to the front of a slice, as much of it as there is place for.
#[inline(always)]
pub(super) fn store<S: Simd>(simd: S, values: &mut [f32], register: S::f32s) {
    match S::as_mut_simd_f32s(values).0.first_mut() {
        Some(first) => *first = register,
        None => simd.partial_store_f32s(values, register),
    }
}

/// A vector cut into registers, with zeros after its end.
#[inline(always)]
pub(super) fn registers<S: Simd>(simd: S, values: &[f32]) -> Vec<S::f32s> {
    values.chunks(S::F32_LANES).map(|chunk| load(simd, chunk)).collect()
}

/// The first `len` values of registers.
pub(super) fn unpacked<S: Simd>(registers: &[S::f32s], len: usize) -> Vec<f32> {
    bytemuck::cast_slice(registers)[..len].to_vec()
}

/// Runs `f` on each register of rows of one length, with what belongs to its columns.
#[inline(always)]
pub(super) fn for_each<S: Simd, T, const N: usize>(
    simd: S,
    rows: [&[f32]; N],
    columns: &mut [T],
    mut f: impl FnMut(&mut T, [S::f32s; N]),
) {
    let (whole, rest) = split::<S, N>(rows);
    let (columns, last) = columns.split_at_mut(whole[0].len());
    for (i, column) in columns.iter_mut().enumerate() {
        f(column, whole.map(|row| row[i]));
    }
    if let Some(column) = last.first_mut() {
        f(column, rest.map(|rest| simd.partial_load_f32s(rest)));
    }
}

/// The same, and writes what `f` returns.
#[inline(always)]
pub(super) fn map<S: Simd, T, const N: usize>(
    simd: S,
    rows: [&[f32]; N],
    columns: &[T],
    out: &mut [f32],
    mut f: impl FnMut(&T, [S::f32s; N]) -> S::f32s,
) {
    let (whole, rest) = split::<S, N>(rows);
    let (out, out_rest) = S::as_mut_simd_f32s(out);
    let (columns, last) = columns.split_at(whole[0].len());
    for (i, (out, column)) in out[..columns.len()].iter_mut().zip(columns).enumerate() {
        *out = f(column, whole.map(|row| row[i]));
    }
    if let Some(column) = last.first() {
        let rest = f(column, rest.map(|rest| simd.partial_load_f32s(rest)));
        simd.partial_store_f32s(out_rest, rest);
    }
}

/// Rows as registers, and what is left of them.
#[inline(always)]
fn split<S: Simd, const N: usize>(rows: [&[f32]; N]) -> ([&[S::f32s]; N], [&[f32]; N]) {
    let (mut whole, mut rest): ([&[S::f32s]; N], _) = ([&[]; N], rows);
    for n in 0..N {
        (whole[n], rest[n]) = S::as_simd_f32s(rows[n]);
        whole[n] = &whole[n][..whole[0].len()];
    }
    (whole, rest)
}
