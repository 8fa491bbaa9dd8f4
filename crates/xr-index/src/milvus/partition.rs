use std::{
    collections::HashMap,
    fmt, io,
    ops::Range,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use milvus::v2::{self as sdk, prelude::*};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use xr_data::Fingerprint;

use super::target::{Index, Target};
use crate::{Hit, Metric, Result, error::Error, similarity::Rows, top_k::best_first};

/// Hits for one query that a server gives at most.
pub(super) const MOST: usize = 16_384;

/// What Milvus Lite says its version is, in the beginning.
const LITE: &str = "milvus_lite";

const CONNECTING: Duration = Duration::from_secs(10);
/// For one attempt of one call.
const ATTEMPT: Duration = Duration::from_secs(60);
/// How long a call is tried again. A server that was killed is there again after up to two and a half
/// minutes: its port and its old session have to run out, and it has to load.
const PATIENCE: Duration = Duration::from_secs(300);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Values of an answer: the client reads messages of 4 MiB.
const ANSWER: usize = 200_000;
/// Bytes of vectors in one upsert.
const UPSERT: usize = 4 << 20;
/// Items that are asked for at a time: of the largest, with six vectors each, an answer still holds
/// so many.
const ITEMS: usize = 10;
/// Ids in one expression.
const IDS: usize = 10_000;

const ID: &str = "id";
const VECTOR: &str = "vector";
const OWNER: &str = "owner";
const ITEM: &str = "item";
/// The property of a collection that holds its [`Contents`].
const PROPERTY: &str = "xr";

/// What a collection is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Contents {
    pub dim: usize,
    pub metric: Metric,
    pub made_by: Fingerprint,
    /// Name of the index type.
    pub index: String,
}

/// The vectors of a [`Target`].
///
/// Calls that fail for a reason that passes, such as a server that starts anew, are tried again
/// for [`PATIENCE`]; all may be, because all that write replace what is there.
pub(super) struct Partition {
    pub target: Target,
    client: ClientV2,
}

/// Vectors to be written, and what they are of.
#[derive(Default)]
pub(super) struct Batch {
    pub ids: Vec<u64>,
    pub values: Vec<f32>,
    /// Ids of items.
    pub owners: Vec<u64>,
    /// Anything of at most 64 KiB each.
    pub items: Vec<Value>,
}

/// What a search looks for.
#[derive(Clone)]
pub(super) struct Wanted {
    /// For each query, at most [`MOST`].
    pub k: usize,
    /// All and nothing but those that reach it.
    pub bound: Option<f32>,
    /// What must hold; all if empty.
    pub filter: String,
    /// How hard the index looks, in the server's words.
    pub effort: HashMap<String, String>,
}

/// A vector found, and the item that it is of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owned {
    pub hit: Hit,
    pub owner: u64,
}

impl Partition {
    pub fn connect(target: Target) -> Result<Self> {
        let retry = RetryConfig::new().max_attempts(1);
        let mut config = ConnectConfig::new()
            .uri(&target.server)
            .connect_timeout(CONNECTING)
            .rpc_timeout(ATTEMPT)
            .retry(retry)
            .telemetry(TelemetryConfig::new().enabled(false));
        if let Some(token) = &target.token {
            config = config.token(&token.0);
        }
        let client =
            patiently(|e| !is_timeout(e) && passes(e), async || ClientV2::new(&config).await);
        let client = client?.map_err(|error| match error {
            error if is_timeout(&error) => {
                Error::MilvusUnreachable { server: target.server.clone() }
            }
            error => said(&target, error),
        })?;
        Ok(Self { target, client })
    }

    /// Another value for the same vectors.
    pub fn again(&self) -> Self {
        self.of(self.target.clone())
    }

    /// Another partition of the collection.
    pub fn of(&self, target: Target) -> Self {
        Self { target, client: self.client.clone() }
    }

    /// What the collection is of; none if there is no such collection.
    ///
    /// # Errors
    /// [`Error::ForeignCollection`] if something other than xr made it.
    pub fn contents(&self) -> Result<Option<Contents>> {
        let name = &self.target.collection;
        let has = self.call(|client| async move {
            client
                .has_collection(HasCollectionRequest::builder().collection_name(name).build()?)
                .await
        })?;
        if !has.exists() {
            return Ok(None);
        }
        let description = self.call(|client| async move {
            let request = DescribeCollectionRequest::builder().collection_name(name).build()?;
            client.describe_collection(request).await
        })?;
        let property = description.description().get_properties().get(PROPERTY);
        let contents = property.and_then(|json| serde_json::from_str(json).ok());
        contents
            .map(Some)
            .ok_or_else(|| Error::ForeignCollection { collection: self.target.uri.clone() })
    }

    /// Makes the collection, its index and the partition, unless they are there.
    ///
    /// # Errors
    /// [`Error::OtherCollection`] if it is of other contents; [`Error::MilvusAddress`] and
    /// [`Error::NotInLite`] for an index that can't be made.
    pub fn create(&self, contents: &Contents) -> Result<()> {
        match self.contents()? {
            Some(found) => contents.expect(&found, &self.target)?,
            None => {
                self.target.check_width(contents.dim)?;
                self.check_server()?;
                self.create_collection(contents)?;
            }
        }
        if !self.has_index()? {
            self.create_index(contents.metric)?;
        }
        if !self.has_partition()? {
            self.create_partition()?;
        }
        Ok(())
    }

    /// Refuses an index that the server takes and then can't build.
    fn check_server(&self) -> Result<()> {
        let Index { name, lite, .. } = self.target.index;
        let is_lite = || {
            let version = self.call(|client| async move {
                let request = GetServerVersionRequest::builder().build()?;
                client.server_version(request).await
            });
            version.map(|version| version.version().starts_with(LITE))
        };
        if *lite || !is_lite()? {
            return Ok(());
        }
        let collection = self.target.uri.clone();
        Err(Error::NotInLite { collection, index: name, has: Target::of_lite() })
    }

    fn create_collection(&self, contents: &Contents) -> Result<()> {
        let name = &self.target.collection;
        let property = serde_json::to_string(contents).expect("string keys and whole numbers");
        let request = CreateCollectionRequest::builder()
            .collection_name(name)
            .schema(schema(contents.dim))
            .num_shards(self.target.shards)
            .properties(HashMap::from([(PROPERTY.to_owned(), property)]));
        self.call(|client| {
            let request = request.clone().build();
            async move { client.create_collection(request?).await }
        })
    }

    fn has_index(&self) -> Result<bool> {
        let name = &self.target.collection;
        let described = self.call(|client| async move {
            let request = DescribeIndexRequest::builder().collection_name(name).field_name(VECTOR);
            match client.describe_index(request.build()?).await {
                Err(error) if is_no_index(&error) => Ok(None),
                described => described.map(Some),
            }
        })?;
        Ok(described.is_some_and(|described| !described.indexes().is_empty()))
    }

    fn create_index(&self, metric: Metric) -> Result<()> {
        let build = self.target.build.iter().map(|(name, value)| {
            let value = value.parse::<i64>().map_or_else(|_| value.as_str().into(), Value::from);
            ((*name).to_owned(), value)
        });
        let build = Value::Object(build.collect()).to_string();
        let index = IndexParam::new()
            .field_name(VECTOR)
            .index_type(self.target.index.kind)
            .metric_type(metric_type(metric))
            .extra_params(HashMap::from([("params".to_owned(), build)]));
        let request = CreateIndexRequest::builder()
            .collection_name(&self.target.collection)
            .index_param(index)
            .sync(false);
        self.call(|client| {
            let request = request.clone().build();
            async move { client.create_index(request?).await }
        })
    }

    fn has_partition(&self) -> Result<bool> {
        let Target { collection, partition, .. } = &self.target;
        let has = self.call(|client| async move {
            let request = HasPartitionRequest::builder().collection_name(collection);
            client.has_partition(request.partition_name(partition).build()?).await
        })?;
        Ok(has.exists())
    }

    fn create_partition(&self) -> Result<()> {
        let Target { collection, partition, .. } = &self.target;
        self.call(|client| async move {
            let request = CreatePartitionRequest::builder().collection_name(collection);
            client.create_partition(request.partition_name(partition).build()?).await
        })
    }

    /// Has the servers read the collection, so that it can be searched.
    pub fn load(&self) -> Result<()> {
        self.call(|client| async move { self.load_once(&client).await })
    }

    async fn load_once(&self, client: &ClientV2) -> sdk::error::Result<()> {
        let request = LoadCollectionRequest::builder().collection_name(&self.target.collection);
        client.load_collection(request.build()?).await
    }

    /// Has the servers write what they hold in memory to their storage and index it.
    pub fn flush(&self) -> Result<()> {
        let name = &self.target.collection;
        self.call(|client| async move {
            client.flush(FlushRequest::builder().collection_names([name]).build()?).await
        })
        .map(drop)
    }

    /// Adds vectors, or puts them in place of those of their ids.
    pub fn upsert(&self, batch: &Batch, dim: usize) -> Result<()> {
        let rows = (UPSERT / (dim * size_of::<f32>())).clamp(1, 1_000);
        for first in (0..batch.ids.len()).step_by(rows) {
            let last = (first + rows).min(batch.ids.len());
            let insert = InsertRequest::builder()
                .collection_name(&self.target.collection)
                .partition_name(&self.target.partition)
                .columns(columns(batch, first..last, dim));
            self.call(|client| {
                let insert = insert.clone().build();
                async move { client.upsert(UpsertRequest::builder().insert(insert?).build()?).await }
            })?;
        }
        Ok(())
    }

    /// Removes vectors, whether they are there or not; whoever reads afterwards sees it.
    pub fn delete(&self, ids: &[u64]) -> Result<()> {
        let Target { collection, partition, .. } = &self.target;
        let Some(last) = ids.last() else { return Ok(()) };
        ids.chunks(IDS).try_for_each(|ids| {
            let filter = &among(ids);
            self.call(|client| async move {
                let request = DeleteRequest::builder().collection_name(collection);
                client.delete(request.partition_name(partition).filter(filter).build()?).await
            })
            .map(drop)
        })?;
        // Milvus 2.3 doesn't say when a deletion was, so that sessions don't wait for it: this does.
        self.ids(&among(&[*last])).map(drop)
    }

    /// Which of these are there, each once.
    pub fn present(&self, ids: &[u64]) -> Result<Vec<u64>> {
        let found = ids.chunks(IDS).map(|ids| self.ids(&among(ids)));
        let mut found = found.collect::<Result<Vec<_>>>()?.concat();
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Ids of the vectors for which an expression holds, ascending, each once.
    pub fn ids(&self, filter: &str) -> Result<Vec<u64>> {
        let found = self.query(filter, ID, None)?;
        let mut ids = numbers(found.results().get_output_field(ID));
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// What is known of items: once for each of their vectors.
    pub fn items(&self, owners: &[u64]) -> Result<Vec<Value>> {
        let mut items = vec![];
        for owners in owners.chunks(ITEMS) {
            let owners: Vec<_> = owners.iter().map(|owner| owner.cast_signed()).collect();
            let found = self.query(&format!("{OWNER} in {owners:?}"), ITEM, None)?;
            if let Some(FieldData::Json { values, .. }) =
                found.results().get_output_field(ITEM).map(FieldData::inner)
            {
                items.extend_from_slice(values);
            }
        }
        Ok(items)
    }

    /// Number of vectors.
    pub fn count(&self) -> Result<usize> {
        // Milvus Lite counts all partitions, unless there is an expression.
        let all = format!("{ID} >= 0 or {ID} < 0");
        let found = self.query(&all, "count(*)", None)?;
        Ok(found.results().get_row_count() as usize)
    }

    /// Sees all that was written before.
    fn query(&self, filter: &str, field: &str, limit: Option<i64>) -> Result<QueryResponse> {
        let mut request = QueryRequest::builder()
            .collection_name(&self.target.collection)
            .partition_names([&self.target.partition])
            .filter(filter)
            .output_fields([field])
            .consistency_level(ConsistencyLevel::Strong);
        if let Some(limit) = limit {
            request = request.limit(limit);
        }
        self.call(|client| {
            let request = request.clone().build();
            async move { client.query(request?).await }
        })
    }

    /// The best for each query, best first.
    ///
    /// Queries as [`prepare`](crate::similarity::prepare) leaves them.
    pub fn search(
        &self,
        queries: Rows,
        metric: Metric,
        wanted: &Wanted,
    ) -> Result<Vec<Vec<Owned>>> {
        let step = (ANSWER / wanted.k).max(1);
        let mut found = vec![];
        for first in (0..queries.len()).step_by(step) {
            let some = queries.slice(first..queries.len().min(first + step));
            found.extend(self.search_some(some, metric, wanted)?);
        }
        Ok(found)
    }

    fn search_some(
        &self,
        queries: Rows,
        metric: Metric,
        wanted: &Wanted,
    ) -> Result<Vec<Vec<Owned>>> {
        let queries = queries.values.chunks(queries.dim).map(<[f32]>::to_vec).collect();
        let mut request = SearchRequest::builder()
            .collection_name(&self.target.collection)
            .partition_names([&self.target.partition])
            .vector_field(VECTOR)
            .vectors(SearchVectors::Float(queries))
            .metric_type(metric_type(metric))
            .filter(&wanted.filter)
            .output_fields([OWNER])
            .limit(wanted.k as i64)
            .extra_params(wanted.effort.clone())
            .consistency_level(self.target.consistency);
        if let Some(bound) = wanted.bound {
            request = request.radius(radius(bound, metric));
        }
        let found = self.call(|client| {
            let request = request.clone().build();
            async move { client.search(request?).await }
        })?;
        Ok(found.results().iter().map(|found| Self::hits(found, metric)).collect())
    }

    fn hits(found: &SingleResult, metric: Metric) -> Vec<Owned> {
        let Ids::Int64(ids) = found.get_ids() else { return vec![] };
        let owners = numbers(found.get_output_field(OWNER));
        let hits = ids.iter().zip(found.get_scores()).zip(owners);
        // Smaller similarities are worse, whatever the metric.
        let hits = hits.map(|((id, score), owner)| Owned {
            hit: Hit { id: id.cast_unsigned(), score: metric.score(*score) },
            owner,
        });
        let mut hits: Vec<_> = hits.collect();
        hits.sort_unstable_by(|a, b| best_first(&a.hit, &b.hit));
        hits.iter_mut().for_each(|owned| owned.hit.score = metric.score(owned.hit.score));
        hits
    }

    fn call<T, F>(&self, request: impl Fn(ClientV2) -> F) -> Result<T>
    where
        F: Future<Output = sdk::error::Result<T>>,
    {
        let attempt = async || match request(self.client.clone()).await {
            // Milvus Lite starts with nothing loaded.
            Err(error) if is_not_loaded(&error) => {
                self.load_once(&self.client).await?;
                request(self.client.clone()).await
            }
            done => done,
        };
        let done = patiently(passes, attempt)?;
        done.map_err(|error| said(&self.target, error))
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Partition").field(&self.target.uri).finish()
    }
}

/// What a server excludes from a range.
fn radius(bound: f32, metric: Metric) -> f64 {
    match metric {
        Metric::L2 => bound.next_up().into(),
        Metric::InnerProduct | Metric::Cosine => bound.next_down().into(),
    }
}

/// An expression that holds for vectors of these ids.
pub(super) fn among(ids: &[u64]) -> String {
    let ids: Vec<_> = ids.iter().map(|id| id.cast_signed().to_string()).collect();
    format!("{ID} in [{}]", ids.join(","))
}

/// One thread for the clients of all indexes; those who call wait for it.
fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<io::Result<Runtime>> = OnceLock::new();
    let start = || Builder::new_multi_thread().worker_threads(1).enable_all().build();
    RUNTIME.get_or_init(start).as_ref().map_err(|e| Error::Threads(e.to_string()))
}

/// Makes a call, and again, after pauses that double, while it fails for a reason that passes.
fn patiently<T>(
    passes: impl Fn(&sdk::error::Error) -> bool,
    call: impl AsyncFn() -> sdk::error::Result<T>,
) -> Result<sdk::error::Result<T>> {
    let (runtime, start, mut pause) = (runtime()?, Instant::now(), FIRST_PAUSE);
    loop {
        match runtime.block_on(call()) {
            Err(error) if passes(&error) && start.elapsed() + pause < PATIENCE => {
                thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            done => return Ok(done),
        }
    }
}

fn said(target: &Target, error: sdk::error::Error) -> Error {
    match error {
        sdk::error::Error::RetryExhausted { source, .. } => said(target, *source),
        error => Error::Milvus { collection: target.uri.clone(), why: error.to_string() },
    }
}

/// May the same call succeed a little later?
fn passes(error: &sdk::error::Error) -> bool {
    use sdk::error::Error as E;
    match error {
        E::RetryExhausted { source, .. } => passes(source),
        E::Timeout(_) | E::Cancelled(_) => true,
        // All but gRPC's invalid argument, permission denied, unimplemented and unauthenticated.
        E::Grpc(status) => ![3, 7, 12, 16].contains(&(status.code() as i32)),
        // Of Milvus: it isn't ready, is at its limits, hasn't loaded the collection, lacks a
        // channel or a node. Older paths have no code but −1 and 65535.
        E::Server(error) => matches!(
            error.code(),
            -1 | 1..=5 | 8 | 101 | 103 | 106 | 500..=599 | 900..=999 | 65535
        ),
        _ => false,
    }
}

/// Does nobody answer?
fn is_timeout(error: &sdk::error::Error) -> bool {
    matches!(error, sdk::error::Error::Timeout(_))
}

/// Does the collection lie in the servers' storage only?
fn is_not_loaded(error: &sdk::error::Error) -> bool {
    match error {
        sdk::error::Error::RetryExhausted { source, .. } => is_not_loaded(source),
        sdk::error::Error::Server(error) => error.code() == 101,
        _ => false,
    }
}

/// Both servers' ways to say that a field has no index.
fn is_no_index(error: &sdk::error::Error) -> bool {
    match error {
        sdk::error::Error::RetryExhausted { source, .. } => is_no_index(source),
        sdk::error::Error::Server(error) => error.code() == 700 || error.legacy_code() == 11,
        _ => false,
    }
}

fn schema(dim: usize) -> CollectionSchema {
    let field = |name, kind| FieldSchema::new().name(name).data_type(kind);
    CollectionSchema::new()
        .add_field(field(ID, DataType::Int64).primary_key(true))
        .add_field(field(VECTOR, DataType::FloatVector).dimension(dim as u32))
        .add_field(field(OWNER, DataType::Int64))
        .add_field(field(ITEM, DataType::Json))
}

fn columns(batch: &Batch, rows: Range<usize>, dim: usize) -> Vec<FieldData> {
    let signed = |ids: &[u64]| ids.iter().map(|id| id.cast_signed()).collect();
    let values = &batch.values[rows.start * dim..rows.end * dim];
    let values = values.chunks(dim).map(<[f32]>::to_vec).collect();
    vec![
        FieldData::Int64 { name: ID.into(), values: signed(&batch.ids[rows.clone()]) },
        FieldData::FloatVector { name: VECTOR.into(), values },
        FieldData::Int64 { name: OWNER.into(), values: signed(&batch.owners[rows.clone()]) },
        FieldData::Json { name: ITEM.into(), values: batch.items[rows].to_vec() },
    ]
}

fn numbers(field: Option<&FieldData>) -> Vec<u64> {
    match field.map(FieldData::inner) {
        Some(FieldData::Int64 { values, .. }) => values.iter().map(|n| n.cast_unsigned()).collect(),
        _ => vec![],
    }
}

/// Cosines are inner products here: vectors and queries are brought to length 1, and one of zeros
/// stays zero.
fn metric_type(metric: Metric) -> MetricType {
    match metric {
        Metric::InnerProduct | Metric::Cosine => MetricType::Ip,
        Metric::L2 => MetricType::L2,
    }
}
