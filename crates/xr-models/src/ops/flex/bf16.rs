//! Products of values rounded to bf16, the upper half of an `f32`.

use burn::tensor::bf16;

#[cfg(target_arch = "x86_64")]
mod pairs;

#[cfg(target_arch = "x86_64")]
pub(super) use self::pairs::Pairs;
use super::{arch::Arch, blocks};

/// The nearest bf16, the even one of two; infinities and NaN stay what they are.
#[inline(always)]
fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    let nearest = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
    // A NaN's bits could be carried into the sign.
    let bits = if value.is_nan() { bits >> 16 | 0x40 } else { nearest };
    bits as u16
}

/// The values as they are after rounding, for processors without products of bf16.
pub(super) fn rounded(arch: Arch, values: &[f32]) -> Vec<f32> {
    blocks::generate(values.len(), blocks::BLOCK, |block, out| {
        let from = &values[block * blocks::BLOCK..][..out.len()];
        super::arch::dispatch(
            arch,
            #[inline(always)]
            || {
                let pairs = out.iter_mut().zip(from);
                pairs.for_each(|(out, &x)| *out = f32::from_bits(u32::from(round(x)) << 16));
            },
        );
    })
}

/// The same values.
pub(super) fn to_single(values: &[bf16]) -> Vec<f32> {
    values.iter().map(|value| value.to_f32()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_the_nearest_and_to_even() {
        // Of 8 bits: 1 + 2⁻⁸ lies between 1 and 1 + 2⁻⁷, 1 + 3 · 2⁻⁸ between odd and even.
        let ulp = 2f32.powi(-8);
        let cases = [
            (1.0 + ulp, 1.0),
            (1.0 + 3.0 * ulp, 1.0 + 4.0 * ulp),
            (1.0 + 1.1 * ulp, 1.0 + 2.0 * ulp),
        ];
        for (value, expected) in cases {
            assert_eq!(rounded(Arch::Scalar, &[value]), [expected], "{value}");
        }
    }

    #[test]
    fn every_instruction_set_rounds_as_the_type_does() {
        let special =
            [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE / 4.0];
        let values: Vec<f32> = (0..4000u32)
            .map(|i| f32::from_bits(i.wrapping_mul(0x9E37_79B9)))
            .chain(special)
            .collect();
        for arch in super::super::arch::all() {
            for (&x, found) in values.iter().zip(rounded(arch, &values)) {
                let expected = bf16::from_f32(x).to_f32();
                assert!(found == expected || found.is_nan() && expected.is_nan(), "{x}: {found}");
            }
        }
    }
}
