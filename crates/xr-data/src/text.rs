use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;
use tokenizers::{
    AddedToken, Encoding, PostProcessor, TruncationParams,
    models::{TrainerWrapper, wordlevel::WordLevel, wordlevel::WordLevelTrainer},
    normalizers::Lowercase,
    pre_tokenizers::bert::BertPreTokenizer,
};

use crate::{Error, Result};

const PAD: &str = "[PAD]";
const UNK: &str = "[UNK]";

/// Turns sentences into token ids: a `tokenizer.json` of Hugging Face's `tokenizers`, cut at
/// `context` tokens and padded to the longest sentence of a batch.
///
/// The ids equal those of Python's `tokenizers`. What the file says of truncation and padding is
/// not heeded: a fixed length of 128, as sentence-transformers stores it, costs five times the work
/// on captions.
///
/// ```
/// use xr_data::Tokenizer;
///
/// let tokenizer = Tokenizer::train_words(["A dog.", "A cat."], 100, 8)?;
/// let tokens = tokenizer.encode(&["a dog", "Dog"])?;
/// // By count, then alphabet: [PAD] 0, [UNK] 1, "." 2, "a" 3, "cat" 4, "dog" 5.
/// assert_eq!(tokens.ids, [3, 5, 5, 0]);
/// assert_eq!(tokens.mask, [true, true, true, false]);
/// assert_eq!((tokens.rows, tokens.width), (2, 2));
/// # Ok::<(), xr_data::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    context: usize,
    pad: u32,
    // Stands for a sentence that has no token at all.
    unknown: u32,
}

/// The token ids of a batch of sentences, `[rows, width]`, one row after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// The ids; a short row is filled up at its end.
    pub ids: Vec<u32>,
    /// Which ids are tokens; the others are filling. Every row has at least one token.
    pub mask: Vec<bool>,
    /// Number of sentences.
    pub rows: usize,
    /// Tokens of the longest sentence, at most the tokenizer's context.
    pub width: usize,
}

impl Tokens {
    /// Number of tokens of a row; filling follows them.
    pub fn length(&self, row: usize) -> usize {
        let mask = &self.mask[row * self.width..][..self.width];
        mask.iter().rposition(|&token| token).map_or(0, |last| last + 1)
    }

    /// These rows, no wider than the longest of them.
    pub fn select(&self, rows: &[usize]) -> Self {
        let width = rows.iter().map(|&row| self.length(row)).max().unwrap_or(0);
        let starts = || rows.iter().map(|row| row * self.width);
        Self {
            ids: starts().flat_map(|start| &self.ids[start..start + width]).copied().collect(),
            mask: starts().flat_map(|start| &self.mask[start..start + width]).copied().collect(),
            rows: rows.len(),
            width,
        }
    }

    /// The rows from the shortest to the longest.
    pub fn by_length(&self) -> Vec<usize> {
        let mut rows: Vec<_> = (0..self.rows).collect();
        rows.sort_by_key(|&row| self.length(row));
        rows
    }
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Io`] when the file can't be read, [`Error::Tokenizer`] when it isn't a tokenizer or
    /// `context` leaves no room for a word.
    pub fn from_file(path: &Path, context: usize) -> Result<Self> {
        let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
        Self::from_bytes(&bytes, context).map_err(|why| Error::tokenizer(path.display(), why))
    }

    /// Reads the content of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Tokenizer`], as [`Tokenizer::from_file`].
    pub fn from_json(json: &str, context: usize) -> Result<Self> {
        Self::from_bytes(json.as_bytes(), context)
            .map_err(|why| Error::tokenizer("the tokenizer's JSON", why))
    }

    /// A tokenizer whose tokens are the words and punctuation marks of `texts`, in lower case: the
    /// most frequent ones, of equally frequent ones the first by alphabet. `vocabulary` counts the
    /// special tokens too, `[PAD]` (0) and `[UNK]` (1), which stands for all other words.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when `context` is 0, or `vocabulary` less than 2.
    pub fn train_words<T: AsRef<str> + Send>(
        texts: impl IntoIterator<Item = T, IntoIter: Send>,
        vocabulary: usize,
        context: usize,
    ) -> Result<Self> {
        let own = |why: String| Error::tokenizer("a vocabulary of words", why);
        if vocabulary < 2 {
            return Err(own(format!("{vocabulary} tokens can't hold {PAD} and {UNK}")));
        }
        let words = WordLevel::builder().unk_token(UNK.into()).build();
        let mut inner = tokenizers::Tokenizer::new(words.expect("a model without a file"));
        inner.with_normalizer(Some(Lowercase)).with_pre_tokenizer(Some(BertPreTokenizer));
        let trainer = WordLevelTrainer::builder()
            .vocab_size(vocabulary)
            .show_progress(false)
            .special_tokens([PAD, UNK].map(|token| AddedToken::from(token, true)).into())
            .build()
            .expect("every field has a default");
        inner
            .train(&mut TrainerWrapper::from(trainer), texts.into_iter())
            .map_err(|e| own(e.to_string()))?;
        Self::new(inner, context).map_err(own)
    }

    fn from_bytes(bytes: &[u8], context: usize) -> std::result::Result<Self, String> {
        let inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| e.to_string())?;
        Self::new(inner, context)
    }

    fn new(mut inner: tokenizers::Tokenizer, context: usize) -> std::result::Result<Self, String> {
        let special = inner.get_post_processor().map_or(0, |p| p.added_tokens(false));
        if context <= special {
            return Err(format!(
                "a context of {context} has no room for {special} special tokens and a word"
            ));
        }
        let named = |names: &[&str]| names.iter().find_map(|name| inner.token_to_id(name));
        let pad = inner.get_padding().map(|padding| padding.pad_id);
        let pad = pad.or_else(|| named(&[PAD, "<pad>"])).unwrap_or(0);
        let unknown = named(&[UNK, "<unk>"]).unwrap_or(pad);
        let truncation = TruncationParams { max_length: context, ..Default::default() };
        inner.with_truncation(Some(truncation)).map_err(|e| e.to_string())?;
        inner.with_padding(None);
        Ok(Self { inner, context, pad, unknown })
    }

    /// The most tokens of a sentence, special ones included; the rest is cut off.
    pub fn context(&self) -> usize {
        self.context
    }

    /// One more than the greatest id: the rows an embedding table needs.
    pub fn vocabulary_size(&self) -> usize {
        self.inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1)
    }

    /// A tokenizer that knows at most `size` of the pieces of this one (WordPiece), and the old id of
    /// each of its ids: special tokens, letters and other single ASCII characters, so that any word
    /// can be spelt, the pieces of `texts`, and then ASCII pieces in the order of the vocabulary,
    /// which is by frequency in BERT's.
    ///
    /// Texts of the kept pieces are cut as before; other words into smaller pieces.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when the pieces aren't those of WordPiece, or those needed are more than
    /// `size`.
    pub fn pruned(&self, texts: &[&str], size: usize) -> Result<(Self, Vec<u32>)> {
        let own = |why: String| Error::tokenizer("the tokenizer to prune", why);
        let Ok(mut json) = serde_json::from_str::<Value>(&self.to_json()) else { unreachable!() };
        if json["model"]["type"] != "WordPiece" {
            return Err(own("its model isn't WordPiece".into()));
        }
        let kept = self.kept(&self.encode(texts)?, size).map_err(own)?;
        renumber(&mut json, &kept);
        Ok((Self::from_json(&json.to_string(), self.context)?, kept))
    }

    /// The same with another context.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when it leaves no room for a word.
    pub fn with_context(&self, context: usize) -> Result<Self> {
        Self::from_json(&self.to_json(), context)
    }

    /// The ids that [`pruned`](Self::pruned) keeps, in their order.
    fn kept(&self, seen: &Tokens, size: usize) -> std::result::Result<Vec<u32>, String> {
        let mut pieces: Vec<_> = self.inner.get_vocab(true).into_iter().collect();
        pieces.sort_by_key(|(_, id)| *id);
        let special = self.inner.get_added_tokens_decoder();
        let needed = |piece: &str, id| {
            special.contains_key(&id) || piece.trim_start_matches("##").len() == 1
        };
        let needed = pieces.iter().filter(|(piece, id)| needed(piece, *id)).map(|(_, id)| *id);
        let mut kept: BTreeSet<_> = needed.chain(seen.ids.iter().copied()).collect();
        if kept.len() > size {
            return Err(format!("{} pieces are needed, more than the {size} allowed", kept.len()));
        }
        let frequent = pieces.iter().filter(|(p, _)| p.is_ascii() && !p.starts_with("[unused"));
        for (_, id) in frequent {
            if kept.len() == size {
                break;
            }
            kept.insert(*id);
        }
        Ok(kept.into_iter().collect())
    }

    /// The content of a `tokenizer.json`: the same text for the same tokenizer.
    pub fn to_json(&self) -> String {
        self.inner.to_string(false).expect("a tokenizer is plain data")
    }

    /// The ids of `texts` with the special tokens, as the model expects them. A text in which no
    /// token is found counts as one unknown token.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when the model of the file has no token for an unknown word.
    pub fn encode(&self, texts: &[&str]) -> Result<Tokens> {
        let encodings = self.inner.encode_batch_fast(texts.to_vec(), true);
        let encodings =
            encodings.map_err(|e| Error::tokenizer("the tokenizer in use", e.to_string()))?;
        let rows: Vec<&[u32]> = encodings.iter().map(|encoding| self.row(encoding)).collect();
        let width = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let mut tokens = Tokens { ids: vec![], mask: vec![], rows: rows.len(), width };
        for (row, end) in rows.iter().zip((1..).map(|n| n * width)) {
            tokens.ids.extend(*row);
            tokens.mask.resize(tokens.ids.len(), true);
            tokens.ids.resize(end, self.pad);
            tokens.mask.resize(end, false);
        }
        Ok(tokens)
    }

    fn row<'a>(&'a self, encoding: &'a Encoding) -> &'a [u32] {
        match encoding.get_ids() {
            [] => std::slice::from_ref(&self.unknown),
            ids => ids,
        }
    }
}

/// Leaves only the pieces `kept` in a `tokenizer.json`, and gives them the ids 0, 1, 2, ….
fn renumber(json: &mut Value, kept: &[u32]) {
    let new = |id: &Value| {
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
        id.and_then(|id| kept.binary_search(&id).ok())
    };
    if let Some(vocabulary) = json["model"]["vocab"].as_object_mut() {
        let all = std::mem::take(vocabulary);
        let pieces = all.into_iter().filter_map(|(piece, id)| Some((piece, new(&id)?.into())));
        vocabulary.extend(pieces);
    }
    let new = |id: &mut Value| *id = new(id).expect("special tokens are kept").into();
    for token in json["added_tokens"].as_array_mut().into_iter().flatten() {
        new(&mut token["id"]);
    }
    let special = json["post_processor"]["special_tokens"].as_object_mut().into_iter().flatten();
    special.filter_map(|(_, token)| token["ids"].as_array_mut()).flatten().for_each(new);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BERT's way, with few pieces.
    fn pieces() -> Tokenizer {
        let pieces = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "a", "s", "##s", "中"];
        let pieces = pieces.into_iter().chain(["the", "dog", "cat", "##ter", "é", "zebra"]);
        let vocab: serde_json::Map<_, _> =
            pieces.zip(0..).map(|(piece, id)| (piece.to_owned(), Value::from(id))).collect();
        let special = [("[PAD]", 0), ("[UNK]", 2), ("[CLS]", 3), ("[SEP]", 4)];
        let added = special.map(|(content, id)| {
            serde_json::json!({
                "id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true
            })
        });
        let frame = |id| serde_json::json!({"SpecialToken": {"id": id, "type_id": 0}});
        let text = serde_json::json!({"Sequence": {"id": "A", "type_id": 0}});
        let token = |id, number| serde_json::json!({"id": id, "ids": [number], "tokens": [id]});
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": {
                "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": null, "lowercase": true
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [frame("[CLS]"), text, frame("[SEP]")],
                "pair": [frame("[CLS]"), text, frame("[SEP]")],
                "special_tokens": {"[CLS]": token("[CLS]", 3), "[SEP]": token("[SEP]", 4)}
            },
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
            "model": {
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": vocab
            }
        });
        Tokenizer::from_json(&json.to_string(), 16).unwrap()
    }

    #[test]
    fn pruned_to_special_pieces_letters_words_of_the_texts_and_frequent_ones() {
        let (pruned, kept) = pieces().pruned(&["Zebra!"], 9).unwrap();
        // [PAD] [UNK] [CLS] [SEP] a s ##s, then the text's zebra, then the most frequent: the.
        assert_eq!(kept, [0, 2, 3, 4, 5, 6, 7, 9, 14]);
        let cut = pruned.encode(&["the zebras", "dog"]).unwrap();
        assert_eq!(cut.ids, [2, 7, 8, 6, 3, 2, 1, 3, 0, 0]);
        let before = pieces().encode(&["the zebras"]).unwrap();
        let old: Vec<_> = cut.ids[..5].iter().map(|&id| kept[id as usize]).collect();
        assert_eq!(old, before.ids);
        assert_eq!(pruned.vocabulary_size(), 9);
    }

    #[test]
    fn too_many_pieces_or_none_at_all() {
        let start = "the tokenizer to prune: not a usable tokenizer (";
        let error = pieces().pruned(&["zebra"], 7).unwrap_err().to_string();
        let why = "8 pieces are needed, more than the 7 allowed)";
        assert!(error.starts_with(&format!("{start}{why}")), "{error}");
        let error = words(8).pruned(&[], 4).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{start}its model isn't WordPiece)")), "{error}");
    }

    fn words(context: usize) -> Tokenizer {
        Tokenizer::train_words(["A dog, a cat!", "the dog"], 6, context).unwrap()
    }

    #[test]
    fn the_most_frequent_words_then_by_alphabet() {
        let tokenizer = words(16);
        // a 2, dog 2, then "!" and "," before cat and the; six tokens with [PAD] and [UNK].
        let tokens = tokenizer.encode(&["a DOG ! , cat the"]).unwrap();
        assert_eq!(tokens.ids, [2, 3, 4, 5, 1, 1]);
        assert_eq!(tokenizer.vocabulary_size(), 6);
    }

    #[test]
    fn cut_at_the_context() {
        let tokens = words(2).encode(&["a dog !", "dog"]).unwrap();
        assert_eq!(tokens.ids, [2, 3, 3, 0]);
        assert_eq!(tokens.mask, [true, true, true, false]);
    }

    #[test]
    fn selected_rows_are_as_wide_as_the_longest_of_them() {
        let tokens = Tokens {
            ids: vec![1, 2, 3, 4, 0, 0, 5, 6, 0],
            mask: vec![true, true, true, true, false, false, true, true, false],
            rows: 3,
            width: 3,
        };
        let some = tokens.select(&[1, 2]);
        assert_eq!((some.rows, some.width), (2, 2));
        assert_eq!(some.ids, [4, 0, 5, 6]);
        assert_eq!(some.mask, [true, false, true, true]);
        assert_eq!(tokens.by_length(), [1, 2, 0]);
    }

    #[test]
    fn a_text_without_a_token_is_one_unknown_token() {
        let tokens = words(8).encode(&["", "  "]).unwrap();
        assert_eq!((tokens.ids, tokens.mask, tokens.width), (vec![1, 1], vec![true; 2], 1));
    }

    #[test]
    fn no_texts() {
        let tokens = words(8).encode(&[]).unwrap();
        assert_eq!((tokens.ids.len(), tokens.rows, tokens.width), (0, 0, 0));
    }

    #[test]
    fn written_and_read() {
        let (first, again) = (words(16), words(16));
        assert_eq!(first.to_json(), again.to_json());
        let read = Tokenizer::from_json(&first.to_json(), 3).unwrap();
        assert_eq!(read.context(), 3);
        assert_eq!(read.encode(&["a dog ! ,"]).unwrap().ids, [2, 3, 4]);
    }

    #[test]
    fn not_a_tokenizer() {
        let error = Tokenizer::from_json("{\"a\": 1}", 8).unwrap_err().to_string();
        assert!(error.starts_with("the tokenizer's JSON: not a usable tokenizer ("), "{error}");
        assert!(
            error.ends_with("); expected the tokenizer.json that Hugging Face tokenizers writes"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_file() {
        let error = Tokenizer::from_file(Path::new("/nowhere/tokenizer.json"), 8).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/nowhere/tokenizer.json: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn a_vocabulary_or_context_too_small() {
        let error = |vocabulary, context| {
            Tokenizer::train_words(["a"], vocabulary, context).unwrap_err().to_string()
        };
        let start = "a vocabulary of words: not a usable tokenizer (";
        assert!(error(1, 8).starts_with(&format!("{start}1 tokens can't hold [PAD] and [UNK])")));
        assert!(error(9, 0).starts_with(&format!(
            "{start}a context of 0 has no room for 0 special tokens and a word)"
        )));
    }
}
