use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Corpus, Error, Fingerprint, Result, Split, SplitSpec};

/// What exactly was scored: printed with every score, and compared before two scores are.
///
/// The sum is over the names of the pictures, so it is the same wherever the files come from. The
/// texts of the captions are not summed, only counted: the count tells apart the usual variants
/// (25,000 or 25,010 captions of the same 5,000 pictures, for one).
///
/// ```
/// use xr_data::{Manifest, dataset::synthetic::{SyntheticConfig, generate}};
///
/// let corpus = generate(&SyntheticConfig { pictures: 10, ..Default::default() });
/// let manifest = Manifest::of(&corpus, &corpus.split("train")?);
/// assert_eq!(
///     manifest.to_string(),
///     "synthetic train: 8 pictures, 40 captions, sha256 d3ced1af244c"
/// );
/// # Ok::<(), xr_data::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The corpus's name.
    pub corpus: String,
    /// The split's name.
    pub split: String,
    /// How the split was drawn, if it isn't the data set's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drawn: Option<Drawn>,
    /// Number of pictures.
    pub pictures: usize,
    /// Number of captions.
    pub captions: usize,
    /// SHA-256 of the picture names, sorted by their bytes and joined by `\n`.
    pub sha256: Fingerprint,
}

/// A random split and its seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drawn {
    /// The parts.
    pub by: SplitSpec,
    /// The seed of [`Corpus::split_randomly`].
    pub seed: u64,
}

impl Manifest {
    /// The manifest of `split` of `corpus`.
    pub fn of(corpus: &Corpus, split: &Split) -> Self {
        let mut names: Vec<_> = corpus.pictures_of(split).map(|p| p.name.as_str()).collect();
        names.sort_unstable();
        Self {
            corpus: corpus.name.clone(),
            split: split.name.clone(),
            drawn: corpus.drawn,
            pictures: split.pictures.len(),
            captions: split.captions.len(),
            sha256: Fingerprint::from(format!("{:x}", Sha256::digest(names.join("\n")))),
        }
    }

    /// The manifests of all splits of `corpus`, and of `all` of it.
    pub fn of_each(corpus: &Corpus) -> Vec<Self> {
        let names = corpus.splits.keys().map(String::as_str).chain(["all"]);
        let split = |name| corpus.split(name).expect("a split that was listed");
        names.map(|name| Self::of(corpus, &split(name))).collect()
    }

    /// The one of `known` that stands for the same pictures and as many captions.
    pub fn among<'a>(&self, known: &'a [Self]) -> Option<&'a Self> {
        known.iter().find(|other| self.same_content(other))
    }

    /// Refuses `self` where `expected` was to be scored. Names of splits and corpora don't count:
    /// pictures and captions do.
    ///
    /// # Errors
    /// [`Error::WrongSplit`], naming the one of `known` that `self` looks like.
    pub fn check(&self, expected: &Self, known: &[Self]) -> Result<()> {
        if self.same_content(expected) {
            return Ok(());
        }
        Err(Error::WrongSplit {
            expected: Box::new(expected.clone()),
            found: Box::new(self.clone()),
            hint: self.hint(expected, known),
        })
    }

    fn same_content(&self, other: &Self) -> bool {
        (self.captions, &self.sha256) == (other.captions, &other.sha256)
    }

    fn hint(&self, expected: &Self, known: &[Self]) -> String {
        if self.sha256 == expected.sha256 {
            return "the pictures are the same, the captions are not: get the same captions".into();
        }
        match known.iter().find(|other| other.sha256 == self.sha256) {
            Some(other) => {
                format!(
                    "you are scoring on what looks like `{}` of {}; choose `{}`",
                    other.split, other.corpus, expected.split
                )
            }
            None => {
                "they look like no split known; were pictures added, removed or renamed?".into()
            }
        }
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { corpus, split, drawn, pictures, captions, sha256 } = self;
        write!(f, "{corpus} {split}")?;
        if let Some(Drawn { by, seed }) = drawn {
            write!(f, " ({by}, seed {seed})")?;
        }
        let [pictures, captions] = [pictures, captions].map(|&n| thousands(n));
        write!(f, ": {pictures} pictures, {captions} captions, sha256 {sha256}")
    }
}

/// 25,010 for 25010.
fn thousands(n: usize) -> String {
    match n {
        0..1000 => n.to_string(),
        _ => format!("{},{:03}", thousands(n / 1000), n % 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::synthetic::{SyntheticConfig, generate};

    fn corpus() -> Corpus {
        generate(&SyntheticConfig { pictures: 20, ..Default::default() })
    }

    fn manifest(corpus: &Corpus, split: &str) -> Manifest {
        Manifest::of(corpus, &corpus.split(split).unwrap())
    }

    #[test]
    fn the_sum_is_what_sha256sum_says() {
        // printf '000008\n000018' | sha256sum
        let sum = manifest(&corpus(), "dev").sha256;
        assert_eq!(
            sum.as_str(),
            "983db93f2ea622b7ab82c5ab4805995cd6e7aeb773764f65b4cc77fc0fbd7a69"
        );
    }

    #[test]
    fn the_sum_does_not_depend_on_the_order() {
        let (corpus, mut turned) = (corpus(), corpus());
        turned.pictures.reverse();
        assert_eq!(manifest(&corpus, "all").sha256, manifest(&turned, "all").sha256);
    }

    #[test]
    fn a_drawn_split_says_so() {
        let mut corpus = corpus();
        "random-70-15-15".parse::<SplitSpec>().unwrap().apply(&mut corpus, 3);
        let manifest = manifest(&corpus, "test");
        let line = manifest.to_string();
        let start = "synthetic test (random-70-15-15, seed 3): 3 pictures, 15 captions, sha256 ";
        assert!(line.starts_with(start), "{line}");
        let json = serde_json::to_string(&manifest).unwrap();
        assert!(json.contains(r#""drawn":{"by":"random-70-15-15","seed":3}"#), "{json}");
        assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
    }

    #[test]
    fn scoring_on_the_training_part() {
        let corpus = corpus();
        let (train, dev) = (manifest(&corpus, "train"), manifest(&corpus, "dev"));
        let error = train.check(&dev, &Manifest::of_each(&corpus)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "expected synthetic dev: 2 pictures, 10 captions, sha256 {}, but found synthetic \
                 train: 16 pictures, 80 captions, sha256 {}; you are scoring on what looks like \
                 `train` of synthetic; choose `dev`",
                dev.sha256, train.sha256
            )
        );
    }

    #[test]
    fn the_same_pictures_with_more_captions() {
        let corpus = corpus();
        let dev = manifest(&corpus, "dev");
        let more = Manifest { captions: 11, ..dev.clone() };
        let error = more.check(&dev, &Manifest::of_each(&corpus)).unwrap_err().to_string();
        assert!(error.ends_with("the captions are not: get the same captions"), "{error}");
    }

    #[test]
    fn pictures_of_no_known_split() {
        let corpus = corpus();
        let other = generate(&SyntheticConfig { pictures: 30, ..Default::default() });
        let error = manifest(&other, "dev")
            .check(&manifest(&corpus, "dev"), &Manifest::of_each(&corpus))
            .unwrap_err()
            .to_string();
        assert!(error.ends_with("were pictures added, removed or renamed?"), "{error}");
    }

    #[test]
    fn names_do_not_count() {
        let corpus = corpus();
        let dev = manifest(&corpus, "dev");
        let renamed = Manifest { split: "validation".into(), ..dev.clone() };
        renamed.check(&dev, &[]).unwrap();
        assert_eq!(renamed.among(&Manifest::of_each(&corpus)), Some(&dev));
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(
            [7, 1000, 25010, 1_000_000].map(thousands),
            ["7", "1,000", "25,010", "1,000,000"]
        );
    }
}
