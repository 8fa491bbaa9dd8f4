//! Losses and optimizers against PyTorch; `reference/fixtures_losses.py` and `fixtures_optim.py` made
//! the fixtures.

use burn::{
    module::Param,
    nn::Linear,
    optim::GradientsParams,
    tensor::{Device, Tensor, TensorData},
};
use serde::Deserialize;
use xr_models::HeadOutput;
use xr_train::{Algorithm, AlignmentConfig, Decay, Negatives, OptimizerConfig, Triplet};

#[derive(Deserialize)]
struct Losses {
    rows: usize,
    width: usize,
    margin: f64,
    scale: f32,
    bias: f32,
    image: Vec<f32>,
    text: Vec<f32>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    loss: String,
    groups: Vec<u32>,
    value: f32,
    image_grad: Vec<f32>,
    text_grad: Vec<f32>,
    scale_grad: Vec<f32>,
    bias_grad: Vec<f32>,
}

/// Single precision against double: sums of a few dozen terms of size 1, 1e-7 apart each.
const LOSS_TOLERANCE: f32 = 5e-6;

#[track_caller]
fn assert_close(actual: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (a, e) in actual.iter().zip(expected) {
        let bound = tolerance * e.abs().max(1.0);
        assert!((a - e).abs() <= bound, "{what}: {actual:?} is not {expected:?}");
    }
}

fn alignment(name: &str, margin: f64) -> AlignmentConfig {
    let triplet = |negatives| AlignmentConfig::Triplet(Triplet { margin, negatives });
    match name {
        "info_nce" => AlignmentConfig::InfoNce,
        "sigmoid" => AlignmentConfig::Sigmoid,
        "sum" => triplet(Negatives::Sum),
        "mean" => triplet(Negatives::Mean),
        "hardest" => triplet(Negatives::Hardest),
        other => panic!("no loss {other}"),
    }
}

#[test]
fn losses_and_their_gradients() {
    let file: Losses = serde_json::from_str(include_str!("fixtures/losses.json")).unwrap();
    let device = Device::flex().autodiff();
    let matrix = |values: &Vec<f32>| {
        let data = TensorData::new(values.clone(), [file.rows, file.width]);
        Tensor::<2>::from_data(data, &device).require_grad()
    };
    let scalar = |value: f32| Tensor::<1>::from_data([value], &device).require_grad();
    for case in &file.cases {
        let output = HeadOutput {
            image: matrix(&file.image),
            text: matrix(&file.text),
            reconstructions: vec![],
            logit_scale: scalar(file.scale),
            logit_bias: scalar(file.bias),
        };
        let loss = alignment(&case.loss, file.margin).forward(&output, &case.groups);
        let gradients = loss.backward();
        let read = |values: Option<Tensor<1>>, len: usize| {
            values.map_or(vec![0.0; len], |values| values.try_into_vec_as().unwrap())
        };
        let image = output.image.grad(&gradients).map(|g| g.flatten(0, 1));
        let text = output.text.grad(&gradients).map(|g| g.flatten(0, 1));
        let what = format!("{} {:?}", case.loss, case.groups);
        let check = |actual: Vec<f32>, expected: &[f32], of: &str| {
            assert_close(&actual, expected, LOSS_TOLERANCE, &format!("{what}: {of}"));
        };
        let elements = file.rows * file.width;
        check(vec![loss.clone().into_scalar()], &[case.value], "value");
        check(read(image, elements), &case.image_grad, "image");
        check(read(text, elements), &case.text_grad, "text");
        check(read(output.logit_scale.grad(&gradients), 1), &case.scale_grad, "scale");
        check(read(output.logit_bias.grad(&gradients), 1), &case.bias_grad, "bias");
    }
}

#[derive(Deserialize)]
struct Optim {
    lr: f64,
    decay: f64,
    weight: Vec<f32>,
    bias: Vec<f32>,
    inputs: Vec<Vec<[f32; 2]>>,
    adam: Trained,
    adamw: Trained,
    adamw_matrices: Trained,
}

#[derive(Deserialize)]
struct Trained {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// Both sides compute in single precision, for weights about as large as 1.
const STEP_TOLERANCE: f32 = 1e-6;

fn three_steps(file: &Optim, algorithm: Algorithm, decay: Decay, expected: &Trained) {
    let device = Device::flex().autodiff();
    let weight = TensorData::new(file.weight.clone(), [2, 1]);
    let mut layer = Linear {
        weight: Param::from_data(weight, &device),
        bias: Some(Param::from_data(TensorData::new(file.bias.clone(), [1]), &device)),
    };
    let config = OptimizerConfig {
        algorithm,
        decay,
        lr: file.lr,
        weight_decay: file.decay,
        ..OptimizerConfig::default()
    };
    let mut optimizer = config.init(&layer);
    let rates = config.rates().unwrap().at(0, config.lr);
    for inputs in &file.inputs {
        let x = TensorData::new(inputs.concat(), [inputs.len(), 2]);
        let loss = layer.forward(Tensor::<2>::from_data(x, &device)).square().mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &layer);
        layer = optimizer.step(rates.clone(), layer, gradients);
    }
    let weight: Vec<f32> = layer.weight.val().try_into_vec_as().unwrap();
    let bias: Vec<f32> = layer.bias.unwrap().val().try_into_vec_as().unwrap();
    let what = format!("{algorithm:?}, {decay:?}");
    assert_close(&weight, &expected.weight, STEP_TOLERANCE, &what);
    assert_close(&bias, &expected.bias, STEP_TOLERANCE, &what);
}

#[test]
fn steps_of_adam_and_adamw() {
    let file: Optim = serde_json::from_str(include_str!("fixtures/optim.json")).unwrap();
    three_steps(&file, Algorithm::Adam, Decay::All, &file.adam);
    three_steps(&file, Algorithm::AdamW, Decay::All, &file.adamw);
    three_steps(&file, Algorithm::AdamW, Decay::Matrices, &file.adamw_matrices);
}
