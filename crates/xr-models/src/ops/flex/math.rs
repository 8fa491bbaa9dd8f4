//! Elementary functions without branches, which the compiler vectorises.
//!
//! Products and sums are rounded separately: no fused operation, so that every instruction set gives
//! the same bits.

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

/// `eˣ`, within 2 units in the last place; 0 below −87.3, where `f32` has no normal numbers left,
/// and ∞ from 88.3.
#[inline(always)]
pub(in crate::ops) fn exp(x: f32) -> f32 {
    /// Adding this rounds to an integer, found in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 as a number of 9 bits, whose product with an integer is exact, and the rest.
    const LN_2: [f32; 2] = [355.0 / 512.0, -0.000_212_194_44];
    // The least relative error of `1 + r + r² q(r)` for |r| ≤ ½ ln 2.
    const Q: [f32; 5] = [0.499_999_94, 0.166_665_21, 0.041_668_39, 0.008_368_745, 0.001_381_454];

    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2[0] - n * LN_2[1];
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    let y = (1.0 + (r + r * r * polynomial(Q, r))) * power;
    let y = if x < -87.3 { 0.0 } else { y };
    if x > 88.3 { f32::INFINITY } else { y }
}

/// Distribution function `Φ(x)` and density `φ(x)` of the standard normal distribution, each within
/// 2e-7 of the larger of it and `Φ(-|x|)`.
#[inline(always)]
pub(in crate::ops) fn standard_normal(x: f32) -> (f32, f32) {
    const FRAC_1_SQRT_2_PI: f32 = 0.398_942_3;
    const SCALE: f32 = 0.42 * FRAC_1_SQRT_2;
    // The least relative error of `Φ(-x) exp(x²/2) = t p(t)`, `t = 1 / (1 + 0.42 x/√2)`, for x ≥ 0.
    const P: [f32; 8] = [
        0.118_379_5,
        0.120_260_1,
        0.094_613_43,
        0.143_000_45,
        -0.080_889_13,
        0.236_703_14,
        -0.169_333_68,
        0.037_266_14,
    ];

    let t = 1.0 / (1.0 + SCALE * x.abs());
    let bell = exp(-0.5 * (x * x));
    let tail = bell * (t * polynomial(P, t));
    let cdf = if x < 0.0 { tail } else { 1.0 - tail };
    (cdf, bell * FRAC_1_SQRT_2_PI)
}

/// `c₀ + c₁ x + c₂ x² + …`
#[inline(always)]
fn polynomial<const N: usize>(coefficients: [f32; N], x: f32) -> f32 {
    coefficients.into_iter().rev().reduce(|sum, c| sum * x + c).expect("a coefficient")
}

/// Sums kept side by side: a register of AVX-512, and two of AVX2.
const LANES: usize = 16;

/// `Σ x`, in the same order for every instruction set.
#[inline(always)]
pub(in crate::ops) fn sum(x: &[f32]) -> f32 {
    let (whole, rest) = x.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in whole {
        lanes.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += x);
    }
    total(lanes) + rest.iter().sum::<f32>()
}

/// `Σ x y`, in the same order for every instruction set.
#[inline(always)]
pub(in crate::ops) fn dot(x: &[f32], y: &[f32]) -> f32 {
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut lanes = [0.0; LANES];
    for (x, y) in xs.iter().zip(ys) {
        for lane in 0..LANES {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    total(lanes) + x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum::<f32>()
}

/// The halves of the lanes added, and those of the sums, down to one.
#[inline(always)]
fn total(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The largest value but for NaN, −∞ if there is none.
#[inline(always)]
pub(in crate::ops) fn max(x: &[f32]) -> f32 {
    let (whole, rest) = x.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in whole {
        lanes.iter_mut().zip(chunk).for_each(|(max, &x)| *max = if x > *max { x } else { *max });
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(from: f32, to: f32) -> impl Iterator<Item = f32> {
        let steps = if cfg!(miri) { 100 } else { 100_000 };
        (0..=steps).map(move |i| from + (to - from) * i as f32 / steps as f32)
    }

    #[test]
    fn exp_to_two_units_in_the_last_place() {
        for x in sweep(-87.2, 88.2) {
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) / expected - 1.0).abs();
            assert!(error < 2.0 * f64::from(f32::EPSILON), "exp({x}) is off by {error:e}");
        }
    }

    #[test]
    fn exp_at_the_ends() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!([f32::NEG_INFINITY, -1e30, -100.0].map(exp), [0.0; 3]);
        assert_eq!([f32::INFINITY, 1e30, 89.0].map(exp), [f32::INFINITY; 3]);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn sums_of_any_length() {
        for len in [0, 1, 15, 16, 17, 40] {
            let x: Vec<f32> = (1..=len).map(|i| i as f32).collect();
            let n = len as f32;
            assert_eq!(sum(&x), n * (n + 1.0) / 2.0);
            assert_eq!(dot(&x, &x), n * (n + 1.0) * (2.0 * n + 1.0) / 6.0);
            assert_eq!(max(&x), if len == 0 { f32::NEG_INFINITY } else { n });
        }
    }

    #[test]
    fn normal_values_from_a_table() {
        for (x, cdf, pdf) in [
            (0.0, 0.5, 0.398_942_3),
            (1.0, 0.841_344_8, 0.241_970_73),
            (-2.0, 0.022_750_132, 0.053_990_97),
            (-5.0, 2.866_515_7e-7, 1.486_719_5e-6),
        ] {
            let found = standard_normal(x);
            assert!((found.0 - cdf).abs() < 3e-7 * cdf, "Φ({x}) = {}", found.0);
            assert!((found.1 - pdf).abs() < 1e-6 * pdf, "φ({x}) = {}", found.1);
        }
        assert_eq!(standard_normal(f32::INFINITY), (1.0, 0.0));
        assert_eq!(standard_normal(f32::NEG_INFINITY), (0.0, 0.0));
        assert!(standard_normal(f32::NAN).0.is_nan());
    }
}
