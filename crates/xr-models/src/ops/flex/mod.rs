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
mod attention;
mod blocks;
mod dropout;
mod linear;
mod math;
mod matmul;
mod storage;

use burn::{
    backend::{
        Flex,
        flex::FlexTensor,
        ops::ModuleOps,
        tensor::{BoolTensor, FloatTensor},
    },
    tensor::DType,
};

use super::{activation::Activation, adam::AdamStep, backend::Kernels};

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
        if all_f32(&[&x, &weight, &bias]) {
            linear::forward(x, weight, bias, f)
        } else {
            super::linear::composed::<Self>(x, weight, bias, f)
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
}

fn all_f32(tensors: &[&FlexTensor]) -> bool {
    tensors.iter().all(|tensor| tensor.dtype() == DType::F32)
}
