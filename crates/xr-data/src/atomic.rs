//! Files that are whole or absent.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use crate::{Error, Result};

/// Writes `bytes` beside `path`, syncs them and renames: a reader sees the old file or the whole
/// new one, also after a crash or on a full disk.
///
/// # Errors
/// [`Error::Io`], naming `path`.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = path.with_added_extension("tmp");
    let written = File::create(&partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&partial, path));
    written.map_err(|e| {
        // The error to report is the first one; a partial file left behind is overwritten later.
        let _ = fs::remove_file(&partial);
        Error::io(path, e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write(&path, b"old").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    // /dev/full refuses every write, as a full disk does.
    #[cfg(target_os = "linux")]
    #[test]
    fn full_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        std::os::unix::fs::symlink("/dev/full", path.with_added_extension("tmp")).unwrap();
        let error = write(&path, b"x").unwrap_err().to_string();
        assert!(error.ends_with("cache: No space left on device (os error 28)"), "{error}");
        assert!(!path.exists());
    }
}
