//! What the benches share.

use std::env;

use burn::tensor::Device;

/// The CPU of every backend compiled in, by name; `XR_DEVICE` alone if it is set.
pub fn devices() -> Vec<(String, Device)> {
    if let Ok(name) = env::var("XR_DEVICE") {
        let device = xr_models::device(&name).expect("XR_DEVICE names a device");
        return vec![(name, device)];
    }
    let open = |name: &str| Some((name.into(), xr_models::device(name).ok()?));
    ["flex", "libtorch"].into_iter().filter_map(open).collect()
}
