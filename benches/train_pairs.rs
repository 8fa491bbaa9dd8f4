//! Training steps of whole dual encoders, pixels and tokens to new weights, in pairs a second.
//!
//!     cargo bench --bench train_pairs
//!
//! `pairs/ENCODERS-B`: B pictures of 224 × 224 and B captions of 25 tokens, all random; every weight
//! is trained, batch norms too; linear projections to 384 dimensions, InfoNCE, AdamW. Reading the
//! pictures is not part of it. `reference/bench_pairs.py` is PyTorch's side.

mod common;

use burn::{
    module::Module,
    tensor::{Bool, Device, Distribution, Int, Tensor},
};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group};
use xr_data::Preprocess;
use xr_models::{
    FeatureModelConfig, HeadConfig, ImagePart, MlpConfig, Model, ModelConfig, PairBatch,
    Temperature, TextPart, TokenBatch,
    encoder::{
        BertConfig, EfficientNetLiteConfig, ImageEncoderConfig, ResNetConfig, TextEncoderConfig,
    },
    head::DualEncoderConfig,
};
use xr_train::{Algorithm, AlignmentConfig, Labels, ObjectiveConfig, OptimizerConfig};

const TOKENS: usize = 25;
const SIDE: usize = 224;

fn pairs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pairs");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    let lite0 = || ImageEncoderConfig::EfficientNetLite(EfficientNetLiteConfig::lite0());
    let resnet18 = || ImageEncoderConfig::ResNet(ResNetConfig::resnet18());
    let works = [
        ("lite0+minilm-64", lite0(), 64),
        ("lite0+minilm-128", lite0(), 128),
        ("resnet18+minilm-64", resnet18(), 64),
    ];
    for (name, device) in common::devices() {
        for (work, encoder, batch) in &works {
            group.throughput(Throughput::Elements(*batch as u64));
            // Made only where it is wanted, and once: criterion calls this for each sample, and a
            // first step has more to do than the others.
            let mut made = None;
            group.bench_function(BenchmarkId::new(*work, &name), |bencher| {
                let make = || step(encoder.clone(), *batch, &device.clone().autodiff());
                bencher.iter(made.get_or_insert_with(make));
            });
        }
    }
}

/// Makes one step of the optimizer and returns the loss before it.
fn step(encoder: ImageEncoderConfig, rows: usize, device: &Device) -> impl FnMut() -> f64 + use<> {
    let batch = batch(rows, device);
    let labels = Labels::of((0..rows as u32).collect());
    let objective = ObjectiveConfig::new(AlignmentConfig::InfoNce);
    let adam_w = OptimizerConfig { algorithm: Algorithm::AdamW, ..OptimizerConfig::default() };
    common::step(model(encoder, device), adam_w, move |model| {
        let output = model.forward(&batch);
        objective.loss(&output, &labels).expect("a loss of two embeddings").total
    })
}

fn model(encoder: ImageEncoderConfig, device: &Device) -> Model {
    let linear = || MlpConfig::new(vec![]);
    let head = DualEncoderConfig::new().with_latent(384).with_image(linear()).with_text(linear());
    let features = FeatureModelConfig::new(encoder.width(), 384, HeadConfig::DualEncoder(head))
        .with_temperature(Temperature::Learnable(0.07));
    let image = ImagePart::new(encoder, Preprocess::unit(SIDE as u32));
    let text = TextPart::new(TextEncoderConfig::Bert(BertConfig::mini_lm()), TOKENS);
    let config = ModelConfig::new(vec![image], text, features);
    config.init(device).expect("encoders that fit the head").train()
}

fn batch(rows: usize, device: &Device) -> PairBatch {
    let pixels = Tensor::random([rows, 3, SIDE, SIDE], Distribution::Normal(0.0, 1.0), device);
    let ids = Distribution::Uniform(1000.0, 30_000.0);
    let ids = Tensor::<2, Int>::random([rows, TOKENS], ids, device);
    let mask = Tensor::<2, Bool>::full([rows, TOKENS], true, device);
    PairBatch { pixels: vec![pixels], texts: TokenBatch { ids, mask } }
}

criterion_group!(benches, pairs);

fn main() {
    xr::tune_allocator();
    benches();
    Criterion::default().configure_from_args().final_summary();
}
