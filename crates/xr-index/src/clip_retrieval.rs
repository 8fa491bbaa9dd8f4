mod metadata;
mod npy;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::{Catalogue, Error, Item, NewItem, Result, Space};

/// Rows that are read or written together.
const ROWS: usize = 10_000;
const IMAGE_PATH: &str = "image_path";
const CAPTION: &str = "caption";

/// Embeddings in the folder layout of [clip-retrieval](https://github.com/rom1504/clip-retrieval),
/// as its `clip inference` leaves them and its `clip back` serves them. Row `i` of each file is of
/// the same picture and its caption.
///
/// | file | what |
/// |---|---|
/// | `img_emb/img_emb_N.npy`, `text_emb/text_emb_N.npy` | embeddings, `[rows, dim]`, `f16` or `f32` |
/// | `metadata/metadata_N.parquet` | columns `image_path`, `caption`, and others |
/// | `image.index`, `text.index` | indexes of FAISS; written with the feature `faiss`, never read |
#[derive(Debug)]
pub struct ClipRetrieval {
    parts: Vec<Part>,
    dim: usize,
}

/// The files of one number.
#[derive(Debug)]
struct Part {
    metadata: PathBuf,
    embeddings: [Option<PathBuf>; 2],
}

impl ClipRetrieval {
    /// Looks which files are there.
    ///
    /// # Errors
    /// [`Error::ClipRetrieval`] if there is no metadata, or a part has no embeddings.
    pub fn open(dir: &Path) -> Result<Self> {
        let parts = parts(dir)?;
        let first = parts[0].embeddings.iter().flatten().next();
        let dim = first.map(|path| npy::Reader::open(path)).transpose()?;
        let dim = dim.ok_or_else(|| wrong(dir, "there is neither img_emb nor text_emb"))?.dim;
        Ok(Self { parts, dim })
    }

    /// Width of the embeddings.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Puts an item for each row into a catalogue and returns how many. `id_of` makes an id of a
    /// picture's path; rows of one id are one item, and the last of them counts. Columns other than
    /// `image_path` and `caption` become metadata.
    ///
    /// # Errors
    /// [`Error::ClipRetrieval`] for a file that isn't of this layout, or of another length than the
    /// others; those of [`Catalogue::put`].
    pub fn put_into(&self, catalogue: &Catalogue, id_of: impl Fn(&str) -> u64) -> Result<usize> {
        let mut rows = 0;
        for part in &self.parts {
            let mut reader = PartReader::open(part)?;
            while let Some(items) = reader.next(&id_of)? {
                rows += items.len();
                catalogue.put(&items)?;
            }
        }
        catalogue.save()?;
        Ok(rows)
    }

    /// Writes a catalogue as one part and returns the number of rows. A row has room for one
    /// embedding of a picture, one of a text and one caption: of several the first is written, and
    /// zeros where there is none.
    ///
    /// With the feature `faiss`, indexes too: of the catalogue's factory string, or else `Flat`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Store`], and what FAISS says.
    pub fn write(catalogue: &Catalogue, dir: &Path) -> Result<usize> {
        let ids = catalogue.ids()?;
        let mut writers = vec![];
        for space in spaces(catalogue)? {
            let path = embeddings_file(dir, space, "0");
            writers.push((space, npy::Writer::create(&path, ids.len(), catalogue.config().dim)?));
        }
        let mut metadata = metadata::Writer::create(&dir.join("metadata/metadata_0.parquet"))?;
        for ids in ids.chunks(ROWS) {
            // One that was removed meanwhile leaves an empty row.
            let whole = |&id| Ok(catalogue.whole(id)?.unwrap_or_default());
            let items = ids.iter().map(whole).collect::<Result<Vec<_>>>()?;
            for (space, writer) in &mut writers {
                items.iter().try_for_each(|new| writer.append(new.vectors(*space).first()))?;
            }
            metadata.append(&items)?;
        }
        metadata.finish()?;
        for (space, writer) in writers {
            writer.finish()?;
            #[cfg(feature = "faiss")]
            write_index(catalogue, dir, space)?;
            #[cfg(not(feature = "faiss"))]
            let _ = space;
        }
        Ok(ids.len())
    }
}

/// Those of which there is something.
fn spaces(catalogue: &Catalogue) -> Result<impl Iterator<Item = Space>> {
    let spaces = catalogue.summary()?.spaces;
    Ok(spaces.into_iter().filter(|space| space.vectors > 0).map(|space| space.space))
}

/// Their names for the spaces.
fn name(space: Space) -> &'static str {
    match space {
        Space::Pictures => "img_emb",
        Space::Texts => "text_emb",
    }
}

fn embeddings_file(dir: &Path, space: Space, number: &str) -> PathBuf {
    dir.join(name(space)).join(format!("{}_{number}.npy", name(space)))
}

/// All parts, by their number.
fn parts(dir: &Path) -> Result<Vec<Part>> {
    let folder = dir.join("metadata");
    let files = fs::read_dir(&folder).map_err(|e| Error::io(&folder, e))?;
    let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
    let number =
        |name: String| Some(name.strip_prefix("metadata_")?.strip_suffix(".parquet")?.to_owned());
    let mut numbers: Vec<_> = names.filter_map(number).collect();
    if numbers.is_empty() {
        return Err(wrong(&folder, "there is no metadata_0.parquet"));
    }
    numbers.sort_by_key(|number| (number.len(), number.clone()));
    let part = |number: &String| Part {
        metadata: folder.join(format!("metadata_{number}.parquet")),
        embeddings: Space::ALL
            .map(|space| Some(embeddings_file(dir, space, number)).filter(|path| path.exists())),
    };
    Ok(numbers.iter().map(part).collect())
}

/// The rows of a part, in batches.
struct PartReader<'a> {
    part: &'a Part,
    metadata: metadata::Rows,
    embeddings: Vec<(Space, npy::Reader)>,
}

impl<'a> PartReader<'a> {
    fn open(part: &'a Part) -> Result<Self> {
        let files = Space::ALL.into_iter().zip(&part.embeddings);
        let files = files.filter_map(|(space, path)| Some((space, path.as_ref()?)));
        let embeddings = files.map(|(space, path)| Ok((space, npy::Reader::open(path)?)));
        let embeddings = embeddings.collect::<Result<Vec<_>>>()?;
        let metadata = metadata::open(&part.metadata)?;
        let differs = |reader: &npy::Reader| reader.rows != metadata.len;
        if let Some((space, reader)) = embeddings.iter().find(|(_, reader)| differs(reader)) {
            let (found, expected, name) = (reader.rows, metadata.len, name(*space));
            let why = format!("{name} has {found} rows for {expected} of metadata");
            return Err(wrong(&part.metadata, &why));
        }
        Ok(Self { part, metadata, embeddings })
    }

    fn next(&mut self, id_of: &impl Fn(&str) -> u64) -> Result<Option<Vec<NewItem>>> {
        let rows = self.metadata.by_ref().take(ROWS).collect::<Result<Vec<_>>>()?;
        if rows.is_empty() {
            return Ok(None);
        }
        let mut items =
            rows.into_iter().map(|row| self.item(row, id_of)).collect::<Result<Vec<_>>>()?;
        for (space, reader) in &mut self.embeddings {
            let values = reader.read(items.len())?;
            for (new, row) in items.iter_mut().zip(values.chunks(reader.dim)) {
                match space {
                    Space::Pictures => new.pictures = vec![row.to_vec()],
                    Space::Texts => new.texts = vec![row.to_vec()],
                }
            }
        }
        Ok(Some(items))
    }

    fn item(&self, mut row: Map<String, Value>, id_of: &impl Fn(&str) -> u64) -> Result<NewItem> {
        let Some(Value::String(source)) = row.remove(IMAGE_PATH) else {
            return Err(wrong(&self.part.metadata, "there is a row without image_path"));
        };
        let caption = row.remove(CAPTION).and_then(|caption| caption.as_str().map(str::to_owned));
        let texts = caption.into_iter().filter(|caption| !caption.is_empty()).collect();
        let item = Item { id: id_of(&source), source, texts, metadata: row };
        Ok(NewItem { item, ..NewItem::default() })
    }
}

/// An index of the rows that were written.
#[cfg(feature = "faiss")]
fn write_index(catalogue: &Catalogue, dir: &Path, space: Space) -> Result<()> {
    use crate::{FaissIndex, IndexSpec};

    let config = catalogue.config();
    let factory = match &config.index {
        IndexSpec::Faiss(factory) => factory,
        _ => "Flat",
    };
    let mut reader = npy::Reader::open(&embeddings_file(dir, space, "0"))?;
    let values = reader.read(reader.rows)?;
    let rows = xr_data::Embeddings::new(values, reader.dim, config.made_by.clone());
    let file = match space {
        Space::Pictures => "image.index",
        Space::Texts => "text.index",
    };
    FaissIndex::build(factory, rows, None, config.metric)?.export(&dir.join(file))
}

fn create_folder_of(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))
}

fn wrong(path: &Path, why: &str) -> Error {
    Error::ClipRetrieval { path: path.into(), why: why.into() }
}
