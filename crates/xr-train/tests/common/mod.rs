//! A small retrieval problem with linear features, and a model for it.
#![allow(dead_code)] // each test file uses a part

use std::sync::{Mutex, MutexGuard};

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Device, Tensor, TensorData},
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use xr_data::{Embeddings, Fingerprint};
use xr_models::{
    FeatureModel, FeatureModelConfig, HeadConfig, MlpConfig, Temperature, head::AutoencodersConfig,
};
use xr_train::{BoxError, Labels, ObjectiveConfig, TrainConfig, Validation};

pub const PICTURES: usize = 48;
pub const CAPTIONS: usize = 2 * PICTURES;
const IMAGE: usize = 12;
const TEXT: usize = 10;
const MEANING: usize = 4;

/// Dropout draws from a generator that all threads share, so such trainings take turns.
pub fn alone() -> MutexGuard<'static, ()> {
    static TRAINING: Mutex<()> = Mutex::new(());
    TRAINING.lock().unwrap_or_else(|failed| failed.into_inner())
}

/// Pictures and captions are linear views, with a little noise, of what they mean.
pub struct Data {
    pub image: Embeddings,
    pub text: Embeddings,
    pub picture_of: Vec<u32>,
}

impl Data {
    pub fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // The views are the same whatever the seed; what is seen through them differs.
        let mut views = ChaCha8Rng::seed_from_u64(u64::MAX);
        let [image_view, text_view] =
            [IMAGE, TEXT].map(|width| normal(&mut views, width * MEANING));
        let meanings = normal(&mut rng, PICTURES * MEANING);
        let picture_of: Vec<u32> = (0..CAPTIONS as u32).map(|caption| caption / 2).collect();
        let mut seen = |pictures: &[u32], view: &[f32]| {
            let meaning = |picture: u32| &meanings[picture as usize * MEANING..][..MEANING];
            let through = |meaning: &[f32], to: &[f32]| {
                meaning.iter().zip(to).map(|(m, v)| m * v).sum::<f32>()
            };
            pictures
                .iter()
                .flat_map(|&p| view.chunks(MEANING).map(move |to| through(meaning(p), to)))
                .map(|x| x + 0.05 * rng.random_range(-1.0f32..1.0))
                .collect::<Vec<f32>>()
        };
        let all: Vec<u32> = (0..PICTURES as u32).collect();
        let made_by = Fingerprint::of(["test"]);
        Self {
            image: Embeddings::new(seen(&all, &image_view), IMAGE, made_by.clone()),
            text: Embeddings::new(seen(&picture_of, &text_view), TEXT, made_by),
            picture_of,
        }
    }

    /// Loss of `objective` over all captions, and the share of captions whose picture comes first.
    pub fn validate(
        &self,
        model: &FeatureModel,
        objective: &ObjectiveConfig,
    ) -> Result<Validation, BoxError> {
        let device = Device::flex();
        let pairs = self.image.select(&self.picture_of);
        let output = model.forward(tensor(&pairs, &device), tensor(&self.text, &device));
        let loss =
            objective.loss(&output, &Labels::of(self.picture_of.clone()))?.total.into_scalar();
        let image = model.embed_image(tensor(&self.image, &device));
        let text = model.embed_text(tensor(&self.text, &device));
        let best: Vec<i64> = text.matmul(image.transpose()).argmax(1).try_into_vec_as()?;
        let right =
            best.iter().zip(&self.picture_of).filter(|(a, b)| **a == i64::from(**b)).count();
        let metrics = [("R@1".to_string(), right as f64 / CAPTIONS as f64)].into();
        Ok(Validation { loss, metrics, ..Validation::default() })
    }
}

pub fn tensor(rows: &Embeddings, device: &Device) -> Tensor<2> {
    let data = TensorData::new(rows.values().to_vec(), [rows.rows(), rows.dim()]);
    Tensor::from_data(data, device)
}

fn normal(rng: &mut ChaCha8Rng, len: usize) -> Vec<f32> {
    // Twelve uniforms make a good enough bell.
    let bell = |rng: &mut ChaCha8Rng| (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0;
    (0..len).map(|_| bell(rng)).collect()
}

/// Cross-modal autoencoders with dropout, and a learned temperature.
pub fn model() -> FeatureModel {
    let layers = || MlpConfig::new(vec![16]).with_dropout(0.1);
    let head = AutoencodersConfig::new().with_latent(8).with_image(layers()).with_text(layers());
    FeatureModelConfig::new(IMAGE, TEXT, HeadConfig::CrossAe(head))
        .with_temperature(Temperature::Learnable(0.2))
        .init(&Device::flex().autodiff())
}

pub fn config() -> TrainConfig {
    TrainConfig { epochs: 3, batch_size: 24, select: Some("R@1".into()), ..TrainConfig::default() }
}

/// Every weight, as bits.
pub fn bits<M: Module>(model: &M) -> Vec<u32> {
    struct Bits(Vec<u32>);
    impl ModuleVisitor for Bits {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let values: Vec<f32> = param.val().try_into_vec_as().unwrap();
            self.0.extend(values.into_iter().map(f32::to_bits));
        }
    }
    let mut bits = Bits(vec![]);
    model.visit(&mut bits);
    bits.0
}
