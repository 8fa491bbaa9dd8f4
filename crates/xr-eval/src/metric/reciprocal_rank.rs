use super::Metric;

/// `MRR`: one over the rank of the best answer.
///
/// Mean reciprocal rank, [Voorhees 1999](https://trec.nist.gov/pubs/trec8/papers/qa_report.pdf);
/// `recip_rank` in trec_eval. No cut: an answer at rank 1000 adds a thousandth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReciprocalRank;

impl Metric for ReciprocalRank {
    fn name(&self) -> String {
        "MRR".into()
    }

    fn of(&self, ranks: &[u32], _gallery: usize) -> f64 {
        f64::from(ranks[0]).recip()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::check, *};

    #[test]
    fn of_the_best_answer() {
        check(ReciprocalRank, [1., 1. / 5., 1., 1. / 3.], 19. / 30.); // (30 + 6 + 30 + 10) / 30 / 4
    }
}
