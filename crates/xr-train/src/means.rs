use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{EpochRecord, StepRecord, Validation};

/// What the steps of an epoch so far measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Means {
    steps: usize,
    loss: f64,
    parts: BTreeMap<String, f64>,
    /// Steps that measured gradients.
    measured: usize,
    grad_norm: f64,
    grad_norms: BTreeMap<String, f64>,
    rows: usize,
    lr: f64,
    temperature: Option<f64>,
}

impl Means {
    pub(crate) fn add(&mut self, record: &StepRecord, rows: usize) {
        self.steps += 1;
        self.loss += record.loss;
        add(&mut self.parts, &record.parts);
        if let Some(norm) = record.grad_norm {
            self.measured += 1;
            self.grad_norm += norm;
            add(&mut self.grad_norms, &record.grad_norms);
        }
        self.rows = self.rows.max(rows);
        self.lr = record.lr;
        self.temperature = record.temperature;
    }

    /// The record of an epoch that ended after `step` steps over all epochs. Speeds are left to the
    /// caller.
    pub(crate) fn record(&self, epoch: usize, step: usize, validation: Validation) -> EpochRecord {
        let [steps, measured] = [self.steps, self.measured].map(|count| count as f64);
        EpochRecord {
            epoch,
            step,
            loss: self.loss / steps,
            parts: divided(&self.parts, steps),
            chance_loss: (self.rows as f64).ln(),
            lr: self.lr,
            temperature: self.temperature,
            grad_norm: (self.measured > 0).then(|| self.grad_norm / measured),
            grad_norms: divided(&self.grad_norms, measured),
            steps_per_second: 0.0,
            waited: 0.0,
            validation,
        }
    }
}

fn add(sums: &mut BTreeMap<String, f64>, values: &BTreeMap<String, f64>) {
    for (name, value) in values {
        *sums.entry(name.clone()).or_default() += value;
    }
}

fn divided(sums: &BTreeMap<String, f64>, count: f64) -> BTreeMap<String, f64> {
    sums.iter().map(|(name, sum)| (name.clone(), sum / count)).collect()
}
