#![doc = include_str!("../README.md")]

use burn::tensor::Device;
use xr_models::{Embedder, Packed};

/// The file.
static MODEL: &[u8] = include_bytes!("../model.safetensors.z");

macro_rules! photos {
    ($($name:literal)*) => {
        [$(($name, include_bytes!(concat!("../photos/", $name)))),*]
    };
}

/// Names and contents of eleven photographs that may be passed on: see `photos/README.md`.
pub static PHOTOS: [(&str, &[u8]); 11] = photos![
    "astronaut.jpg" "brick-wall.jpg" "cat.jpg" "coffee.jpg" "coins.jpg" "flower.jpg"
    "galaxies.jpg" "grass.jpg" "photographer.jpg" "rocket.jpg" "temple.jpg"
];

/// The model and its query bank, as `xr pack` wrote them.
pub fn packed() -> Packed {
    Packed::from_bytes(MODEL).expect("the file that this crate's tests read")
}

/// The model, ready to embed.
pub fn load(device: &Device) -> Embedder {
    let packed = packed();
    let checkpoint = packed.checkpoint(device).expect("the file that this crate's tests read");
    Embedder::with_fingerprint(checkpoint, packed.fingerprint().clone())
}
