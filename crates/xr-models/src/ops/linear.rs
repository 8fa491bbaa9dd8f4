use burn::{
    backend::{
        Autodiff, Backend, Dispatch, TensorMetadata,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        ops::ModuleOps,
        tensor::FloatTensor,
    },
    nn,
    tensor::{Shape, Tensor},
};

use super::{
    activation::{self, Activation},
    backend::Kernels,
    rounded::rounded,
};
use crate::inputs;

/// `f(x · weight + bias)`.
///
/// A weight of another type than `x` says in what precision the products are: `x` is rounded to
/// it, and the output has the type of `x` again.
///
/// # Shapes
/// - x: `[.., input]`
/// - weight: `[input, output]`
/// - bias: `[output]`
/// - output: `[.., output]`
pub fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    f: Activation,
) -> Tensor<D> {
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Kernels>::linear(x, weight, bias, f))
}

/// [`linear`] with a layer's weight and bias.
///
/// # Panics
/// If the layer has no bias.
pub(crate) fn layer<const D: usize>(layer: &nn::Linear, x: Tensor<D>, f: Activation) -> Tensor<D> {
    let bias = layer.bias.as_ref().expect("a linear layer with a bias");
    inputs::given(layer.weight.id, || x.clone().reshape([-1, x.dims()[D - 1] as i32]));
    linear(x, layer.weight.val(), bias.val(), f)
}

pub(super) fn composed<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    f: Activation,
) -> FloatTensor<B> {
    let y = if x.dtype() == weight.dtype() {
        <B as ModuleOps<B>>::linear(x, weight, Some(bias))
    } else {
        of_rounded::<B>(x, weight, bias)
    };
    activation::composed::<B>(y, f)
}

/// With products in the precision of the weight.
fn of_rounded<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
) -> FloatTensor<B> {
    let y = rounded::<B>(x, weight, |x, weight| <B as ModuleOps<B>>::linear(x, weight, None));
    let last = y.shape().num_dims() - 1;
    let mut shape = vec![1; last];
    shape.extend(bias.shape().to_vec());
    B::float_add(y, B::float_reshape(bias, Shape::from(shape)))
}

pub(super) fn tracked<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    bias: FloatTensor<Autodiff<B, C>>,
    f: Activation,
) -> FloatTensor<Autodiff<B, C>> {
    let is_tracked = [&x, &weight, &bias].iter().any(|tensor| tensor.is_tracked());
    if is_tracked && x.dtype() != weight.dtype() {
        return activation::tracked::<B, C>(of_rounded::<Autodiff<B, C>>(x, weight, bias), f);
    }
    let (x, x_node) = x.into_parts();
    let (weight, weight_node) = weight.into_parts();
    let (bias, bias_node) = bias.into_parts();
    match Linear.prepare::<C>([x_node, weight_node, bias_node]).compute_bound().stateful() {
        OpsKind::UnTracked(prep) => prep.finish(<B as Kernels>::linear(x, weight, bias, f)),
        OpsKind::Tracked(prep) => {
            let sum = B::linear_in_training(x.clone(), weight.clone(), bias);
            let before = (f != Activation::Identity).then(|| sum.clone());
            prep.finish(State { x, weight, before, f }, B::activate(sum, f))
        }
    }
}

#[derive(Debug)]
struct Linear;

#[derive(Clone, Debug)]
struct State<T> {
    x: T,
    weight: T,
    /// What the activation got, unless it is the identity.
    before: Option<T>,
    f: Activation,
}

impl<B: Kernels> Backward<B, 3> for Linear {
    type State = State<FloatTensor<B>>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let State { x, weight, before, f } = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let grad = match before {
            Some(before) => B::activate_backward(before, grad, f),
            None => grad,
        };
        let [x_node, weight_node, bias_node] = ops.parents;
        if let Some(node) = x_node {
            grads.register::<B>(node.id, B::linear_x_backward(weight, grad.clone()));
        }
        if let Some(node) = weight_node {
            grads.register::<B>(node.id, B::linear_weight_backward(x, grad.clone()));
        }
        if let Some(node) = bias_node {
            grads.register::<B>(node.id, B::linear_bias_backward(grad));
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device, TensorData};

    use super::*;

    #[test]
    fn a_product_a_bias_and_an_activation() {
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::from_data([[1.0, 2.0]], &device).require_grad();
        let weight = Tensor::<2>::from_data([[1.0, -1.0], [3.0, 0.0]], &device).require_grad();
        let bias = Tensor::<1>::from_data([0.5, 0.5], &device).require_grad();
        let y = linear(x.clone(), weight.clone(), bias.clone(), Activation::Relu);
        // 1 + 6 + ½ and −1 + ½, which is cut.
        y.to_data().assert_eq(&TensorData::from([[7.5f32, 0.0]]), true);
        let grads = y.sum().backward();
        let assert = |found: TensorData, expected| found.assert_eq(&expected, true);
        assert(x.grad(&grads).unwrap().into_data(), TensorData::from([[1f32, 3.0]]));
        assert(
            weight.grad(&grads).unwrap().into_data(),
            TensorData::from([[1f32, 0.0], [2.0, 0.0]]),
        );
        assert(bias.grad(&grads).unwrap().into_data(), TensorData::from([1f32, 0.0]));
    }

    /// 1 + 2⁻⁹ isn't a bf16: it is 1 in the products, whoever computes them.
    #[test]
    fn a_weight_in_bf16_says_in_what_precision() {
        let device = Device::flex();
        let off = 1.0 + 2f32.powi(-9);
        let x = Tensor::<2>::from_data([[off, 2.0, -1.0]], &device);
        let weight = Tensor::<2>::from_data([[1.0, 3.0], [off, 0.5], [0.25, -1.0]], &device);
        let weight = weight.cast(DType::BF16);
        let bias = Tensor::<1>::from_data([0.5, off], &device);
        let y = linear(x.clone(), weight.clone(), bias.clone(), Activation::Identity);
        // 1 + 2 − ¼ + ½ and 3 + 1 + 1 + 1 + 2⁻⁹.
        let expected = TensorData::from([[3.25f32, 5.0 + off]]);
        y.into_data().assert_eq(&expected, true);
        let composed = composed::<burn::backend::Dispatch>(
            x.into_dispatch(),
            weight.into_dispatch(),
            bias.into_dispatch(),
            Activation::Identity,
        );
        Tensor::<2>::from_dispatch(composed).into_data().assert_eq(&expected, true);
    }

    /// Gradients are products of rounded values, too, and get to what was rounded.
    #[test]
    fn gradients_of_a_weight_in_bf16() {
        let device = Device::flex().autodiff();
        let off = 1.0 + 2f32.powi(-9);
        let x = Tensor::<2>::from_data([[off, 2.0]], &device).require_grad();
        let weight = Tensor::<2>::from_data([[off, -3.0], [0.5, off]], &device).require_grad();
        let bias = Tensor::<1>::from_data([off, 0.5], &device).require_grad();
        let y = linear(x.clone(), weight.clone().cast(DType::BF16), bias.clone(), Activation::Relu);
        // 1 + 1 + 1 + 2⁻⁹, and −3 + 2 + ½, which is cut.
        y.to_data().assert_eq(&TensorData::from([[2.0 + off, 0.0]]), true);
        let grads = y.sum().backward();
        let assert = |found: TensorData, expected| found.assert_eq(&expected, true);
        assert(x.grad(&grads).unwrap().into_data(), TensorData::from([[1f32, 0.5]]));
        assert(
            weight.grad(&grads).unwrap().into_data(),
            TensorData::from([[1f32, 0.0], [2.0, 0.0]]),
        );
        assert(bias.grad(&grads).unwrap().into_data(), TensorData::from([1f32, 0.0]));
    }
}
