use super::{Metric, count_within};

/// `R@k`: 1 if **any** answer is among the first `k`, else 0.
///
/// What papers on picture and text retrieval call recall at k, as
/// [VSE++](https://arxiv.org/abs/1707.05612) and CLIP report it; `success_k` in trec_eval,
/// `accuracy@k` in sentence-transformers. A picture with five captions has five chances: **not to be
/// compared** with the share of them found, [`FoundAt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecallAt(pub u32);

impl Metric for RecallAt {
    fn name(&self) -> String {
        format!("R@{}", self.0)
    }

    fn of(&self, ranks: &[u32], _gallery: usize) -> f64 {
        f64::from(ranks[0] <= self.0)
    }
}

/// `Found@k`: the share of the answers that are among the first `k`.
///
/// Recall as information retrieval defines it
/// ([Manning et al., 8.3](https://nlp.stanford.edu/IR-book/)): `recall_k` in trec_eval, `recall@k`
/// in sentence-transformers. With five answers it can't pass .2 at k = 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundAt(pub u32);

impl Metric for FoundAt {
    fn name(&self) -> String {
        format!("Found@{}", self.0)
    }

    fn of(&self, ranks: &[u32], _gallery: usize) -> f64 {
        count_within(ranks, self.0) as f64 / ranks.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::check, *};

    #[test]
    fn any_answer_counts() {
        check(RecallAt(1), [1., 0., 1., 0.], 0.5); // (1 + 0 + 1 + 0) / 4
        check(RecallAt(3), [1., 0., 1., 1.], 0.75);
        check(RecallAt(5), [1., 1., 1., 1.], 1.0);
    }

    #[test]
    fn the_share_found() {
        check(FoundAt(1), [1., 0., 1. / 3., 0.], 1. / 3.); // (1 + 1/3) / 4 = 4/12
        check(FoundAt(3), [1., 0., 2. / 3., 1. / 2.], 13. / 24.); // (6 + 4 + 3) / 6 / 4
        check(FoundAt(8), [1.; 4], 1.0);
    }
}
