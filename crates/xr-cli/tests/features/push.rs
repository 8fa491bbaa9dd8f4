use std::{env, process};

use super::{coffee, shelf, succeeds};

#[test]
#[ignore = "needs a server"]
fn pushed_searched_and_pushed_again() {
    let server = env::var("XR_MILVUS").expect("XR_MILVUS, such as http://localhost:19530");
    let uri = format!("{server}/pushed_{}?index=Flat&consistency=strong", process::id());
    let dir = shelf();
    let dir = dir.path();
    let push = ["index", "push", "shelf", "--to", &uri];
    let pushed = succeeds(dir, &push);
    assert_eq!(pushed, "11 embeddings are there, 11 of them new; 0 removed; recall@10 1.000\n");

    let (here, there) = (coffee(dir, "shelf", &[]), coffee(dir, &uri, &[]));
    assert_eq!(here.len(), 3);
    assert_eq!(there, here);
    assert_eq!(coffee(dir, &uri, &["--where", "data=photos"]), here);
    assert!(coffee(dir, &uri, &["--where", "data=other"]).is_empty());

    succeeds(dir, &["index", "remove", "shelf", &here[0]]);
    let pushed = succeeds(dir, &push);
    assert_eq!(pushed, "10 embeddings are there, 0 of them new; 1 removed; recall@10 1.000\n");
    assert_eq!(coffee(dir, &uri, &[]), coffee(dir, "shelf", &[]));
}
