use burn::{
    backend::{
        Autodiff, Backend, Dispatch, ExtensionType, TensorMetadata,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        ops::{FloatTensorOps, ModuleOps},
        tensor::FloatTensor,
    },
    tensor::{Shape, Tensor, ops::ConvOptions},
};

use super::{
    activation::{self, Activation},
    backend::Kernels,
    rounded::rounded,
};

/// `x ∗ weight`, with the conventions of [`burn::tensor::module::conv2d`].
///
/// On Flex the values of the output lie channel by channel for each pixel, whatever its shape says
/// (channels last): what is given in another order is copied first.
///
/// Where gradients are tracked, a weight of another type than `x` says in what precision the products
/// are, as in [`linear`](super::linear()).
///
/// # Shapes
/// - x: `[batch, channels in, height, width]`
/// - weight: `[channels out, channels in / groups, kernel height, kernel width]`
/// - output: `[batch, channels out, height out, width out]`
///
/// # Panics
/// If the kernel is larger than the padded picture.
pub fn conv2d(x: Tensor<4>, weight: Tensor<4>, options: ConvOptions<2>) -> Tensor<4> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Kernels>::conv2d(x, weight, options))
}

/// `activation(x ∗ weight + bias) + residual` in one pass: see [`conv2d()`].
///
/// A weight of another type than `x` says in what precision the products are, as in
/// [`linear`](super::linear()).
///
/// # Shapes
/// - bias: `[channels out]`
/// - residual: as the output
pub fn conv2d_fused(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    residual: Option<Tensor<4>>,
    options: ConvOptions<2>,
    activation: Activation,
) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as Kernels>::conv2d_fused(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        residual.map_or(Residual::None, |residual| Residual::Some(residual.into_dispatch())),
        options,
        activation,
    ))
}

/// What is added last, if anything: backend extensions know no `Option`.
#[derive(ExtensionType)]
pub enum Residual<B: Backend> {
    /// Nothing.
    None,
    /// A tensor of the output's shape.
    Some(FloatTensor<B>),
}

pub(super) fn composed<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    residual: Residual<B>,
    options: ConvOptions<2>,
    activation: Activation,
) -> FloatTensor<B> {
    let y = if x.dtype() == weight.dtype() {
        <B as ModuleOps<B>>::conv2d(x, weight, Some(bias), options)
    } else {
        let product = |x, weight| <B as ModuleOps<B>>::conv2d(x, weight, None, options);
        let y = rounded::<B>(x, weight, product);
        let channels = bias.shape()[0];
        B::float_add(y, B::float_reshape(bias, Shape::new([1, channels, 1, 1])))
    };
    add::<B>(activation::composed::<B>(y, activation), residual)
}

fn add<B: Backend>(y: FloatTensor<B>, residual: Residual<B>) -> FloatTensor<B> {
    match residual {
        Residual::None => y,
        Residual::Some(residual) => B::float_add(y, residual),
    }
}

pub(super) fn tracked<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    options: ConvOptions<2>,
) -> FloatTensor<Autodiff<B, C>> {
    if x.dtype() != weight.dtype() {
        let product = |x, weight| tracked::<B, C>(x, weight, options);
        return rounded::<Autodiff<B, C>>(x, weight, product);
    }
    let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
    match Conv2d.prepare::<C>([x_node, weight_node]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let state = (x.clone(), weight.clone(), options.clone());
            prep.finish(state, <B as Kernels>::conv2d(x, weight, options))
        }
        OpsKind::UnTracked(prep) => prep.finish(<B as Kernels>::conv2d(x, weight, options)),
    }
}

/// One pass where no gradient is wanted, and else one after the other: each has its own gradient.
pub(super) fn tracked_fused<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    bias: FloatTensor<Autodiff<B, C>>,
    residual: Residual<Autodiff<B, C>>,
    options: ConvOptions<2>,
    activation: Activation,
) -> FloatTensor<Autodiff<B, C>> {
    let residual_tracked = matches!(&residual, Residual::Some(tensor) if tensor.is_tracked());
    if residual_tracked || [&x, &weight, &bias].iter().any(|tensor| tensor.is_tracked()) {
        let y = tracked::<B, C>(x, weight, options);
        let channels = bias.shape()[0];
        let bias = Autodiff::<B, C>::float_reshape(bias, Shape::new([1, channels, 1, 1]));
        let y = Autodiff::<B, C>::float_add(y, bias);
        return add::<Autodiff<B, C>>(activation::tracked::<B, C>(y, activation), residual);
    }
    let [x, weight, bias] = [x, weight, bias].map(FloatTensor::<Autodiff<B, C>>::into_primitive);
    let residual = match residual {
        Residual::None => Residual::None,
        Residual::Some(residual) => Residual::Some(residual.into_primitive()),
    };
    FloatTensor::<Autodiff<B, C>>::new(B::conv2d_fused(
        x, weight, bias, residual, options, activation,
    ))
}

#[derive(Debug)]
struct Conv2d;

impl<B: Kernels> Backward<B, 2> for Conv2d {
    /// The input and the weight.
    type State = (FloatTensor<B>, FloatTensor<B>, ConvOptions<2>);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let [x_node, weight_node] = ops.parents;
        let (x, weight, options) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        if let Some(node) = weight_node {
            let (x, weight, grad) = (x.clone(), weight.clone(), grad.clone());
            let grad = B::conv2d_weight_grad(x, weight, grad, options.clone());
            grads.register::<B>(node.id, grad);
        }
        if let Some(node) = x_node {
            grads.register::<B>(node.id, B::conv2d_input_grad(x, weight, grad, options));
        }
    }
}

#[cfg(test)]
mod tests;
