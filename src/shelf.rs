use std::{
    collections::HashMap,
    fs, mem,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use serde::{Deserialize, Serialize};
use xr_data::{
    Corpus, Embeddings, EmbeddingsWriter, Fingerprint, Picture, Skipped, Source, dataset,
};
use xr_index::{ExactIndex, Metric, SearchParams, VectorIndex};
use xr_models::embed::{self, Failure};

use crate::{Error, Options, Result, Retriever, read_json, write_json};

const LIST: &str = "pictures.json";

/// Embeddings of all pictures of a data set or a folder, kept in a folder of their own, to be
/// searched. They are corrected by the model's query bank.
///
/// | in the folder | what |
/// |---|---|
/// | `pictures.json` | what was embedded, and which files it was |
/// | `pictures-N.safetensors` | the embeddings |
#[derive(Debug)]
pub struct Shelf {
    corpus: Corpus,
    list: List,
    /// Of the embeddings, under their positions in the list.
    index: ExactIndex,
    /// The file of the embeddings.
    path: PathBuf,
}

/// The pictures of a data set or a folder, and which files they are: what a [`Shelf`] is compared
/// with.
///
/// Looking at ten thousand files takes about as long as unpacking a model, and needs none.
#[derive(Debug)]
pub struct Listing {
    data: String,
    corpus: Corpus,
    /// Of each picture of the corpus.
    listed: Vec<Listed>,
}

/// What [`Shelf::update`] did.
#[derive(Clone, Debug)]
pub struct Update {
    /// Pictures that can be found.
    pub pictures: usize,
    /// Those of them that were embedded now.
    pub embedded: usize,
    /// Pictures that were left out.
    pub skipped: Vec<Skipped>,
}

/// A picture that was found.
#[derive(Clone, Debug)]
pub struct Match {
    /// The picture.
    pub picture: Picture,
    /// Its cosine with the query, less its correction.
    pub score: f32,
}

/// `pictures.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct List {
    /// What to open.
    data: String,
    /// Number of the file of embeddings.
    version: u64,
    /// The pictures, in the order of the rows.
    pictures: Vec<Listed>,
    /// Files that can't be decoded, and why.
    undecodable: Vec<(Listed, String)>,
}

/// A picture as it was when it was embedded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Listed {
    name: String,
    /// Of a file its length and the nanosecond of its last change.
    file: Option<(u64, u64)>,
}

impl Shelf {
    /// Opens a shelf.
    ///
    /// # Errors
    /// [`Error::NothingEmbedded`] if `dir` has none; those of its files and of the data set.
    pub fn open(dir: &Path, options: &Options) -> Result<Self> {
        let path = dir.join(LIST);
        if !path.exists() {
            return Err(Error::NothingEmbedded { path: dir.into() });
        }
        let list: List = read_json(&path)?;
        let corpus = dataset::open(&list.data, options.strictness())?;
        let rows = Embeddings::open(&rows_path(dir, list.version))?;
        Self::new(dir, corpus, rows, list)
    }

    fn new(dir: &Path, corpus: Corpus, rows: Embeddings, list: List) -> Result<Self> {
        let path = rows_path(dir, list.version);
        Ok(Self { corpus, list, index: ExactIndex::new(rows, Metric::InnerProduct)?, path })
    }

    /// Embeds what is new or has changed in `listing` since the last time, drops what is gone, and
    /// leaves the rest as it is. A batch at a time goes to the disk, so that memory does not grow
    /// with the number of pictures. Killed and called again, it goes on where it stopped.
    ///
    /// # Errors
    /// A disk that can't be written; in a strict run the first picture that can't be decoded.
    pub fn update(
        dir: &Path,
        mut listing: Listing,
        retriever: &Retriever,
        options: &Options,
    ) -> Result<(Self, Update)> {
        let mut skipped = mem::take(&mut listing.corpus.skipped);
        let (list, rows) = earlier(dir, retriever.banks().captions.made_by());
        let news = News::of(&listing, &list);
        let (list, rows) = match rows {
            Some(rows) if list.data == listing.data && news.is_empty(&list) => (list, rows),
            rows => news.write(dir, &listing, (list, rows), retriever, options)?,
        };
        let left_out = list.undecodable.iter().map(|(listed, why)| (listed.name.clone(), why));
        skipped.extend(left_out.map(|(what, why)| Skipped { what, why: why.clone() }));
        let pictures = list.pictures.len();
        let update = Update { pictures, embedded: pictures - news.kept.len(), skipped };
        Ok((Self::new(dir, listing.corpus, rows, list)?, update))
    }

    /// The `k` pictures nearest to `text`, best first.
    ///
    /// # Errors
    /// [`xr_data::Error::MadeByAnother`] if another model made the embeddings.
    pub fn search(&self, text: &str, k: usize, retriever: &Retriever) -> Result<Vec<Match>> {
        let query = retriever.embedder().texts(&[text], embed::Run::new(1))?;
        let query = retriever.banks().captions.correct_queries(&query)?;
        self.index.embeddings().expect_made_by(query.made_by(), &self.path)?;
        let hits = self.index.search(query.view(), k, &SearchParams::default())?;
        let found = hits.of(0).iter().map(|hit| {
            let name = &self.list.pictures[hit.id as usize].name;
            Ok(Match { picture: self.corpus.picture(name)?.clone(), score: hit.score })
        });
        found.collect()
    }
}

/// What is on the shelf, if this model made it; without the rows the list is empty but for its
/// number.
fn earlier(dir: &Path, made_by: &Fingerprint) -> (List, Option<Embeddings>) {
    let list: List = read_json(&dir.join(LIST)).unwrap_or_default();
    let rows = Embeddings::open(&rows_path(dir, list.version)).ok();
    match rows.filter(|rows| rows.made_by() == made_by && rows.rows() == list.pictures.len()) {
        Some(rows) => (list, Some(rows)),
        None => (List { version: list.version, ..List::default() }, None),
    }
}

/// How a corpus differs from what is on a shelf.
struct News {
    /// Rows that are still right.
    kept: Vec<u32>,
    /// Files that still can't be decoded.
    undecodable: Vec<(Listed, String)>,
    /// The other pictures: their positions in the corpus.
    new: Vec<(u32, Listed)>,
}

impl News {
    fn of(listing: &Listing, list: &List) -> Self {
        let rows: HashMap<_, _> = list.pictures.iter().zip(0..).collect();
        let bad: HashMap<_, _> = list.undecodable.iter().map(|(l, why)| (l, why)).collect();
        let mut news = Self { kept: vec![], undecodable: vec![], new: vec![] };
        for (position, listed) in (0..).zip(&listing.listed) {
            match (rows.get(listed), bad.get(listed)) {
                (Some(&row), _) => news.kept.push(row),
                (None, Some(&why)) => news.undecodable.push((listed.clone(), why.clone())),
                (None, None) => news.new.push((position, listed.clone())),
            }
        }
        news.kept.sort_unstable();
        news
    }

    /// Is everything as it was?
    fn is_empty(&self, list: &List) -> bool {
        self.new.is_empty()
            && self.kept.len() == list.pictures.len()
            && self.undecodable.len() == list.undecodable.len()
    }

    /// Writes the rows that are kept and then the new ones into a file of their own, and last the
    /// list that names it: until then the shelf is what it was.
    fn write(
        &self,
        dir: &Path,
        listing: &Listing,
        (before, rows): (List, Option<Embeddings>),
        retriever: &Retriever,
        options: &Options,
    ) -> Result<(List, Embeddings)> {
        fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
        let (embedder, bank) = (retriever.embedder(), &retriever.banks().captions);
        let (version, dim) = (before.version + 1, embedder.dim());
        let path = rows_path(dir, version);
        let mut writer = EmbeddingsWriter::create(&path, dim + 1, bank.made_by().clone())?;
        for row in self.kept.iter().filter_map(|&row| Some(rows.as_ref()?.row(row as usize))) {
            writer.append(row)?;
        }
        let new: Vec<_> =
            self.new.iter().map(|(p, _)| &listing.corpus.pictures[*p as usize]).collect();
        let failures = embedder.images_into(&new, options.embedding(), |rows| {
            let rows = Embeddings::new(rows.to_vec(), dim, embedder.fingerprint().clone());
            let corrected = bank.correct(&rows).expect("finite rows of the bank's model");
            writer.append(corrected.values())
        })?;
        writer.finish()?;
        let list = List { data: listing.data.clone(), version, ..self.list(&before, &failures) };
        write_json(&dir.join(LIST), &list)?;
        // What is left behind takes space and does no harm.
        let _ = fs::remove_file(rows_path(dir, before.version));
        Ok((list, Embeddings::open(&path)?))
    }

    /// What there is when the new pictures have been embedded.
    fn list(&self, before: &List, failures: &[Failure]) -> List {
        let why: HashMap<_, _> = failures.iter().map(|f| (f.position, &f.error)).collect();
        let kept = self.kept.iter().map(|&row| before.pictures[row as usize].clone());
        let mut list = List { pictures: kept.collect(), ..List::default() };
        list.undecodable.clone_from(&self.undecodable);
        for (position, (_, listed)) in self.new.iter().enumerate() {
            match why.get(&position) {
                None => list.pictures.push(listed.clone()),
                Some(error) => list.undecodable.push((listed.clone(), error.to_string())),
            }
        }
        list
    }
}

impl Listing {
    /// Opens a data set and looks at its files.
    ///
    /// # Errors
    /// Of the data set.
    pub fn of(data: &str, options: &Options) -> Result<Self> {
        let corpus = dataset::open(data, options.strictness())?;
        let listed = corpus.pictures.iter().map(Listed::of).collect::<Result<_>>()?;
        Ok(Self { data: data.into(), corpus, listed })
    }
}

impl Listed {
    fn of(picture: &Picture) -> Result<Self> {
        let file = match &picture.source {
            Source::Scene(_) => None,
            Source::File(path) => {
                let file = fs::metadata(path).map_err(|e| Error::io(path, e))?;
                let changed = file.modified().ok();
                let changed = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                Some((file.len(), changed.map_or(0, |since| since.as_nanos() as u64)))
            }
        };
        Ok(Self { name: picture.name.clone(), file })
    }
}

fn rows_path(dir: &Path, version: u64) -> PathBuf {
    dir.join(format!("pictures-{version}.safetensors"))
}
