//! Folders of clip-retrieval: what its own tools wrote is read, what is written they read.
#![cfg(feature = "clip-retrieval")]

#[cfg(feature = "faiss")]
use std::process::Command;
use std::{
    env, fs,
    path::{Path, PathBuf},
};

use serde_json::json;
use tempfile::TempDir;
use xr_data::Fingerprint;
use xr_index::{Catalogue, ClipRetrieval, Config, Item, NewItem};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `reference/fixtures_clip_retrieval.py` wrote with NumPy and pandas.
fn fixture() -> PathBuf {
    root().join("tests/fixtures/clip_retrieval")
}

fn catalogue(dim: usize) -> (TempDir, Catalogue) {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::new(Fingerprint::of(["model"]), dim);
    let catalogue = Catalogue::create(dir.path(), config).unwrap();
    (dir, catalogue)
}

/// The number in `pictures/4.jpg`.
fn id_of(source: &str) -> u64 {
    let name = Path::new(source).file_stem().unwrap().to_str().unwrap();
    name.parse().unwrap()
}

fn imported(id: u64) -> NewItem {
    let licence = if id % 2 == 1 { json!("CC0") } else { json!(null) };
    let metadata = json!({ "width": 640 + id, "licence": licence });
    let item = Item {
        id,
        source: format!("pictures/{id}.jpg"),
        texts: vec![format!("caption {id}, ü")],
        metadata: metadata.as_object().unwrap().clone(),
    };
    let number = id as f32 + 1.;
    let (pictures, texts) = (vec![vec![number, 0.5, 0., 0.]], vec![vec![0., 0., 0.25, number]]);
    NewItem { item, pictures, texts, ..NewItem::default() }
}

#[test]
fn what_pandas_and_numpy_wrote() {
    let folder = ClipRetrieval::open(&fixture()).unwrap();
    assert_eq!(folder.dim(), 4);
    let (_dir, catalogue) = catalogue(4);
    assert_eq!(folder.put_into(&catalogue, id_of).unwrap(), 5);
    assert_eq!(catalogue.ids().unwrap(), [0, 1, 2, 3, 4]);
    for id in 0..5 {
        assert_eq!(catalogue.whole(id).unwrap(), Some(imported(id)));
    }
}

#[test]
fn written_and_read() {
    let (_dir, from) = catalogue(4);
    ClipRetrieval::open(&fixture()).unwrap().put_into(&from, id_of).unwrap();
    // One without a text, and one with two captions.
    let item = Item { id: 5, source: "5.jpg".into(), ..Item::default() };
    let bare = NewItem { item, pictures: vec![vec![6., 0., 0., 0.]], ..NewItem::default() };
    let mut two = imported(3);
    two.item.texts.push("another".into());
    two.texts.push(vec![1.; 4]);
    from.put(&[bare, two]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(ClipRetrieval::write(&from, folder.path()).unwrap(), 6);

    let (_dir, to) = catalogue(4);
    ClipRetrieval::open(folder.path()).unwrap().put_into(&to, id_of).unwrap();
    for id in 0..5 {
        let mut expected = imported(id);
        expected.item.metadata.clear();
        assert_eq!(to.whole(id).unwrap(), Some(expected));
    }
    let bare = to.whole(5).unwrap().unwrap();
    assert_eq!((bare.texts, bare.item.texts), (vec![vec![0.; 4]], vec![]));
}

#[test]
fn without_texts() {
    let (_dir, from) = catalogue(2);
    let item = Item { id: 0, source: "0.jpg".into(), ..Item::default() };
    from.put(&[NewItem { item, pictures: vec![vec![1., 2.]], ..NewItem::default() }]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    ClipRetrieval::write(&from, folder.path()).unwrap();
    assert!(!folder.path().join("text_emb").exists());
    let (_dir, to) = catalogue(2);
    ClipRetrieval::open(folder.path()).unwrap().put_into(&to, id_of).unwrap();
    assert_eq!(to.whole(0).unwrap(), from.whole(0).unwrap());
}

#[test]
fn what_is_not_of_this_layout() {
    let dir = tempfile::tempdir().unwrap();
    let (_dir, catalogue) = catalogue(4);
    let refused = |dir: &Path| {
        let opened = ClipRetrieval::open(dir).and_then(|f| f.put_into(&catalogue, id_of));
        opened.unwrap_err().to_string().replace(&dir.display().to_string(), "DIR")
    };
    let end = "; give a folder that clip-retrieval's `clip inference` made";
    assert!(refused(dir.path()).starts_with("DIR/metadata: "));
    for folder in ["metadata", "img_emb"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
    }
    assert_eq!(refused(dir.path()), format!("DIR/metadata: there is no metadata_0.parquet{end}"));
    let copy = |from: &str, to: &str| {
        fs::copy(fixture().join(from), dir.path().join(to)).unwrap();
    };
    copy("metadata/metadata_0.parquet", "metadata/metadata_0.parquet");
    assert_eq!(refused(dir.path()), format!("DIR: there is neither img_emb nor text_emb{end}"));
    copy("img_emb/img_emb_1.npy", "img_emb/img_emb_0.npy");
    assert_eq!(
        refused(dir.path()),
        format!("DIR/metadata/metadata_0.parquet: img_emb has 2 rows for 3 of metadata{end}")
    );
    copy("metadata/metadata_0.parquet", "img_emb/img_emb_0.npy");
    let error = refused(dir.path());
    assert!(error.starts_with("DIR/img_emb/img_emb_0.npy: expected rows of f2 or f4"), "{error}");
    copy("img_emb/img_emb_0.npy", "img_emb/img_emb_0.npy");
    copy("img_emb/img_emb_0.npy", "metadata/metadata_0.parquet");
    let error = refused(dir.path());
    assert!(error.starts_with("DIR/metadata/metadata_0.parquet: "), "{error}");
}

/// Read as clip-retrieval reads it, by Python.
///
///     XR_FAISS_PYTHON=python cargo test -p xr-index --features faiss,clip-retrieval \
///         --test clip_retrieval -- --ignored
#[cfg(feature = "faiss")]
#[test]
#[ignore = "needs a Python with faiss-cpu and pandas: XR_FAISS_PYTHON"]
fn clip_retrieval_reads_what_is_written() {
    let python = env::var("XR_FAISS_PYTHON").expect("XR_FAISS_PYTHON names a Python");
    let (_dir, mut catalogue) = catalogue(4);
    let new = |id: u64| {
        let (item, angle) = (imported(id).item, id as f32 / 20.);
        let item = Item { source: format!("{id}.jpg"), texts: vec![format!("ü {id}")], ..item };
        let vectors = || vec![vec![angle.cos(), angle.sin(), 0., 0.]];
        NewItem { item, pictures: vectors(), texts: vectors(), ..NewItem::default() }
    };
    catalogue.put(&(0..60).map(new).collect::<Vec<_>>()).unwrap();
    let script = root().join("../../reference/check_clip_retrieval.py");
    for index in ["exact", "HNSW16"] {
        catalogue.rebuild(index.parse().unwrap(), Default::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        ClipRetrieval::write(&catalogue, folder.path()).unwrap();
        let status = Command::new(&python).arg(&script).arg(folder.path()).status().unwrap();
        assert!(status.success());
    }
}
