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

/// Gaussian error linear unit, exact: `x · Φ(x) = x/2 · (1 + erf(x/√2))`.
///
/// # Shapes
/// - input and output: `[..]`
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as Kernels>::gelu(x.into_dispatch()))
}

pub(super) fn composed<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    <B as ActivationOps<B>>::gelu(x)
}

pub(super) fn composed_backward<B: Backend>(
    x: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    <B as ActivationOps<B>>::gelu_backward(x, grad)
}

pub(super) fn tracked<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let (x, node) = x.into_parts();
    match Gelu.prepare::<C>([node]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(x.clone(), <B as Kernels>::gelu(x)),
        OpsKind::UnTracked(prep) => prep.finish(<B as Kernels>::gelu(x)),
    }
}

#[derive(Debug)]
struct Gelu;

impl<B: Kernels> Backward<B, 1> for Gelu {
    type State = FloatTensor<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        unary::<B, _>(ops.parents, ops.node, grads, |grad| {
            <B as Kernels>::gelu_backward(ops.state, grad)
        });
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData, Tolerance};

    use super::*;

    #[test]
    fn exact_and_not_the_tanh_form() {
        let x = Tensor::<1>::from_data([-1.0, 0.0, 2.0], &Device::flex());
        // Φ(-1) = 0.15865525, Φ(2) = 0.97724987; the tanh form gives -0.15880801 and 1.9545977.
        let expected = TensorData::from([-0.158_655_25, 0.0, 1.954_499_7]);
        gelu(x).into_data().assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-6));
    }

    #[test]
    fn gradient() {
        let x = Tensor::<1>::from_data([-1.0, 0.0, 2.0], &Device::flex().autodiff()).require_grad();
        let grads = gelu(x.clone()).sum().backward();
        // Φ(x) + x φ(x): 0.15865525 − 0.24197072, ½, 0.97724987 + 2 · 0.05399097.
        let expected = TensorData::from([-0.083_315_47, 0.5, 1.085_231_8]);
        let found = x.grad(&grads).unwrap();
        found.into_data().assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-6));
    }
}
