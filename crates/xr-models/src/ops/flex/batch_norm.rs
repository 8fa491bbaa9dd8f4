//! Batch norm in training: rows are pixels, columns channels.

use burn::{
    backend::{TensorMetadata, flex::FlexTensor},
    tensor::Shape,
};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{
    super::batch_norm::BatchNormState,
    arch::{Arch, vectorize},
    blocks,
    channels_last::{channels_last, tensor, values},
    clamp::Clamp,
    registers::{for_each, map, registers, unpacked},
    storage::{self, contiguous},
};
use burn::backend::Flex;

/// Values of a task.
const TASK_VALUES: usize = 1 << 15;

/// Pixels that are summed up in single precision at most: the rounding error grows with the sum.
const SUMMED: usize = 128;

/// Pixels of a task whose mean is taken for about that of all.
const FIRST: usize = 8;

/// The statistics of some pixels, a value a channel.
struct Moments {
    pixels: usize,
    mean: Vec<f64>,
    /// Sums of squared differences from the mean.
    squares: Vec<f64>,
}

impl Moments {
    /// Those of both (Chan, Golub and LeVeque 1979).
    fn merge(mut self, other: Self) -> Self {
        let pixels = self.pixels + other.pixels;
        let share = other.pixels as f64 / pixels as f64;
        for channel in 0..self.mean.len() {
            let difference = other.mean[channel] - self.mean[channel];
            self.mean[channel] += difference * share;
            self.squares[channel] +=
                other.squares[channel] + difference * difference * share * self.pixels as f64;
        }
        Self { pixels, ..self }
    }
}

pub(super) fn forward(
    x: FlexTensor,
    gamma: FlexTensor,
    beta: FlexTensor,
    epsilon: f64,
    clamp: Clamp,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let shape @ [_, channels, _, _] = x.shape().dims();
    let (x, gamma, beta) = (channels_last(x), contiguous(gamma), contiguous(beta));
    let moments = Arch::new().dispatch(Statistics { x: values(&x), channels });
    // Of no pixels it is 0, as their mean: NaN would get into the gradient of gamma.
    let pixels = moments.pixels.max(1) as f64;
    let variance: Vec<_> = moments.squares.iter().map(|squares| squares / pixels).collect();
    let norm = Norm {
        mean: narrow(&moments.mean),
        scale: scale(storage::values(&gamma), &variance, epsilon),
        shift: storage::values(&beta).to_vec(),
        clamp,
    };
    let output = Arch::new().dispatch(Normalize { x: values(&x), norm: &norm });
    let vector = |values| storage::tensor(values, Shape::new([channels]));
    (tensor(output, shape), vector(norm.mean), vector(narrow(&variance)))
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

/// `γ / √(variance + ε)`
fn scale(gamma: &[f32], variance: &[f64], epsilon: f64) -> Vec<f32> {
    let scale = |(gamma, variance): (&f32, &f64)| f64::from(*gamma) / (variance + epsilon).sqrt();
    gamma.iter().zip(variance).map(scale).map(|scale| scale as f32).collect()
}

/// `clamp((x - mean) scale + shift)`, a value a channel each.
struct Norm {
    mean: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    clamp: Clamp,
}

impl Norm {
    #[inline(always)]
    fn columns<S: Simd>(&self, simd: S) -> Vec<Column<S>> {
        let [mean, scale, shift] =
            [&self.mean, &self.scale, &self.shift].map(|values| registers(simd, values));
        let columns = mean.into_iter().zip(scale).zip(shift);
        columns.map(|((mean, scale), shift)| Column { mean, scale, shift }).collect()
    }
}

/// A register's channels of a [`Norm`].
struct Column<S: Simd> {
    mean: S::f32s,
    scale: S::f32s,
    shift: S::f32s,
}

impl<S: Simd> Column<S> {
    /// `(x - mean) scale + shift`, and `x - mean`.
    #[inline(always)]
    fn apply(&self, simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
        let centred = simd.sub_f32s(x, self.mean);
        (simd.mul_add_e_f32s(centred, self.scale, self.shift), centred)
    }
}

/// Values of whole pixels that are one task.
fn task(channels: usize) -> usize {
    (TASK_VALUES / channels).max(1) * channels
}

/// The same, of a task that sums pixels up.
fn summed(channels: usize) -> usize {
    task(channels).min(SUMMED * channels)
}

struct Statistics<'a> {
    x: &'a [f32],
    channels: usize,
}

impl WithSimd for Statistics<'_> {
    type Output = Moments;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Moments {
        self.run(simd)
    }
}

impl Statistics<'_> {
    /// Tasks' moments, merged in order.
    fn run<S: Simd>(self, simd: S) -> Moments {
        let channels = self.channels;
        let tasks = self.x.par_chunks(summed(channels)).map(|x| {
            vectorize(
                simd,
                #[inline(always)]
                || moments(simd, x, channels),
            )
        });
        let none = Moments { pixels: 0, mean: vec![0.0; channels], squares: vec![0.0; channels] };
        tasks.collect::<Vec<_>>().into_iter().fold(none, Moments::merge)
    }
}

/// In one pass: of the differences from what the mean is about, rounding errors are small.
#[inline(always)]
fn moments<S: Simd>(simd: S, x: &[f32], channels: usize) -> Moments {
    let pixels = x.len() / channels;
    let about = first_mean(simd, &x[..pixels.min(FIRST) * channels], channels);
    let zero = simd.splat_f32s(0.0);
    let mut columns: Vec<_> = about.iter().map(|&about| (about, [zero; 2])).collect();
    for x in x.chunks_exact(channels) {
        for_each(
            simd,
            [x],
            &mut columns,
            #[inline(always)]
            |(about, [sum, squares]), [x]| {
                let difference = simd.sub_f32s(x, *about);
                *sum = simd.add_f32s(*sum, difference);
                *squares = simd.mul_add_e_f32s(difference, difference, *squares);
            },
        );
    }
    let [sum, squares] =
        [0, 1].map(|i| columns.iter().map(|(_, sums)| sums[i]).collect::<Vec<_>>());
    let [about, sum, squares] =
        [about, sum, squares].map(|registers| unpacked::<S>(&registers, channels));
    let n = pixels as f64;
    let off: Vec<_> = sum.iter().map(|&sum| f64::from(sum) / n).collect();
    let squares =
        squares.iter().zip(&off).map(|(&sum, off)| f64::from(sum) - off * off * n).collect();
    let mean = about.iter().zip(&off).map(|(&about, off)| f64::from(about) + off).collect();
    Moments { pixels, mean, squares }
}

/// The mean of a few pixels.
#[inline(always)]
fn first_mean<S: Simd>(simd: S, x: &[f32], channels: usize) -> Vec<S::f32s> {
    let share = simd.splat_f32s(channels as f32 / x.len() as f32);
    let mut mean = vec![simd.splat_f32s(0.0); channels.div_ceil(S::F32_LANES)];
    for x in x.chunks_exact(channels) {
        for_each(
            simd,
            [x],
            &mut mean,
            #[inline(always)]
            |mean, [x]| *mean = simd.mul_add_e_f32s(x, share, *mean),
        );
    }
    mean
}

struct Normalize<'a> {
    x: &'a [f32],
    norm: &'a Norm,
}

impl WithSimd for Normalize<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        self.run(simd)
    }
}

impl Normalize<'_> {
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self { x, norm } = self;
        let channels = norm.mean.len();
        let task = task(channels);
        blocks::generate(x.len(), task, |number, out| {
            let x = &x[number * task..][..out.len()];
            vectorize(
                simd,
                #[inline(always)]
                || normalize(simd, x, norm, out),
            );
        })
    }
}

#[inline(always)]
fn normalize<S: Simd>(simd: S, x: &[f32], norm: &Norm, out: &mut [f32]) {
    let (channels, columns) = (norm.mean.len(), norm.columns(simd));
    for (out, x) in out.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
        map(
            simd,
            [x],
            &columns,
            out,
            #[inline(always)]
            |column, [x]| norm.clamp.apply(simd, column.apply(simd, x).0),
        );
    }
}

pub(super) fn backward(
    state: BatchNormState<Flex>,
    clamp: Clamp,
    grad: FlexTensor,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let BatchNormState { x, gamma, beta, mean, variance, epsilon, .. } = state;
    let shape @ [_, channels, _, _] = x.shape().dims();
    let (x, grad) = (channels_last(x), channels_last(grad));
    let [gamma, beta, mean, variance] = [gamma, beta, mean, variance].map(contiguous);
    let variance: Vec<_> = storage::values(&variance).iter().map(|&v| f64::from(v)).collect();
    let ones = vec![1.0; channels];
    let norm = Norm {
        mean: storage::values(&mean).to_vec(),
        scale: scale(storage::values(&gamma), &variance, epsilon),
        shift: storage::values(&beta).to_vec(),
        clamp,
    };
    let (x, grad) = (values(&x), values(&grad));
    let sums = Arch::new().dispatch(Sums { x, grad, norm: &norm });
    let inverse = scale(&ones, &variance, epsilon);
    let grad =
        Arch::new().dispatch(InputGrad { x, grad, norm: &norm, sums: &sums, inverse: &inverse });
    let gamma = sums.by_centred.iter().zip(&inverse).map(|(sum, i)| (sum * f64::from(*i)) as f32);
    let vector = |values| storage::tensor(values, Shape::new([channels]));
    (tensor(grad, shape), vector(gamma.collect()), vector(narrow(&sums.grad)))
}

/// Sums over all pixels, a value a channel.
struct GradSums {
    /// Of the gradient before the activation.
    grad: Vec<f64>,
    /// Of that times the input without its mean.
    by_centred: Vec<f64>,
}

struct Sums<'a> {
    x: &'a [f32],
    grad: &'a [f32],
    norm: &'a Norm,
}

impl WithSimd for Sums<'_> {
    type Output = GradSums;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> GradSums {
        self.run(simd)
    }
}

impl Sums<'_> {
    /// Tasks' sums, added in order.
    fn run<S: Simd>(self, simd: S) -> GradSums {
        let Self { x, grad, norm } = self;
        let channels = norm.mean.len();
        let task = summed(channels);
        let tasks = x.par_chunks(task).zip(grad.par_chunks(task)).map(|(x, grad)| {
            vectorize(
                simd,
                #[inline(always)]
                || grad_sums(simd, x, grad, norm),
            )
        });
        let mut total = GradSums { grad: vec![0.0; channels], by_centred: vec![0.0; channels] };
        for [grad, by_centred] in tasks.collect::<Vec<_>>() {
            add(&mut total.grad, &grad);
            add(&mut total.by_centred, &by_centred);
        }
        total
    }
}

fn add(total: &mut [f64], values: &[f32]) {
    total.iter_mut().zip(values).for_each(|(total, value)| *total += f64::from(*value));
}

#[inline(always)]
fn grad_sums<S: Simd>(simd: S, x: &[f32], grad: &[f32], norm: &Norm) -> [Vec<f32>; 2] {
    let (channels, zero) = (norm.mean.len(), simd.splat_f32s(0.0));
    let columns = norm.columns(simd).into_iter();
    let mut columns: Vec<_> = columns.map(|column| (column, [zero; 2])).collect();
    for (x, grad) in x.chunks_exact(channels).zip(grad.chunks_exact(channels)) {
        for_each(
            simd,
            [x, grad],
            &mut columns,
            #[inline(always)]
            |(column, [sum, by_centred]), [x, grad]| {
                let (y, centred) = column.apply(simd, x);
                let grad = norm.clamp.gradient(simd, y, grad);
                *sum = simd.add_f32s(*sum, grad);
                *by_centred = simd.mul_add_e_f32s(grad, centred, *by_centred);
            },
        );
    }
    [0, 1].map(|i| {
        let sums: Vec<_> = columns.iter().map(|(_, sums)| sums[i]).collect();
        unpacked::<S>(&sums, channels)
    })
}

/// `scale (g - mean(g) - centred · mean(g · centred) / (variance + ε))`, where `g` is the gradient
/// before the activation.
struct InputGrad<'a> {
    x: &'a [f32],
    grad: &'a [f32],
    norm: &'a Norm,
    sums: &'a GradSums,
    /// `1 / √(variance + ε)`
    inverse: &'a [f32],
}

impl WithSimd for InputGrad<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        self.run(simd)
    }
}

impl InputGrad<'_> {
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self { x, grad, norm, sums, inverse } = self;
        let channels = norm.mean.len();
        let pixels = (x.len() / channels) as f64;
        let constant: Vec<_> = sums.grad.iter().map(|sum| (sum / pixels) as f32).collect();
        let slope = |(sum, &inverse): (&f64, &f32)| {
            (sum / pixels * f64::from(inverse) * f64::from(inverse)) as f32
        };
        let slope: Vec<_> = sums.by_centred.iter().zip(inverse).map(slope).collect();
        let task = task(channels);
        blocks::generate(x.len(), task, |number, out| {
            let [x, grad] = [x, grad].map(|values| &values[number * task..][..out.len()]);
            vectorize(
                simd,
                #[inline(always)]
                || input_grad(simd, x, grad, norm, [&constant, &slope], out),
            );
        })
    }
}

#[inline(always)]
fn input_grad<S: Simd>(
    simd: S,
    x: &[f32],
    grad: &[f32],
    norm: &Norm,
    [constant, slope]: [&[f32]; 2],
    out: &mut [f32],
) {
    let channels = norm.mean.len();
    let [constant, slope] = [constant, slope].map(|values| registers(simd, values));
    let columns: Vec<_> =
        norm.columns(simd).into_iter().zip(constant.into_iter().zip(slope)).collect();
    let inputs = x.chunks_exact(channels).zip(grad.chunks_exact(channels));
    for (out, (x, grad)) in out.chunks_exact_mut(channels).zip(inputs) {
        map(
            simd,
            [x, grad],
            &columns,
            out,
            #[inline(always)]
            |(column, (constant, slope)), [x, grad]| {
                let (y, centred) = column.apply(simd, x);
                let grad = simd.sub_f32s(norm.clamp.gradient(simd, y, grad), *constant);
                simd.mul_f32s(column.scale, simd.sub_f32s(grad, simd.mul_f32s(centred, *slope)))
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{super::Activation, arch},
        *,
    };

    fn numbers(len: usize, salt: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * salt) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    /// Statistics, output, sums of gradients and gradient, of so many pixels and channels.
    fn run(arch: Arch, [pixels, channels]: [usize; 2], activation: Activation) -> [Vec<f32>; 6] {
        let [x, grad] = [7919, 31].map(|salt| numbers(pixels * channels, salt));
        let (x, grad) = (&x[..], &grad[..]);
        let moments = arch.dispatch(Statistics { x, channels });
        assert_eq!(moments.pixels, pixels);
        let variance: Vec<_> = moments.squares.iter().map(|sum| sum / pixels as f64).collect();
        let inverse = &scale(&vec![1.0; channels], &variance, 1e-2)[..];
        let norm = &Norm {
            mean: narrow(&moments.mean),
            scale: scale(&vec![3.0; channels], &variance, 1e-2),
            shift: numbers(channels, 57),
            clamp: Clamp::of(activation).unwrap(),
        };
        let y = arch.dispatch(Normalize { x, norm });
        let sums = &arch.dispatch(Sums { x, grad, norm });
        let x_grad = arch.dispatch(InputGrad { x, grad, norm, sums, inverse });
        let [grad, by_centred] = [&sums.grad, &sums.by_centred].map(|sums| narrow(sums));
        [norm.mean.clone(), narrow(&variance), y, grad, by_centred, x_grad]
    }

    /// The last is more than one task, and too much for Miri. Products are fused into sums or not.
    #[test]
    fn every_instruction_set() {
        let sizes = [[3, 1], [35, 17], [7, 40], [2200, 15]];
        for size in sizes.into_iter().filter(|size| !cfg!(miri) || size[0] < 100) {
            for activation in [Activation::Identity, Activation::Relu, Activation::Relu6] {
                let portable = run(Arch::Scalar, size, activation);
                for arch in arch::all() {
                    for (found, expected) in run(arch, size, activation).iter().zip(&portable) {
                        assert_eq!(found.len(), expected.len());
                        let largest = expected.iter().fold(1f32, |max, x| max.max(x.abs()));
                        let pairs = found.iter().zip(expected);
                        let off = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                        assert!(off < 1e-5 * largest, "{arch:?} {size:?} {activation:?}: {off}");
                    }
                }
            }
        }
    }
}
