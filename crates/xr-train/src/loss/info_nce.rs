use burn::tensor::{Tensor, activation::log_softmax};
use xr_models::HeadOutput;

use super::{cosines, positives};

/// Symmetric cross entropy over the scaled cosines (van den Oord et al. 2018; both ways as in
/// CLIP, Radford et al. 2021), with every row of the same picture a right answer:
///
/// ```text
/// L = ½ (L(cosines) + L(cosinesᵀ)),   L(S) = −1/B Σᵢ 1/|Pᵢ| Σ_{p ∈ Pᵢ} ln softmax(S[i] / τ)[p]
/// ```
///
/// where `Pᵢ` are the rows of row `i`'s picture, `i` among them. At chance it is `ln B`. DON'T
/// COMPARE IT ACROSS BATCH SIZES.
///
/// # Shapes
/// - output: embeddings `[batch, latent]`, normalised here
/// - groups: `batch` picture ids
/// - loss: `[1]`
pub fn info_nce(output: &HeadOutput, groups: &[u32]) -> Tensor<1> {
    let logits = cosines(output) * output.logit_scale.clone().unsqueeze();
    let [batch, _] = logits.dims();
    let same = positives(groups, batch, &logits.device()).float();
    // `same` is symmetric, so its rows and columns have the same sums: the targets of one
    // direction are the transposed targets of the other.
    let targets = same.clone() / same.sum_dim(1);
    let image_to_text = log_softmax(logits.clone(), 1) * targets.clone();
    let text_to_image = log_softmax(logits, 0) * targets.transpose();
    (image_to_text + text_to_image).sum() / (-2.0 * batch as f64)
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{assert_close, output},
        *,
    };

    // Cosines are the unit matrix. With 1/τ = ln 3, each row of softmax is (3, 1) / 4.
    const EYE: [[f32; 2]; 2] = [[1., 0.], [0., 1.]];

    #[test]
    fn two_pictures() {
        let output = output(EYE, EYE, 3f32.ln(), 0.);
        assert_close(info_nce(&output, &[0, 1]), (4.0f64 / 3.0).ln());
    }

    #[test]
    fn two_captions_of_one_picture() {
        // −½ (ln ¾ + ln ¼) for each of the four rows and columns.
        let output = output(EYE, EYE, 3f32.ln(), 0.);
        assert_close(info_nce(&output, &[5, 5]), -0.5 * (0.75f64.ln() + 0.25f64.ln()));
    }

    #[test]
    fn constant_embeddings_are_at_chance() {
        let output = output([[2., 0.]; 5], [[0., 3.]; 5], 14., 0.);
        assert_close(info_nce(&output, &[0, 1, 2, 3, 4]), 5f64.ln());
    }
}
