use burn::tensor::{Bool, Tensor, activation::relu};
use serde::{Deserialize, Serialize};
use xr_models::HeadOutput;

use super::{cosines, positives};

/// Below every cosine, so that a masked one is never the largest.
const NO_COSINE: f64 = -1e4;

/// Configuration of the [`triplet`] loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Triplet {
    /// By how much a right pair's cosine has to exceed a wrong one's.
    pub margin: f64,
    /// Which wrong pairs count.
    pub negatives: Negatives,
}

/// Which wrong answers a hinge loss counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Negatives {
    /// All, summed, as in DeViSE.
    Sum,
    /// All, averaged, so that the loss doesn't grow with the batch.
    Mean,
    /// The one nearest to the query, as in VSE++.
    Hardest,
}

impl Default for Triplet {
    /// Margin 0.2 and the hardest negative, as in VSE++.
    fn default() -> Self {
        Self { margin: 0.2, negatives: Negatives::Hardest }
    }
}

/// Hinge loss on cosines, with pictures and with texts as queries (DeViSE, Frome et al. 2013; the
/// hardest negative: VSE++, Faghri et al. 2018):
///
/// ```text
/// L = 1/B Σᵢ (hinge(cosines[i]) + hinge(cosinesᵀ[i])),
/// hinge(s) = Σ, mean or max over j ∉ Pᵢ of max(0, margin − sᵢ + sⱼ)
/// ```
///
/// where `Pᵢ` are the rows of row `i`'s picture: none of them is a negative. A batch of one picture
/// has no negatives, and loss 0.
///
/// # Shapes
/// - output: embeddings `[batch, latent]`, normalised here
/// - groups: `batch` picture ids
/// - loss: `[1]`
pub fn triplet(output: &HeadOutput, groups: &[u32], config: &Triplet) -> Tensor<1> {
    let cosines = cosines(output);
    let [batch, _] = cosines.dims();
    let same = positives(groups, batch, &cosines.device());
    let text_to_image = hinges(cosines.clone().transpose(), &same, config);
    (hinges(cosines, &same, config) + text_to_image).sum() / batch as f64
}

/// The hinge of each query (row), `[batch, 1]`.
fn hinges(cosines: Tensor<2>, same: &Tensor<2, Bool>, config: &Triplet) -> Tensor<2> {
    let [batch, _] = cosines.dims();
    let own = (cosines.clone() * Tensor::eye(batch, &cosines.device())).sum_dim(1);
    let negatives = cosines.mask_fill(same.clone(), NO_COSINE);
    let hinge = |negatives: Tensor<2>| relu(negatives - own + config.margin);
    match config.negatives {
        Negatives::Sum => hinge(negatives).sum_dim(1),
        Negatives::Mean => {
            let count = same.clone().bool_not().float().sum_dim(1);
            hinge(negatives).sum_dim(1) / count.clamp_min(1.0)
        }
        Negatives::Hardest => hinge(negatives.max_dim(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{assert_close, output},
        *,
    };

    // Pictures along the axes, texts of length 5 and 1. Cosines, a picture a row:
    //   0.6  1.0  0.0
    //   0.8  0.0  1.0
    //   0.0  0.0  0.0
    const IMAGE: [[f32; 3]; 3] = [[1., 0., 0.], [0., 1., 0.], [0., 0., 1.]];
    const TEXT: [[f32; 3]; 3] = [[3., 4., 0.], [1., 0., 0.], [0., 1., 0.]];

    fn loss(negatives: Negatives, groups: [u32; 3]) -> Tensor<1> {
        let config = Triplet { margin: 0.5, negatives };
        triplet(&output(IMAGE, TEXT, 1., 0.), &groups, &config)
    }

    // Hinges max(0, 0.5 − own + other), picture → text: (.9, 0), (1.3, 1.5), (.5, .5);
    // text → picture: (.7, 0), (1.5, .5), (.5, 1.5).
    #[test]
    fn sum() {
        assert_close(loss(Negatives::Sum, [0, 1, 2]), (0.9 + 2.8 + 1.0 + 0.7 + 2.0 + 2.0) / 3.0);
    }

    #[test]
    fn mean() {
        assert_close(loss(Negatives::Mean, [0, 1, 2]), (0.9 + 2.8 + 1.0 + 0.7 + 2.0 + 2.0) / 6.0);
    }

    #[test]
    fn hardest() {
        assert_close(
            loss(Negatives::Hardest, [0, 1, 2]),
            (0.9 + 1.5 + 0.5 + 0.7 + 1.5 + 1.5) / 3.0,
        );
    }

    // Rows 0 and 1 are of one picture. Left, picture → text: 0, 1.5, (.5, .5);
    // text → picture: 0, .5, (.5, 1.5).
    #[test]
    fn a_positive_is_no_negative() {
        assert_close(loss(Negatives::Sum, [4, 4, 9]), (1.5 + 1.0 + 0.5 + 2.0) / 3.0);
        assert_close(loss(Negatives::Mean, [4, 4, 9]), (1.5 + 0.5 + 0.5 + 1.0) / 3.0);
        assert_close(loss(Negatives::Hardest, [4, 4, 9]), (1.5 + 0.5 + 0.5 + 1.5) / 3.0);
    }

    #[test]
    fn one_picture_alone() {
        for negatives in [Negatives::Sum, Negatives::Mean, Negatives::Hardest] {
            assert_close(loss(negatives, [1, 1, 1]), 0.0);
        }
    }
}
