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

/// What a hidden layer's values go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x`.
    Identity,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`; its slope is 0 at 0 and at 6, as in PyTorch.
    Relu6,
    /// The Gaussian error linear unit, exact: `x · Φ(x) = x/2 · (1 + erf(x/√2))`.
    Gelu,
    /// `x · σ(1.702 x)`, which CLIP's encoders use for a GELU.
    QuickGelu,
}

/// What [`Activation::QuickGelu`] multiplies its input by.
pub(super) const QUICK_GELU: f32 = 1.702;

/// Gaussian error linear unit, exact: `x · Φ(x) = x/2 · (1 + erf(x/√2))`.
///
/// # Shapes
/// - input and output: `[..]`
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activate(x, Activation::Gelu)
}

/// `min(max(x, 0), 6)`.
///
/// # Shapes
/// - input and output: `[..]`
pub fn relu6<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activate(x, Activation::Relu6)
}

/// `x · σ(1.702 x)`.
///
/// # Shapes
/// - input and output: `[..]`
pub fn quick_gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activate(x, Activation::QuickGelu)
}

pub(super) fn activate<const D: usize>(x: Tensor<D>, f: Activation) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as Kernels>::activate(x.into_dispatch(), f))
}

pub(super) fn composed<B: Backend>(x: FloatTensor<B>, f: Activation) -> FloatTensor<B> {
    match f {
        Activation::Identity => x,
        Activation::Relu => B::relu(x),
        Activation::Relu6 => B::float_clamp(x, 0.0.into(), 6.0.into()),
        Activation::Gelu => <B as ActivationOps<B>>::gelu(x),
        Activation::QuickGelu => B::float_mul(x.clone(), gate::<B>(x)),
    }
}

pub(super) fn composed_backward<B: Backend>(
    x: FloatTensor<B>,
    grad: FloatTensor<B>,
    f: Activation,
) -> FloatTensor<B> {
    match f {
        Activation::Identity => grad,
        Activation::Relu => B::relu_backward(B::relu(x), grad),
        Activation::Relu6 => {
            let below_six = B::float_add_scalar(B::float_neg(x.clone()), 6.0.into());
            B::relu_backward(below_six, B::relu_backward(x, grad))
        }
        Activation::Gelu => B::gelu_backward(x, grad),
        Activation::QuickGelu => quick_gelu_backward::<B>(x, grad),
    }
}

/// `σ(1.702 x)`.
fn gate<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::sigmoid(B::float_mul_scalar(x, QUICK_GELU.into()))
}

/// `grad · s (1 + 1.702 x (1 − s))`, where `s = σ(1.702 x)`.
fn quick_gelu_backward<B: Backend>(x: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
    let s = gate::<B>(x.clone());
    let rest = B::float_add_scalar(B::float_neg(s.clone()), 1f32.into());
    let slope = B::float_mul(B::float_mul_scalar(x, QUICK_GELU.into()), rest);
    B::float_mul(grad, B::float_mul(s, B::float_add_scalar(slope, 1f32.into())))
}

pub(super) fn tracked<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    f: Activation,
) -> FloatTensor<Autodiff<B, C>> {
    let (x, node) = x.into_parts();
    match Activate.prepare::<C>([node]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish((x.clone(), f), B::activate(x, f)),
        OpsKind::UnTracked(prep) => prep.finish(B::activate(x, f)),
    }
}

#[derive(Debug)]
struct Activate;

impl<B: Kernels> Backward<B, 1> for Activate {
    type State = (FloatTensor<B>, Activation);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (x, f) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| B::activate_backward(x, grad, f));
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData, Tolerance};

    use super::*;

    const X: [f32; 3] = [-1.0, 0.0, 2.0];

    fn assert(found: Tensor<1>, expected: [f32; 3]) {
        let expected = TensorData::from(expected);
        found.into_data().assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-6));
    }

    fn gradient(f: fn(Tensor<1>) -> Tensor<1>) -> Tensor<1> {
        let x = Tensor::<1>::from_data(X, &Device::flex().autodiff()).require_grad();
        let mut grads = f(x.clone()).sum().backward();
        x.grad_remove(&mut grads).unwrap()
    }

    #[test]
    fn gelu_is_exact_and_not_the_tanh_form() {
        let x = Tensor::<1>::from_data(X, &Device::flex());
        // Φ(-1) = 0.15865525, Φ(2) = 0.97724987; the tanh form gives -0.15880801 and 1.9545977.
        assert(gelu(x), [-0.158_655_25, 0.0, 1.954_499_7]);
        // Φ(x) + x φ(x): 0.15865525 − 0.24197072, ½, 0.97724987 + 2 · 0.05399097.
        assert(gradient(gelu), [-0.083_315_47, 0.5, 1.085_231_8]);
    }

    #[test]
    fn quick_gelu_by_hand() {
        let x = Tensor::<1>::from_data(X, &Device::flex());
        // σ(-1.702) = 0.15420423, σ(3.404) = 0.96782931.
        assert(quick_gelu(x), [-0.154_204_23, 0.0, 1.935_658_6]);
        // s (1 + 1.702 x (1 − s)): s − 1.702 · 0.15420423 · 0.84579577, ½, s + 3.404 s (1 − s).
        assert(gradient(quick_gelu), [-0.067_779_6, 0.5, 1.073_815_4]);
    }

    #[test]
    fn relu6_cuts_at_both_ends_and_has_no_slope_there() {
        let device = Device::flex().autodiff();
        let x = Tensor::<1>::from_data([-1.0, 0.0, 0.5, 6.0, 7.0], &device).require_grad();
        let y = relu6(x.clone());
        y.to_data().assert_eq(&TensorData::from([0.0f32, 0.0, 0.5, 6.0, 6.0]), true);
        let grad = x.grad(&y.sum().backward()).unwrap();
        grad.into_data().assert_eq(&TensorData::from([0.0f32, 0.0, 1.0, 0.0, 0.0]), true);
    }
}
