use super::{Aggregate, Metric};

/// `MedR`: the median over the queries of the rank of the best answer; smaller is better, 1 is
/// perfect.
///
/// With an even number of queries the mean of the two middle ranks, so a half is possible; some
/// published code rounds it down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MedianRank;

impl Metric for MedianRank {
    fn name(&self) -> String {
        "MedR".into()
    }

    fn of(&self, ranks: &[u32], _gallery: usize) -> f64 {
        ranks[0].into()
    }

    fn aggregate(&self) -> Aggregate {
        Aggregate::Median
    }
}

/// `MeanR`: the mean over the queries of the rank of the best answer; smaller is better.
///
/// A few lost queries decide it, and it grows with the gallery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeanRank;

impl Metric for MeanRank {
    fn name(&self) -> String {
        "MeanR".into()
    }

    fn of(&self, ranks: &[u32], _gallery: usize) -> f64 {
        ranks[0].into()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::check, *};

    #[test]
    fn of_the_best_answers() {
        check(MedianRank, [1., 5., 1., 3.], 2.0); // 1 1 | 3 5: (1 + 3) / 2
        check(MeanRank, [1., 5., 1., 3.], 2.5); // 10 / 4
    }
}
