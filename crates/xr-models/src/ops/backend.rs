//! The one backend extension of this crate.
//!
//! Every operation has a body composed of Burn's own, which libtorch, CUDA and wgpu run and which
//! tests hold the kernels to; Flex has kernels instead, and [`Autodiff`] gradients written by hand.

use burn::backend::{
    Autodiff, Backend, autodiff::checkpoint::strategy::CheckpointStrategy, backend_extension,
    tensor::FloatTensor,
};

use super::gelu;

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
}
