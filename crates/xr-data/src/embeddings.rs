use std::{fs::File, path::Path};

use memmap2::Mmap;
use ndarray::ArrayView2;
use safetensors::{Dtype, SafeTensors};

use crate::{EmbeddingsWriter, Error, Fingerprint, Result};

const TENSOR: &str = "embeddings";
const MADE_BY: &str = "made_by";

/// Rows of `f32`, `[rows, dim]`, with the fingerprint of the model that made them.
///
/// Held in memory, or mapped from a file and then paged in as it is read.
///
/// ```
/// use xr_data::{Embeddings, Fingerprint};
///
/// let e = Embeddings::new(vec![3.0, 4.0, 0.0, 2.0], 2, Fingerprint::of(["me"]));
/// assert_eq!(e.rows(), 2);
/// assert_eq!(e.normalized().row(0), [0.6, 0.8]);
/// ```
#[derive(Debug)]
pub struct Embeddings {
    values: Values,
    rows: usize,
    dim: usize,
    made_by: Fingerprint,
}

#[derive(Debug)]
enum Values {
    Owned(Vec<f32>),
    Mapped { map: Mmap, offset: usize },
}

impl Embeddings {
    /// Rows of width `dim`, laid out one after the other.
    ///
    /// # Panics
    /// If `values` is no whole number of rows.
    pub fn new(values: Vec<f32>, dim: usize, made_by: Fingerprint) -> Self {
        assert!(
            dim > 0 && values.len().is_multiple_of(dim),
            "{} values are no whole number of rows of width {dim}",
            values.len()
        );
        Self { rows: values.len() / dim, values: Values::Owned(values), dim, made_by }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Width of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// What made these embeddings.
    pub fn made_by(&self) -> &Fingerprint {
        &self.made_by
    }

    /// All values, row after row.
    pub fn values(&self) -> &[f32] {
        match &self.values {
            Values::Owned(values) => values,
            Values::Mapped { map, offset } => mapped_f32(map, *offset, self.rows * self.dim),
        }
    }

    /// One row, `[dim]`.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values()[row * self.dim..][..self.dim]
    }

    /// The matrix, `[rows, dim]`.
    pub fn view(&self) -> ArrayView2<'_, f32> {
        ArrayView2::from_shape((self.rows, self.dim), self.values())
            .expect("rows × dim values, by construction")
    }

    /// The chosen rows, in the order given.
    pub fn select(&self, rows: &[u32]) -> Self {
        let values = rows.iter().flat_map(|&row| self.row(row as usize)).copied().collect();
        Self::new(values, self.dim, self.made_by.clone())
    }

    /// Every row divided by its Euclidean length; a row of zeros stays as it is.
    pub fn normalized(&self) -> Self {
        let mut values = self.values().to_vec();
        normalize_rows(&mut values, self.dim);
        Self::new(values, self.dim, self.made_by.clone())
    }

    /// The same as [`normalized`](Self::normalized), without a second copy of rows in memory.
    pub fn into_normalized(mut self) -> Self {
        let dim = self.dim;
        normalize_rows(self.owned(), dim);
        self
    }

    /// Adds rows at the end. Rows that are mapped from a file are read into memory first; the file
    /// stays as it is.
    ///
    /// # Panics
    /// If `values` is no whole number of rows.
    pub fn append(&mut self, values: &[f32]) {
        let dim = self.dim;
        assert!(values.len().is_multiple_of(dim), "{} values in rows of {dim}", values.len());
        self.owned().extend_from_slice(values);
        self.rows += values.len() / dim;
    }

    /// Removes a row and puts the last one in its place. Rows that are mapped from a file are read
    /// into memory first; the file stays as it is.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn swap_remove(&mut self, row: usize) {
        let (dim, last) = (self.dim, self.rows - 1);
        let values = self.owned();
        values.copy_within(last * dim.., row * dim);
        values.truncate(last * dim);
        self.rows = last;
    }

    fn owned(&mut self) -> &mut Vec<f32> {
        if let Values::Mapped { .. } = self.values {
            self.values = Values::Owned(self.values().to_vec());
        }
        match &mut self.values {
            Values::Owned(values) => values,
            Values::Mapped { .. } => unreachable!("just replaced"),
        }
    }

    /// Refuses embeddings that something other than `expected` made.
    ///
    /// # Errors
    /// [`Error::MadeByAnother`], naming `path`.
    pub fn expect_made_by(&self, expected: &Fingerprint, path: &Path) -> Result<()> {
        if &self.made_by == expected {
            return Ok(());
        }
        Err(Error::MadeByAnother {
            path: path.into(),
            expected: expected.clone(),
            found: self.made_by.clone(),
        })
    }

    /// Writes a safetensors file: one tensor `embeddings`, and `made_by` in its metadata. The file
    /// appears under its name only when it is whole.
    ///
    /// # Errors
    /// [`Error::Io`] when it can't be written, on a full disk for example.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut writer = EmbeddingsWriter::create(path, self.dim, self.made_by.clone())?;
        writer.append(self.values())?;
        writer.finish()
    }

    /// Maps a file that [`Embeddings::save`] wrote.
    ///
    /// # Errors
    /// [`Error::Io`] when it can't be opened, [`Error::Corrupt`] when it isn't such a file.
    #[allow(unsafe_code)]
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        // SAFETY: the map is read-only and private to `Self`; our own writers replace files by
        // renaming, never in place, so the mapped bytes don't change under the slice.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
        let (rows, dim, offset, made_by) = header(&map).map_err(|e| Error::corrupt(path, e))?;
        Ok(Self { values: Values::Mapped { map, offset }, rows, dim, made_by })
    }
}

/// Divides every row of width `dim` by its Euclidean length; a row of zeros stays as it is.
pub fn normalize_rows(values: &mut [f32], dim: usize) {
    for row in values.chunks_exact_mut(dim) {
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        if length > 0.0 {
            row.iter_mut().for_each(|x| *x /= length);
        }
    }
}

fn header(map: &Mmap) -> std::result::Result<(usize, usize, usize, Fingerprint), String> {
    let (_, metadata) = SafeTensors::read_metadata(map).map_err(|e| e.to_string())?;
    let file = SafeTensors::deserialize(map).map_err(|e| e.to_string())?;
    let tensor = file.tensor(TENSOR).map_err(|e| e.to_string())?;
    let &[rows, dim] = tensor.shape() else {
        return Err(format!("expected two dimensions, found {:?}", tensor.shape()));
    };
    if tensor.dtype() != Dtype::F32 || dim == 0 {
        return Err(format!("expected F32 rows, found {:?} [{rows}, {dim}]", tensor.dtype()));
    }
    let offset = tensor.data().as_ptr() as usize - map.as_ptr() as usize;
    if !offset.is_multiple_of(align_of::<f32>()) {
        return Err(format!("the values start at byte {offset}, which is no multiple of 4"));
    }
    let made_by = metadata.metadata().as_ref().and_then(|m| m.get(MADE_BY)).cloned();
    let made_by = made_by.ok_or_else(|| format!("its metadata has no `{MADE_BY}`"))?;
    Ok((rows, dim, offset, made_by.into()))
}

/// `len` values of a map, from byte `offset` on, which is a multiple of 4.
#[allow(unsafe_code)]
pub(crate) fn mapped_f32(map: &Mmap, offset: usize, len: usize) -> &[f32] {
    assert!(offset.is_multiple_of(align_of::<f32>()), "values at byte {offset}");
    let bytes = &map[offset..][..len * size_of::<f32>()];
    // SAFETY: `bytes` covers `len` values, a page-aligned map plus an aligned offset is aligned, and
    // every bit pattern is an `f32`. Files are little-endian, as are all targets that Burn's CPU
    // backends support.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), len) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_rows() -> Embeddings {
        Embeddings::new(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3, Fingerprint::of(["model"]))
    }

    #[test]
    fn saved_and_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e.safetensors");
        two_rows().save(&path).unwrap();
        let opened = Embeddings::open(&path).unwrap();
        assert_eq!(opened.view(), two_rows().view());
        assert_eq!(opened.made_by(), two_rows().made_by());
    }

    #[test]
    fn truncated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e.safetensors");
        two_rows().save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let error = Embeddings::open(&path).unwrap_err().to_string();
        assert!(error.contains("e.safetensors") && error.contains("damaged"), "{error}");
    }

    #[test]
    fn made_by_another_model() {
        let error = two_rows()
            .expect_made_by(&Fingerprint::of(["other"]), Path::new("e.safetensors"))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "e.safetensors: made by model {}, but this is model {}; embed it again with this model",
                Fingerprint::of(["model"]),
                Fingerprint::of(["other"]),
            )
        );
    }

    #[test]
    fn normalized_in_place_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e.safetensors");
        two_rows().save(&path).unwrap();
        let expected = two_rows().normalized();
        for rows in [two_rows(), Embeddings::open(&path).unwrap()] {
            assert_eq!(rows.into_normalized().view(), expected.view());
        }
    }

    #[test]
    fn selected_rows() {
        assert_eq!(two_rows().select(&[1, 0, 1]).values(), [4., 5., 6., 1., 2., 3., 4., 5., 6.]);
    }

    #[test]
    fn a_mapped_file_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e.safetensors");
        two_rows().save(&path).unwrap();
        let mut rows = Embeddings::open(&path).unwrap();
        rows.append(&[7., 8., 9.]);
        rows.swap_remove(0);
        assert_eq!(rows.view(), ndarray::array![[7., 8., 9.], [4., 5., 6.]]);
        rows.swap_remove(1);
        assert_eq!(rows.values(), [7., 8., 9.]);
        assert_eq!(Embeddings::open(&path).unwrap().view(), two_rows().view());
    }
}
