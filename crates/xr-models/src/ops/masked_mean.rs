use burn::tensor::{Bool, Tensor};

/// The mean of the states of a text's tokens, padding left out; zeros for a text without tokens.
///
/// # Shapes
/// - states: `[batch, tokens, width]`
/// - mask: `[batch, tokens]`, true where there is a token
/// - output: `[batch, width]`
pub fn masked_mean(states: Tensor<3>, mask: Tensor<2, Bool>) -> Tensor<2> {
    let mask = mask.float();
    let count = mask.clone().sum_dim(1).clamp_min(1.0);
    // A product with the mask as a row: no masked copy of the states.
    mask.unsqueeze_dim::<3>(1).matmul(states).squeeze_dim::<2>(1) / count
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn padding_is_left_out() {
        let device = Device::flex();
        let states = Tensor::from_data(
            [[[1.0, 2.0], [3.0, 6.0], [9.0, 9.0]], [[7.0, 7.0], [7.0, 7.0], [7.0, 7.0]]],
            &device,
        );
        let mask = Tensor::from_data([[true, true, false], [false, false, false]], &device);
        let expected = TensorData::from([[2.0f32, 4.0], [0.0, 0.0]]);
        masked_mean(states, mask).into_data().assert_eq(&expected, true);
    }
}
