use burn::{
    backend::{
        Autodiff, Backend, Dispatch,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind, unary},
        },
        ops::ActivationOps,
        tensor::FloatTensor,
    },
    tensor::Tensor,
};

use super::backend::Kernels;

/// What follows a convolution or a norm, in the same pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `x`
    Identity,
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, 0), 6)`
    Relu6,
}

/// `min(max(x, 0), 6)`; NaN stays NaN.
///
/// Its gradient is 0 at 0 and at 6, as in PyTorch.
///
/// # Shapes
/// - input and output: `[..]`
pub fn relu6<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activate(x, Activation::Relu6)
}

pub(super) fn activate<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as Kernels>::activate(x.into_dispatch(), activation))
}

pub(super) fn composed<B: Backend>(x: FloatTensor<B>, activation: Activation) -> FloatTensor<B> {
    match activation {
        Activation::Identity => x,
        Activation::Relu => <B as ActivationOps<B>>::relu(x),
        Activation::Relu6 => B::float_clamp(x, 0.0.into(), 6.0.into()),
    }
}

pub(super) fn composed_backward<B: Backend>(
    output: FloatTensor<B>,
    grad: FloatTensor<B>,
    activation: Activation,
) -> FloatTensor<B> {
    match activation {
        Activation::Identity => grad,
        Activation::Relu => <B as ActivationOps<B>>::relu_backward(output, grad),
        Activation::Relu6 => {
            let below = B::float_add_scalar(B::float_neg(output.clone()), 6.0.into());
            let grad = <B as ActivationOps<B>>::relu_backward(output, grad);
            <B as ActivationOps<B>>::relu_backward(below, grad)
        }
    }
}

pub(super) fn tracked<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    activation: Activation,
) -> FloatTensor<Autodiff<B, C>> {
    let (x, node) = x.into_parts();
    let output = B::activate(x, activation);
    match Activate.prepare::<C>([node]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish((output.clone(), activation), output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}

#[derive(Debug)]
struct Activate;

impl<B: Kernels> Backward<B, 1> for Activate {
    /// The output.
    type State = (FloatTensor<B>, Activation);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (output, activation) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| {
            B::activate_backward(output, grad, activation)
        });
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn cut_at_both_ends() {
        let x = Tensor::<1>::from_data([-1.0, 0.5, 7.0], &Device::flex());
        relu6(x).into_data().assert_eq(&TensorData::from([0.0f32, 0.5, 6.0]), true);
    }

    #[test]
    fn no_gradient_where_it_cuts() {
        let x = Tensor::<1>::from_data([-1.0, 0.0, 0.5, 6.0, 7.0], &Device::flex().autodiff())
            .require_grad();
        let grads = relu6(x.clone()).sum().backward();
        let expected = TensorData::from([0.0f32, 0.0, 1.0, 0.0, 0.0]);
        x.grad(&grads).unwrap().into_data().assert_eq(&expected, true);
    }
}
