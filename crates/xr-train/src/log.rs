//! `log.jsonl`: what a run measured, a line of JSON an event.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, Validation};

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
    /// Length of all gradients together, before clipping; measured where it is needed.
    pub grad_norm: Option<f64>,
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
    /// Mean length of all gradients together, before clipping, of the steps that measured it.
    pub grad_norm: Option<f64>,
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

/// The log of a run, open at its end.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Log {
    /// Opens the log and cuts it to its first `bytes`: what a killed run wrote after its last
    /// checkpoint will be done, and written, again.
    pub(crate) fn open(path: PathBuf, bytes: u64) -> Result<Self> {
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let cut = opened.and_then(|mut file| {
            let bytes = bytes.min(file.metadata()?.len());
            file.set_len(bytes)?;
            file.seek(SeekFrom::End(0))?;
            Ok((file, bytes))
        });
        let (file, bytes) = cut.map_err(|e| Error::io(&path, e))?;
        Ok(Self { path, file, bytes })
    }

    pub(crate) fn write(&mut self, record: &Record) -> Result<()> {
        let mut line = serde_json::to_string(record).expect("names and numbers are JSON");
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(|e| Error::io(&self.path, e))?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// Its length.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
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
            grad_norm: None,
            steps_per_second: 8.0,
        })
    }

    #[test]
    fn what_came_after_the_checkpoint_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let mut log = Log::open(path.clone(), 0).unwrap();
        log.write(&record(1)).unwrap();
        let checkpoint = log.bytes();
        log.write(&record(2)).unwrap();
        let mut log = Log::open(path.clone(), checkpoint).unwrap();
        log.write(&record(3)).unwrap();
        assert_eq!(read_log(&path).unwrap(), [record(1), record(3)]);
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
