use serde::{Deserialize, Serialize};

use crate::exact;

/// Counts the epochs since the validation loss was last at its lowest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EarlyStopping {
    #[serde(with = "exact")]
    best: f64,
    waited: usize,
}

impl Default for EarlyStopping {
    fn default() -> Self {
        Self { best: f64::INFINITY, waited: 0 }
    }
}

impl EarlyStopping {
    /// Takes note of an epoch's validation loss; true when `patience` epochs in a row brought
    /// nothing better.
    pub(crate) fn observe(&mut self, patience: Option<usize>, loss: f64) -> bool {
        if loss < self.best {
            *self = Self { best: loss, waited: 0 };
        } else {
            self.waited += 1;
        }
        patience.is_some_and(|patience| self.waited >= patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_after_patience_epochs_without_improvement() {
        let mut stopping = EarlyStopping::default();
        let stops = [3.0, 4.0, 2.0, 2.0, 2.5].map(|loss| stopping.observe(Some(2), loss));
        assert_eq!(stops, [false, false, false, false, true]);
    }

    #[test]
    fn never_without_patience() {
        let mut stopping = EarlyStopping::default();
        assert!((0..100).all(|_| !stopping.observe(None, 1.0)));
    }
}
