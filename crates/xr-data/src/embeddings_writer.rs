use std::{
    fs::{self, File},
    io::{BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::{Error, Fingerprint, Result};

/// Length of the reserved header: the row count, known only at the end, always fits.
const HEADER: usize = 512;

/// Writes an [`Embeddings`](crate::Embeddings) file row by row, holding none of them in memory.
///
/// The file appears under its name when [`finish`](Self::finish) has been called; until then it is
/// `<name>.tmp`.
///
/// ```
/// use xr_data::{Embeddings, EmbeddingsWriter, Fingerprint};
///
/// # let dir = tempfile::tempdir()?;
/// let path = dir.path().join("pictures.safetensors");
/// let mut writer = EmbeddingsWriter::create(&path, 2, Fingerprint::of(["model"]))?;
/// writer.append(&[1.0, 2.0])?;
/// writer.append(&[3.0, 4.0, 5.0, 6.0])?;
/// writer.finish()?;
/// assert_eq!(Embeddings::open(&path)?.row(2), [5.0, 6.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct EmbeddingsWriter {
    file: BufWriter<File>,
    path: PathBuf,
    dim: usize,
    rows: usize,
    made_by: Fingerprint,
}

impl EmbeddingsWriter {
    /// Starts a file of rows of width `dim`, replacing one of that name when finished.
    ///
    /// # Errors
    /// [`Error::Io`] when the file can't be created.
    ///
    /// # Panics
    /// If `dim` is 0.
    pub fn create(path: &Path, dim: usize, made_by: Fingerprint) -> Result<Self> {
        assert!(dim > 0, "rows have at least one value");
        let file = File::create(partial(path)).map_err(|e| Error::io(path, e))?;
        let mut writer =
            Self { file: BufWriter::new(file), path: path.into(), dim, rows: 0, made_by };
        writer.write(&[b' '; 8 + HEADER])?;
        Ok(writer)
    }

    /// Appends whole rows.
    ///
    /// # Errors
    /// [`Error::Io`] when they can't be written, on a full disk for example.
    ///
    /// # Panics
    /// If `values` is no whole number of rows.
    pub fn append(&mut self, values: &[f32]) -> Result<()> {
        assert!(values.len().is_multiple_of(self.dim), "whole rows of width {}", self.dim);
        self.rows += values.len() / self.dim;
        values.iter().try_for_each(|x| self.write(&x.to_le_bytes()))
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    /// [`Error::Io`], as for [`append`](Self::append).
    pub fn finish(mut self) -> Result<()> {
        let header = self.header();
        let done = self
            .file
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.file.write_all(&header))
            .and_then(|()| self.file.flush())
            .and_then(|()| self.file.get_ref().sync_all())
            .and_then(|()| fs::rename(partial(&self.path), &self.path));
        done.map_err(|e| Error::io(&self.path, e))
    }

    /// The safetensors header, padded with spaces as the format allows.
    fn header(&self) -> Vec<u8> {
        let json = json!({
            "__metadata__": { "made_by": self.made_by.as_str() },
            "embeddings": {
                "dtype": "F32",
                "shape": [self.rows, self.dim],
                "data_offsets": [0, self.rows * self.dim * size_of::<f32>()],
            },
        });
        let mut bytes = (HEADER as u64).to_le_bytes().to_vec();
        bytes.extend(format!("{:<HEADER$}", json.to_string()).bytes());
        bytes
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io(&self.path, e))
    }
}

fn partial(path: &Path) -> PathBuf {
    path.with_added_extension("tmp")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Embeddings;

    #[test]
    fn the_same_as_saved_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e");
        let values: Vec<f32> = (0..3000).map(|i| i as f32).collect();
        let maker = Fingerprint::of(["m"]);
        let mut writer = EmbeddingsWriter::create(&path, 3, maker.clone()).unwrap();
        values.chunks(300).for_each(|chunk| writer.append(chunk).unwrap());
        assert!(!path.exists(), "unfinished files don't bear the name");
        writer.finish().unwrap();
        let opened = Embeddings::open(&path).unwrap();
        assert_eq!((opened.rows(), opened.dim(), opened.made_by()), (1000, 3, &maker));
        assert_eq!(opened.values(), values);
    }

    #[test]
    fn no_rows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e");
        EmbeddingsWriter::create(&path, 3, Fingerprint::of(["m"])).unwrap().finish().unwrap();
        assert_eq!(Embeddings::open(&path).unwrap().rows(), 0);
    }
}
