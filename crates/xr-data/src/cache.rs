use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use memmap2::Mmap;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Embeddings, Error, Fingerprint, Picture, Result, Source, embeddings::mapped_f32};

/// What a cached row is filed under: the SHA-256 of the content it was made from.
pub type Key = [u8; 32];

const KEY: usize = size_of::<Key>();
const CHECKSUM: usize = size_of::<u32>();
/// A JSON object, blanks and a checksum; the rows that follow are then aligned.
const HEADER: usize = 256;

#[derive(PartialEq, Serialize, Deserialize)]
struct Header {
    format: String,
    made_by: Fingerprint,
    dim: usize,
}

/// Feature rows `[dim]` on disk, each filed under the content that it was made from, so that what
/// was once embedded is never embedded again: not after a kill, and not for another corpus or split
/// with the same pictures.
///
/// One folder holds the caches of all makers (encoder, weights, preprocessing), each in a folder of
/// its own. Rows are read from a memory map; what stays in memory is a key and a number a row.
/// Opening reads the file once to check it.
///
/// Rows are appended in blocks. A process killed while it writes loses at most the block it was
/// writing; a row of which a byte has changed is gone (see [`damaged`](Self::damaged)), and both are
/// simply made again. Any number of processes may read while one writes; they see what was whole
/// when they opened it.
///
/// ```
/// use xr_data::{FeatureCache, Fingerprint, text_key};
///
/// let dir = tempfile::tempdir()?;
/// let mut cache = FeatureCache::open(dir.path(), &Fingerprint::of(["encoder"]), 2)?;
/// let key = text_key("a dog");
/// if !cache.contains(&key) {
///     cache.append(&[(key, &[0.5, 2.0])])?;
/// }
/// assert_eq!(cache.get(&key), Some(&[0.5, 2.0][..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FeatureCache {
    path: PathBuf,
    made_by: Fingerprint,
    dim: usize,
    /// Number of the record that holds a key's row.
    index: HashMap<Key, u32>,
    /// Records up to the last whole one. A record that was once whole is never written again: other
    /// processes have it mapped.
    records: usize,
    damaged: usize,
    map: Option<Mmap>,
    writer: Option<Writer>,
}

/// Some rows of a [`FeatureCache`], in an order of their own: a table that may be larger than memory.
#[derive(Debug)]
pub struct CachedRows {
    cache: FeatureCache,
    records: Vec<u32>,
}

#[derive(Debug)]
struct Writer {
    file: File,
    /// Held as long as we may write.
    _lock: File,
}

impl FeatureCache {
    /// The rows of width `dim` that `made_by` made, in `dir`; none if there is no such cache yet.
    /// Nothing is written before the first row.
    ///
    /// # Errors
    /// [`Error::Io`] when the file can't be read; [`Error::MadeByAnother`] when it is another
    /// maker's; [`Error::Corrupt`] when its header is damaged or names another width.
    ///
    /// # Panics
    /// If `dim` is 0.
    pub fn open(dir: &Path, made_by: &Fingerprint, dim: usize) -> Result<Self> {
        assert!(dim > 0, "rows of width 0");
        let mut cache = Self {
            path: dir.join(made_by.short()).join("features"),
            made_by: made_by.clone(),
            dim,
            index: HashMap::new(),
            records: 0,
            damaged: 0,
            map: None,
            writer: None,
        };
        match File::open(&cache.path) {
            Ok(file) => cache.read_new_records(&file)?,
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io(&cache.path, e)),
        }
        Ok(cache)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Are there no rows?
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Rows that were there once and whose bytes have changed since. A disk that does this is worth
    /// a look.
    pub fn damaged(&self) -> usize {
        self.damaged
    }

    /// Is there a row for `key`?
    pub fn contains(&self, key: &Key) -> bool {
        self.index.contains_key(key)
    }

    /// The row for `key`, `[dim]`.
    pub fn get(&self, key: &Key) -> Option<&[f32]> {
        self.index.get(key).map(|&record| self.row(record))
    }

    /// The rows for `keys`, `[keys, dim]`, in their order and in memory; `None` if one is missing.
    pub fn collect(&self, keys: &[Key]) -> Option<Embeddings> {
        let mut values = Vec::with_capacity(keys.len() * self.dim);
        for key in keys {
            values.extend_from_slice(self.get(key)?);
        }
        Some(Embeddings::new(values, self.dim, self.made_by.clone()))
    }

    /// The rows for `keys`, in their order, read as they are asked for; `None` if one is missing.
    pub fn into_rows(self, keys: &[Key]) -> Option<CachedRows> {
        let records = keys.iter().map(|key| self.index.get(key).copied());
        let records = records.collect::<Option<_>>()?;
        Some(CachedRows { cache: self, records })
    }

    /// The row of a record, `[dim]`.
    fn row(&self, record: u32) -> &[f32] {
        let map = self.map.as_ref().expect("an indexed record is mapped");
        mapped_f32(map, self.start(record as usize) + KEY, self.dim)
    }

    /// Adds a block of rows `[dim]`, and returns when they are on the disk. Keys that are there
    /// already keep their row.
    ///
    /// # Errors
    /// [`Error::Locked`] while another process writes to this cache. [`Error::Io`] when the block
    /// can't be written, on a full disk for example: the rows of earlier blocks are kept, and
    /// appending may be tried again.
    ///
    /// # Panics
    /// If a row has another width.
    pub fn append(&mut self, rows: &[(Key, &[f32])]) -> Result<()> {
        if rows.iter().all(|(key, _)| self.contains(key)) {
            return Ok(());
        }
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.start_writing()?,
        };
        // On failure the writer is gone: the next one reads what this one left.
        self.write(&writer.file, rows).map_err(|e| self.not_written(e))?;
        self.read_new_records(&writer.file)?;
        self.writer = Some(writer);
        Ok(())
    }

    fn write(&self, mut file: &File, rows: &[(Key, &[f32])]) -> io::Result<()> {
        let mut block = Vec::with_capacity(rows.len() * self.record_size());
        let mut seen = HashSet::new();
        for (key, row) in rows.iter().filter(|(key, _)| !self.contains(key) && seen.insert(key)) {
            push_record(&mut block, key, row, self.dim);
        }
        file.seek(SeekFrom::Start(self.start(self.records) as u64))?;
        file.write_all(&block)?;
        file.sync_data()
    }

    /// Locks the cache and reads what other processes have written meanwhile.
    fn start_writing(&mut self) -> Result<Writer> {
        let folder = self.path.parent().expect("a file in a folder");
        fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        let lock = lock(&folder.join("lock"))?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&self.path).map_err(|e| Error::io(&self.path, e))?;
        if file_size(&file, &self.path)? < HEADER {
            let header = self.header();
            let written = file.write_all(&header).and_then(|()| file.sync_data());
            written.map_err(|e| self.not_written(e))?;
        }
        self.read_new_records(&file)?;
        Ok(Writer { file, _lock: lock })
    }

    /// Maps the file as it is now, and indexes the whole records behind those that are known.
    #[allow(unsafe_code)]
    fn read_new_records(&mut self, file: &File) -> Result<()> {
        let size = file_size(file, &self.path)?;
        if size < HEADER {
            // Killed while creating it: as good as absent.
            return Ok(());
        }
        // SAFETY: the file never shrinks, and whole records are never written again. Another
        // process may be writing behind them; those bytes count only if their checksum fits.
        let map = unsafe { Mmap::map(file) }.map_err(|e| Error::io(&self.path, e))?;
        self.check_header(&map)?;
        let known = self.records;
        // On this thread alone: a caller that holds a lock on the cache may have rayon's threads
        // waiting for it.
        let records = map[self.start(known)..].chunks_exact(self.record_size());
        let whole: Vec<bool> = records.map(is_whole).collect();
        let new = whole.iter().rposition(|&whole| whole).map_or(0, |last| last + 1);
        self.records = known + new;
        for (record, _) in (known..self.records).zip(whole).filter(|&(_, whole)| whole) {
            let key = map[self.start(record)..][..KEY].try_into().expect("the size of a key");
            let number = u32::try_from(record).expect("fewer than 4 billion rows");
            self.index.entry(key).or_insert(number);
        }
        self.damaged = self.records - self.index.len();
        self.map = Some(map);
        Ok(())
    }

    fn header(&self) -> Vec<u8> {
        let (made_by, dim) = (self.made_by.clone(), self.dim);
        let header = Header { format: "xr features 1".into(), made_by, dim };
        let mut bytes = serde_json::to_vec(&header).expect("strings and a number");
        assert!(bytes.len() <= HEADER - CHECKSUM, "a fingerprint of more than 64 digits");
        bytes.resize(HEADER - CHECKSUM, b' ');
        push_checksum(&mut bytes, 0);
        bytes
    }

    fn check_header(&self, map: &[u8]) -> Result<()> {
        let bytes = &map[..HEADER];
        if bytes == self.header() {
            return Ok(());
        }
        let header = is_whole(bytes).then(|| serde_json::from_slice(&bytes[..HEADER - CHECKSUM]));
        let Some(Ok(Header { made_by, dim, .. })) = header else {
            return Err(Error::corrupt(&self.path, "its header isn't that of a feature cache"));
        };
        if made_by != self.made_by {
            let (path, expected) = (self.path.clone(), self.made_by.clone());
            return Err(Error::MadeByAnother { path, expected, found: made_by });
        }
        let why = format!("rows of width {dim}, expected {}", self.dim);
        Err(Error::corrupt(&self.path, why))
    }

    /// A record: key, values, checksum.
    fn record_size(&self) -> usize {
        KEY + self.dim * size_of::<f32>() + CHECKSUM
    }

    fn start(&self, record: usize) -> usize {
        HEADER + record * self.record_size()
    }

    fn not_written(&self, e: io::Error) -> Error {
        let full = matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
        let advice = format!(
            "{e}; free some space and go on, or use a cache folder on another disk \
             (the {} rows written before are kept)",
            self.len()
        );
        Error::io(&self.path, if full { io::Error::new(e.kind(), advice) } else { e })
    }
}

impl CachedRows {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.records.len()
    }

    /// A row, `[dim]`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> &[f32] {
        self.cache.row(self.records[row])
    }
}

fn push_record(block: &mut Vec<u8>, key: &Key, row: &[f32], dim: usize) {
    assert!(row.len() == dim, "a row of {} values in a cache of rows of {dim}", row.len());
    let start = block.len();
    block.extend_from_slice(key);
    block.extend(row.iter().flat_map(|value| value.to_le_bytes()));
    push_checksum(block, start);
}

fn push_checksum(bytes: &mut Vec<u8>, start: usize) {
    let checksum = crc32fast::hash(&bytes[start..]);
    bytes.extend(checksum.to_le_bytes());
}

/// Does the checksum at the end fit what is before it?
fn is_whole(bytes: &[u8]) -> bool {
    let (content, checksum) = bytes.split_at(bytes.len() - CHECKSUM);
    crc32fast::hash(content).to_le_bytes() == checksum
}

fn file_size(file: &File, path: &Path) -> Result<usize> {
    Ok(file.metadata().map_err(|e| Error::io(path, e))?.len() as usize)
}

/// A file that is locked until it is dropped.
///
/// # Errors
/// [`Error::Locked`] while another process has it; [`Error::Io`].
pub(crate) fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).map_err(|e| Error::io(path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { path: path.into() }),
        Err(TryLockError::Error(e)) => Err(Error::io(path, e)),
    }
}

/// What the features of a text are filed under.
pub fn text_key(text: &str) -> Key {
    Sha256::digest(text).into()
}

/// What the features of pictures are filed under, in their order; hashed on all cores.
pub fn content_keys(pictures: &[&Picture]) -> Vec<Result<Key>> {
    pictures.par_iter().map(|picture| picture.content_key()).collect()
}

impl Picture {
    /// What the picture's features are filed under: the SHA-256 of its file's bytes, whatever the
    /// file is called, or of the scene's pixels.
    ///
    /// # Errors
    /// [`Error::Io`] when the file can't be read.
    pub fn content_key(&self) -> Result<Key> {
        match &self.source {
            Source::File(path) => {
                let mut hash = Sha256::new();
                let read = File::open(path).and_then(|mut file| io::copy(&mut file, &mut hash));
                read.map_err(|e| Error::io(path, e))?;
                Ok(hash.finalize().into())
            }
            Source::Scene(scene) => Ok(Sha256::digest(scene.draw().as_raw()).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::dataset::synthetic::{SyntheticConfig, generate};

    const DIM: usize = 3;

    fn maker() -> Fingerprint {
        Fingerprint::of(["maker"])
    }

    fn key(i: usize) -> Key {
        text_key(&i.to_string())
    }

    fn row(i: usize) -> [f32; DIM] {
        [i as f32, 0.5, -1.0]
    }

    fn open(dir: &TempDir) -> FeatureCache {
        FeatureCache::open(dir.path(), &maker(), DIM).unwrap()
    }

    fn try_append(cache: &mut FeatureCache, rows: impl IntoIterator<Item = usize>) -> Result<()> {
        let rows: Vec<_> = rows.into_iter().map(|i| (key(i), row(i))).collect();
        let rows: Vec<_> = rows.iter().map(|(key, row)| (*key, &row[..])).collect();
        cache.append(&rows)
    }

    fn append(cache: &mut FeatureCache, rows: impl IntoIterator<Item = usize>) {
        try_append(cache, rows).unwrap();
    }

    fn file(dir: &TempDir) -> PathBuf {
        dir.path().join(maker().short()).join("features")
    }

    /// A cache of four rows, in two blocks: its folder and the bytes of its file.
    fn four_rows() -> (TempDir, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        append(&mut open(&dir), 0..2);
        append(&mut open(&dir), 2..4);
        let bytes = fs::read(file(&dir)).unwrap();
        (dir, bytes)
    }

    fn rows_there(cache: &FeatureCache) -> Vec<usize> {
        let there: Vec<_> = (0..9).filter(|&i| cache.contains(&key(i))).collect();
        assert!(there.iter().all(|&i| cache.get(&key(i)) == Some(&row(i))));
        assert_eq!(there.len(), cache.len());
        there
    }

    #[test]
    fn written_and_read() {
        let (dir, _) = four_rows();
        let cache = open(&dir);
        assert_eq!(rows_there(&cache), [0, 1, 2, 3]);
        assert_eq!(cache.get(&key(4)), None);
        let table = open(&dir).into_rows(&[key(3), key(0), key(3)]).unwrap();
        assert_eq!((table.rows(), table.row(1), table.row(2)), (3, &row(0)[..], &row(3)[..]));
        assert!(open(&dir).into_rows(&[key(0), key(4)]).is_none());
        let two = cache.collect(&[key(3), key(0)]).unwrap();
        assert_eq!(two.values(), [row(3), row(0)].concat());
        assert_eq!(two.made_by(), &maker());
        assert!(cache.collect(&[key(3), key(4)]).is_none());
    }

    #[test]
    fn nothing_is_created_by_looking() {
        let dir = tempfile::tempdir().unwrap();
        assert!(open(&dir).is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_key_keeps_its_first_row() {
        let dir = tempfile::tempdir().unwrap();
        let mut cache = open(&dir);
        let rows = [(key(0), &row(0)[..]), (key(0), &row(5)), (key(1), &row(1))];
        cache.append(&rows).unwrap();
        cache.append(&[(key(1), &row(5))]).unwrap();
        assert_eq!(rows_there(&cache), [0, 1]);
        assert_eq!(fs::read(file(&dir)).unwrap().len(), cache.start(2));
    }

    /// Killed at any byte: what was whole is there, and the rest can be written again.
    #[test]
    fn cut_at_any_byte() {
        let (dir, bytes) = four_rows();
        for length in (0..HEADER).step_by(50).chain(HEADER - 1..=bytes.len()) {
            fs::write(file(&dir), &bytes[..length]).unwrap();
            let mut cache = open(&dir);
            let whole = length.saturating_sub(HEADER) / cache.record_size();
            assert_eq!(rows_there(&cache), (0..whole).collect::<Vec<_>>());
            assert_eq!(cache.damaged(), 0);
            append(&mut cache, 0..5);
            assert_eq!(rows_there(&cache), [0, 1, 2, 3, 4]);
            drop(cache);
            assert_eq!(rows_there(&open(&dir)), [0, 1, 2, 3, 4]);
        }
    }

    /// After a power cut a file may have got its length and not its content.
    #[test]
    fn a_tail_of_zeros() {
        let (dir, mut bytes) = four_rows();
        bytes.resize(bytes.len() + 1000, 0);
        fs::write(file(&dir), &bytes).unwrap();
        append(&mut open(&dir), 4..5);
        assert_eq!(rows_there(&open(&dir)), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn any_byte_changed() {
        let (dir, bytes) = four_rows();
        let size = open(&dir).record_size();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x20;
            fs::write(file(&dir), &changed).unwrap();
            let Some(lost) = at.checked_sub(HEADER).map(|at| at / size) else {
                let error = FeatureCache::open(dir.path(), &maker(), DIM).unwrap_err();
                assert!(matches!(error, Error::Corrupt { .. }), "{error}");
                continue;
            };
            let mut cache = open(&dir);
            assert_eq!(rows_there(&cache), (0..4).filter(|&i| i != lost).collect::<Vec<_>>());
            // A last row that is damaged can't be told from one that was never whole.
            assert_eq!(cache.damaged(), usize::from(lost < 3));
            append(&mut cache, [lost]);
            assert_eq!(rows_there(&open(&dir)), [0, 1, 2, 3]);
        }
    }

    #[test]
    fn a_damaged_header() {
        let (dir, mut bytes) = four_rows();
        bytes[0] = b'?';
        fs::write(file(&dir), &bytes).unwrap();
        assert_eq!(
            FeatureCache::open(dir.path(), &maker(), DIM).unwrap_err().to_string(),
            format!(
                "{}: damaged (its header isn't that of a feature cache); \
                 delete it and it is made again",
                file(&dir).display()
            )
        );
    }

    #[test]
    fn another_maker_has_another_folder() {
        let (dir, _) = four_rows();
        let other = Fingerprint::of(["other"]);
        assert!(FeatureCache::open(dir.path(), &other, DIM).unwrap().is_empty());
        let moved = dir.path().join(other.short());
        fs::rename(file(&dir).parent().unwrap(), &moved).unwrap();
        assert_eq!(
            FeatureCache::open(dir.path(), &other, DIM).unwrap_err().to_string(),
            format!(
                "{}: made by model {}, but this is model {other}; embed it again with this model",
                moved.join("features").display(),
                maker()
            )
        );
    }

    #[test]
    fn another_width() {
        let (dir, _) = four_rows();
        let error = FeatureCache::open(dir.path(), &maker(), 4).unwrap_err().to_string();
        assert!(error.contains("features: damaged (rows of width 3, expected 4);"), "{error}");
    }

    #[test]
    fn one_writer_many_readers() {
        let (dir, _) = four_rows();
        let (mut first, mut second) = (open(&dir), open(&dir));
        append(&mut first, 4..5);
        assert_eq!(rows_there(&open(&dir)), [0, 1, 2, 3, 4]);
        assert_eq!(
            try_append(&mut second, 5..6).unwrap_err().to_string(),
            format!(
                "{}: another process is writing here; \
                 wait until it has ended, or use another folder",
                file(&dir).with_file_name("lock").display()
            )
        );
        drop(first);
        append(&mut second, 5..6);
        assert_eq!(rows_there(&second), [0, 1, 2, 3, 4, 5]);
        assert_eq!(rows_there(&open(&dir)), [0, 1, 2, 3, 4, 5]);
    }

    // /dev/full refuses every write, as a full disk does.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_disk_that_fills_up() {
        let (dir, _) = four_rows();
        let mut cache = open(&dir);
        append(&mut cache, 4..5);
        let full = OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
        cache.writer.as_mut().unwrap().file = full;
        assert_eq!(
            try_append(&mut cache, 5..6).unwrap_err().to_string(),
            format!(
                "{}: No space left on device (os error 28); free some space and go on, or use a \
                 cache folder on another disk (the 5 rows written before are kept)",
                file(&dir).display()
            )
        );
        assert_eq!(rows_there(&cache), [0, 1, 2, 3, 4]);
        append(&mut cache, 5..6);
        assert_eq!(rows_there(&open(&dir)), [0, 1, 2, 3, 4, 5]);
    }

    /// A write that fails in the middle may leave whole rows, which others may have mapped by now.
    #[test]
    fn rows_left_by_a_failed_write_are_kept() {
        let (dir, mut bytes) = four_rows();
        let mut cache = open(&dir);
        push_record(&mut bytes, &key(4), &row(4), DIM);
        bytes.extend([7; 10]);
        fs::write(file(&dir), &bytes).unwrap();
        append(&mut cache, 5..6);
        assert_eq!(rows_there(&cache), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    #[should_panic(expected = "a row of 2 values in a cache of rows of 3")]
    fn a_row_of_another_width() {
        let dir = tempfile::tempdir().unwrap();
        let _ = open(&dir).append(&[(key(0), &[1.0, 2.0])]);
    }

    #[test]
    fn content_not_names() {
        let dir = tempfile::tempdir().unwrap();
        let picture = |name: &str, content: &str| {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            Picture { name: name.into(), source: Source::File(path) }
        };
        let pictures = [picture("a", "abc"), picture("b", "abc"), picture("c", "abd")];
        let keys = content_keys(&pictures.iter().collect::<Vec<_>>());
        let [a, b, c] = <[_; 3]>::try_from(keys).unwrap().map(Result::unwrap);
        assert_eq!((a, b), (text_key("abc"), text_key("abc")));
        assert_ne!(a, c);
    }

    #[test]
    fn scenes_by_what_they_show() {
        let scenes = |seed| generate(&SyntheticConfig { pictures: 2, seed, ..Default::default() });
        let [one, same, other] = [scenes(1), scenes(1), scenes(2)].map(|c| c.pictures);
        assert_eq!(one[0].content_key().unwrap(), same[0].content_key().unwrap());
        assert_ne!(one[0].content_key().unwrap(), one[1].content_key().unwrap());
        assert_ne!(one[0].content_key().unwrap(), other[0].content_key().unwrap());
    }
}
