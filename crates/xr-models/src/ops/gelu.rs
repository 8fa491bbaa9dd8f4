use burn::tensor::{Tensor, activation};

/// Gaussian error linear unit, exact: `x · Φ(x) = x/2 · (1 + erf(x/√2))`.
///
/// # Shapes
/// - input and output: `[..]`
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activation::gelu(x)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData, Tolerance};

    use super::*;

    #[test]
    fn exact_and_not_the_tanh_form() {
        let x = Tensor::<1>::from_data([-1.0, 0.0, 2.0], &Device::flex());
        // Φ(-1) = 0.15865525, Φ(2) = 0.97724987; the tanh form gives -0.15880801 and 1.9545977.
        let expected = TensorData::from([-0.158_655_25, 0.0, 1.954_499_7]);
        gelu(x).into_data().assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-6));
    }
}
