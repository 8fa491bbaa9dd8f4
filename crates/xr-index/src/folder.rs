//! An index on disk: a folder of plain files and `index.json`, which names them.
//!
//! A file's name holds its checksum, and `index.json` is replaced last and at once: whoever saves
//! over an index leaves the old one or the new one, whenever it is killed.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use crc32fast::Hasher;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use xr_data::{Fingerprint, atomic};

use crate::{Error, IndexSpec, Metric, Result};

const FORMAT: &str = "xr index 1";
const INDEX: &str = "index.json";
/// Ids of the rows.
pub(crate) const IDS: &str = "ids.u64";
const BUFFER: usize = 1 << 20;
/// Bytes of a file that one thread reads to check them.
const PIECE: u64 = 16 << 20;

/// What an index is, besides its parts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Header {
    pub index: IndexSpec,
    pub metric: Metric,
    pub dim: usize,
    pub rows: usize,
    pub made_by: Fingerprint,
}

/// A name, and what writes the file.
pub(crate) type Part<'a> = (&'a str, &'a dyn Fn(&Path) -> Result<()>);

/// `index.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    format: String,
    #[serde(flatten)]
    header: Header,
    parts: BTreeMap<String, Stored>,
    /// Of all the rest, as compact JSON.
    crc32: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    file: String,
    bytes: u64,
    crc32: u32,
}

/// Writes the parts, then `index.json`, then removes the files of what was there before.
pub(crate) fn save(dir: &Path, header: Header, parts: &[Part]) -> Result<()> {
    fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
    let parts = parts.iter().map(|&(name, write)| Ok((name.into(), store(dir, name, write)?)));
    let parts = parts.collect::<Result<_>>()?;
    let mut index = Index { format: FORMAT.into(), header, parts, crc32: 0 };
    index.crc32 = index.checksum();
    let json = serde_json::to_vec_pretty(&index).expect("string keys and whole numbers");
    // After a power cut no record may be there without what it names.
    sync(dir)?;
    atomic::write(&dir.join(INDEX), &json)?;
    sync(dir)?;
    remove_others(dir, &index);
    Ok(())
}

impl Index {
    fn checksum(&self) -> u32 {
        let (format, parts) = (&self.format, &self.parts);
        let json = serde_json::to_vec(&(format, &self.header, parts));
        crc32fast::hash(&json.expect("string keys and whole numbers"))
    }
}

fn store(dir: &Path, name: &str, write: &dyn Fn(&Path) -> Result<()>) -> Result<Stored> {
    let partial = dir.join(format!("new-{name}"));
    write(&partial)?;
    let (bytes, crc32) = checksum(&partial)?;
    let file = format!("{crc32:08x}-{name}");
    sync(&partial)?;
    fs::rename(&partial, dir.join(&file)).map_err(|e| Error::io(&partial, e))?;
    Ok(Stored { file, bytes, crc32 })
}

fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|e| Error::io(path, e))
}

/// Removes files of our names that `index` doesn't list. One that can't be removed does no harm.
fn remove_others(dir: &Path, index: &Index) {
    let ours = |name: &str| index.parts.keys().any(|part| name.ends_with(&format!("-{part}")));
    let listed = |name: &str| index.parts.values().any(|stored| stored.file == name);
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    for file in files {
        let name = file.file_name();
        let name = name.to_string_lossy();
        if ours(&name) && !listed(&name) {
            let _ = fs::remove_file(file.path());
        }
    }
}

/// Length and CRC-32. Read, not mapped: what is only checked takes no memory.
fn checksum(path: &Path) -> Result<(u64, u32)> {
    let read = || {
        let bytes = fs::metadata(path)?.len();
        let pieces = (0..bytes.div_ceil(PIECE)).into_par_iter();
        let pieces = pieces
            .map_init(|| vec![0; BUFFER], |buffer, piece| hash_piece(path, piece * PIECE, buffer));
        let mut hash = Hasher::new();
        pieces.collect::<io::Result<Vec<_>>>()?.iter().for_each(|piece| hash.combine(piece));
        Ok((bytes, hash.finalize()))
    };
    read().map_err(|e| Error::io(path, e))
}

fn hash_piece(path: &Path, first: u64, buffer: &mut [u8]) -> io::Result<Hasher> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(first))?;
    let (mut piece, mut hash) = (file.take(PIECE), Hasher::new());
    while let count @ 1.. = piece.read(buffer)? {
        hash.update(&buffer[..count]);
    }
    Ok(hash)
}

/// What writes numbers, 8 bytes each, little-endian.
pub(crate) fn numbers_writer(numbers: &[u64]) -> impl Fn(&Path) -> Result<()> {
    |path| {
        let bytes: Vec<_> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        fs::write(path, bytes).map_err(|e| Error::io(path, e))
    }
}

/// The folder of an index.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: PathBuf,
    index: Index,
}

impl Folder {
    /// Reads `index.json`; the parts are looked at when they are asked for.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(INDEX);
        let json = fs::read(&path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::NoIndex { path: dir.into() },
            _ => Error::io(&path, e),
        })?;
        let index: Index =
            serde_json::from_slice(&json).map_err(|e| Error::damaged(&path, e.to_string()))?;
        if index.format != FORMAT {
            let why = format!("its format is `{}`, expected `{FORMAT}`", index.format);
            return Err(Error::damaged(&path, why));
        }
        if index.crc32 != index.checksum() {
            return Err(Error::damaged(&path, "its checksum doesn't fit"));
        }
        Ok(Self { dir: dir.into(), index })
    }

    pub fn header(&self) -> &Header {
        &self.index.header
    }

    /// The file of a part, whole.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it isn't what was written.
    pub fn part(&self, name: &str) -> Result<PathBuf> {
        let Some(stored) = self.index.parts.get(name) else {
            let why = format!("it lists no `{name}`");
            return Err(Error::damaged(&self.dir.join(INDEX), why));
        };
        let path = self.dir.join(&stored.file);
        let (bytes, crc32) = checksum(&path)?;
        if (bytes, crc32) != (stored.bytes, stored.crc32) {
            let why = format!(
                "{bytes} bytes with checksum {crc32:08x}, expected {} with {:08x}",
                stored.bytes, stored.crc32
            );
            return Err(Error::damaged(&path, why));
        }
        Ok(path)
    }

    /// What [`numbers_writer`] wrote; none if there is no such part.
    pub fn numbers(&self, name: &str) -> Result<Option<Vec<u64>>> {
        if !self.index.parts.contains_key(name) {
            return Ok(None);
        }
        let path = self.part(name)?;
        let bytes = fs::read(&path).map_err(|e| Error::io(&path, e))?;
        Ok(Some(bytes.as_chunks().0.iter().copied().map(u64::from_le_bytes).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_pieces_is_that_of_the_whole() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for length in [0, 3, PIECE as usize, 2 * PIECE as usize + 5] {
            let bytes: Vec<_> = (0..length).map(|i| (i % 251) as u8).collect();
            fs::write(file.path(), &bytes).unwrap();
            let expected = (length as u64, crc32fast::hash(&bytes));
            assert_eq!(checksum(file.path()).unwrap(), expected);
        }
    }
}
