//! Pictures by address, into a folder that is a data set.

#[cfg(feature = "download")]
mod client;
#[cfg(feature = "download")]
mod run;
#[cfg(feature = "download")]
mod store;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{Result, Skipped, dataset::csv_file::Columns};

/// How the pictures are fetched whose addresses are in a CSV file; needs the feature `download`.
///
/// The folder that it makes is a data set: the texts are its captions.
///
/// | in the folder | what |
/// |---|---|
/// | `pictures/ab/abcd….jpg` | each picture once, called by the SHA-256 of its bytes |
/// | `captions.csv` | which text is about which of them |
/// | `dead.csv` | addresses that gave no picture, and why |
/// | `fetched.jsonl` | what came of each address: where the next call goes on |
///
/// Equal addresses are fetched once. Pictures that came, and links that are dead for good (404 and
/// other refusals, no picture, too large), are not asked for again, also after the process was killed.
/// What failed for the moment (no connection, 429, 5xx, a body that ends too early) is tried again after
/// a wait that doubles, or as long as the server's `Retry-After` says, and by the next call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// The columns of addresses and of texts.
    pub columns: Columns,
    /// Only the first rows.
    pub limit: Option<usize>,
    /// Connections at a time, at least 1.
    pub parallel: usize,
    /// For one attempt, from the connection to the last byte.
    pub timeout: Duration,
    /// For each address, at least 1.
    pub attempts: u32,
    /// Before the second attempt; before each further one it is twice as long.
    pub wait: Duration,
    /// A larger picture is not taken.
    pub max_bytes: u64,
}

impl Default for Download {
    fn default() -> Self {
        Self {
            columns: Columns::default(),
            limit: None,
            parallel: 16,
            timeout: Duration::from_secs(30),
            attempts: 4,
            wait: Duration::from_millis(500),
            max_bytes: 32 << 20,
        }
    }
}

/// What a folder holds after a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downloaded {
    /// The folder.
    pub folder: PathBuf,
    /// Different pictures that the texts are about.
    pub pictures: usize,
    /// Texts with a picture.
    pub captions: usize,
    /// Pictures that came in this call.
    pub fetched: usize,
    /// Addresses that gave none.
    pub dead: usize,
    /// Rows of the file that were left out.
    pub skipped: Vec<Skipped>,
}

impl fmt::Display for Downloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { folder, pictures, captions, fetched, dead, skipped } = self;
        let folder = folder.display();
        write!(f, "{folder}: {pictures} pictures, {captions} captions; fetched now: {fetched}, ")?;
        match dead {
            0 => f.write_str("dead links: 0")?,
            _ => write!(f, "dead links: {dead} ({folder}/dead.csv)")?,
        }
        write!(f, ", rows left out: {}", skipped.len())
    }
}

impl Download {
    /// Fetches the pictures of `table` into the folder `out`, or goes on with it. `observer` is told
    /// how many of how many addresses are done.
    ///
    /// # Errors
    /// Of [`Error`](crate::Error): `WithoutClient` without the feature `download`; `NoSuchColumn` and
    /// `Malformed` for the file; `Locked` while another process fetches into the folder; `Unreachable`
    /// when nothing can be reached any more; `Io`.
    pub fn run(
        &self,
        table: &Path,
        out: &Path,
        observer: impl FnMut(usize, usize),
    ) -> Result<Downloaded> {
        #[cfg(feature = "download")]
        return run::run(self, table, out, observer);
        #[cfg(not(feature = "download"))]
        {
            let _ = (out, observer);
            Err(crate::Error::WithoutClient { table: table.into() })
        }
    }
}

#[cfg(all(test, not(feature = "download")))]
mod tests {
    use super::*;

    #[test]
    fn without_the_feature() {
        let made = Download::default().run(Path::new("p.csv"), Path::new("out"), |_, _| {});
        assert_eq!(
            made.unwrap_err().to_string(),
            "p.csv: its pictures can't be fetched, because this program was built without a client; build \
             it with `--features download`"
        );
    }
}
