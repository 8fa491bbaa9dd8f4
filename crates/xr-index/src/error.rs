use std::fmt;

/// What can go wrong in a search, each as a sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Queries of another width than the vectors of the gallery.
    #[error(
        "the queries have {queries} dimensions and the gallery {gallery}; \
         embed both with the same model"
    )]
    Dimensions {
        /// Width of the queries.
        queries: usize,
        /// Width of the gallery.
        gallery: usize,
    },
    /// A row that has no meaningful similarity to anything.
    #[error(
        "row {row} of the {side} is not finite: it holds NaN or infinity, or its squared length \
         passes the largest f32; leave it out, or look for a division by zero where it was embedded"
    )]
    NotFinite {
        /// Where the row was found.
        side: Side,
        /// Its position.
        row: usize,
    },
    /// A name that is no [`Metric`](crate::Metric).
    #[error("`{0}` is no metric; there are inner-product and l2")]
    UnknownMetric(String),
}

/// The two matrices of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What is looked for.
    Queries,
    /// What is looked through.
    Gallery,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queries => "queries",
            Self::Gallery => "gallery",
        })
    }
}

/// The result of a search.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences() {
        assert_eq!(
            Error::Dimensions { queries: 384, gallery: 512 }.to_string(),
            "the queries have 384 dimensions and the gallery 512; embed both with the same model"
        );
        assert_eq!(
            Error::NotFinite { side: Side::Gallery, row: 3 }.to_string(),
            "row 3 of the gallery is not finite: it holds NaN or infinity, or its squared length \
             passes the largest f32; leave it out, or look for a division by zero where it was \
             embedded"
        );
    }
}
