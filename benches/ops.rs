//! Operations with kernels of their own, each beside what Burn composes or has for it.
//!
//!     cargo bench --bench ops
//!
//! `NAME/xr` is ours and `NAME/burn` Burn's own, forwards; `NAME, training/…` forwards and backwards.
//! Sizes are those of MiniLM on 64 rows of 25 tokens, in training on 32, and of its parameters.
//! Everything runs on Flex, on `RAYON_NUM_THREADS` threads.

use std::hint::black_box;

use burn::{
    optim::{AdamWConfig, Optimizer},
    tensor::{Bool, Device, Distribution, Tensor, activation, module},
};
use criterion::{BenchmarkGroup, Criterion, criterion_group, measurement::WallTime};
use xr_models::ops::{self, Activation, AdamStep};

const BATCH: usize = 64;
const TOKENS: usize = 25;
const HEADS: usize = 12;
const WIDTH: usize = 384;
const FEED_FORWARD: usize = 4 * WIDTH;

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

/// Both ways to compute the same, without gradients and with them. `inputs` gets the batch.
fn compare<I: Clone, const D: usize>(
    criterion: &mut Criterion,
    name: &str,
    inputs: impl Fn(usize, &Device) -> I,
    ours: fn(I) -> Tensor<D>,
    burns: fn(I) -> Tensor<D>,
) {
    let device = Device::flex();
    let mut group = criterion.benchmark_group(name);
    let input = inputs(BATCH, &device);
    both(
        &mut group,
        || drop(black_box(ours(input.clone()))),
        || {
            drop(black_box(burns(input.clone())));
        },
    );
    group.finish();
    let mut group = criterion.benchmark_group(format!("{name}, training"));
    let input = inputs(BATCH / 2, &device.autodiff());
    let gradients = |f: fn(I) -> Tensor<D>| drop(black_box(f(input.clone()).sum().backward()));
    both(&mut group, || gradients(ours), || gradients(burns));
}

fn both(group: &mut BenchmarkGroup<WallTime>, ours: impl FnMut(), burns: impl FnMut()) {
    let (mut ours, mut burns) = (ours, burns);
    group.sample_size(20);
    group.bench_function("xr", |bencher| bencher.iter(&mut ours));
    group.bench_function("burn", |bencher| bencher.iter(&mut burns));
}

/// A leaf of the graph, where there is one.
fn leaf<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let x = random(shape, device);
    if device.is_autodiff() { x.require_grad() } else { x }
}

fn gelu(criterion: &mut Criterion) {
    let inputs = |batch, device: &Device| leaf([batch, TOKENS, FEED_FORWARD], device);
    compare(criterion, "gelu", inputs, ops::gelu, activation::gelu);
}

fn linear(criterion: &mut Criterion) {
    type Inputs = (Tensor<3>, Tensor<2>, Tensor<1>);
    let inputs = |batch, device: &Device| -> Inputs {
        let x = leaf([batch, TOKENS, WIDTH], device);
        (x, leaf([WIDTH, FEED_FORWARD], device), leaf([FEED_FORWARD], device))
    };
    let ours = |(x, weight, bias): Inputs| ops::linear(x, weight, bias, Activation::Gelu);
    let burns = |(x, weight, bias): Inputs| activation::gelu(module::linear(x, weight, Some(bias)));
    compare(criterion, "linear and gelu", inputs, ours, burns);
}

fn add_norm(criterion: &mut Criterion) {
    type Inputs = ([Tensor<3>; 2], [Tensor<1>; 2]);
    let inputs = |batch, device: &Device| -> Inputs {
        let states = [0; 2].map(|_| leaf([batch, TOKENS, WIDTH], device));
        (states, [0; 2].map(|_| leaf([WIDTH], device)))
    };
    let ours =
        |([x, residual], [gamma, beta]): Inputs| ops::add_norm(x, residual, gamma, beta, 1e-12);
    let burns = |([x, residual], [gamma, beta]): Inputs| {
        module::layer_norm(x + residual, gamma, Some(beta), 1e-12)
    };
    compare(criterion, "add and norm", inputs, ours, burns);
}

fn attention(criterion: &mut Criterion) {
    type Inputs = ([Tensor<4>; 3], Tensor<2, Bool>);
    let inputs = |batch, device: &Device| -> Inputs {
        // The heads of a token side by side, as a linear layer leaves them.
        let heads = [0; 3].map(|_| leaf([batch, TOKENS, HEADS, WIDTH / HEADS], device));
        (heads, Tensor::full([batch, TOKENS], true, device))
    };
    let ours = |(heads, mask): Inputs| {
        let [query, key, value] = heads.map(|x| x.swap_dims(1, 2));
        ops::attention(query, key, value, mask)
    };
    let burns = |(heads, mask): Inputs| {
        let [query, key, value] = heads.map(|x| x.swap_dims(1, 2));
        let root = ((WIDTH / HEADS) as f64).sqrt();
        let scores = query.matmul(key.transpose()).div_scalar(root);
        let padding = mask.bool_not().unsqueeze_dims(&[1, 2]);
        activation::softmax(scores.mask_fill(padding, -1e9), 3).matmul(value)
    };
    compare(criterion, "attention", inputs, ours, burns);
}

/// A step over as many parameters as a table of words has.
fn adam(criterion: &mut Criterion) {
    let device = Device::flex();
    let shape = [30_522, WIDTH];
    let [x, grad] = [0; 2].map(|_| random(shape, &device));
    let step = AdamStep {
        rate: 1e-2,
        betas: [0.9, 0.999],
        complements: [0.1, 0.001],
        correction: 0.03,
        epsilon: 1e-8,
        penalty: 0.0,
        kept: 0.99,
    };
    let burns = AdamWConfig::new().build();
    let mut ours_state = Some((x.clone(), [x.zeros_like(), x.zeros_like()]));
    let mut burns_state = Some((x, None));
    let ours = || {
        let (x, means) = ours_state.take().expect("put back");
        ours_state = Some(ops::adam(x, grad.clone(), means, step));
    };
    let burns = || {
        let (x, state) = burns_state.take().expect("put back");
        burns_state = Some(burns.step(1e-3, x, grad.clone(), state));
    };
    both(&mut criterion.benchmark_group("adam"), ours, burns);
}

criterion_group!(benches, gelu, linear, add_norm, attention, adam);

fn main() {
    xr::tune_allocator();
    benches();
    Criterion::default().configure_from_args().final_summary();
}
