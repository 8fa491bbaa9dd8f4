use burn::{
    backend::{Backend, Dispatch, tensor::FloatTensor},
    tensor::Tensor,
};

use super::backend::Kernels;

/// The numbers of one step of Adam (Kingma and Ba 2015) or AdamW (Loshchilov and Hutter 2019).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// The learning rate, over `1 − β₁ᵗ`.
    pub rate: f32,
    /// β₁ and β₂: how much of the running means of gradients and squared gradients is kept.
    pub betas: [f32; 2],
    /// `1 − β₁` and `1 − β₂`: from the betas as `f32` they would be off in the fifth digit.
    pub complements: [f32; 2],
    /// `√(1 − β₂ᵗ)`.
    pub correction: f32,
    /// Added to the root of the mean squared gradient.
    pub epsilon: f32,
    /// What of the parameter is added to its gradient: the weight decay of Adam.
    pub penalty: f32,
    /// What of the parameter stays, apart from the gradient: the weight decay of AdamW.
    pub kept: f32,
}

/// One step: the parameter and the running means of its gradient and squared gradient after it.
///
/// With `g = grad + penalty · x`: `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²` and
/// `x ← kept · x − rate · m / (√v / correction + ε)`.
///
/// # Shapes
/// - all: `[..]`
pub fn adam<const D: usize>(
    x: Tensor<D>,
    grad: Tensor<D>,
    means: [Tensor<D>; 2],
    step: AdamStep,
) -> (Tensor<D>, [Tensor<D>; 2]) {
    let [m, v] = means.map(Tensor::into_dispatch);
    let (x, m, v) =
        <Dispatch as Kernels>::adam(x.into_dispatch(), grad.into_dispatch(), m, v, step);
    (Tensor::from_dispatch(x), [m, v].map(Tensor::from_dispatch))
}

pub(super) fn composed<B: Backend>(
    x: FloatTensor<B>,
    grad: FloatTensor<B>,
    m: FloatTensor<B>,
    v: FloatTensor<B>,
    step: AdamStep,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let scaled = |x, factor: f32| B::float_mul_scalar(x, factor.into());
    let mean = |mean, new, i: usize| {
        B::float_add(scaled(mean, step.betas[i]), scaled(new, step.complements[i]))
    };
    let grad = B::float_add(grad, scaled(x.clone(), step.penalty));
    let m = mean(m, grad.clone(), 0);
    let v = mean(v, B::float_mul(grad.clone(), grad), 1);
    let root = B::float_div_scalar(B::float_sqrt(v.clone()), step.correction.into());
    let direction = B::float_div(m.clone(), B::float_add_scalar(root, step.epsilon.into()));
    (B::float_sub(scaled(x, step.kept), scaled(direction, step.rate)), m, v)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn a_step_by_hand() {
        let one = |x: f32| Tensor::<1>::from_data([x], &Device::flex());
        let step = AdamStep {
            rate: 0.5,
            betas: [0.5, 0.75],
            complements: [0.5, 0.25],
            correction: 0.5,
            epsilon: 1.0,
            penalty: 0.5,
            kept: 0.5,
        };
        // g = 1 + ½ · 2 = 2, m = ½ · 2 + ½ · 2 = 2, v = ¾ · 0 + ¼ · 4 = 1, x = 1 − ½ · 2 / (2 + 1).
        let (x, [m, v]) = adam(one(2.0), one(1.0), [one(2.0), one(0.0)], step);
        x.into_data().assert_eq(&TensorData::from([1.0 - 1.0 / 3.0f32]), true);
        m.into_data().assert_eq(&TensorData::from([2.0f32]), true);
        v.into_data().assert_eq(&TensorData::from([1.0f32]), true);
    }
}
