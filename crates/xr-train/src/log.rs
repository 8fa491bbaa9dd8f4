//! `log.jsonl`: what a run measured, a line of JSON an event; beside it the same for TensorBoard.

use std::{collections::BTreeMap, path::Path, time::SystemTime};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, Validation, appended::Appended, events};

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Record {
    /// A step.
    Step(StepRecord),
    /// An epoch, after its validation.
    Epoch(EpochRecord),
}

/// What one step measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The epoch, from 1.
    pub epoch: usize,
    /// The step, from 1, over all epochs.
    pub step: usize,
    /// The objective.
    pub loss: f64,
    /// Its terms, before their weights.
    pub parts: BTreeMap<String, f64>,
    /// Learning rate.
    pub lr: f64,
    /// What cosines were divided by, where the objective does that.
    pub temperature: Option<f64>,
    /// Length of all gradients together, before clipping; measured where it is needed.
    pub grad_norm: Option<f64>,
    /// Length of the gradients of each tower, measured with it: `image`, `text`, and `rest`, which is
    /// what belongs to neither.
    #[serde(default)]
    pub grad_norms: BTreeMap<String, f64>,
    /// Speed since the epoch began, or was resumed.
    pub steps_per_second: f64,
}

/// What one epoch measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Steps so far, over all epochs.
    pub step: usize,
    /// The objective, mean of the epoch's batches.
    pub loss: f64,
    /// Its terms, before their weights, means of the epoch's batches.
    pub parts: BTreeMap<String, f64>,
    /// `ln B`: where InfoNCE stands when nothing is learned.
    pub chance_loss: f64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Temperature of the last step.
    pub temperature: Option<f64>,
    /// Mean length of all gradients together, before clipping, of the steps that measured it; the
    /// last step does.
    pub grad_norm: Option<f64>,
    /// The same of each tower: `image`, `text` and `rest`.
    #[serde(default)]
    pub grad_norms: BTreeMap<String, f64>,
    /// Speed since the epoch began, or was resumed.
    pub steps_per_second: f64,
    /// Share of that time that was spent waiting for batches.
    #[serde(default)]
    pub waited: f64,
    /// What the caller measured after the epoch.
    pub validation: Validation,
}

/// The epochs of a log.
pub fn epochs(log: &[Record]) -> impl Iterator<Item = &EpochRecord> {
    log.iter().filter_map(|record| match record {
        Record::Epoch(epoch) => Some(epoch),
        Record::Step(_) => None,
    })
}

/// The lines of a log.
///
/// # Errors
/// [`Error::Io`], or [`Error::Config`] at a line that is no record.
pub fn read_log(path: &Path) -> Result<Vec<Record>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    let parse = |(number, line)| {
        serde_json::from_str(line)
            .map_err(|e| Error::Config { path: path.into(), why: format!("line {number}: {e}") })
    };
    (1..).zip(text.lines()).map(parse).collect()
}

/// The log of a run, open at its end, and TensorBoard's file of the same.
#[derive(Debug)]
pub(crate) struct Log {
    lines: Appended,
    events: Appended,
}

/// How long the files of a log are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bytes {
    lines: u64,
    events: u64,
}

impl Log {
    /// Opens the log in folder `run` and cuts it to what it was: what a killed run wrote after its
    /// last checkpoint will be done, and written, again.
    pub(crate) fn open(run: &Path, bytes: Bytes) -> Result<Self> {
        let lines = Appended::open(run.join("log.jsonl"), bytes.lines)?;
        let mut events = Appended::open(run.join(events::FILE), bytes.events)?;
        if events.bytes() == 0 {
            events.write(&events::version(now()))?;
        }
        Ok(Self { lines, events })
    }

    pub(crate) fn write(&mut self, record: &Record) -> Result<()> {
        let mut line = serde_json::to_string(record).expect("names and numbers are JSON");
        line.push('\n');
        self.lines.write(line.as_bytes())?;
        self.events.write(&events::event(record, now()))
    }

    pub(crate) fn bytes(&self) -> Bytes {
        Bytes { lines: self.lines.bytes(), events: self.events.bytes() }
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(step: usize) -> Record {
        Record::Step(StepRecord {
            epoch: 1,
            step,
            loss: 0.5,
            parts: [("mse".into(), 0.25)].into(),
            lr: 0.125,
            temperature: None,
            grad_norm: None,
            grad_norms: [].into(),
            steps_per_second: 8.0,
        })
    }

    #[test]
    fn what_came_after_the_checkpoint_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(dir.path(), Bytes::default()).unwrap();
        log.write(&record(1)).unwrap();
        let checkpoint = log.bytes();
        log.write(&record(2)).unwrap();
        let mut log = Log::open(dir.path(), checkpoint).unwrap();
        log.write(&record(3)).unwrap();
        let records = [record(1), record(3)];
        assert_eq!(read_log(&dir.path().join("log.jsonl")).unwrap(), records);
        // The version, then both records: their length doesn't depend on the time.
        let events = [events::version(0.0)].into_iter();
        let events = events.chain(records.iter().map(|record| events::event(record, 0.0)));
        let written = std::fs::metadata(dir.path().join(events::FILE)).unwrap().len();
        assert_eq!(written, events.map(|event| event.len() as u64).sum::<u64>());
    }

    #[test]
    fn a_line_that_is_no_record() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        std::fs::write(&path, "{\"event\":\"step\"").unwrap();
        let error = read_log(&path).unwrap_err().to_string();
        assert!(error.contains("log.jsonl: line 1: EOF while parsing"), "{error}");
    }
}
