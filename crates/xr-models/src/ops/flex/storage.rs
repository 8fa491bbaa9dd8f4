//! The values of Flex tensors as slices.

use burn::{
    backend::flex::{FlexTensor, Layout},
    tensor::{Bytes, DType, Shape, bf16},
};

use super::blocks;

/// The same tensor with its values in row-major order; copies only if they aren't.
pub(in crate::ops) fn contiguous(x: FlexTensor) -> FlexTensor {
    if x.is_contiguous() { x } else { x.to_contiguous() }
}

/// Are they views of the same part of the same storage?
pub(in crate::ops) fn same(a: &FlexTensor, b: &FlexTensor) -> bool {
    a.bytes().as_ptr() == b.bytes().as_ptr() && a.layout() == b.layout()
}

/// The values of a [`contiguous`] tensor.
///
/// # Panics
/// If it isn't, or doesn't hold `f32`.
pub(in crate::ops) fn values(x: &FlexTensor) -> &[f32] {
    x.as_slice().expect("a contiguous tensor of f32")
}

/// The values of a tensor of bf16 in row-major order.
///
/// # Panics
/// If it holds something else.
pub(in crate::ops) fn halves(x: &FlexTensor) -> Vec<bf16> {
    contiguous(x.clone()).as_slice().expect("a contiguous tensor of bf16").to_vec()
}

/// The booleans of a [`contiguous`] tensor, 0 for false.
///
/// # Panics
/// If it isn't, or doesn't hold booleans of a byte.
pub(in crate::ops) fn truths(x: &FlexTensor) -> &[u8] {
    let (start, end) = x.layout().contiguous_offsets().expect("a contiguous tensor");
    &x.storage()[start..end]
}

/// The same tensor with its values in row-major order and nobody else's; copies only if they
/// aren't.
pub(in crate::ops) fn unique(x: FlexTensor) -> FlexTensor {
    if x.is_unique() || !x.is_contiguous() {
        return FlexTensor::from_data(x.into_data());
    }
    let from = values(&x);
    let copy = blocks::generate(from.len(), blocks::BLOCK, |number, block| {
        block.copy_from_slice(&from[number * blocks::BLOCK..][..block.len()]);
    });
    tensor(copy, x.layout().shape().clone())
}

/// The values of a [`unique`] tensor, to be overwritten.
///
/// # Panics
/// If it doesn't hold `f32`.
pub(in crate::ops) fn values_mut(x: &mut FlexTensor) -> &mut [f32] {
    x.storage_mut()
}

/// A tensor of these values in row-major order.
pub(in crate::ops) fn tensor(values: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape), DType::F32)
}
