//! Convolutions, each beside Burn's own.
//!
//!     cargo bench --bench conv
//!
//! `NAME/xr` is ours and `NAME/burn` Burn's, both with bias and ReLU6; `NAME, training/…` is the
//! convolution alone, forwards and backwards. The layers are those of EfficientNet-Lite0 on 16
//! pictures of 224 × 224, of each kind the one with the most to do, and ResNet-18's. Everything runs on Flex, on
//! `RAYON_NUM_THREADS` threads.

use std::hint::black_box;

use burn::tensor::{Device, Distribution, Tensor, module, ops::ConvOptions};
use criterion::{Criterion, criterion_group};
use xr_models::ops::{self, Activation};

const BATCH: usize = 16;

/// Channels in and out, side of the picture, side of the kernel, stride.
struct Layer {
    name: &'static str,
    channels: [usize; 2],
    side: usize,
    kernel: usize,
    stride: usize,
    depthwise: bool,
}

const LAYERS: [Layer; 9] = [
    Layer::dense("stem 3 → 32, 224", [3, 32], 224, 3, 2),
    Layer::dense("1 × 1, 16 → 96, 112", [16, 96], 112, 1, 1),
    Layer::dense("1 × 1, 672 → 112, 14", [672, 112], 14, 1, 1),
    Layer::dense("1 × 1, 192 → 1152, 7", [192, 1152], 7, 1, 1),
    Layer::depthwise("depthwise 3, 96, 112, stride 2", 96, 112, 3, 2),
    Layer::depthwise("depthwise 3, 144, 56", 144, 56, 3, 1),
    Layer::depthwise("depthwise 5, 672, 14", 672, 14, 5, 1),
    Layer::dense("3 × 3, 64, 56", [64; 2], 56, 3, 1),
    Layer::dense("3 × 3, 512, 7", [512; 2], 7, 3, 1),
];

impl Layer {
    const fn dense(
        name: &'static str,
        channels: [usize; 2],
        side: usize,
        kernel: usize,
        stride: usize,
    ) -> Self {
        Self { name, channels, side, kernel, stride, depthwise: false }
    }

    const fn depthwise(
        name: &'static str,
        channels: usize,
        side: usize,
        kernel: usize,
        stride: usize,
    ) -> Self {
        Self { name, channels: [channels; 2], side, kernel, stride, depthwise: true }
    }

    /// With TensorFlow's padding.
    fn options(&self) -> ConvOptions<2> {
        let padding = (self.kernel.saturating_sub(self.stride) / 2, self.kernel / 2);
        let groups = if self.depthwise { self.channels[0] } else { 1 };
        ConvOptions::new_with_padding([self.stride; 2], [padding; 2], [1; 2], groups)
    }

    fn tensors(&self, device: &Device) -> (Tensor<4>, Tensor<4>, Tensor<1>) {
        let [from, to] = self.channels;
        let normal = Distribution::Normal(0.0, 1.0);
        let by_group = if self.depthwise { 1 } else { from };
        (
            Tensor::random([BATCH, from, self.side, self.side], normal, device),
            Tensor::random([to, by_group, self.kernel, self.kernel], normal, device),
            Tensor::random([to], normal, device),
        )
    }
}

fn forward(criterion: &mut Criterion) {
    for layer in &LAYERS {
        let (x, weight, bias) = layer.tensors(&Device::flex());
        // Channels last, as a layer gets them from the one before.
        let x = channels_last(x);
        let mut group = criterion.benchmark_group(layer.name);
        group.sample_size(20);
        group.bench_function("xr", |bencher| {
            bencher.iter(|| {
                let (x, weight, bias) = (x.clone(), weight.clone(), bias.clone());
                let activation = Activation::Relu6;
                black_box(ops::conv2d_fused(x, weight, bias, None, layer.options(), activation))
            });
        });
        let plain = Tensor::<4>::from_data(x.to_data(), &x.device());
        group.bench_function("burn", |bencher| {
            bencher.iter(|| {
                let (x, weight, bias) = (plain.clone(), weight.clone(), bias.clone());
                let y = module::conv2d(x, weight, Some(bias), layer.options());
                black_box(y.clamp(0.0, 6.0))
            });
        });
    }
}

fn channels_last(x: Tensor<4>) -> Tensor<4> {
    let stored = x.permute([0, 2, 3, 1]);
    let (data, device) = (stored.to_data(), stored.device());
    Tensor::<4>::from_data(data, &device).permute([0, 3, 1, 2])
}

fn training(criterion: &mut Criterion) {
    for layer in &LAYERS {
        let (x, weight, _) = layer.tensors(&Device::flex().autodiff());
        let (x, weight) = (x.require_grad(), weight.require_grad());
        let mut group = criterion.benchmark_group(format!("{}, training", layer.name));
        group.sample_size(10);
        group.bench_function("xr", |bencher| {
            bencher.iter(|| {
                let y = ops::conv2d(x.clone(), weight.clone(), layer.options());
                drop(black_box(y.sum().backward()));
            });
        });
        group.bench_function("burn", |bencher| {
            bencher.iter(|| {
                let y = module::conv2d(x.clone(), weight.clone(), None, layer.options());
                drop(black_box(y.sum().backward()));
            });
        });
    }
}

criterion_group!(benches, forward, training);

fn main() {
    xr::tune_allocator();
    benches();
    Criterion::default().configure_from_args().final_summary();
}
