use burn::{
    module::ModuleVisitor,
    optim::{AdamWConfig, GradientsParams},
    store::ModuleRecord,
    tensor::{Distribution, Gradients, TensorData, Tolerance},
};
use xr_data::{Embeddings, Fingerprint};

use super::*;
use crate::{
    fixture::Fixture,
    head::{AutoencodersConfig, DualEncoderConfig},
    mlp::MlpConfig,
};

fn mlp(hidden: &[usize]) -> MlpConfig {
    MlpConfig::new(hidden.to_vec())
}

fn dual_encoder(latent: usize, image: &[usize], text: &[usize]) -> HeadConfig {
    let config = DualEncoderConfig::new().with_latent(latent);
    HeadConfig::DualEncoder(config.with_image(mlp(image)).with_text(mlp(text)))
}

fn corr_ae(latent: usize, image: &[usize], text: &[usize]) -> HeadConfig {
    let config = AutoencodersConfig::new().with_latent(latent);
    HeadConfig::CorrAe(config.with_image(mlp(image)).with_text(mlp(text)))
}

fn cross_ae(latent: usize, image: &[usize], text: &[usize]) -> HeadConfig {
    let config = AutoencodersConfig::new().with_latent(latent);
    HeadConfig::CrossAe(config.with_image(mlp(image)).with_text(mlp(text)))
}

/// The loss of `reference/fixtures_heads.py`: every weight has a part in it.
fn loss(output: &HeadOutput) -> Tensor<1> {
    let mean_squares = output.reconstructions.iter();
    let mean_squares = mean_squares.map(|r| (r.output.clone() - r.target.clone()).square().mean());
    let latents = (output.image.clone() * output.text.clone()).sum();
    mean_squares.fold(latents, |sum, term| sum + term)
}

/// Compares the gradient of every weight with the fixture's.
struct CompareGradients<'a> {
    fixture: &'a Fixture,
    gradients: &'a Gradients,
    path: Vec<String>,
    compared: usize,
}

impl ModuleVisitor for CompareGradients<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = param.grad(self.gradients) else { return };
        // PyTorch's linear weights are transposed, and it has no names of enum variants.
        let gradient = if D == 2 { gradient.swap_dims(0, 1) } else { gradient };
        let variant = |name: &&String| name.starts_with(char::is_uppercase);
        let path: Vec<_> = self.path.iter().filter(|name| !variant(name)).cloned().collect();
        self.fixture.assert(&format!("gradient.{}", path.join(".")), gradient);
        self.compared += 1;
    }
}

fn equals_pytorch(name: &str, head: HeadConfig, weights: usize) {
    let device = Device::flex().autodiff();
    let fixture = Fixture::open(name);
    let model = FeatureModelConfig::new(5, 4, head).init(&device);
    let model = fixture.load(model, str::to_owned);
    let features = || ["image", "text"].map(|name| fixture.tensor::<2>(name, &device));
    let [image, text] = features();

    let output = model.forward(image, text);
    fixture.assert("image_latent", output.image.clone());
    fixture.assert("text_latent", output.text.clone());
    for (r, name) in output.reconstructions.iter().zip(["image", "text"]) {
        fixture.assert(&format!("{name}_reconstruction"), r.output.clone());
    }
    let gradients = loss(&output).backward();
    let mut visitor =
        CompareGradients { fixture: &fixture, gradients: &gradients, path: vec![], compared: 0 };
    model.visit(&mut visitor);
    assert_eq!(visitor.compared, weights);

    let [image, text] = features();
    fixture.assert("image_embedding", model.embed_image(image.clone()));
    fixture.assert("text_embedding", model.embed_text(text.clone()));
    assert_eq!(output.reconstructions.is_empty(), model.decode_to_text(image.clone()).is_none());
    if let Some(decoded) = model.decode_to_text(image) {
        fixture.assert("decode_to_text", decoded);
        fixture.assert("decode_to_image", model.decode_to_image(text).unwrap());
    }
}

#[test]
fn a_dual_encoder_equals_pytorch() {
    equals_pytorch("dual_encoder", dual_encoder(3, &[], &[7]), 2 + 4);
}

#[test]
fn a_corr_ae_equals_pytorch() {
    equals_pytorch("corr_ae", corr_ae(3, &[8, 7], &[6]), 2 * (6 + 4));
}

#[test]
fn a_cross_ae_equals_pytorch() {
    equals_pytorch("cross_ae", cross_ae(3, &[8, 7], &[6]), 2 * (6 + 4));
}

fn random(rows: usize, width: usize, device: &Device) -> Tensor<2> {
    Tensor::random([rows, width], Distribution::Normal(2.0, 3.0), device)
}

#[test]
fn every_head_of_every_shape_trains_and_is_saved() {
    let device = Device::flex().autodiff();
    let folder = tempfile::tempdir().unwrap();
    for head in [dual_encoder, corr_ae, cross_ae] {
        for (image, text, latent, batch) in [(1, 1, 1, 1), (3, 8, 2, 5), (8, 3, 16, 2)] {
            for hidden in [&[][..], &[4], &[5, 6]] {
                let config = FeatureModelConfig::new(image, text, head(latent, hidden, hidden));
                let model = config.init(&device);
                let stats = |width| {
                    let rows = random(7, width, &device).into_data();
                    let rows = rows.try_into_vec_as::<f32>().unwrap();
                    ZScore::fit(&Embeddings::new(rows, width, Fingerprint::of(["test"])), &device)
                };
                let model = model.with_stats(stats(image), stats(text));
                let (x, y) = (random(batch, image, &device), random(batch, text, &device));

                let output = model.forward(x.clone(), y.clone());
                assert_eq!(output.image.dims(), [batch, latent]);
                assert_eq!(output.text.dims(), [batch, latent]);
                let gradients = GradientsParams::from_grads(loss(&output).backward(), &model);
                let coders = if output.reconstructions.is_empty() { 2 } else { 4 };
                assert_eq!(gradients.len(), 2 * coders * (hidden.len() + 1));

                let path = folder.path().join("model.bpk");
                model.into_record().save(&path).unwrap();
                let record = ModuleRecord::load(&path).unwrap();
                let loaded = config.init(&device).try_load_record(record).unwrap();
                let again = loaded.forward(x, y);
                again.image.into_data().assert_eq(&output.image.into_data(), true);
                again.text.into_data().assert_eq(&output.text.into_data(), true);
            }
        }
    }
}

/// The model after one step with a large weight decay, under a loss in which everything has a part.
fn stepped(temperature: Temperature) -> FeatureModel {
    let device = Device::flex().autodiff();
    let config = FeatureModelConfig::new(2, 2, dual_encoder(2, &[], &[]));
    let config = config.with_temperature(temperature).with_logit_bias(-10.0);
    let stats = |rows: &[f32]| {
        ZScore::fit(&Embeddings::new(rows.to_vec(), 2, Fingerprint::of(["test"])), &device)
    };
    // Means 1 and 4, deviations 1 and 2.
    let model = config.init(&device).with_stats(stats(&[0., 2., 2., 6.]), stats(&[0., 2., 2., 6.]));
    let output = model.forward(random(3, 2, &device), random(3, 2, &device));
    let loss = loss(&output) + output.logit_scale + output.logit_bias;
    let gradients = GradientsParams::from_grads(loss.backward(), &model);
    AdamWConfig::new().with_weight_decay(0.5).init().step(0.1, model, gradients)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec_as().unwrap()
}

#[test]
fn the_optimizer_leaves_statistics_and_a_fixed_temperature_alone() {
    let model = stepped(Temperature::Fixed(0.5));
    for stats in [&model.image_stats, &model.text_stats] {
        assert_eq!(values(stats.mean.value()), [1.0, 4.0]);
        assert_eq!(values(stats.std.value()), [1.0, 2.0]);
    }
    assert_eq!(values(model.logit_scale.val()), [2f32.ln()]);
    assert_eq!(values(model.logit_bias.val()), [-10.0]);
}

#[test]
fn a_learnable_temperature_is_trained() {
    let model = stepped(Temperature::Learnable(0.5));
    assert_ne!(values(model.logit_scale.val()), [2f32.ln()]);
    assert_ne!(values(model.logit_bias.val()), [-10.0]);
}

#[test]
fn a_learned_temperature_stops_at_a_hundredth() {
    let device = Device::flex();
    let scale = |temperature| {
        let config = FeatureModelConfig::new(1, 1, dual_encoder(1, &[], &[]));
        let model = config.with_temperature(temperature).init(&device);
        model.forward(random(1, 1, &device), random(1, 1, &device)).logit_scale.into_data()
    };
    let near = |data: TensorData, expected: f32| {
        data.assert_approx_eq::<f32>(&TensorData::from([expected]), Tolerance::relative(1e-5));
    };
    near(scale(Temperature::Learnable(0.07)), 1.0 / 0.07);
    near(scale(Temperature::Learnable(0.001)), 100.0);
    near(scale(Temperature::Fixed(0.001)), 1000.0);
}

#[test]
fn no_gradient_through_a_target() {
    let device = Device::flex().autodiff();
    let model = FeatureModelConfig::new(2, 2, corr_ae(2, &[], &[])).init(&device);
    let image = random(3, 2, &device).require_grad();
    let output = model.forward(image.clone(), random(3, 2, &device));
    let sum = output.reconstructions.into_iter().map(|r| r.target.sum());
    // Something else in the sum depends on the image, or there were no graph to go back through.
    let loss = sum.fold(output.image.sum() * 0.0, |a, b| a + b);
    let gradient = image.grad(&loss.backward()).unwrap();
    assert_eq!(values(gradient), [0.0; 6]);
}

#[test]
#[should_panic(expected = "a temperature is positive, but this one is 0")]
fn a_temperature_of_zero() {
    let config = FeatureModelConfig::new(1, 1, dual_encoder(1, &[], &[]));
    config.with_temperature(Temperature::Fixed(0.0)).init(&Device::flex());
}

#[test]
fn a_config_goes_through_json() {
    let config = FeatureModelConfig::new(7, 5, cross_ae(3, &[4], &[]));
    let config = config.with_temperature(Temperature::Learnable(0.07));
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<FeatureModelConfig>(&json).unwrap(), config);
}
