//! `metadata_N.parquet`, row by row.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use parquet::{
    basic::Compression,
    data_type::{ByteArray, ByteArrayType},
    errors::{ParquetError, Result as Said},
    file::{
        properties::WriterProperties,
        reader::{FileReader, SerializedFileReader},
        writer::SerializedFileWriter,
    },
    record::reader::RowIter,
    schema::parser::parse_message_type,
};
use serde_json::{Map, Value};

use super::{CAPTION, IMAGE_PATH, create_folder_of, wrong};
use crate::{Error, NewItem, Result};

/// The rows of a file.
pub(super) struct Rows {
    rows: RowIter<'static>,
    path: PathBuf,
    /// How many there are.
    pub len: usize,
}

pub(super) fn open(path: &Path) -> Result<Rows> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let reader = SerializedFileReader::new(file).map_err(|e| said(path, &e))?;
    let len = reader.metadata().file_metadata().num_rows() as usize;
    Ok(Rows { rows: reader.into_iter(), path: path.into(), len })
}

impl Iterator for Rows {
    type Item = Result<Map<String, Value>>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.rows.next()?.map_err(|e| said(&self.path, &e));
        Some(row.map(|row| match row.to_json_value() {
            Value::Object(row) => row,
            _ => Map::new(),
        }))
    }
}

/// A file of two columns.
pub(super) struct Writer {
    file: SerializedFileWriter<File>,
    path: PathBuf,
}

impl Writer {
    pub fn create(path: &Path) -> Result<Self> {
        create_folder_of(path)?;
        let file = File::create(path).map_err(|e| Error::io(path, e))?;
        let create = || {
            let schema = format!(
                "message schema {{ REQUIRED BYTE_ARRAY {IMAGE_PATH} (UTF8); \
                 REQUIRED BYTE_ARRAY {CAPTION} (UTF8); }}"
            );
            let properties = WriterProperties::builder().set_compression(Compression::SNAPPY);
            let schema = Arc::new(parse_message_type(&schema)?);
            SerializedFileWriter::new(file, schema, Arc::new(properties.build()))
        };
        Ok(Self { file: create().map_err(|e| said(path, &e))?, path: path.into() })
    }

    pub fn append(&mut self, items: &[NewItem]) -> Result<()> {
        let sources = items.iter().map(|new| new.item.source.as_str()).collect();
        let caption = |new: &NewItem| new.item.texts.first().cloned().unwrap_or_default();
        let captions: Vec<_> = items.iter().map(caption).collect();
        let captions = captions.iter().map(String::as_str).collect();
        self.write_group([sources, captions]).map_err(|e| said(&self.path, &e))
    }

    fn write_group(&mut self, columns: [Vec<&str>; 2]) -> Said<()> {
        let mut group = self.file.next_row_group()?;
        for values in columns {
            let missing = || ParquetError::General("a column is missing".into());
            let mut column = group.next_column()?.ok_or_else(missing)?;
            let values: Vec<_> = values.into_iter().map(ByteArray::from).collect();
            column.typed::<ByteArrayType>().write_batch(&values, None, None)?;
            column.close()?;
        }
        group.close().map(drop)
    }

    pub fn finish(mut self) -> Result<()> {
        self.file.finish().map(drop).map_err(|e| said(&self.path, &e))
    }
}

fn said(path: &Path, error: &ParquetError) -> Error {
    wrong(path, &error.to_string())
}
