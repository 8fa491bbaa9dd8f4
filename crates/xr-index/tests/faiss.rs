//! Files that FAISS itself reads and writes, and what it says.
#![cfg(feature = "faiss")]

use std::{env, path::Path, process::Command};

use ndarray::{Array2, array};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use xr_data::{Embeddings, Fingerprint};
use xr_index::{ExactIndex, FaissIndex, Hits, IndexSpec, Metric, SearchParams, VectorIndex, open};

const DIM: usize = 16;

fn uniform(rows: usize, seed: u64) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Array2::from_shape_simple_fn((rows, DIM), || rng.random_range(-1.0..1.0))
}

fn embeddings(rows: &Array2<f32>) -> Embeddings {
    Embeddings::new(rows.iter().copied().collect(), rows.ncols(), model())
}

fn model() -> Fingerprint {
    Fingerprint::of(["model"])
}

fn build(factory: &str, ids: Option<Vec<u64>>) -> FaissIndex {
    FaissIndex::build(factory, embeddings(&uniform(500, 0)), ids, Metric::InnerProduct).unwrap()
}

fn search(index: &dyn VectorIndex) -> Hits {
    index.search(uniform(10, 1).view(), 5, &SearchParams::default()).unwrap()
}

#[test]
fn exported_and_imported() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plain.index");
    let given: Vec<_> = (0..500).map(|row| row * 3 + (1 << 40)).collect();
    for factory in ["Flat", "IVF8,SQ8", "HNSW16", "RR16,IVF8,PQ4x4,RFlat"] {
        for ids in [None, Some(given.clone())] {
            let index = build(factory, ids);
            index.export(&path).unwrap();
            let imported = FaissIndex::import(&path, factory, false, model()).unwrap();
            assert_eq!(search(&imported), search(&index));
            assert_eq!(imported.metric(), Metric::InnerProduct);
        }
    }
}

#[test]
fn removed_vectors_are_not_exported() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = build("HNSW16", None);
    index.remove(&[3, 4]).unwrap();
    assert_eq!(
        index.export(&dir.path().join("a.index")).unwrap_err().to_string(),
        "FAISS, about HNSW16: 2 removed vectors are still in it; build the index anew first"
    );
}

#[test]
fn what_faiss_refuses() {
    let refused = |factory: &str| {
        let spec: IndexSpec = factory.parse().unwrap();
        spec.build(embeddings(&uniform(5, 0)), None, Metric::L2).unwrap_err().to_string()
    };
    let error = refused("Nonsense7");
    assert!(error.starts_with("FAISS, about Nonsense7: could not parse index string"), "{error}");
    let error = refused("IVF64,Flat");
    assert!(error.contains("Number of training points (5) should be at least"), "{error}");
    let path = Path::new("/dev/null");
    let error = FaissIndex::import(path, "Flat", false, model()).unwrap_err().to_string();
    assert!(error.starts_with("FAISS, about /dev/null: "), "{error}");
}

/// Vectors of an opened index stay in their file until it is changed.
#[test]
fn mapped_until_it_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let index = build("IVF8,PQ4x4,RFlat", None);
    index.save(dir.path()).unwrap();
    let mut opened = open(dir.path()).unwrap();
    assert_eq!(search(&*opened), search(&index));
    opened.add(&[700], array![[9.0; DIM]].view()).unwrap();
    opened.save(dir.path()).unwrap();
    assert_eq!(search(&*open(dir.path()).unwrap()).of(0)[..], search(&*opened).of(0)[..]);
}

/// What Python's FAISS wrote is searched here, and what was written here is searched there.
///
///     XR_FAISS_PYTHON=python cargo test -p xr-index --features faiss --test faiss -- --ignored
#[test]
#[ignore = "needs a Python with faiss-cpu: XR_FAISS_PYTHON"]
fn files_are_those_of_faiss_cpu() {
    let python = env::var("XR_FAISS_PYTHON").expect("XR_FAISS_PYTHON names a Python");
    let dir = tempfile::tempdir().unwrap();
    let (rows, queries) = (uniform(500, 0), uniform(10, 1));
    let bytes = |rows: &Array2<f32>| rows.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>();
    std::fs::write(dir.path().join("rows.f32"), bytes(&rows)).unwrap();
    std::fs::write(dir.path().join("queries.f32"), bytes(&queries)).unwrap();
    let ids = (0..500).map(|row| row * 2 + 1).collect();
    let ours = build("HNSW16", Some(ids));
    ours.export(&dir.path().join("ours.index")).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../reference/check_faiss_files.py");
    let status = Command::new(python).arg(script).arg(dir.path()).status().unwrap();
    assert!(status.success());
    // The script searched our file, and left its own and what it found in both.
    let found = |name: &str| {
        let bytes = std::fs::read(dir.path().join(name)).unwrap();
        let ids = bytes.as_chunks().0.iter().copied().map(u64::from_le_bytes);
        ids.collect::<Vec<_>>()
    };
    let ids_of = |hits: Hits| hits.iter().flatten().map(|hit| hit.id).collect::<Vec<_>>();
    assert_eq!(found("found_in_ours.u64"), ids_of(search(&ours)));
    let path = dir.path().join("theirs.index");
    let theirs = FaissIndex::import(&path, "IVF8,Flat", false, model()).unwrap();
    assert_eq!(found("found_in_theirs.u64"), ids_of(search(&theirs)));
    let exact = ExactIndex::new(embeddings(&rows), Metric::InnerProduct).unwrap();
    assert_eq!(theirs.len(), exact.len());
}
