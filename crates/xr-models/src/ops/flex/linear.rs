use burn::{backend::flex::FlexTensor, tensor::Shape};
use pulp::{Simd, WithSimd};

use super::{
    activation::activate,
    arch::Arch,
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
    multiply(x, &weight, bias, f, true)
}

pub(super) fn in_training(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
    multiply(x, &weight, bias, Activation::Identity, false)
}

fn multiply(
    x: FlexTensor,
    weight: &FlexTensor,
    bias: FlexTensor,
    f: Activation,
    keep_weight: bool,
) -> FlexTensor {
    let (x, bias) = (contiguous(x), contiguous(bias));
    let mut shape: Vec<usize> = x.layout().shape().to_vec();
    *shape.last_mut().expect("a dimension to multiply along") = values(&bias).len();
    let out =
        Arch::new().dispatch(Linear { x: values(&x), weight, keep_weight, bias: values(&bias), f });
    tensor(out, Shape::from(shape))
}

struct Linear<'a> {
    x: &'a [f32],
    weight: &'a FlexTensor,
    /// Is the weight used again, for other batches?
    keep_weight: bool,
    bias: &'a [f32],
    f: Activation,
}

impl WithSimd for Linear<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self { x, weight, f, .. } = self;
        let bias = registers(simd, self.bias);
        let clamp = Clamp::of(f);
        let finish = Write { bias: &bias, residual: None, clamp: clamp.unwrap_or(Clamp::NONE) };
        let then = |out: &mut [f32]| {
            if clamp.is_none() {
                activate(Arch::new(), out, f);
            }
        };
        if self.keep_weight {
            product(simd, x, &packed(weight, || pack(simd, weight)), finish, then)
        } else {
            product(simd, x, &pack(simd, weight), finish, then)
        }
    }
}

fn pack<S: Simd>(simd: S, weight: &FlexTensor) -> Panels<S> {
    let [_, columns] = weight.layout().shape().dims();
    let weight = contiguous(weight.clone());
    Panels::new(simd, Matrix::new(values(&weight), columns))
}
