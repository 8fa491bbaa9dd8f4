use burn::{
    backend::{
        Autodiff, Backend, Dispatch, TensorMetadata,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind, unary},
        },
        tensor::FloatTensor,
    },
    tensor::{Shape, Tensor},
};

use super::backend::Kernels;

/// The mean of each channel over all places of a picture.
///
/// # Shapes
/// - input: `[batch, channels, height, width]`
/// - output: `[batch, channels]`
pub fn global_avg_pool2d(x: Tensor<4>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as Kernels>::global_avg_pool2d(x.into_dispatch()))
}

pub(super) fn composed<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let [batch, channels, height, width] = x.shape().dims();
    let flat = B::float_reshape(x, Shape::new([batch, channels, height * width]));
    B::float_reshape(B::float_mean_dim(flat, 2), Shape::new([batch, channels]))
}

/// The gradient with respect to an input of this shape.
pub(super) fn composed_backward<B: Backend>(
    grad: FloatTensor<B>,
    [batch, channels, height, width]: [usize; 4],
) -> FloatTensor<B> {
    let grad = B::float_div_scalar(grad, ((height * width) as f64).into());
    let grad = B::float_reshape(grad, Shape::new([batch, channels, 1, 1]));
    B::float_expand(grad, Shape::new([batch, channels, height, width]))
}

pub(super) fn tracked<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let (x, node) = x.into_parts();
    let shape = x.shape().dims();
    match GlobalAvgPool2d.prepare::<C>([node]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(shape, B::global_avg_pool2d(x)),
        OpsKind::UnTracked(prep) => prep.finish(B::global_avg_pool2d(x)),
    }
}

#[derive(Debug)]
struct GlobalAvgPool2d;

impl<B: Kernels> Backward<B, 1> for GlobalAvgPool2d {
    /// The input's shape.
    type State = [usize; 4];

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        unary::<B, _>(ops.parents, ops.node, grads, |grad| {
            B::global_avg_pool2d_backward(grad, ops.state)
        });
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn mean_of_each_channel_and_its_gradient() {
        let device = Device::flex().autodiff();
        let x = Tensor::<4>::from_data([[[[1.0, 3.0]], [[10.0, 20.0]]]], &device).require_grad();
        let y = global_avg_pool2d(x.clone());
        y.to_data().assert_eq(&TensorData::from([[2.0f32, 15.0]]), true);
        let factor = Tensor::from_data([[1.0, 4.0]], &device);
        let grads = (y * factor).sum().backward();
        let expected = TensorData::from([[[[0.5f32, 0.5]], [[2.0, 2.0]]]]);
        x.grad(&grads).unwrap().into_data().assert_eq(&expected, true);
    }
}
