use std::{
    collections::{BTreeMap, HashSet},
    ops::Range,
    path::Path,
};

use serde_json::{Value, json};
use xr_data::Embeddings;

use super::{Batch, Contents, MOST, MilvusIndex, Owned, Partition, Target, Wanted};
use crate::{
    Catalogue, Condition, Error, ExactIndex, FindItems, Found, Hit, Hits, Item, Metric, Query,
    Result, SearchParams, Space, VectorIndex,
};

/// Vectors that are compared with what is there at a time.
const WINDOW: usize = 10_000;
/// Vectors of each space that are looked for at the end, and the hits that are compared.
const SAMPLES: usize = 100;
const HITS: usize = 10;
/// Of the hits, those that must be as good as the true ones; an index finds more, another
/// catalogue's vectors nearly none.
const RECALL: f64 = 0.8;
/// A field of an item there: all conditions that hold for it.
const CONDITIONS: &str = "conditions";

/// A catalogue on Milvus servers, for any number of processes to search.
///
/// Pictures and texts are partitions of one collection. [`push`](Self::push) brings a
/// [`Catalogue`] there, and what changed in it later.
#[derive(Debug)]
pub struct MilvusCatalogue {
    indexes: [MilvusIndex; 2],
}

/// What a push has done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pushed {
    /// Vectors that are there now, counted by the servers.
    pub vectors: usize,
    /// Of them, those that weren't there before.
    pub sent: usize,
    /// Vectors that were there and aren't in the catalogue any more.
    pub removed: usize,
    /// Of the ten best for sampled vectors, the fraction that the servers found.
    pub recall: f64,
}

impl MilvusCatalogue {
    /// Opens a catalogue that was pushed to `uri`, which is written as for [`MilvusIndex`].
    ///
    /// # Errors
    /// As [`MilvusIndex::open`].
    pub fn open(uri: &str) -> Result<Self> {
        let [pictures, texts] = spaces(&Partition::connect(Target::parse(uri)?)?);
        Ok(Self { indexes: [MilvusIndex::of(pictures)?, MilvusIndex::of(texts)?] })
    }

    /// Brings a catalogue to `uri`: sends what isn't there, removes what shouldn't be, and checks
    /// the result: the number of vectors, and searches for some of them. What was sent before
    /// isn't sent again, so one that was cut short goes on where it was.
    ///
    /// `on_progress` is told how many of how many vectors are there.
    ///
    /// # Errors
    /// [`Error::OtherCollection`] if the collection is of another model, width or metric;
    /// [`Error::Incomplete`] and [`Error::OtherVectors`] if the check fails; those of
    /// [`open`](Self::open).
    pub fn push(
        catalogue: &Catalogue,
        uri: &str,
        mut on_progress: impl FnMut(usize, usize),
    ) -> Result<Pushed> {
        let there = Self::create(catalogue, uri)?;
        let mut pushed = Pushed { vectors: 0, sent: 0, removed: 0, recall: 1. };
        let mut recalls = vec![];
        let all = catalogue.summary()?.spaces.iter().map(|space| space.vectors).sum();
        for index in there.indexes {
            let mut push = Push { catalogue, index, pushed: &mut pushed };
            recalls.push(push.run(&mut |done| on_progress(done, all))?);
        }
        let recalls: Vec<_> = recalls.into_iter().flatten().collect();
        if !recalls.is_empty() {
            pushed.recall = recalls.iter().sum::<f64>() / recalls.len() as f64;
        }
        Ok(pushed)
    }

    /// The catalogue's collection, with both its partitions; what is read sees all that was
    /// written.
    fn create(catalogue: &Catalogue, uri: &str) -> Result<Self> {
        let config = catalogue.config();
        let target = Target::parse(uri)?.strong();
        let contents = Contents {
            dim: config.dim,
            metric: config.metric,
            made_by: config.made_by.clone(),
            index: target.index.name.into(),
        };
        let partitions = spaces(&Partition::connect(target)?);
        partitions.iter().try_for_each(|partition| partition.create(&contents))?;
        let [pictures, texts] = partitions;
        Ok(Self { indexes: [MilvusIndex::of(pictures)?, MilvusIndex::of(texts)?] })
    }

    /// The `k` best items for each row of `queries`, best first, as [`Catalogue::search`] finds
    /// them. Conditions are looked at by the servers.
    ///
    /// # Errors
    /// [`xr_data::Error::MadeByAnother`] for queries of another model; those of
    /// [`VectorIndex::search`].
    pub fn search(&self, queries: &Embeddings, query: &Query) -> Result<Vec<Vec<Found>>> {
        let index = &self.indexes[query.space as usize];
        let uri = &index.partition.target.uri;
        queries.expect_made_by(index.made_by(), Path::new(uri))?;
        query.effort.check(index)?;
        let mut k = query.k;
        loop {
            let wanted = Wanted {
                k,
                bound: None,
                filter: expression(query.conditions),
                effort: index.effort(query.effort, k),
            };
            let found = index.find(queries.view(), wanted, None)?;
            let items: Vec<_> = found.iter().map(|found| items(found, query.k)).collect();
            // Several vectors of one item take the places of other items.
            let short = |(items, found): (&Vec<Found>, &Vec<Owned>)| {
                items.len() < query.k && found.len() == k
            };
            if k >= MOST || !items.iter().zip(&found).any(short) {
                return Ok(items);
            }
            k = (k * 2).min(MOST);
        }
    }

    /// The items with these ids, in order of id. One that isn't there is left out.
    ///
    /// # Errors
    /// [`Error::Milvus`].
    pub fn items(&self, ids: &[u64]) -> Result<Vec<Item>> {
        let mut found = BTreeMap::new();
        for index in &self.indexes {
            let missing: Vec<_> =
                ids.iter().copied().filter(|id| !found.contains_key(id)).collect();
            let items = index.partition.items(&missing)?.into_iter();
            let items = items.filter_map(|item| serde_json::from_value::<Item>(item).ok());
            found.extend(items.map(|item| (item.id, item)));
        }
        Ok(found.into_values().collect())
    }
}

impl FindItems for MilvusCatalogue {
    fn search(&self, queries: &Embeddings, query: &Query) -> Result<Vec<Vec<Found>>> {
        self.search(queries, query)
    }

    fn items(&self, ids: &[u64]) -> Result<Vec<Item>> {
        self.items(ids)
    }
}

/// The partitions of pictures and of texts.
fn spaces(partition: &Partition) -> [Partition; 2] {
    Space::ALL.map(|space| partition.of(partition.target.of(space)))
}

/// The push of one space.
struct Push<'a> {
    catalogue: &'a Catalogue,
    index: MilvusIndex,
    pushed: &'a mut Pushed,
}

impl Push<'_> {
    /// The recalls of the sampled queries.
    fn run(&mut self, on_progress: &mut dyn FnMut(usize)) -> Result<Vec<f64>> {
        let (ids, embeddings) = self.catalogue.embeddings(self.space())?;
        let before = self.pushed.vectors;
        for (rows, range) in windows(&ids) {
            self.send(&ids[rows.clone()], &embeddings, rows.start, &range)?;
            on_progress(before + rows.end);
        }
        self.index.partition.flush()?;
        self.pushed.vectors += ids.len();
        self.check(&ids, embeddings)
    }

    fn space(&self) -> Space {
        let partition = &self.index.partition.target.partition;
        Space::ALL.into_iter().find(|space| space.to_string() == *partition).expect("its name")
    }

    /// Brings the servers' vectors of a range of ids to what the catalogue has there.
    fn send(&mut self, ids: &[u64], rows: &Embeddings, first: usize, range: &str) -> Result<()> {
        let there = self.remove(range, ids)?;
        let is_missing = |&row: &usize| there.binary_search(&ids[row]).is_err();
        let missing: Vec<_> = (0..ids.len()).filter(is_missing).collect();
        let missing_ids: Vec<_> = missing.iter().map(|&row| ids[row]).collect();
        let items = self.catalogue.items_of(self.space(), &missing_ids)?;
        let mut batch = Batch::default();
        for (row, item) in missing.into_iter().zip(items) {
            // One that was removed meanwhile is left out.
            if let Some(item) = item {
                self.add(&mut batch, ids[row], rows.row(first + row), &item);
            }
        }
        self.index.partition.upsert(&batch, rows.dim())?;
        self.pushed.sent += batch.ids.len();
        Ok(())
    }

    /// Removes what a range has besides `ids`, and returns what is there of them; both ascending.
    fn remove(&mut self, range: &str, ids: &[u64]) -> Result<Vec<u64>> {
        let there = if self.index.len == 0 { vec![] } else { self.index.partition.ids(range)? };
        let (there, foreign): (Vec<_>, Vec<_>) =
            there.into_iter().partition(|id| ids.binary_search(id).is_ok());
        self.index.partition.delete(&foreign)?;
        self.pushed.removed += foreign.len();
        Ok(there)
    }

    fn add(&self, batch: &mut Batch, id: u64, vector: &[f32], item: &Item) {
        batch.ids.push(id);
        batch.owners.push(item.id);
        batch.items.push(described(item));
        let mut vector = vector.to_vec();
        if self.index.metric() == Metric::Cosine {
            xr_data::normalize_rows(&mut vector, self.index.dim());
        }
        batch.values.extend(vector);
    }

    /// Number of vectors there. A server that was killed counts what it still had in memory twice,
    /// so this counts the ids.
    fn count(&self, ids: &[u64]) -> Result<usize> {
        let there = windows(ids).map(|(_, range)| Ok(self.index.partition.ids(&range)?.len()));
        there.sum()
    }

    /// Counts, and looks for some of the vectors.
    fn check(&self, ids: &[u64], embeddings: Embeddings) -> Result<Vec<f64>> {
        let collection = || self.index.partition.target.uri.clone();
        let (expected, found, space) = (ids.len(), self.count(ids)?, self.space());
        if found != expected {
            return Err(Error::Incomplete { collection: collection(), space, expected, found });
        }
        let samples = SAMPLES.min(ids.len());
        let rows: Vec<_> = (0..samples).map(|i| (i * ids.len() / samples) as u32).collect();
        let queries = embeddings.select(&rows);
        let exact = ExactIndex::new(embeddings, self.index.metric())?;
        let search =
            |index: &dyn VectorIndex| index.search(queries.view(), HITS, &SearchParams::default());
        let there = MilvusIndex::of(self.index.partition.again())?;
        let recalls = recalls(&search(&there)?, &search(&exact)?, self.index.metric());
        let recall = recalls.iter().sum::<f64>() / recalls.len().max(1) as f64;
        if !recalls.is_empty() && recall < RECALL {
            return Err(Error::OtherVectors { collection: collection(), space, recall });
        }
        Ok(recalls)
    }
}

/// Ranges of ids, together all that there are, each with the rows of `ids` in it: [`WINDOW`] in
/// each, and none behind the last of `ids`, which ascend.
fn windows(ids: &[u64]) -> impl Iterator<Item = (Range<usize>, String)> {
    let starts = (0..ids.len()).step_by(WINDOW).chain([ids.len()]);
    starts.map(|start| {
        let rows = start..ids.len().min(start + WINDOW);
        let below = start.checked_sub(1).map(|row| ids[row]);
        let range = range(below, ids[rows.clone()].last().copied());
        (rows, range)
    })
}

/// For each query, how many of its hits are as good as the worst of those expected.
fn recalls(found: &Hits, expected: &Hits, metric: Metric) -> Vec<f64> {
    let recall = |(found, expected): (&[Hit], &[Hit])| {
        let scores = expected.iter().map(|hit| metric.score(hit.score));
        let worst = scores.clone().fold(f32::INFINITY, f32::min);
        let largest = scores.fold(0f32, |largest, score| largest.max(score.abs()));
        // Servers sum in another order.
        let bar = worst - 1e-4 * largest.max(1.);
        let good = found.iter().filter(|hit| metric.score(hit.score) >= bar).count();
        good as f64 / expected.len().max(1) as f64
    };
    found.iter().zip(expected.iter()).map(recall).collect()
}

/// An expression that holds for ids after one and up to another.
fn range(below: Option<u64>, last: Option<u64>) -> String {
    match (below, last) {
        (None, None) => "id >= 0".into(),
        (None, Some(last)) => format!("id <= {last}"),
        (Some(below), None) => format!("id > {below}"),
        (Some(below), Some(last)) => format!("id > {below} and id <= {last}"),
    }
}

/// An item as it lies there: with the conditions that hold for it, as searches ask for them.
fn described(item: &Item) -> Value {
    let mut value = json!(item);
    let conditions = Condition::all_of(&item.metadata).map(|condition| condition.to_string());
    value[CONDITIONS] = conditions.collect();
    value
}

/// An expression that holds where all conditions do.
fn expression(conditions: &[Condition]) -> String {
    let one = |condition: &Condition| {
        format!("json_contains(item[\"{CONDITIONS}\"], {})", json!(condition.to_string()))
    };
    conditions.iter().map(one).collect::<Vec<_>>().join(" and ")
}

/// The first `k` items of hits.
fn items(found: &[Owned], k: usize) -> Vec<Found> {
    let mut seen = HashSet::new();
    let new = found.iter().filter(|owned| seen.insert(owned.owner));
    new.map(|owned| Found { item: owned.owner, score: owned.hit.score }).take(k).collect()
}
