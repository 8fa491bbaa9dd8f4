//! The encoders with published weights, held to PyTorch.
//!
//! ```sh
//! reference/fetch_weights.sh target/weights
//! python reference/fixtures_real.py --weights target/weights --out target/real
//! XR_WEIGHTS=$PWD/target/weights XR_REAL_FIXTURES=$PWD/target/real \
//!     cargo test --workspace --test real_weights -- --ignored
//! ```
//!
//! `XR_DEVICE` names the device; the first CPU backend compiled in if it is absent.

use std::{env, fs, path::PathBuf, time::Instant};

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{Device, Tensor, TensorData},
};
use safetensors::{Dtype, SafeTensors};
use xr_models::{
    Checkpoint, FeatureModelConfig, HeadConfig, ModelConfig, TokenBatch, device,
    head::DualEncoderConfig,
    ops::l2_normalize,
    pretrained::{PretrainedImage, PretrainedText, image_part, text_part},
};

/// Both sides compute in f32, in another order: 7e-6 to 9e-6 were seen for values up to 5.9. Another
/// padding, epsilon or activation makes a difference of 1e-2 or more.
const LITE_TOLERANCE: f64 = 2e-5;
/// 1.2e-6 to 1.4e-6 were seen for values up to 1.9.
const MINI_LM_TOLERANCE: f64 = 4e-6;

fn folder(variable: &str) -> PathBuf {
    env::var_os(variable)
        .unwrap_or_else(|| panic!("set {variable}, see the head of this file"))
        .into()
}

fn test_device() -> Device {
    let default = if cfg!(feature = "flex") { "flex" } else { "libtorch" };
    device(&env::var("XR_DEVICE").unwrap_or(default.into())).unwrap()
}

/// A tensor of a fixture: its values as `f64`, which holds floats and token numbers alike, and its
/// shape.
fn fixture(name: &str, tensor: &str) -> (Vec<f64>, Vec<usize>) {
    let bytes = fs::read(folder("XR_REAL_FIXTURES").join(format!("{name}.safetensors"))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor(tensor).unwrap();
    let values = match tensor.dtype() {
        Dtype::F32 => numbers(tensor.data(), |b| f64::from(f32::from_le_bytes(b))),
        Dtype::I64 => numbers(tensor.data(), |b| i64::from_le_bytes(b) as f64),
        other => panic!("fixtures have no {other:?}"),
    };
    (values, tensor.shape().to_vec())
}

fn numbers<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    bytes.chunks_exact(N).map(|b| number(b.try_into().unwrap())).collect()
}

fn assert_close(what: &str, ours: Tensor<2>, theirs: &[f64], tolerance: f64) {
    let ours: Vec<f32> = ours.into_data().try_into_vec_as().unwrap();
    assert_eq!(ours.len(), theirs.len());
    let pairs = ours.iter().zip(theirs);
    let difference = pairs.fold(0f64, |max, (a, b)| max.max((f64::from(*a) - b).abs()));
    let largest = theirs.iter().fold(0f64, |max, b| max.max(b.abs()));
    println!("{what}: max |difference| {difference:.2e}, largest value {largest:.2}");
    assert!(difference <= tolerance, "{what}: {difference} of {largest}");
}

fn pixels(name: &str, device: &Device) -> Tensor<4> {
    let (pixels, shape) = fixture(name, "pixels");
    let pixels: Vec<f32> = pixels.into_iter().map(|x| x as f32).collect();
    Tensor::from_data(TensorData::new(pixels, shape), device)
}

fn lite(level: u32, side: u32) {
    let device = test_device();
    let path = folder("XR_WEIGHTS").join(format!("efficientnet-lite{level}.pth"));
    let PretrainedImage { part, encoder } = image_part(&path, &device).unwrap();
    assert_eq!(part.preprocess.side(), side);
    let name = format!("lite{level}");
    let pixels = pixels(&name, &device);
    let (features, _) = fixture(&name, "features");
    assert_close(&name, encoder.forward(pixels.clone()), &features, LITE_TOLERANCE);
    let folded = encoder.folded();
    assert_close(&format!("{name}, folded"), folded.forward(pixels), &features, LITE_TOLERANCE);
}

#[test]
#[ignore = "needs published weights, see the head of the file"]
fn lite0() {
    lite(0, 224);
}

#[test]
#[ignore = "needs published weights, see the head of the file"]
fn lite2() {
    lite(2, 260);
}

#[test]
#[ignore = "needs published weights, see the head of the file"]
fn mini_lm() {
    let device = test_device();
    let PretrainedText { encoder, tokenizer, .. } = published_mini_lm(&device);
    let json = fs::read_to_string(folder("XR_REAL_FIXTURES").join("sentences.json")).unwrap();
    let sentences: Vec<String> = serde_json::from_str(&json).unwrap();
    let sentences: Vec<&str> = sentences.iter().map(String::as_str).collect();
    let tokens = tokenizer.encode(&sentences).unwrap();
    let (ids, shape) = fixture("minilm", "ids");
    assert_eq!([tokens.rows, tokens.width], *shape);
    assert!(tokens.ids.iter().zip(ids).all(|(ours, theirs)| f64::from(*ours) == theirs));
    let (features, _) = fixture("minilm", "features");
    let TokenBatch { ids, mask } = TokenBatch::new(&tokens, &device);
    let ours = encoder.forward(ids.clone(), mask.clone());
    assert_close("minilm", ours.clone(), &features, MINI_LM_TOLERANCE);
    if cfg!(feature = "flex") {
        assert_same_directions(ours, encoder.in_bf16().forward(ids, mask));
    }
}

fn published_mini_lm(device: &Device) -> PretrainedText {
    text_part(&folder("XR_WEIGHTS").join("minilm"), device).unwrap()
}

/// Training in mixed precision moves weights where training in single precision does: between the
/// gradients of all weights, cosines of .996 and .99996 were seen. With batch norms in training this
/// loss hardly depends on the weights, and the two gradients are noise.
#[test]
#[ignore = "needs published weights, see the head of the file"]
fn gradients_in_mixed_precision() {
    let device = test_device().autodiff();
    let path = folder("XR_WEIGHTS").join("efficientnet-lite0.pth");
    let image = image_part(&path, &device).unwrap().encoder.folded().train();
    let pixels = pixels("lite0", &device);
    let [single, mixed] = [image.clone(), image.clone().in_mixed_precision()]
        .map(|encoder| gradient(&image, encoder.forward(pixels.clone())));
    assert_same_direction("lite0, folded", &single, &mixed, 0.99);

    let PretrainedText { encoder: text, tokenizer, .. } = published_mini_lm(&device);
    let text = text.train();
    let tokens = tokenizer.encode(&["two dogs run on grass", "a red kite over the sea"]).unwrap();
    let TokenBatch { ids, mask } = TokenBatch::new(&tokens, &device);
    let [single, mixed] = [text.clone(), text.clone().in_bf16()].map(|encoder| {
        device.seed(0); // of its dropout
        gradient(&text, encoder.forward(ids.clone(), mask.clone()))
    });
    assert_same_direction("minilm", &single, &mixed, 0.999);
}

/// That of the features' mean square with respect to all weights of an encoder.
fn gradient(encoder: &impl Module, features: Tensor<2>) -> Vec<f32> {
    struct All(GradientsParams, Vec<f32>);
    impl ModuleVisitor for All {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = self.0.get::<D>(param.id).map(|gradient| gradient.into_data());
            self.1.extend(
                gradient.into_iter().flat_map(|data| data.try_into_vec_as::<f32>().unwrap()),
            );
        }
    }
    let gradients = GradientsParams::from_grads(features.square().mean().backward(), encoder);
    let mut all = All(gradients, vec![]);
    encoder.visit(&mut all);
    all.1
}

fn assert_same_direction(what: &str, single: &[f32], mixed: &[f32], lowest: f64) {
    assert_eq!(single.len(), mixed.len());
    let product = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let lengths = (product(single, single) * product(mixed, mixed)).sqrt();
    let cosine = product(single, mixed) / lengths;
    println!("{what}: gradients of {} weights, cosine {cosine:.5}", single.len());
    assert!((lowest..0.9999999).contains(&cosine), "{what}: {cosine}");
}

/// Rounding to bf16 turns no row by more than a cosine of .9999.
fn assert_same_directions(single: Tensor<2>, rounded: Tensor<2>) {
    let [single, rounded] = [single, rounded].map(l2_normalize);
    let lowest = (single * rounded).sum_dim(1).min().into_scalar::<f32>();
    println!("minilm in bf16: lowest cosine {lowest:.6}");
    assert!(lowest >= 0.9999, "{lowest}");
}

/// Both backbones, MiniLM and a random head, saved and loaded.
#[test]
#[ignore = "needs published weights, see the head of the file"]
fn a_checkpoint_of_published_encoders() {
    let device = test_device();
    let weights = folder("XR_WEIGHTS");
    let images = ["efficientnet-lite0.pth", "efficientnet-lite2.pth"]
        .map(|name| image_part(&weights.join(name), &device).unwrap());
    let text = text_part(&weights.join("minilm"), &device).unwrap();
    let head = HeadConfig::DualEncoder(DualEncoderConfig::new());
    let features = FeatureModelConfig::new(2560, 384, head);
    let (parts, encoders): (Vec<_>, Vec<_>) =
        images.into_iter().map(|image| (image.part, image.encoder)).unzip();
    let config = ModelConfig::new(parts, text.part, features);
    let mut model = config.init(&device).unwrap();
    (model.image, model.text) = (encoders, text.encoder);
    let saved = Checkpoint { config, tokenizer: text.tokenizer, model };
    let folder = tempfile::tempdir().unwrap();
    let timed = |what: &str, work: &dyn Fn()| {
        let start = Instant::now();
        work();
        println!("{what}: {:.2} s", start.elapsed().as_secs_f64());
    };
    let path = folder.path().join("model");
    timed("saved", &|| saved.save(&path).unwrap());
    timed("saved again", &|| saved.save(&path).unwrap());
    timed("loaded", &|| drop(Checkpoint::load(&path, &device).unwrap()));
    let loaded = Checkpoint::load(&path, &device).unwrap();
    assert_eq!(loaded.fingerprint(), saved.fingerprint());
    let tokens = saved.tokenizer.encode(&["two dogs run on grass"]).unwrap();
    let [one, two] = [saved, loaded].map(|checkpoint| {
        checkpoint.model.embed_text(&TokenBatch::new(&tokens, &device)).into_data()
    });
    assert_eq!(one, two);
}
