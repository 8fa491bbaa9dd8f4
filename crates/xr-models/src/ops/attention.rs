use burn::tensor::{Bool, Tensor, activation::softmax};

/// Far below any score, and finite: a row without a single token gives a mean and no NaN.
const MASKED: f64 = -1e9;

/// Scaled dot-product attention, `softmax(q kᵀ / √width) v` over the positions with a token.
///
/// It is composed of matrix products and a softmax on purpose: the fused operation of Burn 0.22
/// reads its mask the wrong way round on libtorch.
///
/// # Shapes
/// - query, key, value: `[batch, heads, tokens, width]`
/// - mask: `[batch, tokens]`, true where there is a token to attend to
/// - output: `[batch, heads, tokens, width]`
pub fn attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    mask: Tensor<2, Bool>,
) -> Tensor<4> {
    let [_, _, _, width] = query.dims();
    let padding: Tensor<4, Bool> = mask.bool_not().unsqueeze_dims(&[1, 2]);
    let scores = query.matmul(key.transpose()).div_scalar((width as f64).sqrt());
    softmax(scores.mask_fill(padding, MASKED), 3).matmul(value)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData, Tolerance};

    use super::*;

    #[test]
    fn equal_scores_give_the_mean_of_the_unmasked_values() {
        let device = Device::flex();
        let same = Tensor::<4>::ones([1, 1, 3, 2], &device);
        let value = Tensor::from_data([[[[1.0, 10.0], [3.0, 20.0], [99.0, 99.0]]]], &device);
        let mask = Tensor::from_data([[true, true, false]], &device);
        let output = attention(same.clone(), same, value, mask);
        let mean = TensorData::from([[[[2.0, 15.0], [2.0, 15.0], [2.0, 15.0]]]]);
        output.into_data().assert_approx_eq::<f32>(&mean, Tolerance::default());
    }

    #[test]
    fn scores_are_divided_by_the_root_of_the_width() {
        let device = Device::flex();
        // One query against keys 0 and 1, width 4: scores 0 and 4 ln 3 / √4 = ln 9, weights 1 : 9.
        let query = Tensor::from_data([[[[3f32.ln(); 4]]]], &device);
        let key = Tensor::from_data([[[[0.0f32; 4], [1.0; 4]]]], &device);
        let value = Tensor::from_data([[[[0.0f32; 4], [10.0; 4]]]], &device);
        let output = attention(query, key, value, Tensor::from_data([[true, true]], &device));
        let expected = TensorData::from([[[[9.0f32; 4]]]]);
        output.into_data().assert_approx_eq::<f32>(&expected, Tolerance::default());
    }

    #[test]
    fn a_row_without_tokens_is_finite() {
        let device = Device::flex();
        let x = Tensor::<4>::ones([1, 1, 2, 2], &device);
        let mask = Tensor::from_data([[false, false]], &device);
        let output = attention(x.clone(), x.clone(), x.clone(), mask);
        output.into_data().assert_approx_eq::<f32>(&x.into_data(), Tolerance::default());
    }
}
