use burn::{backend::flex::FlexTensor, tensor::Shape};

use super::{
    activation::activate,
    arch::Arch,
    matmul::{Matrix, Packed, product},
    packed::packed,
    storage::{contiguous, tensor, values},
};
use crate::ops::activation::Activation;

pub(super) fn forward(
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    f: Activation,
) -> FlexTensor {
    multiply(x, &packed(&weight, || pack(&weight)), bias, f)
}

pub(super) fn in_training(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
    multiply(x, &pack(&weight), bias, Activation::Identity)
}

fn multiply(x: FlexTensor, weight: &Packed, bias: FlexTensor, f: Activation) -> FlexTensor {
    let (x, bias) = (contiguous(x), contiguous(bias));
    let mut shape: Vec<usize> = x.layout().shape().to_vec();
    let width = shape.pop().expect("a dimension to multiply along");
    shape.push(weight.columns());
    let out = product(Matrix::new(values(&x), width), weight, Some(values(&bias)), |out| {
        activate(weight.arch(), out, f);
    });
    tensor(out, Shape::from(shape))
}

fn pack(weight: &FlexTensor) -> Packed {
    let [_, columns] = weight.layout().shape().dims();
    let weight = contiguous(weight.clone());
    Packed::new(Arch::new(), Matrix::new(values(&weight), columns))
}
