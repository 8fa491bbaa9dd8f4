//! Metrics: each one number for a query, and how the numbers of all queries become one.
//!
//! "Recall at k" means different things in different tools. Here [`RecallAt`] is what papers on
//! picture and text retrieval report, "is any answer among the first k?", and [`FoundAt`] is what
//! information retrieval calls recall, "what share of the answers is among the first k?". They
//! agree where each query has one answer.

mod average_precision;
mod ndcg;
mod precision;
mod rank;
mod recall;
mod reciprocal_rank;

pub use average_precision::AveragePrecision;
pub use ndcg::Ndcg;
pub use precision::PrecisionInTop;
pub use rank::{MeanRank, MedianRank};
pub use recall::{FoundAt, RecallAt};
pub use reciprocal_rank::ReciprocalRank;

use crate::Ranking;

/// A figure of merit of a [`Ranking`]. Implement it for one of your own.
///
/// ```
/// use xr_eval::{Metric, Ranking, metric::value};
///
/// /// The rank of the last answer: how far one must read to have them all.
/// struct LastRank;
///
/// impl Metric for LastRank {
///     fn name(&self) -> String {
///         "LastR".into()
///     }
///     fn of(&self, ranks: &[u32], _gallery: usize) -> f64 {
///         ranks[ranks.len() - 1].into()
///     }
/// }
///
/// let ranking = Ranking::from_ranks(8, vec![vec![1, 4], vec![2]]);
/// assert_eq!(value(&LastRank, &ranking), 3.0); // (4 + 2) / 2
/// ```
pub trait Metric: Send + Sync {
    /// The short name that stands in tables and files: `R@10`.
    fn name(&self) -> String;

    /// The value of one query, from the ascending ranks (from 1) of its answers, of which there is
    /// at least one, and the number of gallery items.
    fn of(&self, ranks: &[u32], gallery: usize) -> f64;

    /// How the values of the queries become one.
    fn aggregate(&self) -> Aggregate {
        Aggregate::Mean
    }
}

/// How the values of many queries become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// Their sum, divided by their number.
    Mean,
    /// The middle one in order of size; the mean of the two middle ones if they are even in number.
    Median,
}

/// The value of each query that has an answer.
pub fn values(metric: &dyn Metric, ranking: &Ranking) -> Vec<f64> {
    let gallery = ranking.gallery();
    ranking.answerable().map(|(_, ranks)| metric.of(ranks, gallery)).collect()
}

/// The metric's value for a whole ranking; NaN if no query has an answer.
pub fn value(metric: &dyn Metric, ranking: &Ranking) -> f64 {
    let mut values = values(metric, ranking);
    let n = values.len();
    match metric.aggregate() {
        _ if n == 0 => f64::NAN,
        Aggregate::Mean => values.iter().sum::<f64>() / n as f64,
        Aggregate::Median => {
            values.sort_by(f64::total_cmp);
            (values[(n - 1) / 2] + values[n / 2]) / 2.0
        }
    }
}

/// `R@k` for each of `ks`, then Found@10, MedR, MeanR, MRR, mAP, nDCG@10 and P@20%.
pub fn standard(ks: &[u32]) -> Vec<Box<dyn Metric>> {
    let mut metrics: Vec<Box<dyn Metric>> = vec![];
    metrics.extend(ks.iter().map(|&k| Box::new(RecallAt(k)) as Box<dyn Metric>));
    metrics.push(Box::new(FoundAt(10)));
    metrics.push(Box::new(MedianRank));
    metrics.push(Box::new(MeanRank));
    metrics.push(Box::new(ReciprocalRank));
    metrics.push(Box::new(AveragePrecision));
    metrics.push(Box::new(Ndcg::At(10)));
    metrics.push(Box::new(PrecisionInTop { percent: 20 }));
    metrics
}

/// How many of `ranks` are at most `k`.
fn count_within(ranks: &[u32], k: u32) -> usize {
    ranks.partition_point(|&rank| rank <= k)
}

#[cfg(test)]
pub(crate) mod tests {
    use ndarray::{Array2, array};
    use xr_data::Relevance;
    use xr_index::Metric as Similarity;

    use super::*;

    /// Four captions, eight pictures. Captions 0 and 1 have one answer each, caption 2 has three
    /// and caption 3 two. The similarities, answers in brackets, and the ranks that follow:
    ///
    /// ```text
    /// caption 0   8  [9]  1   2   3   4   5   6     1
    /// caption 1   8   7   6   5  [4]  3   2   1     5
    /// caption 2  [8]  7  [6]  5   4   3   2  [1]    1 3 8
    /// caption 3   1   2   3   4  [5] [5]  9   8     3 4
    /// ```
    pub fn four_by_eight() -> Ranking {
        let similarities = array![
            [8., 9., 1., 2., 3., 4., 5., 6.],
            [8., 7., 6., 5., 4., 3., 2., 1.],
            [8., 7., 6., 5., 4., 3., 2., 1.],
            [1., 2., 3., 4., 5., 5., 9., 8.],
        ];
        let pairs = [(0, 1), (1, 4), (2, 0), (2, 2), (2, 7), (3, 4), (3, 5)];
        let relevance = Relevance::from_pairs(4, 8, pairs);
        // Query i picks row i of the matrix: its product with the gallery is that row.
        let (queries, gallery) = (Array2::eye(4), similarities.t());
        Ranking::of(queries.view(), gallery, &relevance, Similarity::InnerProduct).unwrap()
    }

    #[track_caller]
    pub fn check(metric: impl Metric, per_query: [f64; 4], expected: f64) {
        let ranking = four_by_eight();
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        let values = values(&metric, &ranking);
        assert!(values.iter().zip(per_query).all(|(&a, b)| close(a, b)), "{values:?}");
        let got = super::value(&metric, &ranking);
        assert!(close(got, expected), "{got}, not {expected}");
    }

    #[test]
    fn the_ranks_of_the_drawing() {
        let expected = vec![vec![1], vec![5], vec![1, 3, 8], vec![3, 4]];
        assert_eq!(four_by_eight(), Ranking::from_ranks(8, expected));
    }

    #[test]
    fn names_in_the_order_of_the_table() {
        let names: Vec<_> = standard(&[1, 5, 10, 50]).iter().map(|m| m.name()).collect();
        let expected = "R@1 R@5 R@10 R@50 Found@10 MedR MeanR MRR mAP nDCG@10 P@20%";
        assert_eq!(names.join(" "), expected);
    }
}
