//! The one backend extension of this crate.
//!
//! Every operation has a body composed of Burn's own, which libtorch, CUDA and wgpu run and which
//! tests hold the kernels to; Flex has kernels instead, and [`Autodiff`] gradients written by hand.

// Burn deprecates libtorch, which is the only CUDA backend that links without a download.
#![allow(deprecated)]

use burn::{
    backend::{
        Autodiff, AutodiffBackend, Backend,
        autodiff::checkpoint::strategy::CheckpointStrategy,
        backend_extension,
        ops::ModuleOps,
        tensor::{BoolTensor, FloatTensor},
    },
    tensor::ops::ConvOptions,
};

use super::{
    activation::{self, Activation},
    adam::{self, AdamStep},
    add_norm, attention,
    batch_norm::{self, BatchNormState},
    conv2d::{self, Residual},
    dropout, global_avg_pool2d, linear,
    max_pool2d::{self, Pool},
};

/// Operations with kernels of their own on Flex.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    LibTorch: cfg(feature = "tch"),
    Cube: cfg(any(feature = "cuda", feature = "wgpu")),
    Autodiff,
)]
pub trait Kernels: Backend {
    /// `f(x)`, `[..]`.
    fn activate(x: FloatTensor<Self>, f: Activation) -> FloatTensor<Self> {
        activation::composed::<Self>(x, f)
    }

    /// `grad · f′(x)`, `[..]`.
    fn activate_backward(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        f: Activation,
    ) -> FloatTensor<Self> {
        activation::composed_backward::<Self>(x, grad, f)
    }

    /// See [`super::linear()`].
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        f: Activation,
    ) -> FloatTensor<Self> {
        linear::composed::<Self>(x, weight, bias, f)
    }

    /// `x · weight + bias` with a weight that changes from call to call: nothing made of it is kept.
    fn linear_in_training(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        <Self as ModuleOps<Self>>::linear(x, weight, Some(bias))
    }

    /// See [`super::add_norm()`].
    fn add_norm(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        add_norm::composed::<Self>(x, residual, gamma, beta, epsilon)
    }

    /// The gradients with respect to the sum `[.., width]`, to gamma and to beta `[width]`.
    fn norm_backward(
        sum: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        add_norm::composed_backward::<Self>(sum, gamma, grad, epsilon)
    }

    /// See [`super::attention()`].
    fn attend(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        mask: BoolTensor<Self>,
    ) -> FloatTensor<Self> {
        attention::composed::<Self>(query, key, value, mask)
    }

    /// The gradients with respect to query, key and value.
    fn attend_backward(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        mask: BoolTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        attention::composed_backward::<Self>(query, key, value, mask, grad)
    }

    /// For each value of `x`, 0 with this probability, else what keeps the mean at 1.
    fn dropout_mask(x: FloatTensor<Self>, probability: f64) -> FloatTensor<Self> {
        dropout::composed::<Self>(x, probability)
    }

    /// See [`super::adam()`].
    fn adam(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        m: FloatTensor<Self>,
        v: FloatTensor<Self>,
        step: AdamStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        adam::composed::<Self>(x, grad, m, v, step)
    }

    /// See [`super::conv2d()`].
    fn conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        <Self as ModuleOps<Self>>::conv2d(x, weight, None, options)
    }

    /// See [`super::conv2d_fused()`].
    fn conv2d_fused(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        #[extension_type] residual: Residual<Self>,
        options: ConvOptions<2>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        conv2d::composed::<Self>(x, weight, bias, residual, options, activation)
    }

    /// The gradient of [`conv2d`](Kernels::conv2d) with respect to `x`.
    fn conv2d_input_grad(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        Self::conv2d_x_backward(x, weight, grad, options)
    }

    /// The gradient of [`conv2d`](Kernels::conv2d) with respect to `weight`.
    fn conv2d_weight_grad(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        Self::conv2d_weight_backward(x, weight, grad, options)
    }

    /// Output, mean and variance: see [`super::batch_norm_train()`].
    fn batch_norm_train(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        batch_norm::composed::<Self>(x, gamma, beta, epsilon, activation)
    }

    /// The gradients with respect to `x`, `gamma` and `beta`.
    #[allow(clippy::too_many_arguments)] // those of the operation, its statistics and a gradient
    fn batch_norm_train_grads(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        epsilon: f64,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let state = BatchNormState { x, gamma, beta, mean, variance, epsilon, activation };
        batch_norm::composed_backward::<Self>(state, grad)
    }

    /// See [`super::global_avg_pool2d()`].
    fn global_avg_pool2d(x: FloatTensor<Self>) -> FloatTensor<Self> {
        global_avg_pool2d::composed::<Self>(x)
    }

    /// The gradient with respect to an input of this shape.
    fn global_avg_pool2d_backward(grad: FloatTensor<Self>, shape: [usize; 4]) -> FloatTensor<Self> {
        global_avg_pool2d::composed_backward::<Self>(grad, shape)
    }

    /// See [`super::max_pool2d()`].
    fn max_pool2d_forward(x: FloatTensor<Self>, pool: Pool) -> FloatTensor<Self> {
        max_pool2d::composed::<Self>(x, pool)
    }

    /// The gradient of [`max_pool2d_forward`](Kernels::max_pool2d_forward).
    fn max_pool2d_grad(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        pool: Pool,
    ) -> FloatTensor<Self> {
        max_pool2d::composed_backward::<Self>(x, grad, pool)
    }
}

#[cfg(feature = "tch")]
impl Kernels for burn::backend::LibTorch {}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
impl Kernels for burn::backend::Cube {}

impl<B: Kernels, C: CheckpointStrategy> Kernels for Autodiff<B, C> {
    fn activate(x: FloatTensor<Self>, f: Activation) -> FloatTensor<Self> {
        activation::tracked::<B, C>(x, f)
    }

    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        f: Activation,
    ) -> FloatTensor<Self> {
        linear::tracked::<B, C>(x, weight, bias, f)
    }

    fn add_norm(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        add_norm::tracked::<B, C>(x, residual, gamma, beta, epsilon)
    }

    fn attend(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        mask: BoolTensor<Self>,
    ) -> FloatTensor<Self> {
        attention::tracked::<B, C>(query, key, value, mask)
    }
    fn dropout_mask(x: FloatTensor<Self>, probability: f64) -> FloatTensor<Self> {
        Self::from_inner(B::dropout_mask(x.into_primitive(), probability))
    }

    fn conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        conv2d::tracked::<B, C>(x, weight, options)
    }

    fn conv2d_fused(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: Residual<Self>,
        options: ConvOptions<2>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        conv2d::tracked_fused::<B, C>(x, weight, bias, residual, options, activation)
    }

    fn batch_norm_train(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        batch_norm::tracked::<B, C>(x, gamma, beta, epsilon, activation).into()
    }

    fn global_avg_pool2d(x: FloatTensor<Self>) -> FloatTensor<Self> {
        global_avg_pool2d::tracked::<B, C>(x)
    }

    fn max_pool2d_forward(x: FloatTensor<Self>, pool: Pool) -> FloatTensor<Self> {
        max_pool2d::tracked::<B, C>(x, pool)
    }
}
