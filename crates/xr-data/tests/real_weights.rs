//! The published tokenizer, held to Python's.
//!
//! ```sh
//! reference/fetch_weights.sh target/weights
//! XR_WEIGHTS=$PWD/target/weights cargo test --workspace --test real_weights -- --ignored
//! ```

mod common;

use std::{env, path::PathBuf};

use common::Expected;

#[test]
#[ignore = "needs published weights, see the head of the file"]
fn minilm_as_in_python() {
    let weights = env::var_os("XR_WEIGHTS").expect("set XR_WEIGHTS, see the head of this file");
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer");
    Expected::read(&fixtures.join("minilm_ids.json"))
        .assert_equal(&PathBuf::from(weights).join("minilm/tokenizer.json"));
}
