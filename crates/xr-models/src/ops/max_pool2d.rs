use burn::{
    backend::{
        Autodiff, Backend, Dispatch,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind, unary},
        },
        tensor::FloatTensor,
    },
    tensor::{IntDType, Tensor},
};

use super::backend::Kernels;

/// A square window that moves over a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Places along each side.
    pub side: usize,
    /// Places from one window to the next.
    pub stride: usize,
    /// Places outside the picture, on each side.
    pub padding: usize,
}

/// The largest value of each channel under the window.
///
/// As in PyTorch, NaN is larger than any number, places outside the picture are smaller, and of equal
/// values the first one, row by row, has the gradient.
///
/// # Shapes
/// - input: `[batch, channels, height, width]`
/// - output: `[batch, channels, (height + 2 · padding − side) / stride + 1, ..]`
///
/// # Panics
/// If the padding is more than half the side, or the window larger than the padded picture.
pub fn max_pool2d(x: Tensor<4>, pool: Pool) -> Tensor<4> {
    let Pool { side, padding, .. } = pool;
    assert!(2 * padding <= side, "a padding of {padding} is more than half of a side of {side}");
    Tensor::from_dispatch(<Dispatch as Kernels>::max_pool2d_forward(x.into_dispatch(), pool))
}

pub(super) fn composed<B: Backend>(x: FloatTensor<B>, pool: Pool) -> FloatTensor<B> {
    let Pool { side, stride, padding } = pool;
    B::max_pool2d(x, [side; 2], [stride; 2], [padding; 2], [1; 2], false)
}

pub(super) fn composed_backward<B: Backend>(
    x: FloatTensor<B>,
    grad: FloatTensor<B>,
    pool: Pool,
) -> FloatTensor<B> {
    let [side, stride, padding] = [pool.side, pool.stride, pool.padding].map(|size| [size; 2]);
    let found =
        B::max_pool2d_with_indices(x.clone(), side, stride, padding, [1; 2], false, IntDType::I64);
    let indices = found.indices;
    B::max_pool2d_with_indices_backward(x, side, stride, padding, [1; 2], false, grad, indices)
        .x_grad
}

pub(super) fn tracked<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    pool: Pool,
) -> FloatTensor<Autodiff<B, C>> {
    let (x, node) = x.into_parts();
    match MaxPool2d.prepare::<C>([node]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish((x.clone(), pool), B::max_pool2d_forward(x, pool)),
        OpsKind::UnTracked(prep) => prep.finish(B::max_pool2d_forward(x, pool)),
    }
}

#[derive(Debug)]
struct MaxPool2d;

impl<B: Kernels> Backward<B, 1> for MaxPool2d {
    type State = (FloatTensor<B>, Pool);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (x, pool) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| B::max_pool2d_grad(x, grad, pool));
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    const POOL: Pool = Pool { side: 3, stride: 2, padding: 1 };

    /// Of the two 5s under the first window the first has the gradient; NaN wins.
    #[test]
    fn the_largest_and_its_gradient() {
        let device = Device::flex().autodiff();
        let x = [[0.0, 5.0, -1.0], [5.0, 1.0, f32::NAN], [-3.0, -2.0, -4.0]];
        let x = Tensor::<4>::from_data([[x]], &device).require_grad();
        let y = max_pool2d(x.clone(), POOL);
        let factor = Tensor::from_data([[[[1.0, 10.0], [100.0, 1000.0]]]], &device);
        let grads = (y.clone() * factor).sum().backward();
        let y: Vec<f32> = y.try_into_vec_as().unwrap();
        assert_eq!([y[0], y[2]], [5.0, 5.0]);
        assert!(y[1].is_nan() && y[3].is_nan());
        let expected = TensorData::from([[[[0f32, 1.0, 0.0], [100.0, 0.0, 1010.0], [0.0; 3]]]]);
        x.grad(&grads).unwrap().into_data().assert_eq(&expected, true);
    }

    #[test]
    #[should_panic(expected = "a padding of 2 is more than half of a side of 3")]
    fn too_much_padding() {
        let x = Tensor::zeros([1, 1, 4, 4], &Device::flex());
        max_pool2d(x, Pool { padding: 2, ..POOL });
    }
}
