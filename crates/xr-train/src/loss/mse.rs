use burn::{
    nn::loss::{MseLoss, Reduction},
    tensor::Tensor,
};

/// Mean squared difference of all elements: between the latents of Corr-AE, not normalised (Feng
/// et al. 2014), and between a reconstruction and its target.
///
/// # Shapes
/// - both: `[batch, width]`
/// - loss: `[1]`
pub fn mse(output: Tensor<2>, target: Tensor<2>) -> Tensor<1> {
    MseLoss::new().forward(output, target, Reduction::Mean)
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{assert_close, output},
        *,
    };

    #[test]
    fn a_two_by_two() {
        // (1 + 0 + 4 + 9) / 4
        let o = output([[1., 2.], [3., 4.]], [[0., 2.], [1., 1.]], 1., 0.);
        assert_close(mse(o.image, o.text), 3.5);
    }
}
