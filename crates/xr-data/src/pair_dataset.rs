use std::sync::Arc;

use burn_dataset::{Dataset, DatasetError};

use crate::{Corpus, Preprocess, Split};

/// The captions of a split, each with its picture, for Burn's own `DataLoader`. A batcher of yours
/// makes tensors of the [`Pair`]s.
///
/// ```
/// use std::sync::Arc;
/// use burn_dataset::Dataset;
/// use xr_data::dataset::synthetic::{SyntheticConfig, generate};
/// use xr_data::{PairDataset, Preprocess};
///
/// let corpus = generate(&SyntheticConfig { pictures: 10, ..Default::default() });
/// let train = corpus.split("train")?;
/// let pairs = PairDataset::new(Arc::new(corpus), train, Preprocess::unit(32));
/// assert_eq!(pairs.len(), 40);
/// let sixth = pairs.get(5)?;
/// assert_eq!((sixth.picture, sixth.pixels.len()), (1, 3 * 32 * 32));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct PairDataset {
    corpus: Arc<Corpus>,
    split: Split,
    preprocess: Preprocess,
}

/// A caption and its picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// Name of the picture.
    pub name: String,
    /// The preprocessed picture, `[3, side, side]`.
    pub pixels: Vec<f32>,
    /// The sentence.
    pub caption: String,
    /// Row of the picture in the split: pairs with the same number are each other's positives.
    pub picture: u32,
}

impl PairDataset {
    /// The pairs of `split`, a part of `corpus`.
    pub fn new(corpus: Arc<Corpus>, split: Split, preprocess: Preprocess) -> Self {
        Self { corpus, split, preprocess }
    }
}

impl Dataset<Pair> for PairDataset {
    /// Caption `index` of the split, with its picture.
    ///
    /// # Errors
    /// What [`Picture::load`](crate::Picture::load) finds wrong with the picture.
    ///
    /// # Panics
    /// If there is no such caption.
    fn get(&self, index: usize) -> Result<Pair, DatasetError> {
        let caption = &self.corpus.captions[self.split.captions[index] as usize];
        let picture = &self.corpus.pictures[caption.picture as usize];
        let pixels = self.preprocess.apply(&picture.load().map_err(DatasetError::new)?);
        Ok(Pair {
            name: picture.name.clone(),
            pixels,
            caption: caption.text.clone(),
            picture: self.split.picture_of[index],
        })
    }

    fn len(&self) -> usize {
        self.split.captions.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Caption, Picture, Source};

    #[test]
    fn a_bad_picture_is_an_error_and_not_a_missing_pair() {
        let corpus = Corpus {
            name: "test".into(),
            pictures: vec![Picture { name: "a".into(), source: Source::File("/no/a.jpg".into()) }],
            captions: vec![Caption { picture: 0, text: "a picture".into() }],
            splits: Default::default(),
            drawn: None,
            skipped: vec![],
        };
        let all = corpus.split("all").unwrap();
        let pairs = PairDataset::new(Arc::new(corpus), all, Preprocess::unit(4));
        assert_eq!(
            pairs.get(0).unwrap_err().to_string(),
            "/no/a.jpg: No such file or directory (os error 2)"
        );
    }
}
