use std::fmt;

use crate::{EpochRecord, Record, epochs};

/// Nearer than this to the loss of knowing nothing, as a share of it, is nothing learned.
const LEARNED: f64 = 0.02;
/// Epochs in a row of rising validation loss under falling training loss.
const RISING: usize = 3;
/// A mean cosine above this is one place for all.
const COLLAPSED: f64 = 0.9;
/// Share of the time that training may wait for data.
const WAITING: f64 = 0.2;

/// Something in a log that a person would stop at: what was seen, what it likely means, and what to
/// try. Its `Display` says all three.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// The contrastive loss is still that of a model that knows nothing.
    NothingLearned {
        /// The epoch, from 1.
        epoch: usize,
        /// The loss.
        loss: f64,
        /// That of guessing: `ln B`.
        chance: f64,
    },
    /// Training goes on to fit what doesn't hold for other data.
    Overfitting {
        /// The epoch of the lowest validation loss.
        best: usize,
        /// The last epoch.
        last: usize,
    },
    /// All embeddings of a modality are in one place.
    Collapsed {
        /// `image` or `text`.
        modality: &'static str,
        /// Mean cosine between two of them.
        cosine: f64,
    },
    /// The device waits for batches.
    WaitingForData {
        /// Share of the time.
        share: f64,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingLearned { epoch, loss, chance } => write!(
                f,
                "after epoch {epoch} the contrastive loss is {loss:.3}, and guessing has {chance:.3} \
                 (the logarithm of the batch size): nothing is learned; the learning rate is likely \
                 too high or too low, try `train.optimizer.lr` ten times smaller, then larger"
            ),
            Self::Overfitting { best, last } => write!(
                f,
                "the validation loss has risen from epoch {best} to {last} while the training loss \
                 fell: the model learns the training pairs by heart; train fewer epochs or blocks, \
                 or with more dropout, or set `train.patience` to stop by itself"
            ),
            Self::Collapsed { modality, cosine } => write!(
                f,
                "any two {modality} embeddings have a cosine of {cosine:.2} on average: they are \
                 nearly in one place; use a contrastive loss in `train.objective`, or a lower \
                 learning rate"
            ),
            Self::WaitingForData { share } => write!(
                f,
                "training waits for data {:.0} % of the time: decoding is slower than the model; \
                 put the pictures on a faster disk, or make them smaller beforehand",
                100.0 * share
            ),
        }
    }
}

/// What a log gives to think about; nothing if all looks well.
///
/// ```
/// use xr_train::{diagnose, read_log};
///
/// # let run = tempfile::tempdir().unwrap();
/// # std::fs::write(run.path().join("log.jsonl"), "").unwrap();
/// for warning in diagnose(&read_log(&run.path().join("log.jsonl"))?) {
///     eprintln!("warning: {warning}");
/// }
/// # Ok::<(), xr_train::Error>(())
/// ```
pub fn diagnose(log: &[Record]) -> Vec<Warning> {
    let epochs: Vec<_> = epochs(log).collect();
    let Some(last) = epochs.last() else { return vec![] };
    let mut found: Vec<_> = nothing_learned(last).into_iter().collect();
    found.extend(overfitting(&epochs));
    found.extend(["image", "text"].into_iter().filter_map(|of| collapsed(last, of)));
    found.extend(waiting(last));
    found
}

fn nothing_learned(last: &EpochRecord) -> Option<Warning> {
    let (&loss, chance) = (last.parts.get("info_nce")?, last.chance_loss);
    let learned = loss < chance * (1.0 - LEARNED);
    (!learned).then_some(Warning::NothingLearned { epoch: last.epoch, loss, chance })
}

fn overfitting(epochs: &[&EpochRecord]) -> Option<Warning> {
    let tail = &epochs[epochs.len().checked_sub(RISING + 1)?..];
    let rises = tail.windows(2).all(|pair| {
        pair[1].validation.loss > pair[0].validation.loss && pair[1].loss < pair[0].loss
    });
    let lowest = epochs.iter().min_by(|a, b| a.validation.loss.total_cmp(&b.validation.loss))?;
    let last = epochs.last()?.epoch;
    rises.then_some(Warning::Overfitting { best: lowest.epoch, last })
}

fn collapsed(last: &EpochRecord, modality: &'static str) -> Option<Warning> {
    let &cosine = last.validation.diagnostics.get(&format!("{modality} cosine"))?;
    (cosine > COLLAPSED).then_some(Warning::Collapsed { modality, cosine })
}

fn waiting(last: &EpochRecord) -> Option<Warning> {
    (last.waited > WAITING).then_some(Warning::WaitingForData { share: last.waited })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Validation;

    /// An epoch of a training that goes well.
    fn epoch(epoch: usize) -> EpochRecord {
        let loss = 4.0 / epoch as f64;
        EpochRecord {
            epoch,
            step: 10 * epoch,
            loss,
            parts: [("info_nce".to_string(), loss)].into(),
            chance_loss: 4.852,
            lr: 1e-3,
            grad_norm: None,
            steps_per_second: 1.0,
            waited: 0.01,
            validation: Validation { loss: loss + 0.1, ..Validation::default() },
        }
    }

    fn diagnosed(change: impl Fn(&mut EpochRecord)) -> Vec<String> {
        let epochs = (1..=5).map(|number| {
            let mut epoch = epoch(number);
            change(&mut epoch);
            Record::Epoch(epoch)
        });
        diagnose(&epochs.collect::<Vec<_>>()).iter().map(Warning::to_string).collect()
    }

    #[test]
    fn a_good_run_has_no_warnings() {
        assert_eq!(diagnosed(|_| ()), Vec::<String>::new());
        assert_eq!(diagnose(&[]), []);
    }

    #[test]
    fn the_loss_of_guessing() {
        let stuck = |e: &mut EpochRecord| e.parts = [("info_nce".to_string(), 4.8)].into();
        assert_eq!(
            diagnosed(stuck),
            ["after epoch 5 the contrastive loss is 4.800, and guessing has 4.852 (the logarithm \
                 of the batch size): nothing is learned; the learning rate is likely too high or \
                 too low, try `train.optimizer.lr` ten times smaller, then larger"]
        );
        let other_loss = |e: &mut EpochRecord| e.parts = [("mse".to_string(), 9.0)].into();
        assert_eq!(diagnosed(other_loss), Vec::<String>::new());
    }

    #[test]
    fn learned_by_heart() {
        let rising = |e: &mut EpochRecord| {
            if e.epoch > 2 {
                e.validation.loss = 3.0 + e.epoch as f64;
            }
        };
        assert_eq!(
            diagnosed(rising),
            ["the validation loss has risen from epoch 2 to 5 while the training loss fell: the \
                 model learns the training pairs by heart; train fewer epochs or blocks, or with \
                 more dropout, or set `train.patience` to stop by itself"]
        );
    }

    #[test]
    fn one_place_for_all() {
        let same = |e: &mut EpochRecord| {
            e.validation.diagnostics = [("text cosine".to_string(), 0.97)].into();
        };
        assert_eq!(
            diagnosed(same),
            ["any two text embeddings have a cosine of 0.97 on average: they are nearly in one \
                 place; use a contrastive loss in `train.objective`, or a lower learning rate"]
        );
    }

    #[test]
    fn a_slow_disk() {
        assert_eq!(
            diagnosed(|e| e.waited = 0.45),
            ["training waits for data 45 % of the time: decoding is slower than the model; put \
                 the pictures on a faster disk, or make them smaller beforehand"]
        );
    }
}
