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
    tensor::{Shape, Tensor},
};

use super::backend::Kernels;

/// Layer norm of a sum, the "Add & Norm" of Vaswani et al. (2017): each row of `x + residual`, less
/// its mean, over its standard deviation, times gamma, plus beta.
///
/// # Shapes
/// - x, residual and output: `[.., width]`
/// - gamma, beta: `[width]`
pub fn add_norm<const D: usize>(
    x: Tensor<D>,
    residual: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as Kernels>::add_norm(
        x.into_dispatch(),
        residual.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        epsilon,
    ))
}

pub(super) fn composed<B: Backend>(
    x: FloatTensor<B>,
    residual: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    <B as ModuleOps<B>>::layer_norm(B::float_add(x, residual), gamma, Some(beta), epsilon)
}

/// With `n = (sum − mean) / σ` and `g = grad · γ`, the gradients are
/// `(g − mean(g) − n · mean(g · n)) / σ`, `Σ grad · n` and `Σ grad`.
pub(super) fn composed_backward<B: Backend>(
    sum: FloatTensor<B>,
    gamma: FloatTensor<B>,
    grad: FloatTensor<B>,
    epsilon: f64,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let shape = sum.shape();
    let width = shape[shape.num_dims() - 1];
    let rows = Shape::new([shape.num_elements() / width.max(1), width]);
    let [sum, grad] = [sum, grad].map(|x| B::float_reshape(x, rows.clone()));
    let gamma = B::float_reshape(gamma, Shape::new([1, width]));
    let mean = |x| B::float_mean_dim(x, 1);
    let columns = |x| B::float_reshape(B::float_sum_dim(x, 0), Shape::new([width]));

    let centred = B::float_sub(sum.clone(), mean(sum));
    let variance = mean(B::float_mul(centred.clone(), centred.clone()));
    let deviation = B::float_sqrt(B::float_add_scalar(variance, epsilon.into()));
    let n = B::float_div(centred, deviation.clone());
    let g = B::float_mul(grad.clone(), gamma);
    let along = B::float_mul(n.clone(), mean(B::float_mul(g.clone(), n.clone())));
    let rest = B::float_sub(B::float_sub(g.clone(), mean(g)), along);
    let sum_grad = B::float_reshape(B::float_div(rest, deviation), shape);
    (sum_grad, columns(B::float_mul(grad.clone(), n)), columns(grad))
}

pub(super) fn tracked<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    residual: FloatTensor<Autodiff<B, C>>,
    gamma: FloatTensor<Autodiff<B, C>>,
    beta: FloatTensor<Autodiff<B, C>>,
    epsilon: f64,
) -> FloatTensor<Autodiff<B, C>> {
    let (x, x_node) = x.into_parts();
    let (residual, residual_node) = residual.into_parts();
    let (gamma, gamma_node) = gamma.into_parts();
    let (beta, beta_node) = beta.into_parts();
    let nodes = [x_node, residual_node, gamma_node, beta_node];
    match AddNorm.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::UnTracked(prep) => prep.finish(B::add_norm(x, residual, gamma, beta, epsilon)),
        OpsKind::Tracked(prep) => {
            let sum = B::float_add(x, residual);
            let y =
                <B as ModuleOps<B>>::layer_norm(sum.clone(), gamma.clone(), Some(beta), epsilon);
            prep.finish((sum, gamma, epsilon), y)
        }
    }
}

#[derive(Debug)]
struct AddNorm;

impl<B: Kernels> Backward<B, 4> for AddNorm {
    type State = (FloatTensor<B>, FloatTensor<B>, f64);

    fn backward(
        self,
        ops: Ops<Self::State, 4>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (sum, gamma, epsilon) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let (sum, gamma, beta) = B::norm_backward(sum, gamma, grad, epsilon);
        for (parent, grad) in ops.parents.into_iter().zip([sum.clone(), sum, gamma, beta]) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData, Tolerance};

    use super::*;

    #[test]
    fn a_sum_with_mean_zero_and_deviation_one() {
        let device = Device::flex();
        let x = Tensor::<2>::from_data([[1.0, 4.0]], &device);
        let residual = Tensor::from_data([[1.0, 0.0]], &device);
        let gamma = Tensor::from_data([10.0, 20.0], &device);
        let beta = Tensor::from_data([0.0, 1.0], &device);
        // The sum, 2 and 4, has mean 3 and deviation 1.
        let y = add_norm(x, residual, gamma, beta, 0.0);
        let expected = TensorData::from([[-10.0, 21.0]]);
        y.into_data().assert_approx_eq::<f32>(&expected, Tolerance::default());
    }
}
