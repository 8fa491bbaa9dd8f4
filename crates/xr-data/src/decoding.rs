use image::RgbImage;
use rayon::prelude::*;

use crate::{Corpus, Result, dataset::Strictness};

/// Pictures between two reports of progress.
const BATCH: usize = 64;

/// What `of` makes of each picture of a corpus, in order, or why one can't be decoded; on all cores.
/// `observer` is told how many of how many are done.
pub(crate) fn decode_each<T: Send>(
    corpus: &Corpus,
    of: impl Fn(RgbImage) -> T + Send + Sync,
    mut observer: impl FnMut(usize, usize),
) -> Vec<Result<T>> {
    let mut made = Vec::with_capacity(corpus.pictures.len());
    for pictures in corpus.pictures.chunks(BATCH) {
        made.par_extend(pictures.par_iter().map(|picture| picture.load().map(&of)));
        observer(made.len(), corpus.pictures.len());
    }
    made
}

impl Corpus {
    /// Decodes every picture, on all cores. Those that can't be decoded leave the corpus with their
    /// captions, and are named in [`Corpus::skipped`]. `observer` is told how many of how many are
    /// done.
    ///
    /// # Errors
    /// In a strict run the first such picture's.
    pub fn drop_undecodable(
        &mut self,
        strictness: Strictness,
        observer: impl FnMut(usize, usize),
    ) -> Result<()> {
        let mut undecodable = vec![];
        for (picture, decoded) in (0..).zip(decode_each(self, drop, observer)) {
            match (decoded, strictness) {
                (Ok(()), _) => {}
                (Err(error), Strictness::Lenient) => undecodable.push((picture, error.to_string())),
                (Err(error), Strictness::Strict) => return Err(error),
            }
        }
        self.drop_pictures(&undecodable);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        Source,
        dataset::synthetic::{SyntheticConfig, generate},
    };

    #[test]
    fn a_damaged_file_leaves_with_its_captions() {
        let dir = tempfile::tempdir().unwrap();
        let damaged = dir.path().join("damaged.png");
        fs::write(&damaged, b"\x89PNG\r\n\x1a\n and no more").unwrap();
        let mut corpus = generate(&SyntheticConfig { pictures: 10, ..Default::default() });
        corpus.pictures[3].source = Source::File(damaged);
        let captions = corpus.captions.len();
        let of_it = corpus.captions.iter().filter(|caption| caption.picture == 3).count();

        let error = corpus.clone().drop_undecodable(Strictness::Strict, |_, _| ()).unwrap_err();
        assert!(error.to_string().contains("damaged.png"), "{error}");

        let mut seen = (0, 0);
        corpus.drop_undecodable(Strictness::Lenient, |done, all| seen = (done, all)).unwrap();
        assert_eq!(seen, (10, 10));
        assert_eq!(corpus.pictures.len(), 9);
        assert_eq!(corpus.captions.len(), captions - of_it);
        assert!(corpus.skipped[0].why.contains("damaged.png"), "{:?}", corpus.skipped);
    }
}
