use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Corpus, Drawn, Error, Result};

/// Which partition of a corpus to use; written `official` or `random-70-15-15`.
///
/// ```
/// use xr_data::SplitSpec;
///
/// let spec: SplitSpec = "random-80-10-10".parse()?;
/// assert_eq!(spec, SplitSpec::Random { train: 80, dev: 10 });
/// assert_eq!(spec.to_string(), "random-80-10-10");
/// # Ok::<(), xr_data::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SplitSpec {
    /// The splits that came with the data.
    #[default]
    Official,
    /// Parts drawn by picture; test is the rest.
    Random {
        /// Percent of the pictures for training.
        train: u8,
        /// Percent for choosing among models.
        dev: u8,
    },
}

impl SplitSpec {
    /// Gives `corpus` these splits: leaves it as it is, or [`Corpus::split_randomly`] with `seed`.
    pub fn apply(self, corpus: &mut Corpus, seed: u64) {
        if let Self::Random { train, dev } = self {
            corpus.split_randomly([train, dev].map(|percent| f64::from(percent) / 100.0), seed);
            corpus.drawn = Some(Drawn { by: self, seed });
        }
    }
}

impl FromStr for SplitSpec {
    type Err = Error;

    /// # Errors
    /// [`Error::SplitSpec`] for anything else, and where the parts don't make 100.
    fn from_str(text: &str) -> Result<Self> {
        let parts = text.strip_prefix("random-").map(|percents| {
            percents.split('-').map(|percent| percent.parse().ok()).collect::<Option<Vec<u8>>>()
        });
        match parts {
            None if text == "official" => Ok(Self::Official),
            Some(Some(parts)) if is_partition(&parts) => {
                Ok(Self::Random { train: parts[0], dev: parts[1] })
            }
            _ => Err(Error::SplitSpec { found: text.into() }),
        }
    }
}

fn is_partition(percents: &[u8]) -> bool {
    percents.len() == 3 && percents.iter().map(|&p| u32::from(p)).sum::<u32>() == 100
}

impl fmt::Display for SplitSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Official => f.write_str("official"),
            Self::Random { train, dev } => write!(f, "random-{train}-{dev}-{}", 100 - train - dev),
        }
    }
}

impl TryFrom<String> for SplitSpec {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<SplitSpec> for String {
    fn from(spec: SplitSpec) -> Self {
        spec.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::synthetic::{SyntheticConfig, generate};

    #[test]
    fn written_and_read() {
        for text in ["official", "random-70-15-15", "random-0-0-100"] {
            assert_eq!(text.parse::<SplitSpec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn neither() {
        for text in ["", "Official", "random", "random-70-15", "random-70-15-16", "random-a-b-c"] {
            assert_eq!(
                text.parse::<SplitSpec>().unwrap_err().to_string(),
                format!(
                    "`{text}` is no partition; expected `official`, or `random-TRAIN-DEV-TEST` in \
                     percent that make 100, such as `random-70-15-15`"
                )
            );
        }
    }

    #[test]
    fn official_leaves_the_splits_alone() {
        let mut corpus = generate(&SyntheticConfig { pictures: 20, ..Default::default() });
        let before = corpus.splits.clone();
        SplitSpec::Official.apply(&mut corpus, 1);
        assert_eq!(corpus.splits, before);
        SplitSpec::Random { train: 50, dev: 25 }.apply(&mut corpus, 1);
        assert_eq!(["train", "dev", "test"].map(|s| corpus.splits[s].len()), [10, 5, 5]);
    }
}
