use std::{collections::BTreeMap, fmt, slice, time::Instant};

use burn::tensor::{Device, Tensor};
use xr_models::{HeadOutput, ops::l2_normalize};

use crate::{
    Batches, Error, Event, Observer, Result, StepRecord, TrainConfig, Trainable, gradients,
    random::{self, Purpose},
    step::Step,
    train::on_training_device,
};

/// Share of the first loss at which the batch is learned.
const LEARNED: f64 = 0.1;
/// Share of the first loss at which nothing is left to see.
const DONE: f64 = 0.02;
/// Above this share of the first loss it hasn't fallen.
const STUCK: f64 = 0.9;

/// What came of training on one batch over and over; its `Display` says it in a few lines.
#[derive(Clone, Debug, PartialEq)]
pub struct OneBatch {
    /// Captions of the batch.
    pub rows: usize,
    /// Captions whose picture came first among those of the batch, in the end.
    pub found: usize,
    /// Steps made.
    pub steps: usize,
    /// Learning rate.
    pub lr: f64,
    /// The objective before the first step, and in the end.
    pub loss: [f64; 2],
    /// Its terms, before their weights.
    pub parts: BTreeMap<String, [f64; 2]>,
    /// Length of the first gradients of each tower: `image`, `text` and `rest`.
    pub grad_norms: BTreeMap<String, f64>,
}

/// Why a batch wasn't learned. Its `Display` says what was seen, the likely cause, and what to try.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Failure {
    /// The loss isn't a number any more.
    NotFinite {
        /// Steps made until then.
        steps: usize,
        /// Learning rate.
        lr: f64,
    },
    /// A tower has no gradients.
    Frozen {
        /// `image` or `text`.
        tower: &'static str,
    },
    /// The loss rose.
    Rose {
        /// Before the first step, and in the end.
        loss: [f64; 2],
        /// Learning rate.
        lr: f64,
    },
    /// The loss stayed where it was.
    Stuck {
        /// Before the first step, and in the end.
        loss: [f64; 2],
        /// Learning rate.
        lr: f64,
    },
    /// The loss falls, and isn't near zero yet.
    Slow {
        /// What is left of the loss, as a share.
        left: f64,
        /// Captions that don't find their picture.
        lost: usize,
        /// Learning rate.
        lr: f64,
    },
}

/// Trains `model` on the first batch of `batches` over and over, with the same dropout each time, for
/// at most `steps` steps of the learning rate of `config` without a schedule. Nothing is saved.
///
/// A model that can't learn one batch by heart learns nothing from more: wrong learning rates, frozen
/// or dead parts and inputs that are all alike show here within a minute. Wrong pairs don't: they are
/// learned by heart as well.
///
/// # Errors
/// Those of `batches` and of the objective.
pub fn overfit<M: Trainable>(
    model: M,
    batches: &impl Batches<Batch = M::Batch>,
    config: &TrainConfig,
    steps: usize,
    observer: &mut dyn Observer,
) -> Result<(M, OneBatch)> {
    if batches.steps() == 0 {
        return Err(Error::NoBatches);
    }
    let (mut model, device) = on_training_device(model, config.seed);
    let config = &TrainConfig { micro_batch: None, ..config.clone() };
    let (batch, labels) = batches.batch(0, 0, &device).map_err(|source| Error::Batch {
        epoch: 1,
        step: 1,
        source,
    })?;
    let mut optimizer = config.optimizer.init(&model);
    let (rates, lr) = (config.optimizer.rates()?, config.optimizer.lr);
    // As in the last epoch, when all is trained that ever is.
    let rates = rates.at(config.epochs.saturating_sub(1), lr);
    let mut seen = Seen::default();
    let (begin, mut flow) = (Instant::now(), observer.observe(Event::Begin { step: 0, steps }));
    loop {
        let mut rng = random::at(config.seed, Purpose::Model, 0, 0);
        let step = Step::of(&model, &batch, &labels, config, slice::from_ref(&device), &mut rng)?;
        let norms = gradients::norms(&model, &step.gradients);
        seen.add(&step, &norms);
        if seen.is_over(steps) || flow.is_break() {
            break;
        }
        let gradients = match config.clip_norm {
            Some(max) => {
                gradients::clip(&model, step.gradients, gradients::global_norm(&norms), max)
            }
            None => step.gradients,
        };
        model = optimizer.step(rates.clone(), model, gradients);
        seen.steps += 1;
        let speed = seen.steps as f64 / begin.elapsed().as_secs_f64();
        flow = observer.observe(Event::Step(&seen.record(lr, speed)));
    }
    let found = found(&again(&model, &batch, config.seed, &device), &labels.pictures);
    Ok((model.valid(), seen.into_report(labels.pictures.len(), found, lr)))
}

/// The outputs of the model with the dropout of its training.
fn again<M: Trainable>(model: &M, batch: &M::Batch, seed: u64, device: &Device) -> HeadOutput {
    use rand::RngCore;
    device.seed(random::at(seed, Purpose::Model, 0, 0).next_u64());
    model.valid().train().no_grad().forward(batch)
}

/// Texts to which their own picture is the nearest.
fn found(output: &HeadOutput, groups: &[u32]) -> usize {
    let [image, text] = [&output.image, &output.text].map(|x| l2_normalize(x.clone()).inner());
    let nearest: Tensor<2, _> = text.matmul(image.transpose()).argmax(1);
    let nearest: Vec<u32> = nearest.try_into_vec_as().expect("places of rows");
    nearest.iter().zip(groups).filter(|&(&row, group)| groups[row as usize] == *group).count()
}

/// What the steps so far have shown.
#[derive(Default)]
struct Seen {
    steps: usize,
    loss: Option<[f64; 2]>,
    parts: BTreeMap<String, [f64; 2]>,
    grad_norms: BTreeMap<String, f64>,
}

impl Seen {
    fn add(&mut self, step: &Step, norms: &BTreeMap<String, f64>) {
        if self.loss.is_none() {
            self.grad_norms = norms.clone();
        }
        self.loss.get_or_insert([step.loss; 2])[1] = step.loss;
        for (name, &value) in &step.parts {
            self.parts.entry(name.clone()).or_insert([value; 2])[1] = value;
        }
    }

    fn loss(&self) -> [f64; 2] {
        self.loss.unwrap_or([f64::NAN; 2])
    }

    fn is_over(&self, steps: usize) -> bool {
        let [first, last] = self.loss();
        self.steps >= steps || !last.is_finite() || last <= DONE * first
    }

    fn record(&self, lr: f64, steps_per_second: f64) -> StepRecord {
        StepRecord {
            epoch: 1,
            step: self.steps,
            loss: self.loss()[1],
            parts: self.parts.iter().map(|(name, [_, last])| (name.clone(), *last)).collect(),
            lr,
            temperature: None,
            grad_norm: None,
            grad_norms: [].into(),
            steps_per_second,
        }
    }

    fn into_report(self, rows: usize, found: usize, lr: f64) -> OneBatch {
        let (loss, steps) = (self.loss(), self.steps);
        OneBatch { rows, found, steps, lr, loss, parts: self.parts, grad_norms: self.grad_norms }
    }
}

impl OneBatch {
    /// Why the batch wasn't learned; `None` if it was: the loss fell to a tenth, and every caption
    /// finds its picture.
    pub fn failure(&self) -> Option<Failure> {
        let Self { rows, found, steps, lr, loss, .. } = *self;
        let left = loss[1] / loss[0];
        let frozen = |tower: &&str| self.grad_norms.get(*tower) == Some(&0.0);
        if !loss[1].is_finite() {
            return Some(Failure::NotFinite { steps, lr });
        }
        if left <= LEARNED && found == rows {
            return None;
        }
        if let Some(tower) = ["image", "text"].into_iter().find(frozen) {
            return Some(Failure::Frozen { tower });
        }
        Some(match left {
            left if left > 1.0 => Failure::Rose { loss, lr },
            left if left > STUCK => Failure::Stuck { loss, lr },
            left => Failure::Slow { left, lost: rows - found, lr },
        })
    }
}

impl fmt::Display for OneBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, found, steps, lr, loss, parts, .. } = self;
        let made = if *steps == 1 { "step" } else { "steps" };
        writeln!(f, "one batch of {rows} captions, {steps} {made} with learning rate {lr:e}")?;
        writeln!(f, "    loss: {:.3}, then {:.3}", loss[0], loss[1])?;
        for (name, [first, last]) in parts {
            let chance = match name.as_str() {
                "info_nce" => format!("; guessing has {:.3}", (*rows as f64).ln()),
                _ => String::new(),
            };
            writeln!(f, "    {name}: {first:.3}, then {last:.3}{chance}")?;
        }
        write!(f, "    {found} of {rows} captions find their picture")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite { steps, lr } => write!(
                f,
                "the loss is no number any more after {steps} steps: the learning rate {lr:e} is too \
                 high; try `train.optimizer.lr` ten times smaller, or `train.clip_norm` 1"
            ),
            Self::Frozen { tower } => write!(
                f,
                "one batch wasn't learned, and no gradient reaches the {tower} tower: its parameters \
                 are frozen or its activations dead; train more of it, or check its weights"
            ),
            Self::Rose { loss: [first, last], lr } => write!(
                f,
                "the loss of one batch rose from {first:.3} to {last:.3}: the learning rate {lr:e} is \
                 too high; try `train.optimizer.lr` ten times smaller"
            ),
            Self::Stuck { loss: [first, last], lr } => write!(
                f,
                "the loss of one batch stays where it was, from {first:.3} to {last:.3}: the learning \
                 rate {lr:e} is likely too low, or so high that nothing settles; try \
                 `train.optimizer.lr` ten times larger, then smaller, and see whether \
                 `train.optimizer.rates` stops a part; if none helps, look whether the pictures or \
                 the captions of the batch are all alike"
            ),
            Self::Slow { left, lost, lr } => write!(
                f,
                "one batch isn't learned by heart: {:.0} % of its loss are left and {lost} captions \
                 don't find their picture; the learning rate {lr:e} is likely too low, try \
                 `train.optimizer.lr` three times larger; captions that are the same under several \
                 pictures keep the loss up, too",
                100.0 * left
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch that was learned.
    fn learned() -> OneBatch {
        OneBatch {
            rows: 32,
            found: 32,
            steps: 60,
            lr: 2e-3,
            loss: [5.0, 0.1],
            parts: [("info_nce".to_string(), [3.5, 0.05]), ("triplet".to_string(), [0.65, 0.015])]
                .into(),
            grad_norms: [("image".to_string(), 1.0), ("text".to_string(), 2.0)].into(),
        }
    }

    fn failure(change: impl FnOnce(&mut OneBatch)) -> String {
        let mut report = learned();
        change(&mut report);
        report.failure().unwrap().to_string()
    }

    #[test]
    fn what_was_seen() {
        assert_eq!(learned().failure(), None);
        assert_eq!(
            learned().to_string(),
            "one batch of 32 captions, 60 steps with learning rate 2e-3\n    \
             loss: 5.000, then 0.100\n    \
             info_nce: 3.500, then 0.050; guessing has 3.466\n    \
             triplet: 0.650, then 0.015\n    \
             32 of 32 captions find their picture"
        );
    }

    #[test]
    fn what_is_wrong() {
        assert_eq!(
            failure(|r| (r.loss[1], r.steps) = (f64::NAN, 3)),
            "the loss is no number any more after 3 steps: the learning rate 2e-3 is too high; try \
             `train.optimizer.lr` ten times smaller, or `train.clip_norm` 1"
        );
        assert_eq!(
            failure(|r| {
                r.loss[1] = 3.0;
                r.grad_norms.insert("text".into(), 0.0);
            }),
            "one batch wasn't learned, and no gradient reaches the text tower: its parameters are \
             frozen or its activations dead; train more of it, or check its weights"
        );
        assert_eq!(
            failure(|r| r.loss[1] = 9.0),
            "the loss of one batch rose from 5.000 to 9.000: the learning rate 2e-3 is too high; try \
             `train.optimizer.lr` ten times smaller"
        );
        assert_eq!(
            failure(|r| r.loss[1] = 4.9),
            "the loss of one batch stays where it was, from 5.000 to 4.900: the learning rate 2e-3 \
             is likely too low, or so high that nothing settles; try `train.optimizer.lr` ten times \
             larger, then smaller, and see whether `train.optimizer.rates` stops a part; if none \
             helps, look whether the pictures or the captions of the batch are all alike"
        );
        assert_eq!(
            failure(|r| (r.loss[1], r.found) = (1.0, 30)),
            "one batch isn't learned by heart: 20 % of its loss are left and 2 captions don't find \
             their picture; the learning rate 2e-3 is likely too low, try `train.optimizer.lr` three \
             times larger; captions that are the same under several pictures keep the loss up, too"
        );
    }

    #[test]
    fn the_nearest_picture() {
        let output = crate::loss::tests::output(
            [[1., 0.], [0., 1.], [1., 1.]],
            [[2., 0.1], [3., 0.], [1., 0.9]],
            1.,
            0.,
        );
        // The second text is nearest to the first picture.
        assert_eq!(found(&output, &[0, 1, 2]), 2);
        assert_eq!(found(&output, &[0, 0, 2]), 3);
    }
}
