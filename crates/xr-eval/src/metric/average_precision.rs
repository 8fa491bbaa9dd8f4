use super::Metric;

/// `mAP`: the precision at the rank of each answer, averaged over all answers.
///
/// Mean average precision without interpolation and over the whole gallery
/// ([Manning et al., 8.4](https://nlp.stanford.edu/IR-book/)); `map` in trec_eval. With one answer
/// a query it is [`MRR`](super::ReciprocalRank).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AveragePrecision;

impl Metric for AveragePrecision {
    fn name(&self) -> String {
        "mAP".into()
    }

    fn of(&self, ranks: &[u32], _gallery: usize) -> f64 {
        // Up to the i-th answer, i of `rank` items are right.
        let precisions = (1..).zip(ranks).map(|(i, &rank)| f64::from(i) / f64::from(rank));
        precisions.sum::<f64>() / ranks.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::check, *};

    #[test]
    fn precision_at_each_answer() {
        // Caption 2: (1/1 + 2/3 + 3/8) / 3 = (24 + 16 + 9) / 72. Caption 3: (1/3 + 2/4) / 2.
        let each = [1., 1. / 5., 49. / 72., 5. / 12.];
        check(AveragePrecision, each, 827. / 1440.); // (360 + 72 + 245 + 150) / 360 / 4
    }
}
