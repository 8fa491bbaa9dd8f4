//! What a catalogue promises while nothing goes wrong, and when a file is damaged.

use std::{fs, path::Path, thread};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tempfile::TempDir;
use xr_data::{Embeddings, Fingerprint};
use xr_index::{
    Catalogue, Condition, Config, Effort, Found, IndexSpec, Item, NewItem, Query, Space,
};

const DIM: usize = 8;

fn model() -> Fingerprint {
    Fingerprint::of(["model"])
}

fn config() -> Config {
    Config::new(model(), DIM)
}

fn created() -> (TempDir, Catalogue) {
    let dir = tempfile::tempdir().unwrap();
    let catalogue = Catalogue::create(dir.path(), config()).unwrap();
    (dir, catalogue)
}

fn vector(seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..DIM).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// An item whose picture is found by `vector(id)` and whose texts by two others.
fn new(id: u64) -> NewItem {
    let metadata = json!({ "even": id.is_multiple_of(2), "third": id % 3, "tags": ["a"] });
    NewItem {
        item: Item {
            id,
            source: format!("{id}.jpg"),
            texts: vec![format!("item {id}"), "a thing".into()],
            metadata: metadata.as_object().unwrap().clone(),
        },
        blob: id.to_le_bytes().to_vec(),
        pictures: vec![vector(id)],
        texts: vec![vector(1_000 + id), vector(2_000 + id)],
    }
}

fn put(catalogue: &Catalogue, ids: impl IntoIterator<Item = u64>) {
    catalogue.put(&ids.into_iter().map(new).collect::<Vec<_>>()).unwrap();
}

fn search(catalogue: &Catalogue, seed: u64, query: Query) -> Vec<Found> {
    let queries = Embeddings::new(vector(seed), DIM, model());
    catalogue.search(&queries, &query).unwrap().remove(0)
}

/// Is exactly this there, and found by its own embeddings?
fn holds(catalogue: &Catalogue, ids: &[u64]) {
    assert_eq!(catalogue.ids().unwrap(), ids);
    for &id in ids {
        assert_eq!(catalogue.item(id).unwrap(), Some(new(id).item));
        assert_eq!(catalogue.blob(id).unwrap(), Some(new(id).blob));
        assert_eq!(catalogue.whole(id).unwrap(), Some(new(id)));
        let texts = Query { space: Space::Texts, ..Query::default() };
        for (seed, query) in [(id, Query::default()), (1_000 + id, texts), (2_000 + id, texts)] {
            let found = search(catalogue, seed, query);
            assert_eq!(found[0].item, id);
            assert!((found[0].score - 1.).abs() < 1e-6);
            assert_eq!(found.len(), ids.len().min(10));
            assert!(found.iter().all(|found| ids.contains(&found.item)));
        }
    }
    let vectors = catalogue.summary().unwrap().spaces.map(|space| space.vectors);
    assert_eq!(vectors, [ids.len(), 2 * ids.len()]);
}

#[test]
fn put_removed_and_replaced() {
    let (dir, catalogue) = created();
    holds(&catalogue, &[]);
    put(&catalogue, 0..30);
    put(&catalogue, [7, 7, 40]);
    assert_eq!(catalogue.remove(&[3, 99, 3]).unwrap(), 1);
    let ids: Vec<_> = (0..30).filter(|&id| id != 3).chain([40]).collect();
    holds(&catalogue, &ids);
    drop(catalogue);
    holds(&Catalogue::open(dir.path()).unwrap(), &ids);
}

#[test]
fn an_update_leaves_nothing_of_the_old() {
    let (_dir, catalogue) = created();
    put(&catalogue, 0..5);
    let mut other = new(2);
    other.pictures = vec![vector(77)];
    other.blob.clear();
    other.item.metadata.clear();
    catalogue.put(&[other]).unwrap();
    let conditions = ["third=2".parse::<Condition>().unwrap()];
    assert!(
        search(&catalogue, 2, Query { conditions: &conditions, ..Query::default() }).is_empty()
    );
    assert_eq!(catalogue.blob(2).unwrap(), None);
    assert!((search(&catalogue, 77, Query::default())[0].score - 1.).abs() < 1e-6);
    assert!(search(&catalogue, 2, Query::default())[0].score < 0.99);
}

#[test]
fn saved_and_rebuilt_at_any_time() {
    let (dir, mut catalogue) = created();
    put(&catalogue, 0..20);
    catalogue.save().unwrap();
    put(&catalogue, 15..25);
    catalogue.remove(&[1]).unwrap();
    let ids: Vec<_> = (0..25).filter(|&id| id != 1).collect();
    assert_eq!(catalogue.summary().unwrap().unsaved, 3 * (15 + 1));
    catalogue.rebuild(IndexSpec::ExactI8, Effort::default()).unwrap();
    assert_eq!(catalogue.summary().unwrap().unsaved, 0);
    holds(&catalogue, &ids);
    catalogue.verify().unwrap();
    drop(catalogue);
    let catalogue = Catalogue::open(dir.path()).unwrap();
    assert_eq!(catalogue.summary().unwrap().spaces[0].index, "exact-i8");
    put(&catalogue, [1]);
    holds(&catalogue, &(0..25).collect::<Vec<_>>());
}

/// An item with many embeddings near the query hides no other item.
#[test]
fn an_item_counts_once() {
    let (_dir, catalogue) = created();
    put(&catalogue, 0..20);
    let mut many = new(50);
    many.pictures = vec![vector(5); 30];
    catalogue.put(&[many]).unwrap();
    let found = search(&catalogue, 5, Query { k: 4, ..Query::default() });
    assert_eq!(found[..2].iter().map(|found| found.item).collect::<Vec<_>>(), [5, 50]);
    assert_eq!(found.len(), 4);
    assert_eq!(search(&catalogue, 5, Query { k: 99, ..Query::default() }).len(), 21);
}

#[test]
fn only_where_conditions_hold() {
    let (_dir, catalogue) = created();
    put(&catalogue, 0..30);
    let conditions: Vec<Condition> = ["even=true", "third=1"].map(|c| c.parse().unwrap()).into();
    for space in Space::ALL {
        let query = Query { space, conditions: &conditions, k: 99, ..Query::default() };
        let mut found: Vec<_> = search(&catalogue, 4, query).iter().map(|f| f.item).collect();
        found.sort_unstable();
        assert_eq!(found, [4, 10, 16, 22, 28]);
    }
    let none = ["colour=red".parse().unwrap()];
    assert!(search(&catalogue, 4, Query { conditions: &none, ..Query::default() }).is_empty());
}

#[test]
fn another_model_is_refused() {
    let (dir, catalogue) = created();
    let other = Fingerprint::of(["other"]);
    let queries = Embeddings::new(vector(0), DIM, other.clone());
    let error = catalogue.search(&queries, &Query::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{}: made by model {other}, but this is model {}; embed it again with this model",
            dir.path().display(),
            model()
        )
    );
}

#[test]
fn a_bad_embedding_changes_nothing() {
    let (_dir, catalogue) = created();
    put(&catalogue, 0..3);
    let (mut wide, mut bad) = (new(9), new(9));
    wide.texts[0].push(0.);
    bad.texts[1][2] = f32::NAN;
    let error = catalogue.put(&[new(8), wide]).unwrap_err().to_string();
    assert!(error.contains("9 dimensions"), "{error}");
    let error = catalogue.put(&[new(8), bad]).unwrap_err().to_string();
    assert!(error.starts_with("row 3 of the gallery is not finite"), "{error}");
    holds(&catalogue, &[0, 1, 2]);
}

#[test]
fn one_process_at_a_time() {
    let (dir, catalogue) = created();
    let file = dir.path().join("catalogue.redb");
    assert_eq!(
        Catalogue::open(dir.path()).unwrap_err().to_string(),
        format!(
            "{}: another process has this catalogue open; wait until it has ended, or ask that \
             process",
            file.display()
        )
    );
    drop(catalogue);
    assert_eq!(
        Catalogue::create(dir.path(), config()).unwrap_err().to_string(),
        format!(
            "{}: a catalogue is here already; open it, or choose another folder",
            file.display()
        )
    );
    let none = dir.path().join("none");
    assert_eq!(
        Catalogue::open(&none).unwrap_err().to_string(),
        format!(
            "{}: no catalogue is here; make one with `xr index build`",
            none.join("catalogue.redb").display()
        )
    );
}

#[test]
fn searches_while_it_changes() {
    let (_dir, catalogue) = created();
    put(&catalogue, 0..10);
    thread::scope(|scope| {
        let catalogue = &catalogue;
        let writer = scope.spawn(|| {
            for round in 0..20 {
                put(catalogue, 100 + round..110 + round);
                catalogue.remove(&[100 + round]).unwrap();
            }
        });
        scope.spawn(move || {
            while !writer.is_finished() {
                let found = search(catalogue, 4, Query::default());
                assert_eq!((found[0].item, found.len()), (4, 10));
            }
        });
    });
    holds(&catalogue, &(0..10).chain(120..129).collect::<Vec<_>>());
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

/// Whatever happens to the files of an index, it is named, and built anew.
#[test]
fn a_damaged_index_is_built_anew() {
    let (dir, mut catalogue) = created();
    put(&catalogue, 0..20);
    catalogue.rebuild(IndexSpec::ExactI8, Effort::default()).unwrap();
    put(&catalogue, 20..22);
    drop(catalogue);
    let ids: Vec<_> = (0..22).collect();
    for space in ["pictures", "texts"] {
        let count = files(&dir.path().join(space)).len();
        for number in 0..count {
            let file = files(&dir.path().join(space)).swap_remove(number);
            let mut bytes = fs::read(&file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&file, bytes).unwrap();
            let mut catalogue = Catalogue::open(dir.path()).unwrap();
            let said = catalogue.repaired()[0].to_string();
            assert!(said.starts_with(&format!("{}: damaged", file.display())), "{said}");
            holds(&catalogue, &ids);
            assert_eq!(catalogue.summary().unwrap().spaces[0].index, "exact-i8");
            catalogue.verify().unwrap();
            drop(catalogue);
            assert!(Catalogue::open(dir.path()).unwrap().repaired().is_empty());
        }
    }
}

#[test]
fn a_folder_that_is_gone_is_made_again() {
    let (dir, catalogue) = created();
    put(&catalogue, 0..20);
    catalogue.save().unwrap();
    drop(catalogue);
    fs::remove_dir_all(dir.path().join("texts")).unwrap();
    holds(&Catalogue::open(dir.path()).unwrap(), &(0..20).collect::<Vec<_>>());
}

/// Verification sees damage to the store as well.
#[test]
fn damage_to_the_store_is_noticed() {
    let (dir, catalogue) = created();
    put(&catalogue, 0..200);
    drop(catalogue);
    let file = dir.path().join("catalogue.redb");
    let whole = fs::read(&file).unwrap();
    let text = b"item 150";
    let at = whole.windows(text.len()).position(|window| window == text).unwrap();
    let mut bytes = whole;
    bytes[at] = b'?';
    fs::write(&file, bytes).unwrap();
    let noticed = Catalogue::open(dir.path()).and_then(|mut catalogue| catalogue.verify());
    let error = noticed.unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: ", file.display())), "{error}");
}
