//! Kernels for Burn's pure-Rust backend, Flex.
//!
//! A kernel is a function on slices: it takes the instruction set as an argument, so that tests
//! force each in turn, and plain loops that the compiler vectorises for it. Work is cut into blocks
//! of a size that doesn't depend on the number of threads: one thread and many give the same bits.
//!
//! Kernels are for `f32`; for other types an operation is composed, as on any backend.

mod activation;
mod adam;
mod add_norm;
mod arch;
mod arithmetic;
mod attention;
mod batch_norm;
mod bf16;
mod blocks;
mod channels_last;
mod clamp;
mod conv;
mod dropout;
mod global_avg_pool2d;
mod linear;
mod math;
mod max_pool2d;
mod packed;
mod product;
mod registers;
mod storage;
mod stream;

use burn::{
    backend::{
        Flex, TensorMetadata,
        flex::FlexTensor,
        ops::ModuleOps,
        tensor::{BoolTensor, FloatTensor},
    },
    tensor::{DType, ops::ConvOptions},
};

use self::{clamp::Clamp, conv::Conv};
use super::{
    activation::Activation, adam::AdamStep, backend::Kernels, batch_norm::BatchNormState,
    conv2d::Residual, max_pool2d::Pool,
};

impl Kernels for Flex {
    fn activate(x: FloatTensor<Self>, f: Activation) -> FloatTensor<Self> {
        if all_f32(&[&x]) {
            activation::forward(x, f)
        } else {
            super::activation::composed::<Self>(x, f)
        }
    }

    fn activate_backward(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        f: Activation,
    ) -> FloatTensor<Self> {
        if all_f32(&[&x, &grad]) {
            activation::backward(x, grad, f)
        } else {
            super::activation::composed_backward::<Self>(x, grad, f)
        }
    }

    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        f: Activation,
    ) -> FloatTensor<Self> {
        match weight.dtype() {
            DType::F32 if all_f32(&[&x, &bias]) => linear::forward(x, weight, bias, f),
            DType::BF16 if all_f32(&[&x, &bias]) => linear::forward_bf16(x, weight, bias, f),
            _ => super::linear::composed::<Self>(x, weight, bias, f),
        }
    }

    fn linear_in_training(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        if all_f32(&[&x, &weight, &bias]) {
            linear::in_training(x, weight, bias)
        } else {
            <Self as ModuleOps<Self>>::linear(x, weight, Some(bias))
        }
    }

    fn add_norm(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        if all_f32(&[&x, &residual, &gamma, &beta]) {
            add_norm::forward(x, residual, gamma, beta, epsilon)
        } else {
            super::add_norm::composed::<Self>(x, residual, gamma, beta, epsilon)
        }
    }

    fn norm_backward(
        sum: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if all_f32(&[&sum, &gamma, &grad]) {
            add_norm::backward(sum, gamma, grad, epsilon)
        } else {
            super::add_norm::composed_backward::<Self>(sum, gamma, grad, epsilon)
        }
    }

    fn attend(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        mask: BoolTensor<Self>,
    ) -> FloatTensor<Self> {
        if all_f32(&[&query, &key, &value]) {
            attention::forward(query, key, value, mask)
        } else {
            super::attention::composed::<Self>(query, key, value, mask)
        }
    }

    fn attend_backward(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        mask: BoolTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if all_f32(&[&query, &key, &value, &grad]) {
            attention::backward(query, key, value, mask, grad)
        } else {
            super::attention::composed_backward::<Self>(query, key, value, mask, grad)
        }
    }

    fn dropout_mask(x: FloatTensor<Self>, probability: f64) -> FloatTensor<Self> {
        if all_f32(&[&x]) {
            dropout::mask(x, probability)
        } else {
            super::dropout::composed::<Self>(x, probability)
        }
    }

    fn adam(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        m: FloatTensor<Self>,
        v: FloatTensor<Self>,
        step: AdamStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if all_f32(&[&x, &grad, &m, &v]) {
            adam::adam(x, grad, m, v, step)
        } else {
            super::adam::composed::<Self>(x, grad, m, v, step)
        }
    }

    fn conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        match Conv::new(&x, &weight, &options) {
            Some(conv) => conv.forward(x, weight),
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
        let kernel = Conv::rounded(&x, &weight, &options).zip(Clamp::of(activation));
        let Some((conv, clamp)) = kernel else {
            return super::conv2d::composed(x, weight, bias, residual, options, activation);
        };
        let residual = match residual {
            Residual::None => None,
            Residual::Some(residual) => Some(residual),
        };
        conv.fused(x, weight, bias, residual, clamp)
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
        match Clamp::of(activation).filter(|_| all_f32(&[&x, &gamma, &beta])) {
            Some(clamp) => batch_norm::forward(x, gamma, beta, epsilon, clamp),
            None => super::batch_norm::composed::<Self>(x, gamma, beta, epsilon, activation),
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
        let clamp = Clamp::of(activation).filter(|_| all_f32(&[&x, &gamma, &beta, &grad]));
        let state = BatchNormState { x, gamma, beta, mean, variance, epsilon, activation };
        match clamp {
            Some(clamp) => batch_norm::backward(state, clamp, grad),
            None => super::batch_norm::composed_backward::<Self>(state, grad),
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

    fn max_pool2d_forward(x: FloatTensor<Self>, pool: Pool) -> FloatTensor<Self> {
        match x.dtype() {
            DType::F32 => max_pool2d::forward(x, pool),
            _ => super::max_pool2d::composed::<Self>(x, pool),
        }
    }

    fn max_pool2d_grad(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        pool: Pool,
    ) -> FloatTensor<Self> {
        if all_f32(&[&x, &grad]) {
            max_pool2d::backward(x, grad, pool)
        } else {
            super::max_pool2d::composed_backward::<Self>(x, grad, pool)
        }
    }
}

fn all_f32(tensors: &[&FlexTensor]) -> bool {
    tensors.iter().all(|tensor| tensor.dtype() == DType::F32)
}
