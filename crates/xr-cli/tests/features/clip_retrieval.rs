use std::path::Path;

use serde_json::Value;

use super::{coffee, shelf, succeeds};

/// Every picture of a catalogue, by name.
fn all(dir: &Path, catalogue: &str) -> Vec<String> {
    let found = succeeds(dir, &["search", "a picture", "-k", "11", "--catalogue", catalogue]);
    let mut sources: Vec<_> =
        found.lines().map(|line| line.split_once("  ").unwrap().1.to_owned()).collect();
    sources.sort();
    sources
}

#[test]
fn exported_and_imported() {
    let dir = shelf();
    let dir = dir.path();
    assert_eq!(succeeds(dir, &["index", "export", "shelf", "--to", "clip"]), "11 rows written\n");
    assert!(dir.join("clip/img_emb/img_emb_0.npy").exists());
    assert_eq!(dir.join("clip/image.index").exists(), cfg!(feature = "faiss"));

    let info = succeeds(dir, &["index", "info", "shelf", "--json"]);
    let info: Value = serde_json::from_str(&info).unwrap();
    let made_by = info["config"]["made_by"].as_str().unwrap();
    let import = ["index", "import", "again", "--from", "clip", "--made-by", made_by];
    assert_eq!(succeeds(dir, &import), "11 pictures added\n");
    // By cosine: such folders have no place for the correction of a picture.
    assert!(coffee(dir, "again", &[]).contains(&"photos/coffee.jpg".to_owned()));
    assert_eq!(all(dir, "again"), all(dir, "shelf"));
    // What is imported is ranked the same after another round.
    succeeds(dir, &["index", "export", "again", "--to", "clip-again"]);
    let import = ["index", "import", "third", "--from", "clip-again", "--made-by", made_by];
    assert_eq!(succeeds(dir, &import), "11 pictures added\n");
    assert_eq!(coffee(dir, "third", &[]), coffee(dir, "again", &[]));
}
