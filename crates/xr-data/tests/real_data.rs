//! Flickr8k itself. Needs `XR_FLICKR8K`, a folder in either layout with the lists of the official
//! splits, and says so where it isn't set.

use std::{env, path::PathBuf};

use xr_data::{
    Manifest,
    dataset::{self, Strictness},
};

#[test]
fn the_official_splits_are_what_their_manifests_say() {
    let Some(folder) = env::var_os("XR_FLICKR8K").map(PathBuf::from) else {
        eprintln!("skipped: XR_FLICKR8K names no folder with Flickr8k");
        return;
    };
    let corpus = dataset::open(folder.to_str().unwrap(), Strictness::Lenient).unwrap();
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
