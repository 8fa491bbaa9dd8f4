use burn::{
    backend::{Backend, Dispatch, TensorMetadata, tensor::FloatTensor},
    nn::Dropout,
    tensor::{Distribution, Tensor},
};

use super::backend::Kernels;

/// What [`Dropout`] does in training, with random numbers of our own; otherwise nothing.
///
/// # Shapes
/// - input and output: `[..]`
pub(crate) fn dropout<const D: usize>(layer: &Dropout, x: Tensor<D>) -> Tensor<D> {
    let training = layer.training.is_enabled() && x.device().is_autodiff();
    if !training || layer.prob == 0.0 {
        return x;
    }
    let mask = <Dispatch as Kernels>::dropout_mask(x.clone().into_dispatch(), layer.prob);
    x * Tensor::from_dispatch(mask)
}

pub(super) fn composed<B: Backend>(x: FloatTensor<B>, probability: f64) -> FloatTensor<B> {
    let kept = 1.0 - probability;
    let (shape, device, dtype) = (x.shape(), x.device(), x.dtype());
    let mask = B::float_random(shape, Distribution::Bernoulli(kept), &device, dtype.into());
    B::float_div_scalar(mask, kept.into())
}

#[cfg(test)]
mod tests {
    use burn::{nn::DropoutConfig, tensor::Device};

    use super::*;

    #[test]
    fn what_is_kept_makes_up_for_what_is_dropped() {
        let device = Device::flex().autodiff();
        let layer = DropoutConfig::new(0.25).init();
        let draw = || dropout(&layer, Tensor::<2>::ones([100, 1001], &device)).into_data();
        let seeded = || {
            device.seed(1);
            draw()
        };
        let first = seeded();
        let values = first.as_slice::<f32>().unwrap();
        assert!(values.iter().all(|&x| x == 0.0 || x == 1.0 / 0.75));
        // The standard deviation of the mean is 0.0018.
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        assert!((mean - 1.0).abs() < 0.01, "a mean of {mean}");
        // Neighbours in a row and in a column are dropped together as often as chance has it.
        for step in [1, 1001] {
            let both = values.iter().zip(&values[step..]).filter(|&(&a, &b)| a + b == 0.0).count();
            let share = both as f32 / values.len() as f32;
            assert!((share - 1.0 / 16.0).abs() < 0.005, "{share} at {step}");
        }
        assert!(draw() != first, "another draw, another mask");
        // Other tests draw from the same generator, at times between the seed and the mask.
        assert!((0..50).any(|_| seeded() == seeded()), "the same seed, the same mask");
    }

    #[test]
    fn nothing_is_dropped_without_gradients() {
        let x = Tensor::<1>::ones([100], &Device::flex());
        let y = dropout(&DropoutConfig::new(0.5).init(), x.clone());
        assert!(y.into_data() == x.into_data());
    }
}
