use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::exact;

/// How much better, as a share, a validation loss has to be to count: PyTorch's default.
const THRESHOLD: f64 = 1e-4;

/// How the learning rate changes while training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// It doesn't.
    #[default]
    Constant,
    /// Rises in a line for `warmup` steps, then falls along half a cosine to 0 at the last step.
    Cosine {
        /// Steps of the rise.
        warmup: usize,
    },
    /// Multiplied by `factor` when the validation loss hasn't improved for more than `patience`
    /// epochs, as `torch.optim.lr_scheduler.ReduceLROnPlateau` does.
    Plateau {
        /// Below 1.
        factor: f64,
        /// Epochs without improvement that are put up with.
        patience: usize,
    },
}

impl ScheduleConfig {
    /// The share of the full learning rate at `step` of `total`, counted from 0, apart from what
    /// validation losses do to it.
    ///
    /// ```
    /// use xr_train::ScheduleConfig;
    ///
    /// let schedule = ScheduleConfig::Cosine { warmup: 2 };
    /// let shares = [0, 1, 2, 4, 6].map(|step| schedule.share(step, 6));
    /// assert_eq!(shares, [0.5, 1.0, 1.0, 0.5, 0.0]);
    /// ```
    pub fn share(&self, step: usize, total: usize) -> f64 {
        match *self {
            Self::Cosine { warmup } if step < warmup => (step + 1) as f64 / warmup as f64,
            Self::Cosine { warmup } => {
                let done = (step - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
                0.5 * (1.0 + (PI * done).cos())
            }
            Self::Constant | Self::Plateau { .. } => 1.0,
        }
    }
}

/// What a plateau schedule remembers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plateau {
    #[serde(with = "exact")]
    best: f64,
    waited: usize,
    reductions: i32,
}

impl Default for Plateau {
    fn default() -> Self {
        Self { best: f64::INFINITY, waited: 0, reductions: 0 }
    }
}

impl Plateau {
    /// Takes note of an epoch's validation loss.
    pub(crate) fn observe(&mut self, config: &ScheduleConfig, loss: f64) {
        let ScheduleConfig::Plateau { patience, .. } = *config else { return };
        if loss < self.best * (1.0 - THRESHOLD) {
            (self.best, self.waited) = (loss, 0);
        } else {
            self.waited += 1;
        }
        if self.waited > patience {
            (self.waited, self.reductions) = (0, self.reductions + 1);
        }
    }

    /// The share of the learning rate that is left.
    pub(crate) fn share(&self, config: &ScheduleConfig) -> f64 {
        match config {
            ScheduleConfig::Plateau { factor, .. } => factor.powi(self.reductions),
            _ => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The rates that PyTorch's ReduceLROnPlateau gave; `reference/fixtures_optim.py` asked it. Its
    // second loss, 3.9999 after 4, is no improvement: less than a ten-thousandth better.
    #[test]
    fn plateau_puts_up_with_patience_epochs() {
        let file: serde_json::Value =
            serde_json::from_str(include_str!("../tests/fixtures/optim.json")).unwrap();
        let numbers = |name: &str| -> Vec<f64> {
            serde_json::from_value(file["plateau"][name].clone()).unwrap()
        };
        let config = ScheduleConfig::Plateau { factor: 0.5, patience: 1 };
        let mut plateau = Plateau::default();
        let shares = numbers("losses").into_iter().map(|loss| {
            plateau.observe(&config, loss);
            plateau.share(&config)
        });
        assert_eq!(shares.collect::<Vec<_>>(), numbers("rates"));
    }

    #[test]
    fn a_run_shorter_than_its_warmup() {
        let schedule = ScheduleConfig::Cosine { warmup: 10 };
        assert_eq!(schedule.share(2, 3), 0.3);
    }

    #[test]
    fn json() {
        let plateau = r#"{"plateau":{"factor":0.1,"patience":2}}"#;
        let schedule: ScheduleConfig = serde_json::from_str(plateau).unwrap();
        assert_eq!(serde_json::to_string(&schedule).unwrap(), plateau);
        assert_eq!(serde_json::to_string(&ScheduleConfig::Constant).unwrap(), r#""constant""#);
        let typo = r#"{"cosine":{"warm_up":2}}"#;
        assert!(serde_json::from_str::<ScheduleConfig>(typo).is_err());
    }
}
