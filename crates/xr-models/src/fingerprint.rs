//! What identifies weights.

use burn::{module::Module, store::ModuleSnapshot};
use xr_data::Fingerprint;

/// The fingerprint of a module's weights: names, types, shapes and values of all tensors.
///
/// The same weights have the same fingerprint wherever they were loaded from, on every device.
pub fn weights_fingerprint<M: Module>(module: &M) -> Fingerprint {
    let mut tensors = module.collect(None, None, false);
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let digests = tensors.into_iter().map(|tensor| {
        let what = format!("{} {:?} {:?}", tensor.name, tensor.dtype, tensor.shape);
        // A digest each, so that no more than one tensor is copied from the device at a time.
        let bytes = tensor.into_bytes().expect("a module's own tensors can be read back");
        Fingerprint::of([what.as_bytes(), &bytes])
    });
    Fingerprint::of(digests.map(|digest| digest.as_str().to_owned()))
}
