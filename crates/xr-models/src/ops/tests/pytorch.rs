//! Every operation against PyTorch: see `reference/fixtures_ops.py`.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::super::{Activation, activation, add_norm, attention, linear};
use crate::fixture::Fixture;

const ACTIVATIONS: [(&str, Activation); 3] =
    [("gelu", Activation::Gelu), ("quick_gelu", Activation::QuickGelu), ("relu", Activation::Relu)];

/// One case of the fixture, on a device with gradients.
struct Case {
    fixture: Fixture,
    name: String,
    device: Device,
}

impl Case {
    fn open(name: &str) -> Self {
        let fixture = Fixture::open("transformer_ops");
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
    for (name, f) in ACTIVATIONS {
        let case = Case::open(&format!("linear, {name}"));
        let (x, weight, bias) = (case.input::<3>("x"), case.input("weight"), case.input("bias"));
        let y = linear(x.clone(), weight.clone(), bias.clone(), f);
        let grads = case.loss(y).backward();
        case.assert("x_grad", x.grad(&grads).unwrap());
        case.assert("weight_grad", weight.grad(&grads).unwrap());
        case.assert("bias_grad", bias.grad(&grads).unwrap());
    }
}

#[test]
fn norms_of_sums_and_their_gradients() {
    let case = Case::open("add_norm");
    let [x, residual] = ["x", "residual"].map(|name| case.input::<3>(name));
    let [gamma, beta] = ["gamma", "beta"].map(|name| case.input(name));
    let y = add_norm(x.clone(), residual.clone(), gamma.clone(), beta.clone(), 1e-12);
    let grads = case.loss(y).backward();
    case.assert("x_grad", x.grad(&grads).unwrap());
    case.assert("residual_grad", residual.grad(&grads).unwrap());
    case.assert("gamma_grad", gamma.grad(&grads).unwrap());
    case.assert("beta_grad", beta.grad(&grads).unwrap());
}

#[test]
fn attention_and_its_gradients() {
    let case = Case::open("attention");
    let [query, key, value] = ["query", "key", "value"].map(|name| case.input::<4>(name));
    let mask = Tensor::<2, Int>::from_data(case.fixture.data("attention.mask"), &case.device);
    let y = attention(query.clone(), key.clone(), value.clone(), mask.equal_elem(1));
    let grads = case.loss(y).backward();
    case.assert("query_grad", query.grad(&grads).unwrap());
    case.assert("key_grad", key.grad(&grads).unwrap());
    case.assert("value_grad", value.grad(&grads).unwrap());
}

#[test]
fn what_is_not_a_number_or_on_the_edge_of_one() {
    for (name, f) in ACTIVATIONS {
        let case = Case::open(name);
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
