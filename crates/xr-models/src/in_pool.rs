use crate::inputs;

/// Runs `work` on a thread of rayon's pool and returns what it returns.
///
/// Operations of the pure-Rust backend share their work out in that pool. From another thread each of
/// them hands its work over and sleeps until it is done, which for one query takes a fifth of the
/// time; from a thread of the pool it just begins. To other backends it makes no difference.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use xr_models::{encoder::BertConfig, in_pool};
///
/// let device = Device::flex();
/// let encoder = BertConfig::new(10, 8, 1, 2, 16).init(&device);
/// let ids = Tensor::from_data([[1, 2, 3]], &device);
/// let mask = Tensor::full([1, 3], true, &device);
/// let features = in_pool(|| encoder.forward(ids, mask));
/// assert_eq!(features.dims(), [1, 8]);
/// ```
pub fn in_pool<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let mut observed = inputs::take();
    let result = rayon::scope(|_| match &mut observed {
        Some(inputs) => inputs.observe(work),
        None => work(),
    });
    inputs::put_back(observed);
    result
}
