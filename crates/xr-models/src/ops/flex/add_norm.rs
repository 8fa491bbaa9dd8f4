use burn::{backend::flex::FlexTensor, tensor::Shape};
use rayon::prelude::*;

use super::{
    arch::{Arch, dispatch},
    blocks,
    math::{dot, sum},
    storage::{contiguous, tensor, unique, values, values_mut},
};

/// Rows whose contributions to the gradients of gamma and beta are summed together.
const GRADIENT_ROWS: usize = 64;

pub(super) fn forward(
    x: FlexTensor,
    residual: FlexTensor,
    gamma: FlexTensor,
    beta: FlexTensor,
    epsilon: f64,
) -> FlexTensor {
    let (mut out, residual) = (unique(x), contiguous(residual));
    let (gamma, beta) = (contiguous(gamma), contiguous(beta));
    let norm = Norm { gamma: values(&gamma), epsilon: epsilon as f32 };
    let width = norm.gamma.len();
    blocks::for_each_rows(values_mut(&mut out), values(&residual), width, |x, residual| {
        norm.forward(Arch::new(), x, residual, values(&beta));
    });
    out
}

pub(super) fn backward(
    sum: FlexTensor,
    gamma: FlexTensor,
    grad: FlexTensor,
    epsilon: f64,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let (sum, gamma, mut grad) = (contiguous(sum), contiguous(gamma), unique(grad));
    let norm = Norm { gamma: values(&gamma), epsilon: epsilon as f32 };
    let width = norm.gamma.len();
    let block = (GRADIENT_ROWS * width).max(1);
    let pairs = values_mut(&mut grad).par_chunks_mut(block).zip(values(&sum).par_chunks(block));
    let parts: Vec<_> = pairs.map(|(grad, sum)| norm.backward(Arch::new(), sum, grad)).collect();
    let [gamma, beta] = parts.iter().fold([vec![0.0; width], vec![0.0; width]], add);
    let vector = |values| tensor(values, Shape::new([width]));
    (grad, vector(gamma), vector(beta))
}

fn add(mut total: [Vec<f32>; 2], part: &[Vec<f32>; 2]) -> [Vec<f32>; 2] {
    for (total, part) in total.iter_mut().zip(part) {
        total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
    }
    total
}

struct Norm<'a> {
    gamma: &'a [f32],
    epsilon: f32,
}

impl Norm<'_> {
    /// `x` ← the norm of each row of `x + residual`.
    fn forward(&self, arch: Arch, x: &mut [f32], residual: &[f32], beta: &[f32]) {
        let width = self.gamma.len();
        dispatch(
            arch,
            #[inline(always)]
            || {
                let rows = x.chunks_exact_mut(width).zip(residual.chunks_exact(width));
                for (x, residual) in rows {
                    x.iter_mut().zip(residual).for_each(|(x, residual)| *x += residual);
                    let inverse = self.standardize(x);
                    for ((x, gamma), beta) in x.iter_mut().zip(self.gamma).zip(beta) {
                        *x = *x * inverse * gamma + beta;
                    }
                }
            },
        );
    }

    /// Subtracts the mean of a row; returns one over its standard deviation.
    #[inline(always)]
    fn standardize(&self, row: &mut [f32]) -> f32 {
        let mean = sum(row) / row.len() as f32;
        row.iter_mut().for_each(|x| *x -= mean);
        1.0 / (dot(row, row) / row.len() as f32 + self.epsilon).sqrt()
    }

    /// `grad` ← the gradient of the sum; returns those of gamma and beta.
    fn backward(&self, arch: Arch, sum: &[f32], grad: &mut [f32]) -> [Vec<f32>; 2] {
        let width = self.gamma.len();
        let [mut gamma, mut beta, mut n] = std::array::from_fn(|_| vec![0.0; width]);
        dispatch(
            arch,
            #[inline(always)]
            || {
                for (grad, sum) in grad.chunks_exact_mut(width).zip(sum.chunks_exact(width)) {
                    n.copy_from_slice(sum);
                    let inverse = self.standardize(&mut n);
                    n.iter_mut().for_each(|n| *n *= inverse);
                    beta.iter_mut().zip(&*grad).for_each(|(beta, grad)| *beta += grad);
                    for ((gamma, grad), n) in gamma.iter_mut().zip(&*grad).zip(&n) {
                        *gamma += grad * n;
                    }
                    self.row_backward(&n, inverse, grad);
                }
            },
        );
        [gamma, beta]
    }

    /// With `g = grad · γ`: `grad` ← `(g − mean(g) − n · mean(g · n)) / σ`.
    #[inline(always)]
    fn row_backward(&self, n: &[f32], inverse: f32, grad: &mut [f32]) {
        grad.iter_mut().zip(self.gamma).for_each(|(grad, gamma)| *grad *= gamma);
        let mean = sum(grad) / grad.len() as f32;
        let along = dot(grad, n) / grad.len() as f32;
        for (grad, n) in grad.iter_mut().zip(n) {
            *grad = (*grad - mean - n * along) * inverse;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::arch;
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let (width, rows) = (37, 3);
        let numbers = |salt: usize| -> Vec<f32> {
            (0..width * rows).map(|i| ((i * salt) % 101) as f32 / 50.0 - 1.0).collect()
        };
        let gamma = &numbers(7)[..width];
        let norm = Norm { gamma, epsilon: 1e-12 };
        let run = |arch| {
            let (mut x, mut grad) = (numbers(31), numbers(57));
            norm.forward(arch, &mut x, &numbers(13), &numbers(3)[..width]);
            let parts = norm.backward(arch, &numbers(31), &mut grad);
            (x, grad, parts)
        };
        for arch in arch::all() {
            assert!(run(arch) == run(Arch::Scalar), "{arch:?}");
        }
    }

    #[test]
    fn a_number_that_is_none_stays_in_its_row() {
        let norm = Norm { gamma: &[1.0, 1.0], epsilon: 0.0 };
        let mut x = [f32::NAN, 1.0, 3.0, 1.0];
        norm.forward(Arch::new(), &mut x, &[0.0; 4], &[0.0; 2]);
        assert!(x[0].is_nan() && x[1].is_nan());
        assert_eq!(x[2..], [1.0, -1.0]);
    }
}
