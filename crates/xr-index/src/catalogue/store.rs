//! The tables of a catalogue. A change is one transaction: whole or absent, and on the disk when
//! the call returns.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use redb::{
    Database, DatabaseError, MultimapTableDefinition, ReadTransaction, ReadableDatabase,
    ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Condition, Config, Item, NewItem, Space};
use crate::{Error, Result};

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const ITEMS: TableDefinition<u64, &[u8]> = TableDefinition::new("items");
const BLOBS: TableDefinition<u64, &[u8]> = TableDefinition::new("blobs");
/// Items for which a condition holds.
const FIELDS: MultimapTableDefinition<&str, u64> = MultimapTableDefinition::new("fields");
/// Changed vectors by number of the change: (space, id).
const LOG: TableDefinition<u64, (u8, u64)> = TableDefinition::new("log");
/// Vectors by id: item, values.
const VECTORS: [TableDefinition<u64, (u64, &[u8])>; 2] =
    [TableDefinition::new("pictures"), TableDefinition::new("texts")];

const CONFIG: &str = "config";
/// Vectors' ids are never used again, so an index that is behind can't mistake one for another.
const NEXT_VECTOR: &str = "next_vector";

type Stored<T> = std::result::Result<T, redb::Error>;

/// `catalogue.redb`.
#[derive(Debug)]
pub(super) struct Store {
    db: Database,
    path: PathBuf,
}

/// A row of `items`.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    #[serde(flatten)]
    item: Item,
    /// Ids of its vectors in each space.
    vectors: [Vec<u64>; 2],
}

/// What a change did to the vectors of a space.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Change {
    pub removed: Vec<u64>,
    pub added: Vec<u64>,
    /// Of those added, one after the other.
    pub values: Vec<f32>,
}

/// What a change did to both spaces.
pub(super) type Changes = [Change; 2];

impl Store {
    pub fn create(path: &Path, config: &Config) -> Result<Self> {
        let store = Self::with(path, Database::create(path))?;
        if store.read(|txn| meta::<Config>(txn, CONFIG))?.is_some() {
            return Err(Error::CatalogueExists { path: path.into() });
        }
        store.write(|txn| create_tables(txn, config))?;
        Ok(store)
    }

    pub fn open(path: &Path) -> Result<(Self, Config)> {
        let none = || Error::NoCatalogue { path: path.into() };
        if !path.exists() {
            return Err(none());
        }
        let store = Self::with(path, Database::open(path))?;
        let config = store.read(|txn| meta(txn, CONFIG))?.ok_or_else(none)?;
        Ok((store, config))
    }

    fn with(path: &Path, db: std::result::Result<Database, DatabaseError>) -> Result<Self> {
        match db {
            Ok(db) => Ok(Self { db, path: path.into() }),
            Err(DatabaseError::DatabaseAlreadyOpen) => Err(Error::Locked { path: path.into() }),
            Err(e) => Err(Error::store(path, e)),
        }
    }

    fn read<T>(&self, f: impl FnOnce(&ReadTransaction) -> Stored<T>) -> Result<T> {
        let txn = self.db.begin_read().map_err(|e| Error::store(&self.path, e))?;
        f(&txn).map_err(|e| Error::store(&self.path, e))
    }

    /// On the disk when it returns.
    fn write<T>(&self, f: impl FnOnce(&WriteTransaction) -> Stored<T>) -> Result<T> {
        let write = || {
            let mut txn = self.db.begin_write()?;
            // After a crash, a large catalogue opens at once and not after a walk through all of it.
            txn.set_quick_repair(true);
            let done = f(&txn)?;
            txn.commit()?;
            Ok(done)
        };
        write().map_err(|e: redb::Error| Error::store(&self.path, e))
    }

    /// Adds items, or puts them in place of those of their ids. Of several with one id, the last
    /// counts.
    pub fn put(&self, items: &[NewItem]) -> Result<Changes> {
        let last: HashMap<_, _> = items.iter().map(|new| new.item.id).zip(0..).collect();
        let items = items.iter().zip(0..).filter(|(new, place)| last[&new.item.id] == *place);
        self.write(|txn| {
            let mut changes = Changes::default();
            for (new, _) in items {
                take_out(txn, new.item.id, &mut changes)?;
                put_in(txn, new, &mut changes)?;
            }
            log(txn, &changes)?;
            Ok(changes)
        })
    }

    /// Removes items; also returns how many were there.
    pub fn remove(&self, ids: &[u64]) -> Result<(Changes, usize)> {
        self.write(|txn| {
            let (mut changes, mut count) = (Changes::default(), 0);
            for &id in ids {
                count += usize::from(take_out(txn, id, &mut changes)?);
            }
            log(txn, &changes)?;
            Ok((changes, count))
        })
    }

    pub fn item(&self, id: u64) -> Result<Option<Item>> {
        self.read(|txn| {
            let row = txn.open_table(ITEMS)?.get(id)?.map(|row| parse::<Row>(row.value()));
            Ok(row.transpose()?.map(|row| row.item))
        })
    }

    pub fn whole(&self, id: u64) -> Result<Option<NewItem>> {
        self.read(|txn| {
            let row = txn.open_table(ITEMS)?.get(id)?.map(|row| parse::<Row>(row.value()));
            let Some(Row { item, vectors: [pictures, texts] }) = row.transpose()? else {
                return Ok(None);
            };
            let blob = txn.open_table(BLOBS)?.get(id)?.map(|blob| blob.value().to_vec());
            Ok(Some(NewItem {
                item,
                blob: blob.unwrap_or_default(),
                pictures: values(txn, Space::Pictures, &pictures)?,
                texts: values(txn, Space::Texts, &texts)?,
            }))
        })
    }

    /// Ids of all items, ascending.
    pub fn ids(&self) -> Result<Vec<u64>> {
        self.read(|txn| {
            let table = txn.open_table(ITEMS)?;
            table.iter()?.map(|entry| Ok(entry?.0.value())).collect()
        })
    }

    pub fn blob(&self, id: u64) -> Result<Option<Vec<u8>>> {
        self.read(|txn| Ok(txn.open_table(BLOBS)?.get(id)?.map(|blob| blob.value().to_vec())))
    }

    /// The items of vectors; none for one that is no more.
    pub fn owners(&self, space: Space, vectors: &[u64]) -> Result<Vec<Option<u64>>> {
        self.read(|txn| {
            let table = txn.open_table(VECTORS[space as usize])?;
            let owners = vectors.iter().map(|&id| Ok(table.get(id)?.map(|v| v.value().0)));
            owners.collect()
        })
    }

    /// Ids of the vectors of items for which all conditions hold.
    pub fn matching(&self, space: Space, conditions: &[Condition]) -> Result<Vec<u64>> {
        self.read(|txn| {
            let mut items = conditions.iter().map(|condition| filed(txn, condition));
            let first = items.next().unwrap_or_else(|| Ok(vec![]))?;
            let items = items.try_fold(first, |a, b| Ok::<_, redb::Error>(both(a, &b?)))?;
            let rows = txn.open_table(ITEMS)?;
            let mut vectors = vec![];
            for id in items {
                if let Some(row) = rows.get(id)? {
                    vectors.extend_from_slice(&parse::<Row>(row.value())?.vectors[space as usize]);
                }
            }
            Ok(vectors)
        })
    }

    pub fn count(&self) -> Result<u64> {
        self.read(|txn| Ok(txn.open_table(ITEMS)?.len()?))
    }

    pub fn vector_count(&self, space: Space) -> Result<u64> {
        self.read(|txn| Ok(txn.open_table(VECTORS[space as usize])?.len()?))
    }

    pub fn log_len(&self) -> Result<u64> {
        self.read(|txn| Ok(txn.open_table(LOG)?.len()?))
    }

    /// Ids and values of all vectors of a space, each of `dim` values.
    pub fn vectors(&self, space: Space, dim: usize) -> Result<(Vec<u64>, Vec<f32>)> {
        self.read(|txn| {
            let table = txn.open_table(VECTORS[space as usize])?;
            let rows = table.len()? as usize;
            let (mut ids, mut values) = (vec![], Vec::with_capacity(rows * dim));
            for entry in table.iter()? {
                let (id, vector) = entry?;
                ids.push(id.value());
                values.extend(floats(vector.value().1));
            }
            Ok((ids, values))
        })
    }

    /// What was changed since the log was last cleared, whatever was done to a vector in between:
    /// all are to be removed, and those that are there added again.
    pub fn logged(&self, space: Space) -> Result<Change> {
        self.read(|txn| {
            let table = txn.open_table(VECTORS[space as usize])?;
            let mut change = Change::default();
            for entry in txn.open_table(LOG)?.iter()? {
                let (of, id) = entry?.1.value();
                if of == space as u8 {
                    change.removed.push(id);
                }
            }
            change.removed.sort_unstable();
            change.removed.dedup();
            for &id in &change.removed {
                if let Some(vector) = table.get(id)? {
                    change.added.push(id);
                    change.values.extend(floats(vector.value().1));
                }
            }
            Ok(change)
        })
    }

    /// Forgets the log: an index that has it all is on the disk.
    pub fn clear_log(&self) -> Result<()> {
        self.write(|txn| Ok(txn.open_table(LOG)?.retain(|_, _| false)?))
    }

    pub fn set_config(&self, config: &Config) -> Result<()> {
        self.write(|txn| set_meta(txn, CONFIG, config))
    }

    /// Gives space back to the file system.
    pub fn compact(&mut self) -> Result<()> {
        self.db.compact().map(drop).map_err(|e| Error::store(&self.path, e))
    }

    /// Reads everything and checks every checksum.
    pub fn check(&mut self) -> Result<()> {
        match self.db.check_integrity() {
            Ok(true) => Ok(()),
            Ok(false) => {
                Err(Error::damaged(&self.path, "it was and has been mended; verify again"))
            }
            Err(e) => Err(Error::store(&self.path, e)),
        }
    }
}

fn create_tables(txn: &WriteTransaction, config: &Config) -> Stored<()> {
    txn.open_table(ITEMS)?;
    txn.open_table(BLOBS)?;
    txn.open_table(LOG)?;
    txn.open_multimap_table(FIELDS)?;
    for vectors in VECTORS {
        txn.open_table(vectors)?;
    }
    set_meta(txn, NEXT_VECTOR, &0)?;
    set_meta(txn, CONFIG, config)
}

fn set_meta<T: Serialize>(txn: &WriteTransaction, name: &str, value: &T) -> Stored<()> {
    txn.open_table(META)?.insert(name, &*json(value))?;
    Ok(())
}

fn meta<T: DeserializeOwned>(txn: &ReadTransaction, name: &str) -> Stored<Option<T>> {
    match txn.open_table(META) {
        Ok(table) => table.get(name)?.map(|value| parse(value.value())).transpose(),
        // A catalogue whose creation was cut short.
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Vectors of an item.
fn values(txn: &ReadTransaction, space: Space, vectors: &[u64]) -> Stored<Vec<Vec<f32>>> {
    let table = txn.open_table(VECTORS[space as usize])?;
    let vectors =
        vectors.iter().map(|&id| Ok(table.get(id)?.map(|v| floats(v.value().1).collect())));
    vectors.filter_map(Stored::transpose).collect()
}

/// Removes an item; was it there?
fn take_out(txn: &WriteTransaction, id: u64, changes: &mut Changes) -> Stored<bool> {
    let row =
        txn.open_table(ITEMS)?.remove(id)?.map(|row| parse::<Row>(row.value())).transpose()?;
    let Some(Row { item, vectors }) = row else { return Ok(false) };
    txn.open_table(BLOBS)?.remove(id)?;
    let mut fields = txn.open_multimap_table(FIELDS)?;
    for condition in Condition::all_of(&item.metadata) {
        fields.remove(&*condition.key(), id)?;
    }
    for (space, vectors) in Space::ALL.into_iter().zip(vectors) {
        let mut table = txn.open_table(VECTORS[space as usize])?;
        for vector in vectors {
            table.remove(vector)?;
            changes[space as usize].removed.push(vector);
        }
    }
    Ok(true)
}

fn put_in(txn: &WriteTransaction, new: &NewItem, changes: &mut Changes) -> Stored<()> {
    let id = new.item.id;
    let mut row = Row { item: new.item.clone(), vectors: Default::default() };
    for space in Space::ALL {
        row.vectors[space as usize] =
            put_vectors(txn, space, id, new.vectors(space), &mut changes[space as usize])?;
    }
    txn.open_table(ITEMS)?.insert(id, &*json(&row))?;
    if !new.blob.is_empty() {
        txn.open_table(BLOBS)?.insert(id, &*new.blob)?;
    }
    let mut fields = txn.open_multimap_table(FIELDS)?;
    for condition in Condition::all_of(&new.item.metadata) {
        fields.insert(&*condition.key(), id)?;
    }
    Ok(())
}

/// The ids that the vectors got.
fn put_vectors(
    txn: &WriteTransaction,
    space: Space,
    owner: u64,
    vectors: &[Vec<f32>],
    change: &mut Change,
) -> Stored<Vec<u64>> {
    let mut table = txn.open_table(VECTORS[space as usize])?;
    let ids = new_ids(txn, vectors.len())?;
    for (&id, vector) in ids.iter().zip(vectors) {
        let bytes: Vec<_> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
        table.insert(id, (owner, &*bytes))?;
        change.added.push(id);
        change.values.extend_from_slice(vector);
    }
    Ok(ids)
}

fn new_ids(txn: &WriteTransaction, count: usize) -> Stored<Vec<u64>> {
    let mut meta = txn.open_table(META)?;
    let next: u64 =
        meta.get(NEXT_VECTOR)?.map(|next| parse(next.value())).transpose()?.unwrap_or(0);
    let after = next + count as u64;
    meta.insert(NEXT_VECTOR, &*json(&after))?;
    Ok((next..after).collect())
}

fn log(txn: &WriteTransaction, changes: &Changes) -> Stored<()> {
    let mut log = txn.open_table(LOG)?;
    let mut number = log.last()?.map_or(0, |(last, _)| last.value() + 1);
    for (space, change) in (0u8..).zip(changes) {
        for &id in change.removed.iter().chain(&change.added) {
            log.insert(number, (space, id))?;
            number += 1;
        }
    }
    Ok(())
}

/// Items for which a condition holds, ascending.
fn filed(txn: &ReadTransaction, condition: &Condition) -> Stored<Vec<u64>> {
    let ids = txn.open_multimap_table(FIELDS)?.get(&*condition.key())?;
    ids.map(|id| Ok(id?.value())).collect()
}

/// What is in both sorted lists.
fn both(mut a: Vec<u64>, b: &[u64]) -> Vec<u64> {
    a.retain(|id| b.binary_search(id).is_ok());
    a
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks().0.iter().copied().map(f32::from_le_bytes)
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("string keys and finite numbers")
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Stored<T> {
    serde_json::from_slice(bytes).map_err(|e| redb::Error::Corrupted(e.to_string()))
}
