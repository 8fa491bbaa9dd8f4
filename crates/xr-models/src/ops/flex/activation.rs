use burn::backend::flex::FlexTensor;

use super::{
    arch::{Arch, dispatch},
    blocks,
    math::{exp, standard_normal},
    storage::{contiguous, unique, values, values_mut},
};
use crate::ops::activation::{Activation, QUICK_GELU};

pub(super) fn forward(x: FlexTensor, f: Activation) -> FlexTensor {
    let mut out = unique(x);
    blocks::for_each(values_mut(&mut out), |x| activate(Arch::new(), x, f));
    out
}

pub(super) fn backward(x: FlexTensor, grad: FlexTensor, f: Activation) -> FlexTensor {
    let (x, mut out) = (contiguous(x), unique(grad));
    blocks::for_each_pair(values_mut(&mut out), values(&x), |grad, x| {
        activate_backward(Arch::new(), x, grad, f);
    });
    out
}

/// `x` ← `f(x)`.
pub(super) fn activate(arch: Arch, x: &mut [f32], f: Activation) {
    match f {
        Activation::Identity => {}
        Activation::Relu => map(arch, x, relu),
        Activation::Relu6 => map(arch, x, relu6),
        Activation::Gelu => map(arch, x, gelu),
        Activation::QuickGelu => map(arch, x, quick_gelu),
    }
}

/// `grad` ← `grad · f′(x)`.
fn activate_backward(arch: Arch, x: &[f32], grad: &mut [f32], f: Activation) {
    match f {
        Activation::Identity => {}
        Activation::Relu => map_pair(arch, x, grad, relu_backward),
        Activation::Relu6 => map_pair(arch, x, grad, relu6_backward),
        Activation::Gelu => map_pair(arch, x, grad, gelu_backward),
        Activation::QuickGelu => map_pair(arch, x, grad, quick_gelu_backward),
    }
}

fn map(arch: Arch, x: &mut [f32], f: impl Fn(f32) -> f32) {
    dispatch(
        arch,
        #[inline(always)]
        || {
            for x in x.iter_mut() {
                *x = f(*x);
            }
        },
    );
}

fn map_pair(arch: Arch, x: &[f32], grad: &mut [f32], f: impl Fn(f32, f32) -> f32) {
    dispatch(
        arch,
        #[inline(always)]
        || {
            for (grad, &x) in grad.iter_mut().zip(x) {
                *grad = f(x, *grad);
            }
        },
    );
}

/// NaN stays one.
#[inline(always)]
fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

#[inline(always)]
fn relu_backward(x: f32, grad: f32) -> f32 {
    if x <= 0.0 { 0.0 } else { grad }
}

#[inline(always)]
fn relu6(x: f32) -> f32 {
    if x > 6.0 { 6.0 } else { relu(x) }
}

#[inline(always)]
fn relu6_backward(x: f32, grad: f32) -> f32 {
    if x >= 6.0 { 0.0 } else { relu_backward(x, grad) }
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    x * standard_normal(x).0
}

/// The slope is `Φ(x) + x φ(x)`.
#[inline(always)]
fn gelu_backward(x: f32, grad: f32) -> f32 {
    let (cdf, pdf) = standard_normal(x);
    grad * (cdf + x * pdf)
}

/// `σ(1.702 x)`.
#[inline(always)]
fn gate(x: f32) -> f32 {
    1.0 / (1.0 + exp(-QUICK_GELU * x))
}

#[inline(always)]
fn quick_gelu(x: f32) -> f32 {
    x * gate(x)
}

#[inline(always)]
fn quick_gelu_backward(x: f32, grad: f32) -> f32 {
    let s = gate(x);
    grad * (s * (1.0 + QUICK_GELU * x * (1.0 - s)))
}

#[cfg(test)]
mod tests {
    use super::super::arch;
    use super::*;

    const ALL: [Activation; 5] = [
        Activation::Identity,
        Activation::Relu,
        Activation::Relu6,
        Activation::Gelu,
        Activation::QuickGelu,
    ];

    /// Every magnitude and sign, and what isn't a number; no whole number of registers.
    fn values() -> Vec<f32> {
        let steps = if cfg!(miri) { 100 } else { 20_000 };
        let finite = (0..=steps).map(|i| 20.0 * i as f32 / steps as f32 - 10.0);
        finite.chain([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0]).collect()
    }

    fn bits(values: Vec<f32>) -> Vec<u32> {
        values.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let x = values();
        let run = |arch, f| {
            let (mut y, mut grad) = (x.clone(), vec![1.0; x.len()]);
            activate(arch, &mut y, f);
            activate_backward(arch, &x, &mut grad, f);
            (bits(y), bits(grad))
        };
        for f in ALL {
            let portable = run(Arch::Scalar, f);
            for arch in arch::all() {
                assert!(run(arch, f) == portable, "{f:?}, {arch:?}");
            }
        }
    }

    #[test]
    fn what_is_not_a_number_comes_out_as_from_pytorch() {
        for f in ALL {
            let mut y = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
            activate(Arch::new(), &mut y, f);
            let largest = if f == Activation::Relu6 { 6.0 } else { f32::INFINITY };
            assert!(y[0].is_nan() && y[1] == largest, "{f:?}");
            // −∞ · 0, where the limit would be 0.
            let smooth = matches!(f, Activation::Gelu | Activation::QuickGelu);
            assert_eq!(y[2].is_nan(), smooth, "{f:?}");
        }
    }
}
