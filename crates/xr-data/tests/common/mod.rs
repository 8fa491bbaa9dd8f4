//! Token ids by Python and how to hold a tokenizer to them.

use std::{collections::BTreeMap, fs, path::Path};

use xr_data::{Tokenizer, Tokens};

/// What `reference/fixtures_tokenizer.py` writes.
#[derive(serde::Deserialize)]
pub struct Expected {
    texts: Vec<String>,
    /// By context, the ids of each text.
    ids: BTreeMap<usize, Vec<Vec<u32>>>,
}

impl Expected {
    pub fn read(path: &Path) -> Self {
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    /// The ids of all texts in one batch, at each context, without what pads them.
    pub fn assert_equal(&self, tokenizer: &Path) {
        let texts: Vec<_> = self.texts.iter().map(String::as_str).collect();
        assert!(self.ids.len() == 2 && texts.len() >= 30);
        for (&context, expected) in &self.ids {
            let tokens = Tokenizer::from_file(tokenizer, context).unwrap().encode(&texts).unwrap();
            for ((text, expected), found) in texts.iter().zip(expected).zip(rows(&tokens)) {
                assert_eq!(found, *expected, "{text:?} at {context}");
            }
            assert_eq!(tokens.width, expected.iter().map(Vec::len).max().unwrap());
        }
    }
}

fn rows(tokens: &Tokens) -> impl Iterator<Item = Vec<u32>> {
    let masks = tokens.mask.chunks(tokens.width);
    tokens.ids.chunks(tokens.width).zip(masks).map(|(ids, mask)| {
        ids.iter().zip(mask).filter(|(_, is_token)| **is_token).map(|(&id, _)| id).collect()
    })
}
