//! Training steps a second: of each head on features, and through the encoders.
//!
//!     cargo bench --bench train_step
//!
//! `step/…`: batch 128, random features of EfficientNet-Lite's 1280 and MiniLM's 384 dimensions; the
//! heads' sizes are their defaults, those of the paper, and the optimizer is Adam at 1e-3 with weight
//! decay 1e-5. A step is the forward pass with dropout, the loss, its gradients and their step;
//! reading the loss is part of it, saving and validation are not.
//!
//! `train/minilm-32x25` is a step of AdamW through MiniLM on 32 rows of 25 tokens; `train/lite0-8`
//! is EfficientNet-Lite0 forward and backward, batch norms in training, on 8 pictures. The loss of
//! both is the mean square of the features: it costs nothing.
//!
//! Each runs on the CPU of every backend compiled in (`--features tch`) or on `XR_DEVICE` alone.
//! `RAYON_NUM_THREADS` and `OMP_NUM_THREADS` limit the threads.

mod common;

use burn::{
    optim::GradientsParams,
    tensor::{Bool, Device, Distribution, Int, Tensor},
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use xr_models::{
    FeatureModelConfig, HeadConfig,
    encoder::{BertConfig, EfficientNetLiteConfig},
    head::{AutoencodersConfig, DualEncoderConfig},
};
use xr_train::{Algorithm, AlignmentConfig, Labels, ObjectiveConfig, OptimizerConfig};

const BATCH: usize = 128;
const IMAGE: usize = 1280;
const TEXT: usize = 384;

fn heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step");
    group.sample_size(20).throughput(Throughput::Elements(1));
    for (name, device) in common::devices() {
        for (head, config, loss) in configs() {
            let mut step = head_step(config, loss, &device.clone().autodiff());
            group.bench_function(BenchmarkId::new(head, &name), |bencher| bencher.iter(&mut step));
        }
    }
}

fn configs() -> [(&'static str, HeadConfig, AlignmentConfig); 4] {
    let dual_encoder = HeadConfig::DualEncoder(DualEncoderConfig::new());
    let corr_ae = HeadConfig::CorrAe(AutoencodersConfig::new());
    let cross_ae = HeadConfig::CrossAe(AutoencodersConfig::new().with_dropout(0.3));
    [
        ("dual-encoder", dual_encoder, AlignmentConfig::InfoNce),
        ("corr-ae-mse", corr_ae.clone(), AlignmentConfig::Mse),
        ("corr-ae-contrastive", corr_ae, AlignmentConfig::InfoNce),
        ("cross-ae", cross_ae, AlignmentConfig::InfoNce),
    ]
}

/// Makes one training step of a head and returns its loss.
fn head_step(
    head: HeadConfig,
    loss: AlignmentConfig,
    device: &Device,
) -> impl FnMut() -> f64 + use<> {
    let model = FeatureModelConfig::new(IMAGE, TEXT, head).init(device);
    let [image, text] = [IMAGE, TEXT]
        .map(|width| Tensor::<2>::random([BATCH, width], Distribution::Normal(0.0, 1.0), device));
    let labels = Labels::of((0..BATCH as u32).collect());
    let objective = ObjectiveConfig::new(loss);
    common::step(model, OptimizerConfig::default(), move |model| {
        let output = model.forward(image.clone(), text.clone());
        objective.loss(&output, &labels).expect("a loss of two latents").total
    })
}

fn encoders(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("train");
    group.sample_size(10).throughput(Throughput::Elements(1));
    for (name, device) in common::devices() {
        let device = device.autodiff();
        let mut minilm = minilm_step(&device);
        group.bench_function(BenchmarkId::new("minilm-32x25", &name), |b| b.iter(&mut minilm));
        let mut lite0 = lite0_gradients(&device);
        group.bench_function(BenchmarkId::new("lite0-8", &name), |b| b.iter(&mut lite0));
    }
}

fn minilm_step(device: &Device) -> impl FnMut() -> f64 + use<> {
    let (ids, mask) = (Distribution::Uniform(1000.0, 30_000.0), [32, 25]);
    let ids = Tensor::<2, Int>::random(mask, ids, device);
    let mask = Tensor::<2, Bool>::full(mask, true, device);
    let adam_w = OptimizerConfig { algorithm: Algorithm::AdamW, ..OptimizerConfig::default() };
    common::step(BertConfig::mini_lm().init(device), adam_w, move |model| {
        model.forward(ids.clone(), mask.clone()).square().mean()
    })
}

fn lite0_gradients(device: &Device) -> impl FnMut() -> GradientsParams + use<> {
    let model = EfficientNetLiteConfig::lite0().init(device);
    let pixels = Tensor::<4>::random([8, 3, 224, 224], Distribution::Normal(0.0, 1.0), device);
    move || {
        let loss = model.forward(pixels.clone()).square().mean();
        GradientsParams::from_grads(loss.backward(), &model)
    }
}

criterion_group!(benches, heads, encoders);

fn main() {
    xr::tune_allocator();
    benches();
    Criterion::default().configure_from_args().final_summary();
}
