use std::{fs, path::Path};

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

#[cfg(test)]
mod tests {
    use super::*;

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
