mod item;
mod store;

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};
use xr_data::{Embeddings, Fingerprint};

use crate::{
    Effort, Error, Hit, IdFilter, IndexSpec, Metric, Result, SearchParams, VectorIndex,
    error::Side,
    open,
    similarity::{Rows, check_dimensions},
};
pub use item::{Condition, Found, Item, NewItem, Space};
use store::{Change, Changes, Store};

const STORE: &str = "catalogue.redb";
/// Changes that an opening catalogue makes up for before it saves its indexes anew.
const LONG_LOG: u64 = 20_000;

/// What a catalogue is of. It can't be changed later, except for the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The model that makes all its embeddings and queries.
    pub made_by: Fingerprint,
    /// Their width.
    pub dim: usize,
    /// What makes two alike.
    pub metric: Metric,
    /// What [`Catalogue::rebuild`] built last; until then a catalogue searches exactly.
    pub index: IndexSpec,
    /// How hard it looks, if the query doesn't say.
    pub effort: Effort,
}

impl Config {
    /// An exact catalogue of cosines between embeddings of width `dim` that `made_by` makes.
    pub fn new(made_by: Fingerprint, dim: usize) -> Self {
        let (index, effort) = (IndexSpec::Exact, Effort::default());
        Self { made_by, dim, metric: Metric::Cosine, index, effort }
    }
}

/// Items on disk, and indexes of the embeddings of their pictures and of their texts.
///
/// | in the folder | what |
/// |---|---|
/// | `catalogue.redb` | items, embeddings, and the log of changes since the indexes were saved |
/// | `pictures/`, `texts/` | the indexes as they were saved last |
///
/// **What [`put`](Self::put) and [`remove`](Self::remove) have done when they return is on the
/// disk:** it survives a killed process and a power cut. A call that was cut short has done all or
/// nothing. Any number of threads may search meanwhile.
///
/// A catalogue belongs to one process at a time; a second one is refused. Embeddings are kept
/// twice, in the store and in the index, so that a damaged index can be made anew. All are of one
/// model, and queries of another are refused.
///
/// ```
/// use xr_data::{Embeddings, Fingerprint};
/// use xr_index::{Catalogue, Config, Item, NewItem, Query};
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let made_by = Fingerprint::of(["model"]);
/// let catalogue = Catalogue::create(dir, Config::new(made_by.clone(), 2))?;
/// let item = Item { id: 7, source: "cat.jpg".into(), ..Item::default() };
/// catalogue.put(&[NewItem { item, pictures: vec![vec![0.6, 0.8]], ..NewItem::default() }])?;
///
/// let query = Embeddings::new(vec![0.0, 1.0], 2, made_by);
/// let found = catalogue.search(&query, &Query { k: 5, ..Query::default() })?;
/// assert_eq!(found[0][0].item, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Catalogue {
    dir: PathBuf,
    config: Config,
    store: Store,
    indexes: [RwLock<Box<dyn VectorIndex>>; 2],
    /// Held by whoever changes something, so that the indexes see changes in the store's order.
    writing: Mutex<()>,
    repaired: Vec<Error>,
}

/// What to search for, besides the embeddings.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Pictures or texts.
    pub space: Space,
    /// Items wanted.
    pub k: usize,
    /// What must hold for an item to be found; all of them.
    pub conditions: &'a [Condition],
    /// How hard the index looks; by default as hard as the catalogue's config says.
    pub effort: Effort,
}

impl Default for Query<'_> {
    /// The ten best pictures.
    fn default() -> Self {
        Self { space: Space::Pictures, k: 10, conditions: &[], effort: Effort::default() }
    }
}

/// How much is in a catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// What it is of.
    pub config: Config,
    /// Number of items.
    pub items: u64,
    /// Of pictures and of texts.
    pub spaces: [SpaceSummary; 2],
    /// Changes since the indexes were saved.
    pub unsaved: u64,
}

/// How much is in one of the indexes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SpaceSummary {
    /// Which one.
    pub space: Space,
    /// The index in use.
    pub index: String,
    /// Number of embeddings.
    pub vectors: usize,
    /// Bytes that a search may read.
    pub bytes: usize,
}

impl Catalogue {
    /// Makes an empty catalogue in folder `dir`.
    ///
    /// # Errors
    /// [`Error::CatalogueExists`] if there is one.
    pub fn create(dir: &Path, config: Config) -> Result<Self> {
        fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
        let store = Store::create(&dir.join(STORE), &config)?;
        sync_folder(dir)?;
        Self::with(dir, config, store)
    }

    /// Opens a catalogue, also after a crash. An index that is damaged is built anew from the
    /// stored embeddings; [`repaired`](Self::repaired) says so.
    ///
    /// # Errors
    /// [`Error::NoCatalogue`] if there is none, [`Error::Locked`] while another process has it
    /// open, [`Error::Store`] if the store itself is damaged.
    pub fn open(dir: &Path) -> Result<Self> {
        let (store, config) = Store::open(&dir.join(STORE))?;
        Self::with(dir, config, store)
    }

    fn with(dir: &Path, config: Config, store: Store) -> Result<Self> {
        let mut repaired = vec![];
        let mut index = |space| open_index(dir, &config, &store, space, &mut repaired);
        let indexes = [index(Space::Pictures)?, index(Space::Texts)?].map(RwLock::new);
        let (dir, writing) = (dir.into(), Mutex::new(()));
        let catalogue = Self { dir, config, store, indexes, writing, repaired };
        if !catalogue.repaired.is_empty() || catalogue.store.log_len()? > LONG_LOG {
            catalogue.save()?;
        }
        Ok(catalogue)
    }

    /// What it is of.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What was wrong with its indexes when it was opened; they have been built anew.
    pub fn repaired(&self) -> &[Error] {
        &self.repaired
    }

    /// Adds items, or replaces those of the same ids: all, or none if there is an error. On the
    /// disk when it returns; one call with many items is faster than many with one.
    ///
    /// # Errors
    /// [`Error::Dimensions`] and [`Error::NotFinite`] for an embedding, by its place among those
    /// of all `items`; [`Error::Store`], on a full disk for example.
    pub fn put(&self, items: &[NewItem]) -> Result<()> {
        for space in Space::ALL {
            self.check(items.iter().flat_map(|new| new.vectors(space)))?;
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.apply(self.store.put(items)?)
    }

    /// Removes items and returns how many were there. On the disk when it returns.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn remove(&self, ids: &[u64]) -> Result<usize> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (changes, count) = self.store.remove(ids)?;
        self.apply(changes)?;
        Ok(count)
    }

    /// An item.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn item(&self, id: u64) -> Result<Option<Item>> {
        self.store.item(id)
    }

    /// An item with its blob and its embeddings, as it was put.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn whole(&self, id: u64) -> Result<Option<NewItem>> {
        self.store.whole(id)
    }

    /// Ids of all items, ascending.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn ids(&self) -> Result<Vec<u64>> {
        self.store.ids()
    }

    /// The blob of an item, if it has one.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn blob(&self, id: u64) -> Result<Option<Vec<u8>>> {
        self.store.blob(id)
    }

    /// The `k` best items for each row of `queries`, best first. An item counts once, with the
    /// best of its embeddings.
    ///
    /// # Errors
    /// [`xr_data::Error::MadeByAnother`] for queries of another model; those of
    /// [`VectorIndex::search`].
    pub fn search(&self, queries: &Embeddings, query: &Query) -> Result<Vec<Vec<Found>>> {
        queries.expect_made_by(&self.config.made_by, &self.dir)?;
        let filter = self.filter(query)?;
        let given = query.effort != Effort::default();
        let effort = if given { query.effort } else { self.effort(query.space) };
        let params = SearchParams { filter: filter.as_ref(), effort };
        let (mut wanted, mut found) = (query.k, vec![]);
        loop {
            let (hits, all) = {
                let index = self.index(query.space);
                (index.search(queries.view(), wanted, &params)?, wanted >= index.len())
            };
            found.clear();
            for hits in hits.iter() {
                found.push(self.items(query, hits)?);
            }
            // Several embeddings of one item take the places of other items.
            let short = |(found, hits): (&Vec<Found>, &[Hit])| {
                found.len() < query.k && hits.len() == wanted
            };
            if all || !found.iter().zip(hits.iter()).any(short) {
                return Ok(found);
            }
            wanted *= 2;
        }
    }

    /// Saves the indexes, so that opening has no changes to make up for. What was acknowledged is
    /// safe without it.
    ///
    /// # Errors
    /// [`Error::Io`], on a full disk for example.
    pub fn save(&self) -> Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        for space in Space::ALL {
            self.index(space).save(&self.dir.join(space.to_string()))?;
        }
        // Killed before this, it makes up for changes once more that the index already has.
        self.store.clear_log()
    }

    /// Builds both indexes anew from the stored embeddings, to be searched with `effort`; saves
    /// them, and gives the space of what was removed back.
    ///
    /// # Errors
    /// Those of [`IndexSpec::build`]; the catalogue then stays as it was. [`Error::Elsewhere`] for
    /// an index on servers: `MilvusCatalogue::push` brings a catalogue there.
    pub fn rebuild(&mut self, index: IndexSpec, effort: Effort) -> Result<()> {
        if let IndexSpec::Milvus(uri) = index {
            return Err(Error::Elsewhere(uri));
        }
        let config = Config { index, effort, ..self.config.clone() };
        let build = |space| build(&config, &self.store, space);
        let indexes = [build(Space::Pictures)?, build(Space::Texts)?];
        self.indexes = indexes.map(RwLock::new);
        self.store.set_config(&config)?;
        self.config = config;
        self.save()?;
        self.store.compact()
    }

    /// How much is in it.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn summary(&self) -> Result<Summary> {
        let spaces = Space::ALL.map(|space| {
            let index = self.index(space);
            let (vectors, bytes) = (index.len(), index.bytes());
            SpaceSummary { space, index: index.name(), vectors, bytes }
        });
        let (items, unsaved) = (self.store.count()?, self.store.log_len()?);
        Ok(Summary { config: self.config.clone(), items, spaces, unsaved })
    }

    /// Reads everything on the disk and checks it: every checksum of the store and the saved
    /// indexes, and that the indexes have as many embeddings as the store.
    ///
    /// # Errors
    /// [`Error::Damaged`], naming the file, or [`Error::Store`].
    pub fn verify(&mut self) -> Result<()> {
        self.store.check()?;
        for space in Space::ALL {
            let dir = self.dir.join(space.to_string());
            match open(&dir) {
                Ok(_) | Err(Error::NoIndex { .. }) => {}
                Err(error) => return Err(error),
            }
            let (stored, indexed) = (self.store.vector_count(space)?, self.index(space).len());
            if stored != indexed as u64 {
                let why = format!("{indexed} embeddings are indexed and {stored} stored");
                return Err(Error::damaged(&dir, why));
            }
        }
        Ok(())
    }

    /// The ids and embeddings of a space, to try other indexes on.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn embeddings(&self, space: Space) -> Result<(Vec<u64>, Embeddings)> {
        stored(&self.config, &self.store, space)
    }

    /// The items of vectors; none for one that is no more.
    #[cfg(feature = "milvus")]
    pub(crate) fn items_of(&self, space: Space, vectors: &[u64]) -> Result<Vec<Option<Item>>> {
        let owners = self.store.owners(space, vectors)?;
        let item = |owner: Option<u64>| Ok(owner.map(|id| self.item(id)).transpose()?.flatten());
        owners.into_iter().map(item).collect()
    }

    fn index(&self, space: Space) -> RwLockReadGuard<'_, Box<dyn VectorIndex>> {
        self.indexes[space as usize].read().unwrap_or_else(PoisonError::into_inner)
    }

    fn index_mut(&self, space: Space) -> RwLockWriteGuard<'_, Box<dyn VectorIndex>> {
        self.indexes[space as usize].write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The config's effort, unless the space is still searched exactly.
    fn effort(&self, space: Space) -> Effort {
        let configured = self.index(space).name() == self.config.index.to_string();
        if configured { self.config.effort } else { Effort::default() }
    }

    fn check<'a>(&self, vectors: impl Iterator<Item = &'a Vec<f32>>) -> Result<()> {
        for (row, vector) in vectors.enumerate() {
            check_dimensions(vector.len(), self.config.dim)?;
            let finite = Rows { values: vector, dim: vector.len() }.check_finite(Side::Gallery);
            finite.map_err(|_| Error::NotFinite { side: Side::Gallery, row })?;
        }
        Ok(())
    }

    /// Brings the indexes to where the store is.
    fn apply(&self, changes: Changes) -> Result<()> {
        for (space, change) in Space::ALL.into_iter().zip(changes) {
            if change != Change::default() {
                apply(&mut **self.index_mut(space), change)?;
            }
        }
        Ok(())
    }

    /// The embeddings that may be found; none if all.
    fn filter(&self, query: &Query) -> Result<Option<IdFilter>> {
        if query.conditions.is_empty() {
            return Ok(None);
        }
        let vectors = self.store.matching(query.space, query.conditions)?;
        Ok(Some(vectors.into_iter().collect()))
    }

    /// The `k` first items of hits. An item removed since is left out.
    fn items(&self, query: &Query, hits: &[Hit]) -> Result<Vec<Found>> {
        let vectors: Vec<_> = hits.iter().map(|hit| hit.id).collect();
        let owners = self.store.owners(query.space, &vectors)?;
        let mut seen = HashSet::new();
        let found = owners.into_iter().zip(hits).filter_map(|(item, hit)| {
            item.filter(|&item| seen.insert(item)).map(|item| Found { item, score: hit.score })
        });
        Ok(found.take(query.k).collect())
    }
}

/// The saved index with the changes since; or one that is built anew.
fn open_index(
    dir: &Path,
    config: &Config,
    store: &Store,
    space: Space,
    repaired: &mut Vec<Error>,
) -> Result<Box<dyn VectorIndex>> {
    let path = dir.join(space.to_string());
    let saved = open(&path).and_then(|index| belongs(index, config, &path));
    match saved {
        Ok(mut index) => {
            let change = store.logged(space)?;
            // Whoever changes mapped vectors reads them all into memory.
            if change != Change::default() {
                apply(&mut *index, change)?;
            }
            Ok(index)
        }
        Err(Error::NoIndex { .. }) => build(&new(config), store, space),
        Err(error @ (Error::Damaged { .. } | Error::Io { .. } | Error::Data(_))) => {
            repaired.push(error);
            build(config, store, space)
        }
        Err(error) => Err(error),
    }
}

/// The config of a catalogue that has not been [rebuilt](Catalogue::rebuild) yet.
fn new(config: &Config) -> Config {
    Config { index: IndexSpec::Exact, ..config.clone() }
}

fn belongs(
    index: Box<dyn VectorIndex>,
    config: &Config,
    path: &Path,
) -> Result<Box<dyn VectorIndex>> {
    let found = (index.made_by(), index.dim(), index.metric());
    if found == (&config.made_by, config.dim, config.metric) {
        return Ok(index);
    }
    Err(Error::damaged(path, "it is the index of another catalogue"))
}

fn apply(index: &mut dyn VectorIndex, change: Change) -> Result<()> {
    index.remove(&change.removed)?;
    let shape = (change.added.len(), index.dim());
    let added = ArrayView2::from_shape(shape, &change.values).expect("widths were checked");
    index.add(&change.added, added)
}

fn build(config: &Config, store: &Store, space: Space) -> Result<Box<dyn VectorIndex>> {
    let (ids, embeddings) = stored(config, store, space)?;
    // Nothing can be learned from nothing.
    let index = if ids.is_empty() { &IndexSpec::Exact } else { &config.index };
    index.build(embeddings, Some(ids), config.metric)
}

fn stored(config: &Config, store: &Store, space: Space) -> Result<(Vec<u64>, Embeddings)> {
    let (ids, values) = store.vectors(space, config.dim)?;
    Ok((ids, Embeddings::new(values, config.dim, config.made_by.clone())))
}

fn sync_folder(dir: &Path) -> Result<()> {
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| Error::io(dir, e))
}
