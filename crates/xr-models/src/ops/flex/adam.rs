use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::{
    arch::{Arch, dispatch},
    blocks::BLOCK,
    storage::{contiguous, unique, values, values_mut},
};
use crate::ops::adam::AdamStep;

pub(super) fn adam(
    x: FlexTensor,
    grad: FlexTensor,
    m: FlexTensor,
    v: FlexTensor,
    step: AdamStep,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let [mut x, mut m, mut v] = [x, m, v].map(unique);
    let grad = contiguous(grad);
    let parts = values_mut(&mut x)
        .par_chunks_mut(BLOCK)
        .zip(values_mut(&mut m).par_chunks_mut(BLOCK))
        .zip(values_mut(&mut v).par_chunks_mut(BLOCK))
        .zip(values(&grad).par_chunks(BLOCK));
    parts.for_each(|(((x, m), v), grad)| update(Arch::new(), x, grad, m, v, step));
    (x, m, v)
}

fn update(arch: Arch, x: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32], step: AdamStep) {
    let AdamStep { rate, betas, complements, correction, epsilon, penalty, kept } = step;
    dispatch(
        arch,
        #[inline(always)]
        || {
            let means = m.iter_mut().zip(v.iter_mut());
            for ((x, grad), (m, v)) in x.iter_mut().zip(grad).zip(means) {
                let grad = grad + penalty * *x;
                *m = betas[0] * *m + complements[0] * grad;
                *v = betas[1] * *v + complements[1] * (grad * grad);
                *x = kept * *x - rate * (*m / (v.sqrt() / correction + epsilon));
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::super::arch;
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let numbers = |salt: usize| -> Vec<f32> {
            (0..103).map(|i| ((i * salt) % 101) as f32 / 101.0).collect()
        };
        let step = AdamStep {
            rate: 1e-3,
            betas: [0.9, 0.999],
            complements: [0.1, 0.001],
            correction: 0.5,
            epsilon: 1e-8,
            penalty: 0.1,
            kept: 0.9,
        };
        let run = |arch| {
            let [mut x, mut m, mut v] = [7, 13, 31].map(numbers);
            update(arch, &mut x, &numbers(57), &mut m, &mut v, step);
            [x, m, v]
        };
        for arch in arch::all() {
            assert!(run(arch) == run(Arch::Scalar), "{arch:?}");
        }
    }
}
