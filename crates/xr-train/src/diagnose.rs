use std::fmt;

use crate::{EpochRecord, Record, epochs};

/// Nearer than this to the loss of knowing nothing, as a share of it, is nothing learned.
const LEARNED: f64 = 0.02;
/// Epochs in a row of rising validation loss under falling training loss.
const RISING: usize = 3;
/// A mean cosine above this is one place for all.
const COLLAPSED: f64 = 0.9;
/// Fewer directions than this tell no more than a handful of things apart.
const FEW: f64 = 3.0;
/// Share of the time that training may wait for data.
const WAITING: f64 = 0.2;
/// Between the mean picture and the mean text, which are at most 2 apart; that of CLIP is 0.8.
const APART: f64 = 1.0;
/// A learned temperature stops at 0.01; this much above it is there.
const SHARP: f64 = 0.0101;
/// Cosines lie between -1 and 1: divided by this they hardly make a difference.
const FLAT: f64 = 1.0;
/// Below this share of the other tower's gradients is none.
const IDLE: f64 = 1e-3;
/// Share of a batch's captions that may be false negatives.
const FALSE_NEGATIVES: f64 = 0.05;

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
    /// The embeddings of a modality lie along a few directions.
    FewDimensions {
        /// `image` or `text`.
        modality: &'static str,
        /// Their effective rank.
        dimensions: f64,
    },
    /// All pictures are in one place and all texts in another.
    Gap {
        /// Distance between the mean picture and the mean text.
        gap: f64,
    },
    /// The temperature is as low as it gets.
    Sharp {
        /// The temperature.
        temperature: f64,
    },
    /// The temperature makes cosines all alike.
    Flat {
        /// The temperature.
        temperature: f64,
    },
    /// A tower has next to no gradients.
    IdleTower {
        /// `image` or `text`.
        tower: &'static str,
        /// The length of its gradients.
        norm: f64,
        /// The length of the other tower's.
        other: f64,
    },
    /// Many captions of a batch also stand under another of its pictures.
    FalseNegatives {
        /// Their share.
        share: f64,
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
            Self::FewDimensions { modality, dimensions } => write!(
                f,
                "{modality} embeddings differ in {dimensions:.1} directions only: they tell no more \
                 than a few kinds of things apart; the batch likely has too few negatives, or too \
                 similar ones: try a larger `train.batch_size` (with `train.micro_batch`, if memory \
                 is short), or train longer"
            ),
            Self::Gap { gap } => write!(
                f,
                "the mean picture and the mean text are {gap:.2} apart, of at most 2: pictures are \
                 mostly nearer to one another than to their captions; scores of pictures and of \
                 texts can't be compared or mixed then, while either ranks as well as before; a \
                 higher temperature closes the gap, `temperature` {{\"Fixed\":0.1}}"
            ),
            Self::Sharp { temperature } => write!(
                f,
                "the temperature is {temperature:.4}, as low as a learned one gets: the loss listens \
                 to the few hardest pairs of each batch alone, which may be wrong labels; fix it, \
                 with `temperature` {{\"Fixed\":0.05}}, if the validation loss rises"
            ),
            Self::Flat { temperature } => write!(
                f,
                "the temperature is {temperature:.2}: divided by it, the cosines of right and wrong \
                 pairs hardly differ; pictures and captions likely don't belong together, or the \
                 learning rate is too high; check the pairs, try `train.optimizer.lr` ten times \
                 smaller, or fix `temperature` to {{\"Fixed\":0.07}}"
            ),
            Self::IdleTower { tower, norm, other } => write!(
                f,
                "the gradients of the {tower} tower have length {norm:.1e}, and the other tower's \
                 {other:.1e}: the {tower} tower hardly learns; its inputs may all be alike, or its \
                 activations dead: check its data and weights, or raise its rate in \
                 `train.optimizer.rates`"
            ),
            Self::FalseNegatives { share } => write!(
                f,
                "{:.0} % of the captions in a batch also stand under another of its pictures, which \
                 counts as a wrong answer: the loss pushes apart what belongs together; write \
                 captions that tell pictures apart, leave out the general ones, or try a smaller \
                 `train.batch_size`",
                100.0 * share
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
    let modalities = ["image", "text"];
    found.extend(modalities.into_iter().filter_map(|of| collapsed(last, of).or(narrow(last, of))));
    found.extend(gap(last));
    found.extend(temperature(last));
    found.extend(idle(last, modalities));
    found.extend(false_negatives(last));
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

fn narrow(last: &EpochRecord, modality: &'static str) -> Option<Warning> {
    let &dimensions = last.validation.diagnostics.get(&format!("{modality} dimensions"))?;
    (dimensions < FEW).then_some(Warning::FewDimensions { modality, dimensions })
}

fn gap(last: &EpochRecord) -> Option<Warning> {
    let &gap = last.validation.diagnostics.get("gap")?;
    (gap > APART).then_some(Warning::Gap { gap })
}

fn temperature(last: &EpochRecord) -> Option<Warning> {
    match last.temperature? {
        temperature if temperature <= SHARP => Some(Warning::Sharp { temperature }),
        temperature if temperature >= FLAT => Some(Warning::Flat { temperature }),
        _ => None,
    }
}

fn idle(last: &EpochRecord, towers: [&'static str; 2]) -> Option<Warning> {
    let norm = |tower| last.grad_norms.get(tower).copied();
    let norms = [norm(towers[0])?, norm(towers[1])?];
    let is_idle = |&i: &usize| norms[i] < IDLE * norms[1 - i];
    let i = [0, 1].into_iter().find(is_idle)?;
    Some(Warning::IdleTower { tower: towers[i], norm: norms[i], other: norms[1 - i] })
}

fn false_negatives(last: &EpochRecord) -> Option<Warning> {
    let &share = last.validation.diagnostics.get("false negatives")?;
    (share > FALSE_NEGATIVES).then_some(Warning::FalseNegatives { share })
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
            temperature: Some(0.05),
            grad_norm: Some(5.0),
            grad_norms: [("image".to_string(), 3.0), ("text".to_string(), 4.0)].into(),
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
    fn pictures_in_one_place_and_texts_in_another() {
        let apart = |e: &mut EpochRecord| {
            e.validation.diagnostics = [("gap".to_string(), 1.12)].into();
        };
        assert_eq!(
            diagnosed(apart),
            [
                "the mean picture and the mean text are 1.12 apart, of at most 2: pictures are mostly \
                 nearer to one another than to their captions; scores of pictures and of \
                 texts can't be compared or mixed then, while either ranks as well as before; a \
                 higher temperature closes the gap, `temperature` {\"Fixed\":0.1}"
            ]
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

    #[test]
    fn along_a_line() {
        let line = |e: &mut EpochRecord| {
            e.validation.diagnostics = [("image dimensions".to_string(), 1.04)].into();
        };
        assert_eq!(
            diagnosed(line),
            [
                "image embeddings differ in 1.0 directions only: they tell no more than a few kinds of \
                 things apart; the batch likely has too few negatives, or too similar ones: try a \
                 larger `train.batch_size` (with `train.micro_batch`, if memory is short), or train \
                 longer"
            ]
        );
    }

    #[test]
    fn a_temperature_at_its_ends() {
        assert_eq!(
            diagnosed(|e| e.temperature = Some(0.01)),
            [
                "the temperature is 0.0100, as low as a learned one gets: the loss listens to the few \
                 hardest pairs of each batch alone, which may be wrong labels; fix it, with \
                 `temperature` {\"Fixed\":0.05}, if the validation loss rises"
            ]
        );
        assert_eq!(
            diagnosed(|e| e.temperature = Some(1.5)),
            [
                "the temperature is 1.50: divided by it, the cosines of right and wrong pairs hardly \
                 differ; pictures and captions likely don't belong together, or the learning rate \
                 is too high; check the pairs, try `train.optimizer.lr` ten times smaller, or fix \
                 `temperature` to {\"Fixed\":0.07}"
            ]
        );
        assert_eq!(diagnosed(|e| e.temperature = None), Vec::<String>::new());
    }

    #[test]
    fn a_tower_without_gradients() {
        let idle = |e: &mut EpochRecord| *e.grad_norms.get_mut("text").unwrap() = 1e-4;
        assert_eq!(
            diagnosed(idle),
            [
                "the gradients of the text tower have length 1.0e-4, and the other tower's 3.0e0: the \
                 text tower hardly learns; its inputs may all be alike, or its activations dead: \
                 check its data and weights, or raise its rate in `train.optimizer.rates`"
            ]
        );
    }

    #[test]
    fn captions_that_fit_several_pictures() {
        let general = |e: &mut EpochRecord| {
            e.validation.diagnostics = [("false negatives".to_string(), 0.2)].into();
        };
        assert_eq!(
            diagnosed(general),
            ["20 % of the captions in a batch also stand under another of its pictures, which \
                 counts as a wrong answer: the loss pushes apart what belongs together; write \
                 captions that tell pictures apart, leave out the general ones, or try a smaller \
                 `train.batch_size`"]
        );
    }
}
