//! What the benches share.
#![allow(dead_code, reason = "each takes what it needs")]

use std::env;

use burn::{
    module::Module,
    optim::GradientsParams,
    tensor::{Device, Tensor},
};
use xr_train::OptimizerConfig;

/// The CPU of every backend compiled in, by name; `XR_DEVICE` alone if it is set.
pub fn devices() -> Vec<(String, Device)> {
    if let Ok(name) = env::var("XR_DEVICE") {
        let device = xr_models::device(&name).expect("XR_DEVICE names a device");
        return vec![(name, device)];
    }
    let open = |name: &str| Some((name.into(), xr_models::device(name).ok()?));
    ["flex", "libtorch"].into_iter().filter_map(open).collect()
}

/// Makes one step of the optimizer and returns the loss before it.
pub fn step<M: Module>(
    mut model: M,
    optimizer: OptimizerConfig,
    loss: impl Fn(&M) -> Tensor<1>,
) -> impl FnMut() -> f64 {
    let rates = optimizer.rates().expect("valid rates").at(0, optimizer.lr);
    let mut optimizer = optimizer.init(&model);
    move || {
        let loss = loss(&model);
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(rates.clone(), model.clone(), gradients);
        loss.into_scalar()
    }
}
