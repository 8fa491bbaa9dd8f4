use std::{fmt, fs::File, io, path::Path};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// What something was made by: the SHA-256 of its parts, as hexadecimal digits.
///
/// A feature cache, an embedding file and a checkpoint carry the fingerprint of their maker, so
/// that a query embedded by another model is refused instead of answered with nonsense.
///
/// ```
/// use xr_data::Fingerprint;
///
/// let a = Fingerprint::of(["encoder", "weights"]);
/// assert_eq!(a, Fingerprint::of(["encoder", "weights"]));
/// assert_ne!(a, Fingerprint::of(["encoderweights"]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The fingerprint of `parts`, in order. Each part is hashed with its length, so that moving
    /// bytes from one part to the next gives another fingerprint.
    pub fn of<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            let part = part.as_ref();
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self(hex(&hash.finalize()))
    }

    /// The fingerprint of a file's content, read as a stream.
    ///
    /// # Errors
    /// [`Error::Io`] when the file can't be read.
    pub fn of_file(path: &Path) -> Result<Self> {
        let mut hash = Sha256::new();
        File::open(path)
            .and_then(|mut file| io::copy(&mut file, &mut hash))
            .map_err(|e| Error::io(path, e))?;
        Ok(Self(hex(&hash.finalize())))
    }

    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits, for people and file names.
    pub fn short(&self) -> &str {
        &self.0[..self.0.len().min(12)]
    }
}

impl From<String> for Fingerprint {
    fn from(digits: String) -> Self {
        Self(digits)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_content_is_plain_sha256() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        // FIPS 180-2, appendix B.1.
        assert_eq!(
            Fingerprint::of_file(&path).unwrap().as_str(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
