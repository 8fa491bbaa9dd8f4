use burn::tensor::{Tensor, activation::log_sigmoid};
use xr_models::HeadOutput;

use super::{cosines, positives};

/// The loss of SigLIP (Zhai et al. 2023, equation 1): every picture-text pair is a question of its
/// own, answered yes for rows of one picture and no for the others:
///
/// ```text
/// L = −1/B Σᵢ Σⱼ ln σ(zᵢⱼ (cosᵢⱼ / τ + b)),   zᵢⱼ = 1 if i and j are of one picture, else −1
/// ```
///
/// # Shapes
/// - output: embeddings `[batch, latent]`, normalised here
/// - groups: `batch` picture ids
/// - loss: `[1]`
pub fn sigmoid(output: &HeadOutput, groups: &[u32]) -> Tensor<1> {
    let scaled = cosines(output) * output.logit_scale.clone().unsqueeze();
    let logits = scaled + output.logit_bias.clone().unsqueeze();
    let [batch, _] = logits.dims();
    let same = positives(groups, batch, &logits.device());
    let labels = same.float() * 2.0 - 1.0;
    log_sigmoid(labels * logits).sum() / -(batch as f64)
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{assert_close, output},
        *,
    };

    // Cosines are the unit matrix. With 1/τ = 2 ln 3 and b = −ln 3, logits are ln 3 on the diagonal
    // and −ln 3 beside it, and σ(ln 3) = ¾.
    const EYE: [[f32; 2]; 2] = [[1., 0.], [0., 1.]];

    #[test]
    fn two_pictures() {
        // Four right answers of probability ¾, over two rows.
        let ln3 = 3f32.ln();
        let output = output(EYE, EYE, 2. * ln3, -ln3);
        assert_close(sigmoid(&output, &[0, 1]), -2.0 * 0.75f64.ln());
    }

    #[test]
    fn two_captions_of_one_picture() {
        // Now the two beside the diagonal should be yes, and have probability ¼.
        let ln3 = 3f32.ln();
        let output = output(EYE, EYE, 2. * ln3, -ln3);
        assert_close(sigmoid(&output, &[5, 5]), -0.75f64.ln() - 0.25f64.ln());
    }
}
