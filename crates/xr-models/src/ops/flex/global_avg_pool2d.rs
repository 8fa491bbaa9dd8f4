use burn::{
    backend::{TensorMetadata, flex::FlexTensor},
    tensor::Shape,
};
use rayon::prelude::*;

use super::{
    arch::{Arch, dispatch},
    blocks,
    channels_last::{self, channels_last},
    storage::{self, contiguous},
};

pub(super) fn forward(x: FlexTensor) -> FlexTensor {
    let [batch, channels, height, width] = x.shape().dims();
    let x = channels_last(x);
    let (x, picture) = (channels_last::values(&x), height * width * channels);
    let mut means = vec![0.0; batch * channels];
    means.par_chunks_mut(channels).zip(x.par_chunks(picture)).for_each(|(means, x)| {
        dispatch(
            Arch::new(),
            #[inline(always)]
            || mean(x, means),
        );
    });
    storage::tensor(means, Shape::new([batch, channels]))
}

/// The mean of the rows of `x`, where there are zeros.
#[inline(always)]
fn mean(x: &[f32], means: &mut [f32]) {
    let rows = x.chunks_exact(means.len());
    let share = 1.0 / rows.len() as f32;
    for row in rows {
        means.iter_mut().zip(row).for_each(|(mean, x)| *mean += x);
    }
    means.iter_mut().for_each(|mean| *mean *= share);
}

pub(super) fn backward(grad: FlexTensor, shape: [usize; 4]) -> FlexTensor {
    let [_, channels, height, width] = shape;
    let grad = contiguous(grad);
    let share = 1.0 / (height * width) as f32;
    let picture = height * width * channels;
    let out = blocks::generate(shape.iter().product(), picture, |number, out| {
        let grad = &storage::values(&grad)[number * channels..][..channels];
        let grad: Vec<_> = grad.iter().map(|grad| grad * share).collect();
        out.chunks_exact_mut(channels).for_each(|pixel| pixel.copy_from_slice(&grad));
    });
    channels_last::tensor(out, shape)
}

#[cfg(test)]
mod tests {
    use super::super::arch;
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for (pixels, channels) in [(1, 1), (12, 17), (49, 40)] {
            let numbers = (0..pixels * channels).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0);
            let x: Vec<_> = numbers.collect();
            let run = |arch| {
                let mut means = vec![0.0; channels];
                dispatch(
                    arch,
                    #[inline(always)]
                    || mean(&x, &mut means),
                );
                means
            };
            for arch in arch::all() {
                assert!(run(arch) == run(Arch::Scalar), "{arch:?}, {channels} channels");
            }
        }
    }
}
