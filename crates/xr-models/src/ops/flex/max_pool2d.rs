use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::{
    arch::{Arch, dispatch},
    blocks,
    channels_last::{channels_last, tensor, values},
    conv::Axis,
};
use crate::ops::max_pool2d::Pool;

pub(super) fn forward(x: FlexTensor, pool: Pool) -> FlexTensor {
    let window = Window::new(&x, pool);
    let x = channels_last(x);
    let [batch, channels, height, width] = window.shape_out();
    let out = blocks::generate(batch * height * width * channels, width * channels, |row, out| {
        let picture = &values(&x)[row / height * window.picture()..][..window.picture()];
        dispatch(
            Arch::new(),
            #[inline(always)]
            || window.largest_of_row(picture, row % height, out),
        );
    });
    tensor(out, window.shape_out())
}

pub(super) fn backward(x: FlexTensor, grad: FlexTensor, pool: Pool) -> FlexTensor {
    let window = Window::new(&x, pool);
    let (x, grad) = (channels_last(x), channels_last(grad));
    let [_, channels, height, width] = window.shape_out();
    let mut out = vec![0.0; values(&x).len()];
    let pictures = out.par_chunks_mut(window.picture().max(1));
    let pictures = pictures.zip(values(&x).par_chunks(window.picture().max(1)));
    pictures.zip(values(&grad).par_chunks((height * width * channels).max(1))).for_each(
        |((out, x), grad)| {
            dispatch(
                Arch::new(),
                #[inline(always)]
                || window.scatter(x, grad, out),
            );
        },
    );
    tensor(out, window.shape_in())
}

#[derive(Clone, Copy)]
struct Window {
    batch: usize,
    channels: usize,
    height: Axis,
    width: Axis,
}

impl Window {
    fn new(x: &FlexTensor, Pool { side, stride, padding }: Pool) -> Self {
        let [batch, channels, height, width] = x.layout().shape().dims();
        let axis = |input| Axis::new(input, side, stride, 1, (padding, padding));
        Self { batch, channels, height: axis(height), width: axis(width) }
    }

    fn shape_in(self) -> [usize; 4] {
        [self.batch, self.channels, self.height.input, self.width.input]
    }

    fn shape_out(self) -> [usize; 4] {
        [self.batch, self.channels, self.height.output, self.width.output]
    }

    /// Values of one picture.
    fn picture(self) -> usize {
        self.height.input * self.width.input * self.channels
    }

    /// Where the values under the window lie in a picture, pixel by pixel, the first row first.
    #[inline(always)]
    fn places(self, y: usize, x: usize) -> impl Iterator<Item = usize> {
        let rows = (0..self.height.kernel).filter_map(move |tap| self.height.source(y, tap));
        rows.flat_map(move |row| {
            let columns = (0..self.width.kernel).filter_map(move |tap| self.width.source(x, tap));
            columns.map(move |column| (row * self.width.input + column) * self.channels)
        })
    }

    #[inline(always)]
    fn largest_of_row(self, picture: &[f32], y: usize, out: &mut [f32]) {
        for (x, out) in out.chunks_exact_mut(self.channels).enumerate() {
            out.fill(f32::NEG_INFINITY);
            for place in self.places(y, x) {
                for (largest, &value) in out.iter_mut().zip(&picture[place..]) {
                    *largest = if value > *largest || value.is_nan() { value } else { *largest };
                }
            }
        }
    }

    /// Adds the gradients of one picture's windows to where their largest values are.
    #[inline(always)]
    fn scatter(self, picture: &[f32], grad: &[f32], out: &mut [f32]) {
        let mut largest = vec![0.0; self.channels];
        let mut at = vec![0; self.channels];
        for (pixel, grad) in grad.chunks_exact(self.channels).enumerate() {
            let (y, x) = (pixel / self.width.output, pixel % self.width.output);
            largest.fill(f32::NEG_INFINITY);
            // Where all are −∞ the first has the gradient.
            at.fill(0);
            for (place, number) in self.places(y, x).zip(0u32..) {
                let values = largest.iter_mut().zip(&mut at).zip(&picture[place..]);
                for ((largest, at), &value) in values {
                    let larger = value > *largest || value.is_nan();
                    *largest = if larger { value } else { *largest };
                    *at = if larger { number } else { *at };
                }
            }
            for (place, number) in self.places(y, x).zip(0u32..) {
                for ((out, &at), &grad) in out[place..].iter_mut().zip(&at).zip(grad) {
                    *out += if at == number { grad } else { 0.0 };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::arch;
    use super::*;

    fn numbers(len: usize, salt: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * salt) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for channels in [1, 17, 40] {
            let picture = &numbers(7 * 6 * channels, 7919)[..];
            let x = tensor(picture.to_vec(), [1, channels, 7, 6]);
            let window = Window::new(&x, Pool { side: 3, stride: 2, padding: 1 });
            let [_, _, height, width] = window.shape_out();
            let grad = &numbers(height * width * channels, 31)[..];
            let run = |arch| {
                let (mut y, mut x_grad) = (vec![0.0; grad.len()], vec![0.0; picture.len()]);
                dispatch(
                    arch,
                    #[inline(always)]
                    || {
                        for (row, y) in y.chunks_exact_mut(width * channels).enumerate() {
                            window.largest_of_row(picture, row, y);
                        }
                        window.scatter(picture, grad, &mut x_grad);
                    },
                );
                [y, x_grad]
            };
            for arch in arch::all() {
                assert!(run(arch) == run(Arch::Scalar), "{arch:?}, {channels} channels");
            }
        }
    }
}
