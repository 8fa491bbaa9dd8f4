//! What a Milvus server does, and says. `XR_MILVUS` is its address.
#![cfg(feature = "milvus")]

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    process::{self, Command},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use milvus::v2::prelude::*;
use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tempfile::TempDir;
use xr_data::{Embeddings, Fingerprint};
use xr_index::{
    Catalogue, Config, Error, Found, IndexSpec, Item, Metric, MilvusCatalogue, MilvusIndex,
    NewItem, Pushed, Query, Space, VectorIndex,
};

const DIM: usize = 16;

fn server() -> String {
    env::var("XR_MILVUS").expect("XR_MILVUS, such as http://localhost:19530")
}

/// A collection that isn't there yet.
fn address(name: &str) -> String {
    static COLLECTIONS: AtomicUsize = AtomicUsize::new(0);
    let number = COLLECTIONS.fetch_add(1, Ordering::Relaxed);
    format!("{}/{name}_{}_{number}", server(), process::id())
}

fn model() -> Fingerprint {
    Fingerprint::of(["model"])
}

fn vector(seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..DIM).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn embeddings(rows: u64) -> Embeddings {
    Embeddings::new((0..rows).flat_map(vector).collect(), DIM, model())
}

/// An item with a picture and two texts.
fn new(id: u64) -> NewItem {
    let metadata =
        json!({ "third": id % 3, "even": id.is_multiple_of(2), "name": "a \"b\" = ü\\" });
    NewItem {
        item: Item {
            id,
            source: format!("{id}.jpg"),
            texts: vec![format!("item {id}")],
            metadata: metadata.as_object().unwrap().clone(),
        },
        pictures: vec![vector(id)],
        texts: vec![vector(1_000_000 + id), vector(2_000_000 + id)],
        ..NewItem::default()
    }
}

fn catalogue(items: u64) -> (TempDir, Catalogue) {
    let dir = tempfile::tempdir().unwrap();
    let catalogue = Catalogue::create(dir.path(), Config::new(model(), DIM)).unwrap();
    catalogue.put(&(0..items).map(new).collect::<Vec<_>>()).unwrap();
    (dir, catalogue)
}

fn push(catalogue: &Catalogue, uri: &str) -> Pushed {
    let pushed = MilvusCatalogue::push(catalogue, uri, |_, _| {}).unwrap();
    assert!(pushed.recall >= 0.95, "{pushed:?}");
    pushed
}

/// Both find the same, whatever is asked for.
fn same(catalogue: &Catalogue, there: &MilvusCatalogue) {
    let queries = embeddings(20);
    for conditions in [vec![], vec!["third=1"], vec!["even=true", "third=2"], vec!["third=7"]] {
        let conditions: Vec<_> = conditions.iter().map(|text| text.parse().unwrap()).collect();
        for space in Space::ALL {
            let query = Query { space, conditions: &conditions, ..Query::default() };
            let all = Query { k: 1_000, ..query };
            let expected = catalogue.search(&queries, &all).unwrap();
            let found = there.search(&queries, &query).unwrap();
            found.iter().zip(&expected).for_each(|(found, all)| as_good(found, all));
        }
    }
}

/// As many as there may be, each with its true score, which is that of its rank: servers sum in
/// another order, so that what is nearly equal may change places.
fn as_good(found: &[Found], all: &[Found]) {
    assert_eq!(found.len(), all.len().min(10));
    for (found, of_rank) in found.iter().zip(all) {
        let truly = all.iter().find(|other| other.item == found.item).unwrap();
        let close = |other: &Found| (found.score - other.score).abs() < 1e-5;
        assert!(close(truly) && close(of_rank), "{found:?}, truly {truly:?}, {of_rank:?}");
    }
}

#[test]
#[ignore = "needs a server"]
fn a_pushed_catalogue_finds_what_the_catalogue_finds() {
    let (_dir, catalogue) = catalogue(600);
    let uri = address("pushed") + "?index=FLAT&consistency=strong";
    let pushed = push(&catalogue, &uri);
    assert_eq!((pushed.vectors, pushed.sent, pushed.removed), (1_800, 1_800, 0));
    let there = MilvusCatalogue::open(&uri).unwrap();
    same(&catalogue, &there);
    let ids: Vec<_> = [5_000].into_iter().chain(3..20).collect();
    let expected: Vec<_> = (3..20).map(|id| new(id).item).collect();
    assert_eq!(there.items(&ids).unwrap(), expected, "each once, and 5,000 isn't there");

    let name = ["name=a \"b\" = ü\\".parse().unwrap()];
    let query = Query { k: 3, conditions: &name, ..Query::default() };
    assert_eq!(there.search(&embeddings(1), &query).unwrap()[0].len(), 3);
    let other = Embeddings::new(vector(0), DIM, Fingerprint::of(["other"]));
    let refused = there.search(&other, &Query::default()).unwrap_err().to_string();
    assert!(refused.contains(model().short()), "{refused}");
}

/// The server builds the index that the address names, of vectors enough that it does.
fn an_index_type(index: &str, theirs: IndexType, params: &str, recall: f64) {
    let (_dir, catalogue) = catalogue(2_000);
    let uri = address("type") + "?consistency=strong&index=" + index;
    let pushed = MilvusCatalogue::push(&catalogue, &uri, |_, _| {}).unwrap();
    assert_eq!((pushed.vectors, pushed.sent), (6_000, 6_000));
    assert!(pushed.recall >= recall, "{index}: {pushed:?}");
    let built = built_index(&uri);
    assert_eq!(built.get_index_type(), theirs);
    let (said, params) = (format!("{:?}", built.get_extra_params()), params.split_whitespace());
    params.for_each(|param| assert!(said.contains(param), "{param} in {said}"));
    let there = MilvusCatalogue::open(&uri).unwrap();
    for space in Space::ALL {
        let query = Query { space, ..Query::default() };
        let found = there.search(&embeddings(20), &query).unwrap();
        let expected = catalogue.search(&embeddings(20), &query).unwrap();
        let both = |(a, b): (&Vec<Found>, &Vec<Found>)| {
            a.iter().filter(|a| b.iter().any(|b| a.item == b.item)).count()
        };
        let both: usize = found.iter().zip(&expected).map(both).sum();
        assert!(both as f64 >= recall * 200., "{index}, {space}: {both} of 200");
    }
}

/// What the server says of the only index of a collection, as soon as it is built.
fn built_index(uri: &str) -> IndexDesc {
    for _ in 0..600 {
        let index = described_index(uri);
        if index.get_pending_rows() == 0 && index.get_indexed_rows() >= index.get_total_rows() {
            return index;
        }
        thread::sleep(Duration::from_millis(500));
    }
    panic!("{uri}: no index after five minutes");
}

fn described_index(uri: &str) -> IndexDesc {
    let (address, _) = uri.split_once('?').unwrap();
    let collection = address.rsplit('/').next().unwrap();
    let request = DescribeIndexRequest::builder().collection_name(collection).field_name("vector");
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let client = ClientV2::new(&connection()).await.unwrap();
        let described = client.describe_index(request.build().unwrap()).await.unwrap();
        described.indexes()[0].clone()
    })
}

fn connection() -> ConnectConfig {
    let config = ConnectConfig::new().uri(server());
    env::var("MILVUS_TOKEN").map_or(config.clone(), |token| config.token(token))
}

#[test]
#[ignore = "needs a server"]
fn index_types_of_every_server() {
    an_index_type("Flat", IndexType::Flat, "", 1.);
    an_index_type("HNSW8", IndexType::Hnsw, "8 200", 0.9);
    an_index_type("IVF16,Flat", IndexType::IvfFlat, "16", 0.9);
    an_index_type("IVF16,SQ8", IndexType::IvfSq8, "16", 0.9);
}

#[test]
#[ignore = "needs a whole server"]
fn whole_index_types() {
    an_index_type("IVF16,PQ16", IndexType::IvfPq, "16 8", 0.8);
    // This server takes a DISKANN index, but is compiled without one: of more than a few vectors it
    // would try to build it without end.
    let uri = address("type") + "?index=DISKANN";
    MilvusIndex::build(&uri, &embeddings(10), None, Metric::L2).unwrap();
    assert_eq!(described_index(&uri).get_index_type(), IndexType::DiskAnn);
}

#[test]
#[ignore = "needs Milvus Lite"]
fn lite_lacks_some_index_types() {
    let (_dir, catalogue) = catalogue(10);
    for index in ["IVF_PQ&m=8", "DISKANN"] {
        let uri = address("lacks") + "?index=" + index;
        let error = MilvusCatalogue::push(&catalogue, &uri, |_, _| {}).unwrap_err().to_string();
        let name = index.split('&').next().unwrap();
        assert_eq!(
            error,
            format!(
                "{uri}: Milvus Lite has no index {name}, but HNSW, FLAT, IVF_FLAT, IVF_SQ8; name \
                 one of these, or another server"
            )
        );
        assert!(matches!(MilvusIndex::open(&uri).unwrap_err(), Error::NoCollection { .. }));
    }
}

/// `MILVUS_TOKEN` is that of a server that asks for one.
#[test]
#[ignore = "needs a whole server"]
fn whole_lets_in_only_who_is_known() {
    let token = env::var("MILVUS_TOKEN").expect("MILVUS_TOKEN, such as root:Milvus");
    let uri = address("known");
    let asked_by = |token: &str| uri.replacen("://", &format!("://{token}@"), 1);
    let rows = || embeddings(10);
    let build = |uri: &str| MilvusIndex::build(uri, &rows(), None, Metric::L2);
    let error = build(&asked_by("root:wrong")).unwrap_err().to_string();
    assert!(error.starts_with(&format!("Milvus, about {uri}: ")), "{error}");
    assert!(error.contains("auth") && !error.contains("wrong"), "{error}");
    let index = build(&asked_by(&token)).unwrap();
    assert_eq!((index.name(), index.len()), (uri.clone(), 10));
    assert_eq!(MilvusIndex::open(&uri).unwrap().len(), 10);
}

#[test]
#[ignore = "needs a server"]
fn a_second_push_brings_what_changed() {
    let (_dir, catalogue) = catalogue(300);
    let uri = address("again") + "?index=FLAT&consistency=strong";
    push(&catalogue, &uri);
    catalogue.remove(&[0, 5, 299]).unwrap();
    catalogue.put(&[new(7), new(1_000)]).unwrap();
    let pushed = push(&catalogue, &uri);
    assert_eq!((pushed.vectors, pushed.sent, pushed.removed), (894, 6, 12));
    same(&catalogue, &MilvusCatalogue::open(&uri).unwrap());
    let pushed = push(&catalogue, &uri);
    assert_eq!((pushed.vectors, pushed.sent, pushed.removed), (894, 0, 0));
}

#[test]
#[ignore = "needs a server"]
fn a_push_that_was_cut_short_goes_on() {
    let (_dir, catalogue) = catalogue(12_000);
    let uri = address("cut");
    let first = AssertUnwindSafe(|| {
        MilvusCatalogue::push(&catalogue, &uri, |done, _| assert!(done < 20_000, "cut")).map(drop)
    });
    catch_unwind(first).unwrap_err();
    let pushed = push(&catalogue, &uri);
    assert_eq!((pushed.vectors, pushed.removed), (36_000, 0));
    assert_eq!(pushed.sent, 36_000 - 22_000);
}

/// `XR_MILVUS_RESTART` is a command that kills the server and starts it again.
#[test]
#[ignore = "needs a server that may be restarted"]
fn a_restart_loses_nothing() {
    let restart = env::var("XR_MILVUS_RESTART").expect("XR_MILVUS_RESTART");
    let (_dir, catalogue) = catalogue(12_000);
    let mut restarted = None;
    let pushed =
        MilvusCatalogue::push(&catalogue, &(address("restarted") + "?index=FLAT"), |done, _| {
            if done > 10_000 && restarted.is_none() {
                restarted = Some(Command::new("bash").args(["-c", &restart]).spawn().unwrap());
            }
        });
    assert!(restarted.expect("a restart").wait().unwrap().success());
    let pushed = pushed.unwrap();
    assert_eq!((pushed.vectors, pushed.removed), (36_000, 0));
    // Everything is compared with everything: less than all would be lost.
    assert_eq!(pushed.recall, 1., "{pushed:?}");
}

#[test]
#[ignore = "needs a server"]
fn the_same_catalogue_of_another_model_width_or_metric_is_refused() {
    let uri = address("taken");
    let build = |rows: Embeddings, metric| {
        MilvusIndex::build(&uri, &rows, None, metric).map(drop).unwrap_err().to_string()
    };
    MilvusIndex::build(&uri, &embeddings(10), None, Metric::L2).unwrap();
    assert_eq!(
        build(embeddings(10), Metric::L2),
        format!(
            "{uri}: 10 vectors are there already; open it, or name another collection or partition"
        )
    );
    let end = "name another collection, or drop this one";
    let other = |rows: u64, dim, model| {
        Embeddings::new((0..rows).flat_map(vector).collect(), dim, Fingerprint::of([model]))
    };
    assert_eq!(
        build(other(10, 8, "model"), Metric::L2),
        format!("{uri}: the width of this collection is 16, expected 8; {end}")
    );
    assert_eq!(
        build(embeddings(10), Metric::Cosine),
        format!("{uri}: the metric of this collection is l2, expected cosine; {end}")
    );
    let (old, new) = (model(), Fingerprint::of(["another"]));
    assert_eq!(
        build(other(10, DIM, "another"), Metric::L2),
        format!("{uri}: the model of this collection is {old}, expected {new}; {end}")
    );
}

#[test]
#[ignore = "needs a server"]
fn a_collection_that_holds_another_catalogue_is_noticed() {
    let (_dir, mut first) = catalogue(200);
    let uri = address("other");
    push(&first, &uri);
    // The same ids, of other vectors.
    let (_other, other) = {
        let dir = tempfile::tempdir().unwrap();
        let other = Catalogue::create(dir.path(), Config::new(model(), DIM)).unwrap();
        let moved = |id| NewItem { pictures: vec![vector(id + 500_000)], ..new(id) };
        other.put(&(0..200).map(moved).collect::<Vec<_>>()).unwrap();
        (dir, other)
    };
    let error = MilvusCatalogue::push(&other, &uri, |_, _| {}).unwrap_err().to_string();
    assert!(error.contains(": searches for pictures find only 0."), "{error}");
    let elsewhere = first.rebuild(uri.parse().unwrap(), "default".parse().unwrap());
    assert_eq!(
        elsewhere.unwrap_err().to_string(),
        format!(
            "{uri}: a catalogue's own index is in its folder; `xr index push` brings a catalogue to Milvus servers"
        )
    );
}

#[test]
#[ignore = "needs a server"]
fn what_is_not_there_or_not_ours() {
    let uri = address("none");
    let error = MilvusIndex::open(&uri).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("{uri}: the server has no such collection; make it with `xr index push`")
    );
    let uri = address("foreign");
    make_foreign(uri.rsplit('/').next().unwrap());
    let error = MilvusIndex::open(&uri).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("{uri}: xr hasn't made this collection; name another, and xr will make it")
    );
}

/// As another program makes a collection.
fn make_foreign(name: &str) {
    let schema = CollectionSchema::new()
        .add_field(FieldSchema::new().name("id").data_type(DataType::Int64).primary_key(true))
        .add_field(FieldSchema::new().name("v").data_type(DataType::FloatVector).dimension(4));
    let request = CreateCollectionRequest::builder().collection_name(name).schema(schema);
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let client = ClientV2::new(&connection()).await.unwrap();
        client.create_collection(request.build().unwrap()).await.unwrap();
    });
}

#[test]
#[ignore = "needs a server"]
fn no_more_hits_than_a_server_gives() {
    let uri = address("many");
    let rows = 16_500;
    let index = MilvusIndex::build(&uri, &embeddings(rows), None, Metric::L2).unwrap();
    let query = Array2::from_shape_vec((1, DIM), vector(0)).unwrap();
    let sentence =
        "Milvus gives at most 16384 hits for one query; ask for fewer, or raise the bound";
    let params = Default::default();
    let search = index.search(query.view(), rows as usize, &params).unwrap_err().to_string();
    let within = index.within(query.view(), 1e9, &params).unwrap_err().to_string();
    assert_eq!([search, within], [sentence, sentence]);
}

#[test]
fn no_server_is_said_so() {
    // A port that nobody listens on.
    let error = MilvusIndex::open("http://127.0.0.1:9/shelf").unwrap_err().to_string();
    assert_eq!(
        error,
        "http://127.0.0.1:9: no Milvus server has answered within 10 s; is it running there? It \
         listens on port 19530 unless told otherwise"
    );
}

#[test]
fn an_address_is_a_specification() {
    let text = "http://localhost:19530/shelf/texts?index=FLAT";
    let spec: IndexSpec = text.parse().unwrap();
    assert_eq!(spec, IndexSpec::Milvus(text.into()));
    assert_eq!(spec.to_string(), text);
    let error = "http://localhost:19530".parse::<IndexSpec>().unwrap();
    let error = error.build(embeddings(1), None, Metric::L2).unwrap_err().to_string();
    assert!(
        error.contains("it names no server and collection; write it as http://HOST"),
        "{error}"
    );
}
