use burn::tensor::{
    Tensor,
    activation::{log_softmax, softmax},
};
use serde::{Deserialize, Serialize};
use xr_models::HeadOutput;

use super::cosines;

/// How a [`Teacher`] is followed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Distillation {
    /// What the loss is multiplied by.
    pub weight: f64,
    /// What cosines are divided by, those of teacher and student alike. Large, and a student learns
    /// from how alike wrong answers are; small, and from the right ones alone.
    pub temperature: f64,
}

impl Default for Distillation {
    fn default() -> Self {
        Self { weight: 1.0, temperature: 0.05 }
    }
}

/// What another model makes of the pictures and texts of a batch, of any width of its own.
#[derive(Clone, Debug)]
pub struct Teacher {
    /// Of each row's picture, of length 1: `[batch, its width]`.
    pub image: Tensor<2>,
    /// Of each row's text, of length 1: `[batch, its width]`.
    pub text: Tensor<2>,
}

/// How far the student's answers are from the teacher's (contrastive relational distillation: Yang
/// et al., CLIP-KD, CVPR 2024, equation 3):
///
/// ```text
/// L = ½ (L(S, T) + L(Sᵀ, Tᵀ)),   L(S, T) = 1/B Σᵢ KL(softmax(T[i] / τ) ‖ softmax(S[i] / τ))
/// ```
///
/// with the student's cosines `S` and the teacher's `T` of all pictures with all texts of a batch.
/// It is 0 for a student that ranks as its teacher does, whatever the widths of their embeddings.
///
/// # Shapes
/// - output: embeddings `[batch, latent]`, normalised here
/// - loss: `[1]`
pub fn distillation(output: &HeadOutput, teacher: &Teacher, temperature: f64) -> Tensor<1> {
    let student = cosines(output) / temperature;
    let Teacher { image, text } = teacher.clone();
    let teacher = image.matmul(text.transpose()) / temperature;
    let both_ways = divergence(student.clone(), teacher.clone())
        + divergence(student.transpose(), teacher.transpose());
    both_ways / 2.0
}

/// The mean over rows of KL(softmax(teacher) ‖ softmax(student)).
fn divergence(student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
    let [rows, _] = student.dims();
    let surprise = log_softmax(teacher.clone(), 1) - log_softmax(student, 1);
    (softmax(teacher, 1) * surprise).sum() / rows as f64
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{assert_close, output},
        *,
    };

    const EYE: [[f32; 2]; 2] = [[1., 0.], [0., 1.]];

    fn teacher<const W: usize>(image: [[f32; W]; 2], text: [[f32; W]; 2]) -> Teacher {
        let device = burn::tensor::Device::flex().autodiff();
        let [image, text] = [image, text].map(|rows| Tensor::from_data(rows, &device));
        Teacher { image, text }
    }

    #[test]
    fn a_teacher_that_does_not_know() {
        // 1/τ = ln 3 makes each of the student's rows (3, 1) / 4, and the teacher's are (1, 1) / 2:
        // ½ ln(½ / ¾) + ½ ln(½ / ¼) = ½ ln 4/3.
        let teacher = teacher([[1.], [1.]], [[1.], [1.]]);
        let loss = distillation(&output(EYE, EYE, 9.0, 0.0), &teacher, 1.0 / 3f64.ln());
        assert_close(loss, 0.5 * (4f64 / 3.0).ln());
    }

    #[test]
    fn each_way_by_hand() {
        // With τ = 1/ln 3 the teacher's cosines [[1, 1], [0, 0]] have rows of (1, 1) / 2 and columns
        // of (3, 1) / 4; the student's of the unit matrix are (3, 1) / 4 and (1, 3) / 4 both ways.
        let teacher = teacher([[1., 0.], [0., 1.]], [[1., 0.], [1., 0.]]);
        let loss = distillation(&output(EYE, EYE, 1.0, 0.0), &teacher, 1.0 / 3f64.ln());
        let (rows, column) = (0.5 * (4f64 / 3.0).ln(), 0.75 * 3f64.ln() - 0.25 * 3f64.ln());
        assert_close(loss, (rows + column / 2.0) / 2.0);
    }

    #[test]
    fn a_student_that_has_learned_all() {
        let output = output(EYE, [[0.6, 0.8], [0.8, 0.6]], 1.0, 0.0);
        // The same cosines from wider embeddings.
        let wide = teacher([[1., 0., 0.], [0., 1., 0.]], [[0.6, 0.8, 0.], [0.8, 0.6, 0.]]);
        let loss = distillation(&output, &wide, 0.1);
        let gradient = output.text.grad(&loss.clone().backward()).unwrap();
        assert_close(loss, 0.0);
        assert!(gradient.abs().max().into_scalar::<f32>() < 1e-6);
    }
}
