//! What a Milvus server does, and says. `XR_MILVUS` is its address.
#![cfg(feature = "milvus")]

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    process::{self, Command},
    sync::atomic::{AtomicUsize, Ordering},
};

use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tempfile::TempDir;
use xr_data::{Embeddings, Fingerprint};
use xr_index::{
    Catalogue, Config, Found, IndexSpec, Item, Metric, MilvusCatalogue, MilvusIndex, NewItem,
    Pushed, Query, Space, VectorIndex,
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
    assert_eq!(there.item(17).unwrap(), Some(new(17).item));
    assert_eq!(there.item(5_000).unwrap(), None);

    let name = ["name=a \"b\" = ü\\".parse().unwrap()];
    let query = Query { k: 3, conditions: &name, ..Query::default() };
    assert_eq!(there.search(&embeddings(1), &query).unwrap()[0].len(), 3);
    let other = Embeddings::new(vector(0), DIM, Fingerprint::of(["other"]));
    let refused = there.search(&other, &Query::default()).unwrap_err().to_string();
    assert!(refused.contains(model().short()), "{refused}");
}

#[test]
#[ignore = "needs a server"]
fn a_second_push_brings_what_changed() {
    let (_dir, catalogue) = catalogue(300);
    let uri = address("again") + "?consistency=strong";
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
    use milvus::v2::prelude::*;
    let schema = CollectionSchema::new()
        .add_field(FieldSchema::new().name("id").data_type(DataType::Int64).primary_key(true))
        .add_field(FieldSchema::new().name("v").data_type(DataType::FloatVector).dimension(4));
    let request = CreateCollectionRequest::builder().collection_name(name).schema(schema);
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let client = ClientV2::new(&ConnectConfig::new().uri(server())).await.unwrap();
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
