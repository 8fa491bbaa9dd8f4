//! Flickr8k itself, in either layout, with the lists of the official splits.
//!
//! ```sh
//! XR_FLICKR8K=FOLDER cargo test --workspace --test real_data -- --ignored
//! ```

use std::env;

use xr_data::{
    Manifest,
    dataset::{self, Strictness},
};

#[test]
#[ignore = "needs Flickr8k, see the head of the file"]
fn the_official_splits_are_what_their_manifests_say() {
    let folder = env::var("XR_FLICKR8K").expect("set XR_FLICKR8K, see the head of this file");
    let corpus = dataset::open(&folder, Strictness::Lenient).unwrap();
    eprintln!("{}", Manifest::of(&corpus, &corpus.split("all").unwrap()));
    eprintln!("{} skipped", corpus.skipped.len());
    for official in dataset::published() {
        let found = Manifest::of(&corpus, &corpus.split(&official.split).unwrap());
        eprintln!("{found}");
        assert_eq!(found, official);
    }
    assert!(
        corpus.captions.chunks(5).all(|five| five.iter().all(|c| c.picture == five[0].picture))
    );
}
