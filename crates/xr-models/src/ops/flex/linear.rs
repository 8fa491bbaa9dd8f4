use burn::{backend::flex::FlexTensor, tensor::Shape};
use pulp::{Simd, WithSimd};

use super::{
    activation::activate,
    arch::Arch,
    arithmetic::Arithmetic,
    bf16::{self, rounded},
    clamp::Clamp,
    packed::packed,
    product::{Matrix, Panels, Write, product},
    registers::registers,
    storage::{contiguous, halves, tensor, values},
};
use crate::ops::activation::Activation;

pub(super) fn forward(
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    f: Activation,
) -> FlexTensor {
    Linear::new(x, bias, f).multiply(&weight, true)
}

pub(super) fn in_training(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
    Linear::new(x, bias, Activation::Identity).multiply(&weight, false)
}

/// With a weight in bf16, to which `x` is rounded as well. Sums and output are in single precision.
pub(super) fn forward_bf16(
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    f: Activation,
) -> FlexTensor {
    let linear = Linear::new(x, bias, f);
    linear.multiply_pairs(&weight).unwrap_or_else(|| linear.multiply_rounded(&weight))
}

/// `f(x · weight + bias)` for some weight.
struct Linear {
    x: FlexTensor,
    bias: FlexTensor,
    f: Activation,
}

impl Linear {
    fn new(x: FlexTensor, bias: FlexTensor, f: Activation) -> Self {
        Self { x: contiguous(x), bias: contiguous(bias), f }
    }

    /// `keep_weight` says whether the weight is used again, for other batches.
    fn multiply(&self, weight: &FlexTensor, keep_weight: bool) -> FlexTensor {
        self.tensor(Arch::new().dispatch(InSingle { linear: self, weight, keep_weight }))
    }

    /// With a weight in bf16; `None` where the processor doesn't multiply pairs.
    #[cfg(target_arch = "x86_64")]
    fn multiply_pairs(&self, weight: &FlexTensor) -> Option<FlexTensor> {
        let (simd, pairs) = bf16::Pairs::detect()?;
        let weight = packed(weight, || {
            let [depth, columns] = weight.layout().shape().dims();
            let steps = bf16::Pairs::of_rows(&halves(weight), columns);
            Panels::of_steps(simd, pairs, Matrix::new(&steps, columns), depth)
        });
        Some(self.tensor(self.run(simd, &*weight)))
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn multiply_pairs(&self, _: &FlexTensor) -> Option<FlexTensor> {
        None
    }

    /// The same in single precision, with values as rounded.
    fn multiply_rounded(&self, weight: &FlexTensor) -> FlexTensor {
        let x = tensor(rounded(Arch::new(), values(&self.x)), self.x.layout().shape().clone());
        let weight = tensor(bf16::to_single(&halves(weight)), weight.layout().shape().clone());
        Self::new(x, self.bias.clone(), self.f).multiply(&weight, false)
    }

    fn run<S: Simd, A: Arithmetic<S>>(&self, simd: S, weight: &Panels<S, A>) -> Vec<f32> {
        let (bias, clamp) = (registers(simd, values(&self.bias)), Clamp::of(self.f));
        let finish = Write { bias: &bias, residual: None, clamp: clamp.unwrap_or(Clamp::NONE) };
        let then = |out: &mut [f32]| {
            if clamp.is_none() {
                activate(Arch::new(), out, self.f);
            }
        };
        product(simd, values(&self.x), weight, finish, then)
    }

    /// The output of these values.
    fn tensor(&self, out: Vec<f32>) -> FlexTensor {
        let mut shape: Vec<usize> = self.x.layout().shape().to_vec();
        *shape.last_mut().expect("a dimension to multiply along") = values(&self.bias).len();
        tensor(out, Shape::from(shape))
    }
}

struct InSingle<'a> {
    linear: &'a Linear,
    weight: &'a FlexTensor,
    keep_weight: bool,
}

impl WithSimd for InSingle<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self { linear, weight, .. } = self;
        if self.keep_weight {
            linear.run(simd, &*packed(weight, || pack(simd, weight)))
        } else {
            linear.run(simd, &pack(simd, weight))
        }
    }
}

fn pack<S: Simd>(simd: S, weight: &FlexTensor) -> Panels<S> {
    let [_, columns] = weight.layout().shape().dims();
    let weight = contiguous(weight.clone());
    Panels::new(simd, Matrix::new(values(&weight), columns))
}

#[cfg(test)]
mod tests {
    use burn::{
        backend::ops::FloatTensorOps,
        tensor::{FloatDType, bf16},
    };

    use super::*;

    fn numbers(len: usize, salt: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * salt) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    /// Sums of rounded values, in `f64`.
    fn expected(x: &[f32], weight: &[f32], bias: &[f32], depth: usize) -> Vec<f64> {
        let round = |x: f32| bf16::from_f32(x).to_f64();
        let columns = bias.len();
        let at = |row: usize, column: usize| {
            let products =
                (0..depth).map(|k| round(x[row * depth + k]) * round(weight[k * columns + column]));
            f64::from(bias[column]) + products.sum::<f64>()
        };
        (0..x.len() / depth * columns).map(|i| at(i / columns, i % columns)).collect()
    }

    /// Both ways, for one row, an odd depth, few rows of many columns and many rows. Sums of up to
    /// 401 products below 1 are off by rounding alone.
    #[test]
    fn a_weight_in_bf16() {
        for [rows, depth, columns] in [[1, 1, 1], [3, 5, 17], [25, 300, 600], [200, 401, 33]] {
            let (x, weight, bias) =
                (numbers(rows * depth, 7919), numbers(depth * columns, 31), numbers(columns, 5));
            let expected = expected(&x, &weight, &bias, depth);
            let weight = tensor(weight, Shape::new([depth, columns]));
            let weight = burn::backend::Flex::float_cast(weight, FloatDType::BF16);
            let (x, bias) =
                (tensor(x, Shape::new([rows, depth])), tensor(bias, Shape::new([columns])));
            let linear = Linear::new(x, bias, Activation::Identity);
            let ways = [linear.multiply_pairs(&weight), Some(linear.multiply_rounded(&weight))];
            for (way, found) in ways.iter().enumerate().filter_map(|(i, y)| Some((i, y.as_ref()?)))
            {
                for (&found, expected) in values(found).iter().zip(&expected) {
                    let distance = (f64::from(found) - expected).abs();
                    assert!(distance < 1e-4, "way {way}: {found}, not {expected}");
                }
            }
        }
    }
}
