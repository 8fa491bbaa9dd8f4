//! Token ids equal those of Python's `tokenizers` (`reference/fixtures_tokenizer.py`).

mod common;

use std::path::Path;

use common::Expected;
use xr_data::Tokenizer;

fn fixtures() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tokenizer"))
}

// The file carries a truncation to 7 tokens and a padding to 7: neither may show.
#[test]
fn word_pieces_as_in_python() {
    Expected::read(&fixtures().join("wordpiece_ids.json"))
        .assert_equal(&fixtures().join("wordpiece.json"));
}

#[test]
fn a_context_without_room_for_a_word() {
    let path = fixtures().join("wordpiece.json");
    let error = Tokenizer::from_file(&path, 2).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "wordpiece.json: not a usable tokenizer (a context of 2 has no room for 2 special \
             tokens and a word); expected the tokenizer.json that Hugging Face tokenizers writes"
        ),
        "{error}"
    );
}

#[test]
fn a_file_of_another_kind() {
    let path = fixtures().join("wordpiece_ids.json");
    let error = Tokenizer::from_file(&path, 8).unwrap_err().to_string();
    assert!(error.contains("wordpiece_ids.json: not a usable tokenizer ("), "{error}");
}
