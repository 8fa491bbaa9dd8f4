//! Training steps a second of each head, on features.
//!
//!     cargo bench --bench train_step
//!
//! Batch 128, random features of EfficientNet-Lite's 1280 and MiniLM's 384 dimensions; the heads'
//! sizes are their defaults, those of the paper, and the optimizer is Adam at 1e-3 with weight decay
//! 1e-5. A step is the forward pass with dropout, the loss, its gradients and their step; reading the
//! loss is part of it, saving and validation are not.
//!
//! Each runs on the CPU of every backend compiled in (`--features tch`) or on `XR_DEVICE` alone.
//! `RAYON_NUM_THREADS` and `OMP_NUM_THREADS` limit the threads.

#![allow(clippy::unwrap_used)]

use std::env;

use burn::{
    optim::GradientsParams,
    tensor::{Device, Distribution, Tensor},
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use xr_models::{
    FeatureModelConfig, HeadConfig,
    head::{AutoencodersConfig, DualEncoderConfig},
};
use xr_train::{AlignmentConfig, ObjectiveConfig, OptimizerConfig};

const BATCH: usize = 128;
const IMAGE: usize = 1280;
const TEXT: usize = 384;

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step");
    group.sample_size(20).throughput(Throughput::Elements(1));
    for (name, device) in devices() {
        for (head, config, loss) in heads() {
            let mut step = step(config, loss, &device.clone().autodiff());
            group.bench_function(BenchmarkId::new(head, &name), |bencher| bencher.iter(&mut step));
        }
    }
}

fn heads() -> [(&'static str, HeadConfig, AlignmentConfig); 4] {
    let corr_ae = HeadConfig::CorrAe(AutoencodersConfig::new());
    let cross_ae = HeadConfig::CrossAe(AutoencodersConfig::new().with_dropout(0.3));
    [
        (
            "dual-encoder",
            HeadConfig::DualEncoder(DualEncoderConfig::new()),
            AlignmentConfig::InfoNce,
        ),
        ("corr-ae-mse", corr_ae.clone(), AlignmentConfig::Mse),
        ("corr-ae-contrastive", corr_ae, AlignmentConfig::InfoNce),
        ("cross-ae", cross_ae, AlignmentConfig::InfoNce),
    ]
}

/// Makes one training step and returns its loss.
fn step(head: HeadConfig, loss: AlignmentConfig, device: &Device) -> impl FnMut() -> f64 + use<> {
    let mut model = FeatureModelConfig::new(IMAGE, TEXT, head).init(device);
    let [image, text] = [IMAGE, TEXT]
        .map(|width| Tensor::<2>::random([BATCH, width], Distribution::Normal(0.0, 1.0), device));
    let groups: Vec<u32> = (0..BATCH as u32).collect();
    let (objective, config) = (ObjectiveConfig::new(loss), OptimizerConfig::default());
    let mut optimizer = config.init(&model);
    let rates = config.rates().unwrap().at(config.lr);
    move || {
        let output = model.forward(image.clone(), text.clone());
        let loss = objective.loss(&output, &groups).unwrap().total;
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(rates.clone(), model.clone(), gradients);
        loss.into_scalar()
    }
}

fn devices() -> Vec<(String, Device)> {
    if let Ok(name) = env::var("XR_DEVICE") {
        let device = xr_models::device(&name).unwrap();
        return vec![(name, device)];
    }
    let open = |name: &str| Some((name.into(), xr_models::device(name).ok()?));
    ["flex", "libtorch"].into_iter().filter_map(open).collect()
}

criterion_group!(benches, steps);
criterion_main!(benches);
