use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Error;

/// How alike two vectors are.
///
/// ```
/// use xr_index::Metric;
///
/// assert_eq!("l2".parse::<Metric>()?, Metric::L2);
/// assert_eq!(Metric::InnerProduct.to_string(), "inner-product");
/// assert_eq!(
///     "cosin".parse::<Metric>().unwrap_err().to_string(),
///     "`cosin` is no metric; there are inner-product, cosine and l2"
/// );
/// # Ok::<(), xr_index::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Σ qᵢ·gᵢ; larger is better.
    #[default]
    InnerProduct,
    /// Inner product of the vectors divided by their lengths; larger is better. A vector of zeros
    /// has cosine 0 with everything.
    Cosine,
    /// Squared Euclidean distance Σ (qᵢ − gᵢ)²; smaller is better.
    L2,
}

impl Metric {
    /// The score a user sees, from a similarity (larger is better) and back.
    pub(crate) fn score(self, similarity: f32) -> f32 {
        match self {
            Self::InnerProduct | Self::Cosine => similarity,
            // `0 − x` and not `−x`: the distance of a vector to itself is 0, not −0.
            Self::L2 => 0.0 - similarity,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InnerProduct => "inner-product",
            Self::Cosine => "cosine",
            Self::L2 => "l2",
        })
    }
}

impl FromStr for Metric {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        [Self::InnerProduct, Self::Cosine, Self::L2]
            .into_iter()
            .find(|metric| metric.to_string() == name)
            .ok_or_else(|| Error::UnknownMetric(name.into()))
    }
}
