use burn::backend::flex::FlexTensor;

use super::{
    arch::Arch,
    blocks,
    math::standard_normal,
    storage::{contiguous, unique, values, values_mut},
};

pub(super) fn forward(x: FlexTensor) -> FlexTensor {
    let mut out = unique(x);
    gelu(Arch::new(), values_mut(&mut out));
    out
}

pub(super) fn backward(x: FlexTensor, grad: FlexTensor) -> FlexTensor {
    let (x, mut out) = (contiguous(x), unique(grad));
    gelu_backward(Arch::new(), values(&x), values_mut(&mut out));
    out
}

/// `x` ← `gelu(x)`.
fn gelu(arch: Arch, x: &mut [f32]) {
    blocks::for_each(x, |x| {
        arch.dispatch(
            #[inline(always)]
            || x.iter_mut().for_each(|x| *x *= standard_normal(*x).0),
        )
    });
}

/// `grad` ← `grad · gelu′(x)`, where `gelu′(x) = Φ(x) + x φ(x)`.
fn gelu_backward(arch: Arch, x: &[f32], grad: &mut [f32]) {
    blocks::for_each_pair(grad, x, |grad, x| {
        arch.dispatch(
            #[inline(always)]
            || {
                for (grad, &x) in grad.iter_mut().zip(x) {
                    let (cdf, pdf) = standard_normal(x);
                    *grad *= cdf + x * pdf;
                }
            },
        )
    });
}

#[cfg(test)]
mod tests {
    use super::super::arch;
    use super::*;

    /// Every magnitude and sign, and what isn't a number; more than a block of them.
    fn values() -> Vec<f32> {
        let finite = (0..20_001).map(|i| (i as f32 / 1000.0) - 10.0);
        finite.chain([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0]).collect()
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let x = values();
        let run = |arch| {
            let (mut y, mut grad) = (x.clone(), vec![1.0; x.len()]);
            gelu(arch, &mut y);
            gelu_backward(arch, &x, &mut grad);
            (bits(&y), bits(&grad))
        };
        let portable = run(Arch::Scalar);
        for arch in arch::all() {
            assert!(run(arch) == portable, "{arch:?}");
        }
    }

    #[test]
    fn what_is_not_a_number_comes_out_as_from_pytorch() {
        let mut y = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        gelu(Arch::new(), &mut y);
        assert!(y[0].is_nan() && y[1] == f32::INFINITY && y[2].is_nan());
    }
}
