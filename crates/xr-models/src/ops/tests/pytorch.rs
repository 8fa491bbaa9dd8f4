//! Every operation against PyTorch: see `reference/fixtures_ops.py`.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::super::{
    Activation, Pool, activation, add_norm, attention, batch_norm_train, global_avg_pool2d, linear,
    max_pool2d,
};
use crate::fixture::Fixture;

const ACTIVATIONS: [(&str, Activation); 3] =
    [("gelu", Activation::Gelu), ("quick_gelu", Activation::QuickGelu), ("relu", Activation::Relu)];

/// The same cases, of numbers and of what isn't finite as well.
const TRANSFORMER: [&str; 2] = ["transformer_ops", "not_finite"];
const POOLS: [&str; 2] = ["pools", "not_finite"];

/// One case of a fixture, on a device with gradients.
struct Case {
    fixture: Fixture,
    name: String,
    device: Device,
}

impl Case {
    fn open(fixture: &str, name: &str) -> Self {
        println!("{fixture}: {name}");
        let fixture = Fixture::open(fixture);
        Self { fixture, name: name.into(), device: Device::flex().autodiff() }
    }

    fn input<const D: usize>(&self, name: &str) -> Tensor<D> {
        self.fixture.tensor(&format!("{}.{name}", self.name), &self.device).require_grad()
    }

    fn assert<const D: usize>(&self, name: &str, found: Tensor<D>) {
        self.fixture.assert(&format!("{}.{name}", self.name), found);
    }

    /// Is `y` the fixture's output? Returns what its gradients are taken of.
    fn loss<const D: usize>(&self, y: Tensor<D>) -> Tensor<1> {
        self.assert("output", y.clone());
        let grad = self.fixture.tensor(&format!("{}.grad", self.name), &self.device);
        (y * grad).sum()
    }
}

#[test]
fn linear_layers_and_their_gradients() {
    for fixture in TRANSFORMER {
        for (name, f) in ACTIVATIONS {
            let case = Case::open(fixture, &format!("linear, {name}"));
            let x = case.input::<3>("x");
            let (weight, bias) = (case.input("weight"), case.input("bias"));
            let y = linear(x.clone(), weight.clone(), bias.clone(), f);
            let grads = case.loss(y).backward();
            case.assert("x_grad", x.grad(&grads).unwrap());
            case.assert("weight_grad", weight.grad(&grads).unwrap());
            case.assert("bias_grad", bias.grad(&grads).unwrap());
            case.assert("output", linear(x.inner(), weight.inner(), bias.inner(), f));
        }
    }
}

#[test]
fn norms_of_sums_and_their_gradients() {
    for fixture in TRANSFORMER {
        let case = Case::open(fixture, "add_norm");
        let [x, residual] = ["x", "residual"].map(|name| case.input::<3>(name));
        let [gamma, beta] = ["gamma", "beta"].map(|name| case.input(name));
        let y = add_norm(x.clone(), residual.clone(), gamma.clone(), beta.clone(), 1e-12);
        let grads = case.loss(y).backward();
        case.assert("x_grad", x.grad(&grads).unwrap());
        case.assert("residual_grad", residual.grad(&grads).unwrap());
        case.assert("gamma_grad", gamma.grad(&grads).unwrap());
        case.assert("beta_grad", beta.grad(&grads).unwrap());
        let y = add_norm(x.inner(), residual.inner(), gamma.inner(), beta.inner(), 1e-12);
        case.assert("output", y);
    }
}

#[test]
fn attention_and_its_gradients() {
    for fixture in TRANSFORMER {
        let case = Case::open(fixture, "attention");
        let [query, key, value] = ["query", "key", "value"].map(|name| case.input::<4>(name));
        let mask = Tensor::<2, Int>::from_data(case.fixture.data("attention.mask"), &case.device);
        let y = attention(query.clone(), key.clone(), value.clone(), mask.equal_elem(1));
        let grads = case.loss(y).backward();
        case.assert("query_grad", query.grad(&grads).unwrap());
        case.assert("key_grad", key.grad(&grads).unwrap());
        case.assert("value_grad", value.grad(&grads).unwrap());
    }
}

/// Of numbers alone: see `batch_norm.rs`.
#[test]
fn batch_norms_of_what_is_not_finite_and_their_gradients() {
    for (name, f) in [("identity", Activation::Identity), ("relu", Activation::Relu)] {
        let case = Case::open("not_finite", &format!("batch_norm, {name}"));
        let (x, gamma, beta) = (case.input::<4>("x"), case.input("gamma"), case.input("beta"));
        let y = batch_norm_train(x.clone(), gamma.clone(), beta.clone(), 1e-3, f).output;
        let grads = case.loss(y).backward();
        case.assert("x_grad", x.grad(&grads).unwrap());
        case.assert("gamma_grad", gamma.grad(&grads).unwrap());
        case.assert("beta_grad", beta.grad(&grads).unwrap());
    }
}

#[test]
fn pools_and_their_gradients() {
    for fixture in POOLS {
        let case = Case::open(fixture, "max_pool2d");
        let x = case.input::<4>("x");
        let y = max_pool2d(x.clone(), Pool { side: 3, stride: 2, padding: 1 });
        case.assert("x_grad", x.grad(&case.loss(y).backward()).unwrap());
        let case = Case::open(fixture, "global_avg_pool2d");
        let x = case.input::<4>("x");
        let y = global_avg_pool2d(x.clone());
        case.assert("x_grad", x.grad(&case.loss(y).backward()).unwrap());
    }
}

#[test]
fn what_is_not_a_number_or_on_the_edge_of_one() {
    for (name, f) in ACTIVATIONS {
        let case = Case::open("transformer_ops", name);
        let found = activation::activate(case.input::<1>("edge"), f).into_data();
        let expected = case.fixture.data(&format!("{name}.output"));
        let values = |data: &TensorData| data.as_slice::<f32>().unwrap().to_vec();
        for (found, expected) in values(&found).into_iter().zip(values(&expected)) {
            let same = found == expected || (found.is_nan() && expected.is_nan());
            let close = (found - expected).abs() < 1e-6 * expected.abs().max(1e-3);
            assert!(same || close, "{name}: {found}, not {expected}");
        }
    }
}
