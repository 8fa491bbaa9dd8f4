use serde_json::Value;

use super::{coffee, shelf, succeeds};

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
    assert_eq!(coffee(dir, "again", &[]), coffee(dir, "shelf", &[]));
}
