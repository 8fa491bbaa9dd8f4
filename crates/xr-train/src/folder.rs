//! Folders that are whole or absent.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::{Error, Result};

/// Writes a new `folder` beside the present one and exchanges them: at every moment one of them is
/// whole, and [`recover`] finds it.
pub(crate) fn replace(folder: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let new = folder.with_added_extension("new");
    remove(&new)?;
    fs::create_dir_all(&new).map_err(|e| Error::io(&new, e))?;
    write(&new)?;
    sync(&new).map_err(|e| Error::io(&new, e))?;
    exchange(folder, &new)
}

/// Finishes an exchange that was cut short.
pub(crate) fn recover(folder: &Path) -> Result<()> {
    let [new, old] = ["new", "old"].map(|end| folder.with_added_extension(end));
    if folder.exists() || !old.exists() {
        return Ok(());
    }
    // The old one makes way only for a new one that is whole.
    rename(if new.exists() { &new } else { &old }, folder)
}

fn exchange(folder: &Path, new: &Path) -> Result<()> {
    let old = folder.with_added_extension("old");
    remove(&old)?;
    if folder.exists() {
        rename(folder, &old)?;
    }
    rename(new, folder)?;
    remove(&old)
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| Error::io(to, e))
}

fn remove(folder: &PathBuf) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(folder, e)),
        _ => Ok(()),
    }
}

/// Brings the files to the disk, so that a power cut after the exchange doesn't empty them.
fn sync(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        File::open(entry?.path())?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &str) -> impl FnOnce(&Path) -> Result<()> {
        move |folder| fs::write(folder.join("x"), text).map_err(|e| Error::io(folder, e))
    }

    #[test]
    fn replaces_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("last");
        replace(&folder, write("1")).unwrap();
        replace(&folder, write("2")).unwrap();
        assert_eq!(fs::read_to_string(folder.join("x")).unwrap(), "2");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_keeps_the_present_one() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("last");
        replace(&folder, write("1")).unwrap();
        assert!(replace(&folder, |_| Err(Error::NoBatches)).is_err());
        recover(&folder).unwrap();
        assert_eq!(fs::read_to_string(folder.join("x")).unwrap(), "1");
    }

    #[test]
    fn killed_between_the_two_renames() {
        let dir = tempfile::tempdir().unwrap();
        let [folder, new, old] = ["last", "last.new", "last.old"].map(|n| dir.path().join(n));
        for (folder, text) in [(&new, "2"), (&old, "1")] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("x"), text).unwrap();
        }
        recover(&folder).unwrap();
        assert_eq!(fs::read_to_string(folder.join("x")).unwrap(), "2");
    }

    #[test]
    fn killed_in_the_first_write() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("last");
        fs::create_dir(dir.path().join("last.new")).unwrap();
        recover(&folder).unwrap();
        assert!(!folder.exists());
    }
}
