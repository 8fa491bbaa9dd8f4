//! The one backend extension of this crate.
//!
//! Every operation has a body composed of Burn's own, which libtorch, CUDA and wgpu run and which
//! tests hold the kernels to; Flex has kernels instead, and [`Autodiff`] gradients written by hand.

use burn::{
    backend::{
        Autodiff, Backend, autodiff::checkpoint::strategy::CheckpointStrategy, backend_extension,
        ops::ModuleOps, tensor::FloatTensor,
    },
    tensor::ops::ConvOptions,
};

use super::{
    activation::{self, Activation},
    batch_norm::{self, BatchNormState},
    conv2d::{self, Residual},
    gelu, global_avg_pool2d,
};

/// Operations with kernels of their own on Flex.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    LibTorch: cfg(feature = "tch"),
    Cube: cfg(any(feature = "cuda", feature = "wgpu")),
    Autodiff,
)]
pub trait Kernels: Backend {
    /// See [`super::gelu()`].
    fn gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        gelu::composed::<Self>(x)
    }

    /// The gradient with respect to `x` from the one with respect to the output.
    fn gelu_backward(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        gelu::composed_backward::<Self>(x, grad)
    }

    /// See [`Activation`].
    fn activate(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        activation::composed::<Self>(x, activation)
    }

    /// The gradient with respect to the input from the output and the gradient there.
    fn activate_backward(
        output: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        activation::composed_backward::<Self>(output, grad, activation)
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
}

#[cfg(feature = "tch")]
#[allow(deprecated)] // by Burn; it is the only CUDA backend that links without a download
impl Kernels for burn::backend::LibTorch {}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
impl Kernels for burn::backend::Cube {}

impl<B: Kernels, C: CheckpointStrategy> Kernels for Autodiff<B, C> {
    fn gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        gelu::tracked::<B, C>(x)
    }

    fn activate(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        activation::tracked::<B, C>(x, activation)
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
}
