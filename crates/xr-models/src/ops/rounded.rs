use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};

/// `product(x, weight)` in the precision of the weight: `x` is rounded to the weight's type, and the
/// output has the type of `x` again.
pub(super) fn rounded<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    product: impl FnOnce(FloatTensor<B>, FloatTensor<B>) -> FloatTensor<B>,
) -> FloatTensor<B> {
    let (given, precise) = (x.dtype(), weight.dtype());
    let x = B::float_cast(x, precise.into());
    B::float_cast(product(x, weight), given.into())
}
