use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::Trainable;

/// What a model's encoders multiply in a training step.
///
/// Weights, their gradients and all that isn't a product stay in single precision. bf16 has the range
/// of single precision, so that losses aren't scaled. It is for devices that multiply it faster; on a
/// CPU without such instructions a step took twice as long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Numbers of 8 bits (mixed precision: Micikevicius et al. 2018).
    Bf16,
}

impl Precision {
    /// The model as a step has it.
    pub(crate) fn of<M: Trainable>(self, model: &M) -> Cow<'_, M> {
        match self {
            Self::F32 => Cow::Borrowed(model),
            Self::Bf16 => Cow::Owned(model.in_mixed_precision()),
        }
    }
}
