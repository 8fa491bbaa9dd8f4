use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::client::{Failure, Fetched};
use crate::{Error, Result, atomic, cache::lock};

const JOURNAL: &str = "fetched.jsonl";
const PICTURES: &str = "pictures";

/// A folder of pictures, and what came of each address.
pub(super) struct Store {
    folder: PathBuf,
    journal: File,
    came_of: HashMap<String, Outcome>,
    _lock: File,
}

/// What came of an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// A picture: its path in the folder.
    Picture(String),
    /// Nothing, for good, and why.
    Dead(String),
    /// Nothing for the moment, and why. Not in the journal.
    #[serde(skip)]
    Failed(String),
}

/// A line of the journal.
#[derive(Serialize, Deserialize)]
struct Line {
    url: String,
    #[serde(flatten)]
    outcome: Outcome,
}

impl Store {
    /// Opens the folder, or makes it. What a killed process was just writing to the journal is dropped,
    /// and so are pictures that are no longer there.
    pub fn open(folder: &Path) -> Result<Self> {
        let pictures = folder.join(PICTURES);
        fs::create_dir_all(&pictures).map_err(|e| Error::io(&pictures, e))?;
        let lock = lock(&folder.join("lock"))?;
        let path = folder.join(JOURNAL);
        let (journal, text) = open_journal(&path).map_err(|e| Error::io(&path, e))?;
        let mut came_of = HashMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let Line { url, outcome } = serde_json::from_str(line).map_err(|e| {
                Error::malformed(&path, number, "what came of an address", &e.to_string())
            })?;
            came_of.insert(url, outcome);
        }
        came_of.retain(|_, outcome| match outcome {
            Outcome::Picture(name) => folder.join(name).is_file(),
            _ => true,
        });
        Ok(Self { folder: folder.into(), journal, came_of, _lock: lock })
    }

    pub fn came_of(&self, address: &str) -> Option<&Outcome> {
        self.came_of.get(address)
    }

    /// Keeps a picture, or the failure.
    pub fn put(&mut self, address: &str, got: Result<Fetched, Failure>) -> Result<()> {
        let outcome = match got {
            Ok(fetched) => Outcome::Picture(self.keep(&fetched)?),
            Err(Failure { why, for_good: true, .. }) => Outcome::Dead(why),
            Err(Failure { why, .. }) => Outcome::Failed(why),
        };
        if !matches!(outcome, Outcome::Failed(_)) {
            self.note(Line { url: address.into(), outcome: outcome.clone() })?;
        }
        self.came_of.insert(address.into(), outcome);
        Ok(())
    }

    /// Writes the picture, unless it is there, and returns its name.
    fn keep(&self, Fetched { bytes, ending }: &Fetched) -> Result<String> {
        let sum = format!("{:x}", Sha256::digest(bytes));
        let folder = format!("{PICTURES}/{}", &sum[..2]);
        let name = format!("{folder}/{sum}.{ending}");
        let path = self.folder.join(&name);
        if !path.is_file() {
            let folder = self.folder.join(folder);
            fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
            atomic::write(&path, bytes)?;
        }
        Ok(name)
    }

    fn note(&mut self, line: Line) -> Result<()> {
        let mut line = serde_json::to_string(&line).expect("strings are JSON");
        line.push('\n');
        let written = self.journal.write_all(line.as_bytes());
        written.map_err(|e| Error::io(&self.folder.join(JOURNAL), e))
    }

    /// Writes a CSV file of two columns.
    pub fn table<'a>(
        &self,
        name: &str,
        heading: [&str; 2],
        mut rows: impl Iterator<Item = [&'a str; 2]>,
    ) -> Result<()> {
        let path = self.folder.join(name);
        let mut write = || -> csv::Result<Vec<u8>> {
            let mut writer = csv::Writer::from_writer(vec![]);
            writer.write_record(heading)?;
            rows.try_for_each(|row| writer.write_record(row))?;
            writer.into_inner().map_err(|e| e.into_error().into())
        };
        atomic::write(&path, &write().map_err(|e| Error::io(&path, e.into()))?)
    }
}

/// The journal, to add to, and its whole lines.
fn open_journal(path: &Path) -> std::io::Result<(File, String)> {
    let journal = OpenOptions::new().append(true).create(true).open(path)?;
    let mut text = fs::read_to_string(path)?;
    text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
    journal.set_len(text.len() as u64)?;
    Ok((journal, text))
}
