//! Every operation against its composed default, forwards and backwards, and gradients against
//! finite differences.

mod layouts;
mod pytorch;

use burn::{
    backend::{Autodiff, Flex, tensor::FloatTensor},
    tensor::{Bool, Device, Tensor, TensorData, Tolerance},
};
use rayon::ThreadPoolBuilder;

use super::{
    activation, adam, add_norm, attention, batch_norm, global_avg_pool2d, linear, max_pool2d, *,
};

type Tracked = Autodiff<Flex>;
type Primitive = FloatTensor<Tracked>;

const ACTIVATIONS: [Activation; 5] = [
    Activation::Identity,
    Activation::Relu,
    Activation::Relu6,
    Activation::Gelu,
    Activation::QuickGelu,
];
/// Batch and width of a layer: one number, less than a register, no whole number of them, and more
/// than a task has rows.
const SIZES: [[usize; 2]; 5] = [[1, 1], [2, 3], [7, 17], [50, 65], [130, 400]];

fn device() -> Device {
    Device::flex().autodiff()
}

/// Numbers of mean 0 and variance 1 that look random. The device's own are shared by all tests.
fn random<const D: usize>(shape: [usize; D], salt: u32) -> Tensor<D> {
    let number = |i: usize| {
        let x = (i as u32 + 1).wrapping_mul(0x9e37_79b9) ^ salt.wrapping_mul(0x85eb_ca6b);
        let x = (x ^ (x >> 15)).wrapping_mul(0x2c1b_3c6d);
        3f32.sqrt() * ((x ^ (x >> 13)) as f32 / 2f32.powi(31) - 1.0)
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(number).collect();
    Tensor::from_data(TensorData::new(values, shape), &device())
}

/// Numbers a tenth apart, in no order, half of that from 0 and from 6: no small step changes which is
/// larger, or what an activation cuts.
fn apart() -> Tensor<1> {
    let values: Vec<_> = (0..160).map(|i| ((i * 37) % 160) as f32 / 10.0 - 7.95).collect();
    Tensor::from_data(TensorData::new(values, [160usize]), &device())
}

/// Flat inputs of these lengths.
fn inputs<const N: usize>(lengths: [usize; N]) -> Vec<Tensor<1>> {
    (0..N).map(|i| random([lengths[i]], i as u32)).collect()
}

fn into<const D: usize>(x: Tensor<D>) -> Primitive {
    x.try_into_primitive::<Tracked>().unwrap()
}

fn from<const D: usize>(x: Primitive) -> Tensor<D> {
    Tensor::from_primitive::<Tracked>(x)
}

/// The gradients of `Σ f(inputs) · r` for random `r`, flat.
fn gradients<const D: usize>(
    inputs: &[Tensor<1>],
    f: impl Fn(&[Tensor<1>]) -> Tensor<D>,
) -> (Tensor<1>, Vec<Tensor<1>>) {
    let inputs: Vec<_> = inputs.iter().map(|x| x.clone().detach().require_grad()).collect();
    let y = f(&inputs);
    let r = random(y.dims(), 9);
    let grads = (y.clone() * r).sum().backward();
    (y.flatten(0, D - 1), inputs.iter().map(|x| x.grad(&grads).unwrap()).collect())
}

/// The output where no gradient is wanted, which may be another kernel's, that where one is, and the
/// gradients.
fn results<const D: usize>(
    inputs: &[Tensor<1>],
    f: impl Fn(&[Tensor<1>]) -> Tensor<D>,
) -> Vec<Tensor<1>> {
    let untracked: Vec<_> = inputs.iter().map(|x| x.clone().inner()).collect();
    let untracked = f(&untracked).flatten(0, D - 1);
    let (y, slopes) = gradients(inputs, f);
    [untracked, y].into_iter().chain(slopes).collect()
}

/// Are two functions of flat inputs, and their gradients, the same?
fn assert_same<const D: usize>(
    inputs: &[Tensor<1>],
    found: impl Fn(&[Tensor<1>]) -> Tensor<D>,
    expected: impl Fn(&[Tensor<1>]) -> Tensor<D>,
) {
    let found = results(inputs, found);
    let (y, slopes) = gradients(inputs, expected);
    let expected = [y.clone(), y].into_iter().chain(slopes);
    // Sums of 400 products reach 60, where floats are 4e-6 apart: added in another order they differ
    // by a few of those.
    let tolerance = Tolerance::rel_abs(5e-5, 5e-5);
    for (found, expected) in found.into_iter().zip(expected) {
        found.into_data().assert_approx_eq::<f32>(&expected.into_data(), tolerance);
    }
}

/// Do the gradients agree with what a small step changes? Both are sums over every output.
fn assert_gradients<const D: usize>(inputs: &[Tensor<1>], f: impl Fn(&[Tensor<1>]) -> Tensor<D>) {
    const STEP: f32 = 1e-2;
    let (_, slopes) = gradients(inputs, &f);
    let loss = |inputs: &[Tensor<1>]| -> f32 {
        let y = f(inputs);
        (y.clone() * random(y.dims(), 9)).sum().into_scalar()
    };
    for (i, slope) in slopes.into_iter().enumerate() {
        let direction = random(inputs[i].dims(), 8).sign();
        let moved = |step: f32| {
            let mut inputs = inputs.to_vec();
            inputs[i] = inputs[i].clone() + direction.clone() * step;
            loss(&inputs)
        };
        let expected = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
        let found: f32 = (Tensor::from_inner(slope) * direction.clone()).sum().into_scalar();
        let size = expected.abs().max(1.0);
        assert!((found - expected).abs() < 2e-2 * size, "input {i}: {found}, not {expected}");
    }
}

fn activate_inputs([batch, width]: [usize; 2]) -> Vec<Tensor<1>> {
    // Up to 6.9: ReLU6 cuts some.
    vec![random([batch * width], 0) * 4.0]
}

#[test]
fn activations() {
    for f in ACTIVATIONS {
        for size in SIZES {
            let found = |x: &[Tensor<1>]| activation::activate(x[0].clone().reshape(size), f);
            assert_same(&activate_inputs(size), found, |x| {
                from(activation::composed::<Tracked>(into(x[0].clone().reshape(size)), f))
            });
        }
        assert_gradients(&[apart()], |x| activation::activate(x[0].clone(), f));
    }
}

#[test]
fn an_activation_of_a_shared_or_permuted_tensor_leaves_it_as_it_was() {
    let x = random([3, 40], 0).inner();
    let before = x.to_data();
    let transposed = gelu(x.clone().transpose()).transpose();
    transposed.into_data().assert_eq(&gelu(x.clone()).into_data(), true);
    gelu(x.clone().slice([1..3, 5..40]));
    x.into_data().assert_eq(&before, true);
}

fn linear_inputs([batch, width]: [usize; 2]) -> Vec<Tensor<1>> {
    inputs([batch * width, width * (width + 1), width + 1])
}

fn linear_of(x: &[Tensor<1>], [batch, width]: [usize; 2]) -> (Tensor<3>, Tensor<2>, Tensor<1>) {
    let weight = x[1].clone().reshape([width, width + 1]);
    (x[0].clone().reshape([1, batch, width]), weight, x[2].clone())
}

#[test]
fn linear_layers() {
    for f in ACTIVATIONS {
        for size in SIZES {
            let found = |x: &[Tensor<1>]| {
                let (x, weight, bias) = linear_of(x, size);
                super::linear(x, weight, bias, f)
            };
            assert_same(&linear_inputs(size), found, |x| {
                let (x, weight, bias) = linear_of(x, size);
                from(linear::composed::<Tracked>(into(x), into(weight), into(bias), f))
            });
        }
    }
    assert_gradients(&linear_inputs([7, 17]), |x| {
        let (x, weight, bias) = linear_of(x, [7, 17]);
        super::linear(x, weight, bias, Activation::Gelu)
    });
}

#[test]
fn a_weight_that_changes_is_packed_anew() {
    let device = Device::flex();
    let product = |weight: &Tensor<2>| {
        let (x, bias) = (Tensor::<2>::ones([1, 2], &device), Tensor::zeros([1], &device));
        let y = super::linear(x, weight.clone(), bias, Activation::Identity);
        y.into_scalar::<f32>()
    };
    let mut weight = Tensor::<2>::ones([2, 1], &device);
    assert_eq!([product(&weight), product(&weight)], [2.0; 2]);
    // In place, if nobody else held it.
    weight = weight * 3.0;
    assert_eq!(product(&weight), 6.0);
}

#[test]
fn an_empty_batch() {
    let device = Device::flex();
    let weight = Tensor::ones([4, 5], &device);
    let y = super::linear(
        Tensor::<2>::zeros([0, 4], &device),
        weight,
        Tensor::ones([5], &device),
        Activation::Gelu,
    );
    assert_eq!(y.dims(), [0, 5]);
    let ones = Tensor::ones([5], &device);
    assert_eq!(super::add_norm(y.clone(), y.clone(), ones.clone(), ones, 1e-5).dims(), [0, 5]);
    assert_eq!(gelu(y).dims(), [0, 5]);
    let x = Tensor::<4>::zeros([0, 2, 3, 4], &device);
    let mask = Tensor::<2, Bool>::full([0, 3], true, &device);
    assert_eq!(super::attention(x.clone(), x.clone(), x, mask).dims(), [0, 2, 3, 4]);
}

#[test]
fn no_pictures_and_their_gradients() {
    let x = Tensor::<4>::zeros([0, 2, 3, 4], &device()).require_grad();
    let parameters = [0, 1].map(|salt| random([2], salt).require_grad());
    let [gamma, beta] = parameters.clone();
    let y = batch_norm_train(x.clone(), gamma, beta, 1e-5, Activation::Relu).output;
    assert_eq!(y.dims(), [0, 2, 3, 4]);
    let y = super::max_pool2d(y, Pool { side: 3, stride: 2, padding: 1 });
    assert_eq!(y.dims(), [0, 2, 2, 2]);
    let y = super::global_avg_pool2d(y);
    assert_eq!(y.dims(), [0, 2]);
    let grads = y.sum().backward();
    assert_eq!(x.grad(&grads).unwrap().dims(), [0, 2, 3, 4]);
    for parameter in parameters {
        let grad = parameter.grad(&grads).unwrap().into_data();
        grad.assert_eq(&TensorData::zeros::<f32, _>([2]), true);
    }
}

fn norm_inputs([batch, width]: [usize; 2]) -> Vec<Tensor<1>> {
    inputs([batch * width, batch * width, width, width])
}

fn norm_of(x: &[Tensor<1>], size: [usize; 2]) -> ([Tensor<2>; 2], [Tensor<1>; 2]) {
    ([0, 1].map(|i| x[i].clone().reshape(size)), [2, 3].map(|i| x[i].clone()))
}

#[test]
fn norms_of_sums() {
    // The norm of a row of one number is 0 but for rounding.
    for size in SIZES.into_iter().skip(1) {
        let found = |x: &[Tensor<1>]| {
            let ([x, residual], [gamma, beta]) = norm_of(x, size);
            super::add_norm(x, residual, gamma, beta, 1e-2)
        };
        assert_same(&norm_inputs(size), found, |x| {
            let ([x, residual], [gamma, beta]) = norm_of(x, size);
            let [x, residual] = [x, residual].map(into);
            let [gamma, beta] = [gamma, beta].map(into);
            from(add_norm::composed::<Tracked>(x, residual, gamma, beta, 1e-2))
        });
    }
    assert_gradients(&norm_inputs([7, 17]), |x| {
        let ([x, residual], [gamma, beta]) = norm_of(x, [7, 17]);
        super::add_norm(x, residual, gamma, beta, 1e-2)
    });
}

/// Batch, heads, tokens and width.
const HEADS: [[usize; 4]; 4] = [[1, 1, 1, 1], [2, 3, 5, 4], [3, 2, 25, 32], [1, 2, 70, 33]];

fn attention_inputs(shape: [usize; 4]) -> Vec<Tensor<1>> {
    inputs([shape.iter().product(); 3])
}

/// The heads of a token side by side, as a model has them; the last text has no token at all.
fn attention_of(x: &[Tensor<1>], shape: [usize; 4]) -> ([Tensor<4>; 3], Tensor<2, Bool>) {
    let [batch, heads, tokens, width] = shape;
    let heads = |i: usize| x[i].clone().reshape([batch, tokens, heads, width]).swap_dims(1, 2);
    let last = (batch > 1).then(|| batch - 1);
    let kept = |text, token| token < tokens.div_ceil(text + 1) && Some(text) != last;
    let mask: Vec<bool> = (0..batch * tokens).map(|i| kept(i / tokens, i % tokens)).collect();
    let mask = TensorData::new(mask, [batch, tokens]);
    ([0, 1, 2].map(heads), Tensor::from_data(mask, &x[0].device()))
}

#[test]
fn attention_with_a_mask() {
    for shape in HEADS {
        let found = |x: &[Tensor<1>]| {
            let ([query, key, value], mask) = attention_of(x, shape);
            super::attention(query, key, value, mask)
        };
        assert_same(&attention_inputs(shape), found, |x| {
            let ([query, key, value], mask) = attention_of(x, shape);
            let mask = mask.try_into_primitive::<Tracked>().unwrap();
            from(attention::composed::<Tracked>(into(query), into(key), into(value), mask))
        });
    }
    assert_gradients(&attention_inputs([2, 3, 5, 4]), |x| {
        let ([query, key, value], mask) = attention_of(x, [2, 3, 5, 4]);
        super::attention(query, key, value, mask)
    });
}

/// The first is of one place; in the others windows overlap, leave places out, and end in the picture
/// or outside of it.
#[test]
fn pools_of_the_largest() {
    let pool = |[side, stride, padding]: [usize; 3]| Pool { side, stride, padding };
    let works = [([1, 1, 1, 1], [1, 1, 0]), ([2, 3, 7, 6], [3, 2, 1]), ([1, 20, 9, 10], [2, 3, 0])];
    for (shape, pool) in works.map(|(shape, sizes)| (shape, pool(sizes))) {
        let inputs = inputs([shape.iter().product()]);
        let found = |x: &[Tensor<1>]| super::max_pool2d(x[0].clone().reshape(shape), pool);
        assert_same(&inputs, found, |x| {
            from(max_pool2d::composed::<Tracked>(into(x[0].clone().reshape(shape)), pool))
        });
        let [x, grad] = [0, 1].map(|salt| random(shape, salt).inner());
        let grad = found(&[grad.reshape([-1])]);
        let flex = |x: Tensor<4>| x.try_into_primitive::<Flex>().unwrap();
        let composed =
            max_pool2d::composed_backward::<Flex>(flex(x.clone()), flex(grad.clone()), pool);
        let kernel = <Flex as backend::Kernels>::max_pool2d_grad(flex(x), flex(grad), pool);
        let [kernel, composed] = [kernel, composed].map(Tensor::<4>::from_primitive::<Flex>);
        kernel.into_data().assert_approx_eq::<f32>(&composed.into_data(), Tolerance::default());
    }
    assert_gradients(&[apart()], |x| {
        super::max_pool2d(x[0].clone().reshape([2, 2, 8, 5]), pool([3, 2, 1]))
    });
}

/// Batch, channels and sides of pictures: one channel, less than a register, no whole number of them,
/// and more than two tasks.
const PICTURES: [[usize; 4]; 4] = [[2, 1, 1, 3], [2, 3, 5, 4], [1, 17, 6, 7], [4, 40, 24, 25]];

fn batch_norm_inputs(shape: [usize; 4]) -> Vec<Tensor<1>> {
    inputs([shape.iter().product(), shape[1], shape[1]])
}

/// Picture, gamma and beta; such a gamma makes values that ReLU6 cuts.
fn batch_norm_of(x: &[Tensor<1>], shape: [usize; 4]) -> (Tensor<4>, Tensor<1>, Tensor<1>) {
    (x[0].clone().reshape(shape), x[1].clone() * 3.0, x[2].clone())
}

fn normalized(x: &[Tensor<1>], shape: [usize; 4], f: Activation) -> Tensor<4> {
    let (x, gamma, beta) = batch_norm_of(x, shape);
    batch_norm_train(x, gamma, beta, 1e-2, f).output
}

#[test]
fn batch_norms_in_training() {
    for f in ACTIVATIONS {
        for shape in PICTURES {
            let found = |x: &[Tensor<1>]| normalized(x, shape, f);
            assert_same(&batch_norm_inputs(shape), found, |x| {
                let (x, gamma, beta) = batch_norm_of(x, shape);
                let (x, gamma, beta) = (into(x), into(gamma), into(beta));
                from(batch_norm::composed::<Tracked>(x, gamma, beta, 1e-2, f).0)
            });
        }
    }
    let shape = [2, 3, 5, 4];
    assert_gradients(&batch_norm_inputs(shape), |x| normalized(x, shape, Activation::Identity));
}

fn mean_of(x: &[Tensor<1>], shape: [usize; 4]) -> Tensor<2> {
    super::global_avg_pool2d(x[0].clone().reshape(shape))
}

#[test]
fn means_of_pictures() {
    for shape in PICTURES {
        let found = |x: &[Tensor<1>]| mean_of(x, shape);
        assert_same(&inputs([shape.iter().product()]), found, |x| {
            let x = into(x[0].clone().reshape(shape));
            from(global_avg_pool2d::composed::<Tracked>(x))
        });
    }
    assert_gradients(&inputs([120]), |x| mean_of(x, [2, 3, 5, 4]));
}

const ADAM: AdamStep = AdamStep {
    rate: 1e-3,
    betas: [0.9, 0.999],
    complements: [0.1, 0.001],
    correction: 0.5,
    epsilon: 1e-8,
    penalty: 0.1,
    kept: 0.9,
};

/// Parameter, gradient and the means of it and its square.
fn adam_inputs(len: usize) -> [Tensor<1>; 4] {
    let [x, grad, m, v] = [0, 1, 2, 3].map(|salt| random([len], salt).inner());
    [x, grad, m, v.square()]
}

#[test]
fn steps_of_adam() {
    for len in [0, 1, 17, 40_000] {
        let [x, grad, m, v] = adam_inputs(len);
        let (found, means) = super::adam(x.clone(), grad.clone(), [m.clone(), v.clone()], ADAM);
        let flex = |x: Tensor<1>| x.try_into_primitive::<Flex>().unwrap();
        let expected = adam::composed::<Flex>(flex(x), flex(grad), flex(m), flex(v), ADAM);
        for (found, expected) in
            [(found, expected.0)].into_iter().chain(means.into_iter().zip([expected.1, expected.2]))
        {
            let expected = Tensor::<1>::from_primitive::<Flex>(expected).into_data();
            found.into_data().assert_approx_eq::<f32>(&expected, Tolerance::rel_abs(1e-6, 1e-6));
        }
    }
}

#[test]
fn one_thread_and_two_give_the_same_bits() {
    let run = |threads| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut all = vec![];
            for size in SIZES {
                all.extend(results(&linear_inputs(size), |x| {
                    let (x, weight, bias) = linear_of(x, size);
                    super::linear(x, weight, bias, Activation::Gelu)
                }));
                all.extend(results(&norm_inputs(size), |x| {
                    let ([x, residual], [gamma, beta]) = norm_of(x, size);
                    super::add_norm(x, residual, gamma, beta, 1e-2)
                }));
            }
            all.extend(results(&attention_inputs(HEADS[2]), |x| {
                let ([query, key, value], mask) = attention_of(x, HEADS[2]);
                super::attention(query, key, value, mask)
            }));
            for shape in PICTURES {
                let inputs = batch_norm_inputs(shape);
                all.extend(results(&inputs, |x| normalized(x, shape, Activation::Relu6)));
                all.extend(results(&inputs[..1], |x| mean_of(x, shape)));
                all.extend(results(&inputs[..1], |x| {
                    let pool = Pool { side: 3, stride: 2, padding: 1 };
                    super::max_pool2d(x[0].clone().reshape(shape), pool)
                }));
            }
            let [x, grad, m, v] = adam_inputs(40_000);
            let (x, means) = super::adam(x, grad, [m, v], ADAM);
            all.extend([x].into_iter().chain(means));
            all.into_iter().map(Tensor::into_data).collect::<Vec<_>>()
        })
    };
    assert!(run(1) == run(2));
}
