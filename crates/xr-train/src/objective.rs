use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use xr_models::HeadOutput;

use crate::{
    Error, Labels, Result,
    loss::{AlignmentConfig, Distillation, distillation, mse},
};

/// What is minimised:
/// `Σ wᵢ · alignmentᵢ + w_r · Σ mse(reconstruction, target) + w_d · distillation`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// The alignment losses, usually one.
    pub alignment: Vec<Weighted>,
    /// The weight of all reconstructions together; a head without decoders has none.
    pub reconstruction_weight: f64,
    /// How a teacher is followed; where there is none, such as in validation, it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distillation: Option<Distillation>,
}

/// An alignment loss and its weight.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weighted {
    /// The loss.
    pub loss: AlignmentConfig,
    /// What it is multiplied by.
    pub weight: f64,
}

impl Default for ObjectiveConfig {
    /// InfoNCE and reconstruction, each with weight 1.
    fn default() -> Self {
        Self::new(AlignmentConfig::InfoNce)
    }
}

/// The value of an objective on one batch.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The weighted sum, `[1]`.
    pub total: Tensor<1>,
    /// Each term before its weight, by name, `[1]` each.
    pub parts: Vec<(&'static str, Tensor<1>)>,
}

impl ObjectiveConfig {
    /// One alignment loss and reconstruction, each with weight 1.
    pub fn new(loss: AlignmentConfig) -> Self {
        let alignment = vec![Weighted { loss, weight: 1.0 }];
        Self { alignment, reconstruction_weight: 1.0, distillation: None }
    }

    /// Are cosines divided by the model's temperature?
    pub(crate) fn has_temperature(&self) -> bool {
        self.alignment.iter().any(|term| term.loss.has_temperature())
    }

    /// The objective on one batch.
    ///
    /// # Shapes
    /// - output: embeddings `[batch, latent]`
    /// - labels: of the `batch` rows
    ///
    /// # Errors
    /// [`Error::NothingToLearn`] when no term is left: no alignment, and nothing reconstructed.
    pub fn loss(&self, output: &HeadOutput, labels: &Labels) -> Result<Loss> {
        let Labels { pictures, teacher, .. } = labels;
        let alignment = self
            .alignment
            .iter()
            .map(|term| (term.loss.name(), term.loss.forward(output, pictures), term.weight));
        let reconstruction =
            reconstruction(output).map(|mse| ("reconstruction", mse, self.reconstruction_weight));
        let distillation = self.distillation.zip(teacher.as_ref()).map(|(how, teacher)| {
            ("distillation", distillation(output, teacher, how.temperature), how.weight)
        });
        let terms: Vec<_> = alignment.chain(reconstruction).chain(distillation).collect();
        let total =
            terms.iter().map(|(_, term, weight)| term.clone() * *weight).reduce(|a, b| a + b);
        let parts = terms.into_iter().map(|(name, term, _)| (name, term)).collect();
        Ok(Loss { total: total.ok_or(Error::NothingToLearn)?, parts })
    }
}

fn reconstruction(output: &HeadOutput) -> Option<Tensor<1>> {
    let terms = output.reconstructions.iter().map(|r| mse(r.output.clone(), r.target.clone()));
    terms.reduce(|a, b| a + b)
}

#[cfg(test)]
mod tests {
    use xr_models::Reconstruction;

    use super::*;
    use crate::loss::{
        Negatives, Teacher, Triplet,
        tests::{assert_close, output},
    };

    fn labels() -> Labels {
        Labels::of(vec![0, 1])
    }

    fn with_reconstruction() -> HeadOutput {
        let mut output = output([[1., 2.], [3., 4.]], [[0., 2.], [1., 1.]], 1., 0.);
        let target = output.text.clone().detach();
        // Mean squared difference 3.5, twice.
        let reconstruction = Reconstruction { output: output.image.clone(), target };
        output.reconstructions = vec![reconstruction.clone(), reconstruction];
        output
    }

    #[test]
    fn terms_are_weighted_and_named() {
        let config = ObjectiveConfig {
            alignment: vec![Weighted { loss: AlignmentConfig::Mse, weight: 2.0 }],
            reconstruction_weight: 0.5,
            distillation: None,
        };
        let loss = config.loss(&with_reconstruction(), &labels()).unwrap();
        assert_close(loss.total, 2.0 * 3.5 + 0.5 * 7.0);
        let [(first, mse), (second, reconstruction)] = loss.parts.try_into().unwrap();
        assert_eq!([first, second], ["mse", "reconstruction"]);
        assert_close(mse, 3.5);
        assert_close(reconstruction, 7.0);
    }

    #[test]
    fn two_alignment_losses() {
        // Unit matrix of cosines, 1/τ = ln 3: InfoNCE is ln 4/3; hinges of margin 1.5 are ½ each way.
        let eye = [[1., 0.], [0., 1.]];
        let hinge = Triplet { margin: 1.5, negatives: Negatives::Hardest };
        let config = ObjectiveConfig {
            alignment: vec![
                Weighted { loss: AlignmentConfig::InfoNce, weight: 0.5 },
                Weighted { loss: AlignmentConfig::Triplet(hinge), weight: 5.0 },
            ],
            reconstruction_weight: 1.0,
            distillation: None,
        };
        let loss = config.loss(&output(eye, eye, 3f32.ln(), 0.), &labels()).unwrap();
        assert_close(loss.total, 0.5 * (4.0f64 / 3.0).ln() + 5.0);
    }

    #[test]
    fn a_teacher_is_followed_where_there_is_one() {
        let config = ObjectiveConfig {
            distillation: Some(Distillation { weight: 3.0, temperature: 1.0 / 3f64.ln() }),
            ..ObjectiveConfig::new(AlignmentConfig::InfoNce)
        };
        let eye = [[1., 0.], [0., 1.]];
        let output = output(eye, eye, 3f32.ln(), 0.);
        let ones = Tensor::ones([2, 1], &output.image.device());
        let teacher = Some(Teacher { image: ones.clone(), text: ones });
        let loss = config.loss(&output, &Labels { teacher, ..labels() }).unwrap();
        // InfoNCE is ln 4/3, and the distillation half of that.
        assert_close(loss.total, 2.5 * (4.0f64 / 3.0).ln());
        assert_eq!(loss.parts[1].0, "distillation");
        assert_close(config.loss(&output, &labels()).unwrap().total, (4.0f64 / 3.0).ln());
    }

    #[test]
    fn nothing_to_learn() {
        let config = ObjectiveConfig { alignment: vec![], ..ObjectiveConfig::default() };
        assert!(config.loss(&with_reconstruction(), &labels()).is_ok());
        let without = output([[1.]], [[1.]], 1., 0.);
        assert_eq!(
            config.loss(&without, &Labels::of(vec![0])).unwrap_err().to_string(),
            "the objective has no term: name a loss in `objective.alignment`, or use a head that reconstructs"
        );
    }
}
