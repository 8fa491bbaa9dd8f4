use burn::{
    backend::flex::FlexTensor,
    tensor::{Shape, bf16},
};
use pulp::{Simd, WithSimd};

use super::{
    activation::activate,
    arch::Arch,
    arithmetic::Arithmetic,
    bf16::rounded,
    clamp::Clamp,
    packed::packed,
    product::{Matrix, Panels, Write, product},
    registers::registers,
    storage::{contiguous, tensor, values},
};
use crate::ops::activation::Activation;

pub(super) fn forward(
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    f: Activation,
) -> FlexTensor {
    Linear::new(x, bias, f).multiply(&weight, true)
}

pub(super) fn in_training(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
    Linear::new(x, bias, Activation::Identity).multiply(&weight, false)
}

/// With a weight in bf16, to which `x` is rounded as well. Sums and output are in single precision.
pub(super) fn forward_bf16(
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    f: Activation,
) -> FlexTensor {
    let linear = Linear::new(x, bias, f);
    #[cfg(target_arch = "x86_64")]
    if let Some((simd, pairs)) = super::bf16::Pairs::detect() {
        let weight = packed(&weight, || {
            let [depth, columns] = weight.layout().shape().dims();
            let pairs_of_rows = super::bf16::Pairs::of_rows(&halves(&weight), columns);
            Panels::of_steps(simd, pairs, Matrix::new(&pairs_of_rows, columns), depth)
        });
        return linear.tensor(linear.run(simd, &*weight));
    }
    let x = rounded(Arch::new(), values(&linear.x));
    let x = tensor(x, linear.x.layout().shape().clone());
    let weight_values = halves(&weight).into_iter().map(bf16::to_f32).collect();
    let weight = tensor(weight_values, weight.layout().shape().clone());
    Linear { x, ..linear }.multiply(&weight, false)
}

/// The values of a tensor of bf16 in row-major order.
fn halves(x: &FlexTensor) -> Vec<bf16> {
    contiguous(x.clone()).as_slice().expect("a contiguous tensor of bf16").to_vec()
}

/// `f(x · weight + bias)` for some weight.
struct Linear {
    x: FlexTensor,
    bias: FlexTensor,
    f: Activation,
}

impl Linear {
    fn new(x: FlexTensor, bias: FlexTensor, f: Activation) -> Self {
        Self { x: contiguous(x), bias: contiguous(bias), f }
    }

    /// `keep_weight` says whether the weight is used again, for other batches.
    fn multiply(&self, weight: &FlexTensor, keep_weight: bool) -> FlexTensor {
        self.tensor(Arch::new().dispatch(InSingle { linear: self, weight, keep_weight }))
    }

    fn run<S: Simd, A: Arithmetic<S>>(&self, simd: S, weight: &Panels<S, A>) -> Vec<f32> {
        let (bias, clamp) = (registers(simd, values(&self.bias)), Clamp::of(self.f));
        let finish = Write { bias: &bias, residual: None, clamp: clamp.unwrap_or(Clamp::NONE) };
        let then = |out: &mut [f32]| {
            if clamp.is_none() {
                activate(Arch::new(), out, self.f);
            }
        };
        product(simd, values(&self.x), weight, finish, then)
    }

    /// The output of these values.
    fn tensor(&self, out: Vec<f32>) -> FlexTensor {
        let mut shape: Vec<usize> = self.x.layout().shape().to_vec();
        *shape.last_mut().expect("a dimension to multiply along") = values(&self.bias).len();
        tensor(out, Shape::from(shape))
    }
}

struct InSingle<'a> {
    linear: &'a Linear,
    weight: &'a FlexTensor,
    keep_weight: bool,
}

impl WithSimd for InSingle<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self { linear, weight, .. } = self;
        if self.keep_weight {
            linear.run(simd, &*packed(weight, || pack(simd, weight)))
        } else {
            linear.run(simd, &pack(simd, weight))
        }
    }
}

fn pack<S: Simd>(simd: S, weight: &FlexTensor) -> Panels<S> {
    let [_, columns] = weight.layout().shape().dims();
    let weight = contiguous(weight.clone());
    Panels::new(simd, Matrix::new(values(&weight), columns))
}
