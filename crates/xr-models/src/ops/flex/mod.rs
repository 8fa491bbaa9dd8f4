//! Kernels for Burn's pure-Rust backend, Flex.
//!
//! A kernel is a function on slices: it takes the instruction set as an argument, so that tests
//! force each in turn, and plain loops that the compiler vectorises for it. Work is cut into blocks
//! of a size that doesn't depend on the number of threads: one thread and many give the same bits.

mod arch;
mod blocks;
mod gelu;
mod math;
mod storage;

use burn::{
    backend::{Flex, tensor::FloatTensor},
    tensor::DType,
};

use super::backend::Kernels;

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
}
