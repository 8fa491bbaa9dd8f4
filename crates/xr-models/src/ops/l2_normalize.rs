use burn::tensor::Tensor;

/// Rows shorter than the root of this are divided by that root instead of by their length.
const MIN_SQUARED_LENGTH: f64 = 1e-24;

/// Every row divided by its Euclidean length; a row of zeros stays, and its gradient is finite,
/// which that of `burn::linalg::vector_normalize` isn't.
///
/// # Shapes
/// - input and output: `[batch, width]`
pub fn l2_normalize(x: Tensor<2>) -> Tensor<2> {
    let squared_length = x.clone().square().sum_dim(1);
    x / squared_length.clamp_min(MIN_SQUARED_LENGTH).sqrt()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData, Tolerance};

    use super::*;

    #[test]
    fn length_one_or_zero() {
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::from_data([[3.0, 4.0], [0.0, 0.0]], &device).require_grad();
        let y = l2_normalize(x.clone());
        let expected = TensorData::from([[0.6, 0.8], [0.0, 0.0]]);
        y.to_data().assert_approx_eq::<f32>(&expected, Tolerance::default());
        let gradient = x.grad(&y.sum().backward()).unwrap();
        assert!(gradient.is_finite().all().into_scalar::<bool>());
    }
}
