use std::{
    fs::{File, OpenOptions},
    io::{Seek, SeekFrom, Write},
    path::PathBuf,
};

use crate::{Error, Result};

/// A file open at its end.
#[derive(Debug)]
pub(crate) struct Appended {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Appended {
    /// Opens the file and cuts it to its first `bytes`.
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

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io(&self.path, e))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Its length.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}
