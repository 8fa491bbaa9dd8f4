use super::{Metric, count_within};

/// `nDCG@k`: Σ 1/log₂(1 + rank) over the answers among the first `k`, divided by what it is when
/// all answers come first.
///
/// Normalised discounted cumulative gain with gains of 0 and 1,
/// [Järvelin and Kekäläinen 2002](https://doi.org/10.1145/582415.582418), with the discount of
/// `ndcg_cut_k` and `ndcg` in trec_eval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ndcg {
    /// Of the first so many.
    At(u32),
    /// Of the whole gallery; called `nDCG`.
    Whole,
}

impl Metric for Ndcg {
    fn name(&self) -> String {
        match self {
            Self::At(k) => format!("nDCG@{k}"),
            Self::Whole => "nDCG".into(),
        }
    }

    fn of(&self, ranks: &[u32], gallery: usize) -> f64 {
        let k = match *self {
            Self::At(k) => k,
            Self::Whole => gallery as u32,
        };
        let gained = &ranks[..count_within(ranks, k)];
        gained.iter().copied().map(gain).sum::<f64>()
            / (1..=k.min(ranks.len() as u32)).map(gain).sum::<f64>()
    }
}

fn gain(rank: u32) -> f64 {
    (1.0 + f64::from(rank)).log2().recip()
}

#[cfg(test)]
mod tests {
    use super::{super::tests::check, *};

    #[test]
    fn gains_of_ranks_1_and_3_are_1_and_a_half() {
        // Ranks 1, 3 gain 1, 1/2; at k = 1 only rank 1 gains, and 1 is the most there is.
        check(Ndcg::At(1), [1., 0., 1., 0.], 0.5);
        // Caption 2 gains 1 + 1/2 of 1 + 1/log₂3 + 1/2, caption 3 gains 1/2 of 1 + 1/log₂3.
        let second = 3f64.log2().recip();
        let each = [1., 0., 1.5 / (1.5 + second), 0.5 / (1. + second)];
        check(Ndcg::At(3), each, each.iter().sum::<f64>() / 4.);
    }

    #[test]
    fn the_whole_gallery() {
        // Rank 5 gains 1/log₂6 of 1. Ranks 1, 3, 8 gain 1 + 1/2 + 1/log₂9.
        let [third, fifth, eighth] = [4f64, 6., 9.].map(|x| x.log2().recip());
        let (second, fourth) = (3f64.log2().recip(), 5f64.log2().recip());
        let each = [
            1.,
            fifth,
            (1. + third + eighth) / (1. + second + third),
            (third + fourth) / (1. + second),
        ];
        check(Ndcg::Whole, each, each.iter().sum::<f64>() / 4.);
    }
}
