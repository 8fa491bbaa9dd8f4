use burn::tensor::Tensor;

/// `min(max(x, 0), 6)`.
///
/// # Shapes
/// - input and output: `[..]`
pub fn relu6<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.clamp(0.0, 6.0)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn cut_at_both_ends() {
        let x = Tensor::<1>::from_data([-1.0, 0.5, 7.0], &Device::flex());
        relu6(x).into_data().assert_eq(&TensorData::from([0.0f32, 0.5, 6.0]), true);
    }
}
