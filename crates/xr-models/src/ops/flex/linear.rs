use std::sync::{Arc, Mutex, PoisonError};

use burn::{backend::flex::FlexTensor, tensor::Shape};

use super::{
    activation::activate,
    arch::Arch,
    matmul::{Matrix, Packed, product},
    storage::{contiguous, same, tensor, values},
};
use crate::ops::activation::Activation;

/// Weights in use, each with what was packed of it. That the cache holds on to a weight is what
/// keeps anyone from changing it: Flex copies what is shared before it writes.
static PACKED: Mutex<Vec<(FlexTensor, Arc<Packed>)>> = Mutex::new(vec![]);

pub(super) fn forward(
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    f: Activation,
) -> FlexTensor {
    multiply(x, &packed(weight), bias, f)
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

/// The weight packed, from the cache if it is there. Weights that nobody else holds any more leave
/// the cache when another enters it.
fn packed(weight: FlexTensor) -> Arc<Packed> {
    let mut cache = PACKED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, packed)) = cache.iter().find(|(other, _)| same(other, &weight)) {
        return packed.clone();
    }
    cache.retain(|(weight, _)| !weight.is_unique());
    let packed = Arc::new(pack(&weight));
    cache.push((weight, packed.clone()));
    packed
}

fn pack(weight: &FlexTensor) -> Packed {
    let [_, columns] = weight.layout().shape().dims();
    let weight = contiguous(weight.clone());
    Packed::new(Arch::new(), Matrix::new(values(&weight), columns))
}
