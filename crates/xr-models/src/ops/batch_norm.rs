use burn::{
    backend::{
        Autodiff, Backend, Dispatch,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        ops::ModuleOps,
        tensor::FloatTensor,
    },
    tensor::Tensor,
};

use super::{
    activation::{self, Activation},
    backend::Kernels,
};

/// What a batch norm makes of a batch.
pub struct BatchNormTrain {
    /// `activation(γ (x - mean) / √(variance + ε) + β)`: `[batch, channels, height, width]`.
    pub output: Tensor<4>,
    /// `[channels]`
    pub mean: Tensor<1>,
    /// `[channels]`; divided by the number of values, not by one less.
    pub variance: Tensor<1>,
}

/// Batch norm with the statistics of the batch itself, as in training, and an activation.
///
/// # Shapes
/// - x: `[batch, channels, height, width]`
/// - gamma and beta: `[channels]`
pub fn batch_norm_train(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
    activation: Activation,
) -> BatchNormTrain {
    let (output, mean, variance) = <Dispatch as Kernels>::batch_norm_train(
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        epsilon,
        activation,
    );
    BatchNormTrain {
        output: Tensor::from_dispatch(output),
        mean: Tensor::from_dispatch(mean),
        variance: Tensor::from_dispatch(variance),
    }
}

pub(super) fn composed<B: Backend>(
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    epsilon: f64,
    activation: Activation,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let result = <B as ModuleOps<B>>::batch_norm_train(x, gamma, beta, epsilon);
    let output = activation::composed::<B>(result.output, activation);
    (output, result.mean, result.variance)
}

/// What the gradient of [`batch_norm_train`] is computed from, but for that of the output.
#[derive(Clone, Debug)]
pub(super) struct BatchNormState<B: Backend> {
    pub(super) x: FloatTensor<B>,
    pub(super) gamma: FloatTensor<B>,
    pub(super) beta: FloatTensor<B>,
    pub(super) mean: FloatTensor<B>,
    pub(super) variance: FloatTensor<B>,
    pub(super) epsilon: f64,
    pub(super) activation: Activation,
}

/// The gradients with respect to `x`, `gamma` and `beta`.
pub(super) fn composed_backward<B: Backend>(
    state: BatchNormState<B>,
    grad: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let BatchNormState { x, gamma, beta, mean, variance, epsilon, activation } = state;
    let output =
        B::batch_norm(x.clone(), gamma.clone(), beta, mean.clone(), variance.clone(), epsilon);
    let grad = activation::composed_backward::<B>(output, grad, activation);
    let grads = B::batch_norm_train_backward(x, gamma, mean, variance, epsilon, grad);
    (grads.x_grad, grads.gamma_grad, grads.beta_grad)
}

pub(super) fn tracked<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    gamma: FloatTensor<Autodiff<B, C>>,
    beta: FloatTensor<Autodiff<B, C>>,
    epsilon: f64,
    activation: Activation,
) -> [FloatTensor<Autodiff<B, C>>; 3] {
    let ((x, x_node), (gamma, gamma_node), (beta, beta_node)) =
        (x.into_parts(), gamma.into_parts(), beta.into_parts());
    let (output, mean, variance) = <B as Kernels>::batch_norm_train(
        x.clone(),
        gamma.clone(),
        beta.clone(),
        epsilon,
        activation,
    );
    let nodes = [x_node, gamma_node, beta_node];
    let output = match BatchNorm.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let (mean, variance) = (mean.clone(), variance.clone());
            let state = BatchNormState { x, gamma, beta, mean, variance, epsilon, activation };
            prep.finish(state, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(output),
    };
    let [mean, variance] = [mean, variance].map(FloatTensor::<Autodiff<B, C>>::new);
    [output, mean, variance]
}

#[derive(Debug)]
struct BatchNorm;

impl<B: Kernels> Backward<B, 3> for BatchNorm {
    type State = BatchNormState<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let BatchNormState { x, gamma, beta, mean, variance, epsilon, activation } = ops.state;
        let (x, gamma, beta) =
            B::batch_norm_train_grads(x, gamma, beta, mean, variance, grad, epsilon, activation);
        for (node, grad) in ops.parents.into_iter().zip([x, gamma, beta]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tolerance, module};

    use super::*;
    use crate::fixture::Fixture;

    #[test]
    fn equals_pytorch() {
        let (fixture, device) = (Fixture::open("batch_norm"), Device::flex().autodiff());
        let x = fixture.tensor::<4>("x", &device).require_grad();
        let [gamma, beta] =
            ["gamma", "beta"].map(|name| fixture.tensor::<1>(name, &device).require_grad());
        let inputs = (x.clone(), gamma.clone(), beta.clone());
        let y = batch_norm_train(inputs.0, inputs.1, inputs.2, 1e-3, Activation::Relu6).output;
        fixture.assert("output", y.clone());
        let grads = (y * fixture.tensor("grad", &device)).sum().backward();
        fixture.assert("x_grad", x.grad(&grads).unwrap());
        fixture.assert("gamma_grad", gamma.grad(&grads).unwrap());
        fixture.assert("beta_grad", beta.grad(&grads).unwrap());
    }

    #[test]
    fn statistics_equal_the_composed_ones() {
        let device = Device::flex();
        for shape in [[1, 1, 1, 2], [2, 3, 5, 7], [3, 17, 40, 50], [4, 1280, 2, 2]] {
            // A mean far from zero: sums of squares would cancel.
            let x =
                Tensor::<4>::random(shape, burn::tensor::Distribution::Normal(100.0, 1.0), &device);
            let [gamma, beta] = [1.5, -0.5].map(|v| Tensor::<1>::full([shape[1]], v, &device));
            let inputs = (x.clone(), gamma.clone(), beta.clone());
            let found = batch_norm_train(inputs.0, inputs.1, inputs.2, 1e-5, Activation::Relu);
            let stock = module::batch_norm_train(x, gamma, beta, 1e-5);
            let near = |a: Tensor<1>, b: Tensor<1>| {
                a.into_data()
                    .assert_approx_eq::<f32>(&b.into_data(), Tolerance::rel_abs(1e-4, 1e-4));
            };
            near(found.mean, stock.mean);
            near(found.variance, stock.variance);
            let expected = stock.output.clamp_min(0.0).into_data();
            found
                .output
                .into_data()
                .assert_approx_eq::<f32>(&expected, Tolerance::rel_abs(1e-3, 1e-3));
        }
    }
}
