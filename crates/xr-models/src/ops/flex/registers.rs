//! Slices, a register at a time.

use pulp::Simd;

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
