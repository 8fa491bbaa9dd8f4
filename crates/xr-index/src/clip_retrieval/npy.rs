//! NumPy's files (`numpy.lib.format`) of matrices of floats: a header that is a Python dictionary,
//! then the values, row after row.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, Write},
    path::{Path, PathBuf},
};

use half::f16;

use super::{create_folder_of, wrong};
use crate::{Error, Result};

const MAGIC: &[u8] = b"\x93NUMPY";
/// What a header ends at a multiple of.
const ALIGNMENT: usize = 64;

/// A file that is read row by row.
#[derive(Debug)]
pub(super) struct Reader {
    file: BufReader<File>,
    path: PathBuf,
    pub rows: usize,
    pub dim: usize,
    /// Bytes of a value: 2 or 4.
    width: usize,
}

impl Reader {
    pub fn open(path: &Path) -> Result<Self> {
        let io = |e| Error::io(path, e);
        let mut file = BufReader::new(File::open(path).map_err(io)?);
        let header = header(&mut file).map_err(io)?;
        let (rows, dim, width) = parse(&header).ok_or_else(|| {
            wrong(path, &format!("expected rows of f2 or f4 in NumPy's format, found {header:?}"))
        })?;
        let there =
            file.get_ref().metadata().map_err(io)?.len() - file.stream_position().map_err(io)?;
        if rows.checked_mul(dim).and_then(|n| n.checked_mul(width)) != usize::try_from(there).ok() {
            let expected = format!("expected {rows} × {dim} values of {width} bytes");
            return Err(wrong(path, &format!("{expected} behind the header, found {there} bytes")));
        }
        Ok(Self { file, path: path.into(), rows, dim, width })
    }

    /// The next rows, `[rows, dim]`.
    pub fn read(&mut self, rows: usize) -> Result<Vec<f32>> {
        let mut bytes = vec![0; rows * self.dim * self.width];
        self.file.read_exact(&mut bytes).map_err(|e| Error::io(&self.path, e))?;
        Ok(match self.width {
            2 => bytes.as_chunks().0.iter().map(|&x| f16::from_le_bytes(x).to_f32()).collect(),
            _ => bytes.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect(),
        })
    }
}

/// The dictionary; of another file, its first bytes.
fn header(file: &mut impl Read) -> io::Result<String> {
    let mut start = [0; 8];
    file.read_exact(&mut start)?;
    if &start[..6] != MAGIC {
        return Ok(String::from_utf8_lossy(&start).into());
    }
    // Version 1 has two bytes for the length, later ones four.
    let mut length = [0; 4];
    file.read_exact(&mut length[..if start[6] == 1 { 2 } else { 4 }])?;
    let mut text = String::new();
    file.take(u32::from_le_bytes(length).into()).read_to_string(&mut text)?;
    Ok(text)
}

/// Rows, values in each, and bytes of a value.
fn parse(header: &str) -> Option<(usize, usize, usize)> {
    let field = |name: &str| Some(header.split_once(&format!("'{name}':"))?.1.trim_start());
    let width = match field("descr")?.get(..5)? {
        "'<f2'" => 2,
        "'<f4'" => 4,
        _ => return None,
    };
    let shape = field("shape")?.strip_prefix('(')?.split_once(')')?.0;
    let (rows, dim) = shape.split_once(',')?;
    let (rows, dim) = (rows.trim().parse().ok()?, dim.trim().trim_end_matches(',').parse().ok()?);
    (field("fortran_order")?.starts_with("False") && dim > 0).then_some((rows, dim, width))
}

/// A file of as many rows of `f32` as are said at its beginning.
pub(super) struct Writer {
    file: BufWriter<File>,
    path: PathBuf,
    dim: usize,
}

impl Writer {
    pub fn create(path: &Path, rows: usize, dim: usize) -> Result<Self> {
        create_folder_of(path)?;
        let file = File::create(path).map_err(|e| Error::io(path, e))?;
        let mut writer = Self { file: BufWriter::new(file), path: path.into(), dim };
        let header =
            format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
        // Magic, two bytes of version, two of length, the text and a line's end.
        let before = MAGIC.len() + 4;
        let length = (before + header.len() + 1).next_multiple_of(ALIGNMENT) - before;
        let header = format!("{header:<0$}\n", length - 1);
        let start = [MAGIC, &[1, 0], &(length as u16).to_le_bytes(), header.as_bytes()].concat();
        writer.write(&start)?;
        Ok(writer)
    }

    /// A row, or zeros.
    pub fn append(&mut self, row: Option<&Vec<f32>>) -> Result<()> {
        let bytes: Vec<_> = match row {
            Some(row) => row.iter().flat_map(|x| x.to_le_bytes()).collect(),
            None => vec![0; self.dim * size_of::<f32>()],
        };
        self.write(&bytes)
    }

    pub fn finish(mut self) -> Result<()> {
        self.file.flush().map_err(|e| Error::io(&self.path, e))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io(&self.path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("img_emb/img_emb_0.npy");
        let mut writer = Writer::create(&path, 3, 2).unwrap();
        for row in [Some(&vec![1., 2.]), None, Some(&vec![0.25, -4.])] {
            writer.append(row).unwrap();
        }
        writer.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 128 + 3 * 2 * 4);
        let mut reader = Reader::open(&path).unwrap();
        assert_eq!((reader.rows, reader.dim), (3, 2));
        assert_eq!(reader.read(1).unwrap(), [1., 2.]);
        assert_eq!(reader.read(2).unwrap(), [0., 0., 0.25, -4.]);
        assert!(reader.read(1).unwrap_err().to_string().contains("img_emb_0.npy"));
    }

    #[test]
    fn more_than_the_file_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("img_emb_0.npy");
        let refused = |rows, dim| {
            Writer::create(&path, rows, dim).unwrap().finish().unwrap();
            Reader::open(&path).unwrap_err().to_string()
        };
        let found = "behind the header, found 0 bytes";
        assert!(refused(3, 2).contains(&format!("expected 3 × 2 values of 4 bytes {found}")));
        // Of these the number of bytes is no number that a computer has.
        assert!(refused(usize::MAX, usize::MAX).contains(found));
    }

    #[test]
    fn headers() {
        let parsed = |descr, order, shape| {
            parse(&format!(
                "{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}   \n"
            ))
        };
        assert_eq!(parsed("<f2", "False", "(7, 512)"), Some((7, 512, 2)));
        assert_eq!(parsed("<f4", "False", "(0, 3)"), Some((0, 3, 4)));
        assert_eq!(parsed("<f8", "False", "(7, 512)"), None);
        assert_eq!(parsed("<f4", "True", "(7, 512)"), None);
        assert_eq!(parsed("<f4", "False", "(7,)"), None);
    }
}
