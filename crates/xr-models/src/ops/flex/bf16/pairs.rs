//! AVX512-BF16 multiplies two pairs of values at once and adds both products to an `f32`.

#![allow(unsafe_code)]

use std::{
    arch::x86_64::{__m512, __m512bh, _mm512_dpbf16_ps},
    borrow::Cow,
    iter,
    mem::transmute,
};

use burn::tensor::bf16;
use pulp::{bytemuck, f32x16, x86::V4};

use super::{
    super::{arch::vectorize, arithmetic::Arithmetic},
    round,
};

/// Pairs of bf16 in the bits of an `f32`, which is moved and never computed with.
///
/// There is a value of this type only where the processor has AVX512-BF16.
#[derive(Clone, Copy)]
pub(in crate::ops::flex) struct Pairs(());

impl Pairs {
    /// `None` where the processor doesn't multiply them.
    pub(in crate::ops::flex) fn detect() -> Option<(V4, Self)> {
        let simd = V4::try_new()?;
        is_x86_feature_detected!("avx512bf16").then_some((simd, Self(())))
    }

    /// Rows of so many columns, two put together; zeros are the last one's partner if it has none.
    pub(in crate::ops::flex) fn of_rows(values: &[bf16], columns: usize) -> Vec<f32> {
        let zeros = vec![bf16::ZERO; columns];
        let mut rows = values.chunks(columns.max(1));
        let two = iter::from_fn(|| Some((rows.next()?, rows.next().unwrap_or(&zeros))));
        two.flat_map(|(first, second)| first.iter().zip(second).map(pair)).collect()
    }

    /// Rows of so many columns, the values of each put together two by two.
    pub(in crate::ops::flex) fn in_rows(values: &[bf16], columns: usize) -> Vec<f32> {
        let rows = values.chunks(columns.max(1)).flat_map(|row| row.chunks(2));
        rows.map(|two| pair((&two[0], two.get(1).unwrap_or(&bf16::ZERO)))).collect()
    }
}

/// The first of a pair lies in the lower bits, which come first in memory.
fn pair((first, second): (&bf16, &bf16)) -> f32 {
    f32::from_bits(u32::from(second.to_bits()) << 16 | u32::from(first.to_bits()))
}

impl Arithmetic<V4> for Pairs {
    const VALUES: usize = 2;

    fn rows(self, simd: V4, rows: &[f32], depth: usize) -> Cow<'_, [f32]> {
        let steps = depth.div_ceil(2);
        let mut pairs = vec![0.0; rows.len().checked_div(depth).unwrap_or(0) * steps];
        let values: &mut [u16] = bytemuck::cast_slice_mut(&mut pairs);
        vectorize(
            simd,
            #[inline(always)]
            || {
                let rows = rows.chunks_exact(depth.max(1));
                for (row, out) in rows.zip(values.chunks_exact_mut(2 * steps.max(1))) {
                    out.iter_mut().zip(row).for_each(|(out, &x)| *out = round(x));
                }
            },
        );
        pairs.into()
    }

    #[inline(always)]
    fn multiply_add(self, simd: V4, left: f32, right: f32x16, sums: f32x16) -> f32x16 {
        let left = simd.splat_f32x16(left);
        // SAFETY: the processor has the instruction, or there were no `Self`; the types are 64 bytes
        // of which every pattern is a value.
        unsafe {
            let sums = transmute::<f32x16, __m512>(sums);
            let [left, right] = [left, right].map(|x| transmute::<f32x16, __m512bh>(x));
            transmute(_mm512_dpbf16_ps(sums, left, right))
        }
    }

    #[inline(always)]
    fn vectorize<T>(self, _: V4, kernel: impl FnMut() -> T) -> T {
        // SAFETY: the processor has the instructions, or there were no `V4` and no `Self`.
        unsafe { compiled(kernel) }
    }
}

/// Runs a kernel compiled for AVX-512 as `V4` has it, and for AVX512-BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,fxsr")]
fn compiled<T>(mut kernel: impl FnMut() -> T) -> T {
    kernel()
}
