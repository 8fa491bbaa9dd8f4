//! Kernels for Burn's pure-Rust backend, Flex.
//!
//! A kernel is a function on slices: it takes the instruction set as an argument, so that tests
//! force each in turn, and plain loops that the compiler vectorises for it. Work is cut into blocks
//! of a size that doesn't depend on the number of threads: one thread and many give the same bits.

mod activation;
mod arch;
mod batch_norm;
mod blocks;
mod channels_last;
mod clamp;
mod conv;
mod gelu;
mod global_avg_pool2d;
mod math;
mod product;
mod registers;
mod storage;
mod unwritten;
mod vectorize;

use burn::{
    backend::{Flex, TensorMetadata, ops::ModuleOps, tensor::FloatTensor},
    tensor::{DType, ops::ConvOptions},
};

use self::conv::Conv;
use super::{
    activation::Activation, backend::Kernels, batch_norm::BatchNormState, conv2d::Residual,
};

impl Kernels for Flex {
    fn gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        match x.dtype() {
            DType::F32 => gelu::forward(x),
            _ => super::gelu::composed::<Self>(x),
        }
    }

    fn gelu_backward(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        match x.dtype() {
            DType::F32 => gelu::backward(x, grad),
            _ => super::gelu::composed_backward::<Self>(x, grad),
        }
    }

    fn activate(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        match x.dtype() {
            DType::F32 => activation::forward(x, activation),
            _ => super::activation::composed::<Self>(x, activation),
        }
    }

    fn activate_backward(
        output: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        match output.dtype() {
            DType::F32 => activation::backward(output, grad, activation),
            _ => super::activation::composed_backward::<Self>(output, grad, activation),
        }
    }

    fn conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        match Conv::new(&x, &weight, &options) {
            Some(conv) => conv.forward(x, weight, None, None, Activation::Identity),
            None => <Self as ModuleOps<Self>>::conv2d(x, weight, None, options),
        }
    }

    fn conv2d_fused(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: Residual<Self>,
        options: ConvOptions<2>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let Some(conv) = Conv::new(&x, &weight, &options) else {
            return super::conv2d::composed(x, weight, bias, residual, options, activation);
        };
        let residual = match residual {
            Residual::None => None,
            Residual::Some(residual) => Some(residual),
        };
        conv.forward(x, weight, Some(bias), residual, activation)
    }

    fn conv2d_input_grad(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        match Conv::new(&x, &weight, &options) {
            Some(conv) => conv.input_grad(weight, grad),
            None => Self::conv2d_x_backward(x, weight, grad, options),
        }
    }

    fn conv2d_weight_grad(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        match Conv::new(&x, &weight, &options) {
            Some(conv) => conv.weight_grad(x, grad, weight.shape()),
            None => Self::conv2d_weight_backward(x, weight, grad, options),
        }
    }

    fn batch_norm_train(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        match x.dtype() {
            DType::F32 => batch_norm::forward(x, gamma, beta, epsilon, activation),
            _ => super::batch_norm::composed::<Self>(x, gamma, beta, epsilon, activation),
        }
    }

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
        let dtype = x.dtype();
        let state = BatchNormState { x, gamma, beta, mean, variance, epsilon, activation };
        match dtype {
            DType::F32 => batch_norm::backward(state, grad),
            _ => super::batch_norm::composed_backward::<Self>(state, grad),
        }
    }

    fn global_avg_pool2d(x: FloatTensor<Self>) -> FloatTensor<Self> {
        match x.dtype() {
            DType::F32 => global_avg_pool2d::forward(x),
            _ => super::global_avg_pool2d::composed::<Self>(x),
        }
    }

    fn global_avg_pool2d_backward(grad: FloatTensor<Self>, shape: [usize; 4]) -> FloatTensor<Self> {
        match grad.dtype() {
            DType::F32 => global_avg_pool2d::backward(grad, shape),
            _ => super::global_avg_pool2d::composed_backward::<Self>(grad, shape),
        }
    }
}
