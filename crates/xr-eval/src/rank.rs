use ndarray::ArrayView2;
use xr_data::Relevance;
use xr_index::{Metric, map_blocks};

use crate::Result;

/// Where the answers to each query stand in the gallery sorted by similarity: all that a
/// [metric](crate::Metric) looks at.
///
/// Ranks are whole numbers from 1. **Equal similarities are ordered by gallery position, lower
/// first**, as a stable sort would, so an encoder that maps everything to one point scores as
/// chance does, and not full marks.
///
/// A query without an answer can't be found, nor missed: it is left out of every metric, as
/// trec_eval does, and counted by [`Ranking::unanswerable`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranking {
    gallery: usize,
    // Ascending ranks for each query; none for a query without an answer.
    ranks: Vec<Vec<u32>>,
}

impl Ranking {
    /// Ranks `gallery` `[items, dim]` for each of `queries` `[queries, dim]`.
    ///
    /// Similarities are computed block by block, in parallel, and not kept.
    ///
    /// # Errors
    /// Those of [`map_blocks`]: other widths, and rows with NaN or infinity.
    ///
    /// # Panics
    /// If `relevance` is of another number of queries or items.
    pub fn of(
        queries: ArrayView2<f32>,
        gallery: ArrayView2<f32>,
        relevance: &Relevance,
        metric: Metric,
    ) -> Result<Self> {
        let shape = (relevance.queries(), relevance.gallery());
        assert_eq!(shape, (queries.nrows(), gallery.nrows()), "relevance of another shape");
        let blocks = map_blocks(queries, gallery, metric, |first, block| {
            let rank = |(query, similarities)| ranks(similarities, relevance.of(first + query));
            let rows = block.rows().into_iter().map(|row| row.to_slice().expect("contiguous"));
            rows.enumerate().map(rank).collect::<Vec<_>>()
        })?;
        let mut ranks = blocks.concat();
        // An empty gallery yields no blocks, and no query has an answer in it.
        ranks.resize(relevance.queries(), vec![]);
        Ok(Self { gallery: gallery.nrows(), ranks })
    }

    /// Given ranks, ascending for each query; none for a query without an answer.
    ///
    /// # Panics
    /// If the ranks of a query don't ascend from 1 to `gallery` at most.
    pub fn from_ranks(gallery: usize, ranks: Vec<Vec<u32>>) -> Self {
        for ranks in &ranks {
            let inside = ranks.iter().all(|&rank| rank >= 1 && rank as usize <= gallery);
            assert!(inside && ranks.is_sorted_by(|a, b| a < b), "{ranks:?} of {gallery}");
        }
        Self { gallery, ranks }
    }

    /// Number of gallery items.
    pub fn gallery(&self) -> usize {
        self.gallery
    }

    /// The queries that have an answer: their number and the ascending ranks of all their answers.
    pub fn answerable(&self) -> impl Iterator<Item = (usize, &[u32])> {
        let ranks = self.ranks.iter().map(Vec::as_slice).enumerate();
        ranks.filter(|(_, ranks)| !ranks.is_empty())
    }

    /// How many queries have no answer.
    pub fn unanswerable(&self) -> usize {
        self.ranks.iter().filter(|ranks| ranks.is_empty()).count()
    }
}

/// Ranks of the `relevant` items (ascending positions) in a gallery of these similarities, by
/// counting: no sort of the gallery.
fn ranks(similarities: &[f32], relevant: &[u32]) -> Vec<u32> {
    let mut answers: Vec<_> =
        relevant.iter().map(|&item| (similarities[item as usize], item)).collect();
    // Stable: equal answers keep their order of position.
    answers.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut ranks = vec![0; answers.len() + 1];
    for (item, &s) in (0..).zip(similarities) {
        let earlier = |&(t, answer): &(f32, u32)| t > s || (t == s && answer < item);
        ranks[answers.partition_point(earlier)] += 1;
    }
    // ranks[i] counts the items behind answer i − 1 and not behind answer i, itself included.
    ranks.pop();
    let add = |sum: &mut u32, count| {
        *sum += count;
        Some(*sum)
    };
    ranks.into_iter().scan(0, add).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn equal_similarities_stand_in_the_order_of_the_gallery() {
        // Best first: item 3 (.9), then 0 and 2 (.5), then 1 (.1).
        let similarities = [0.5, 0.1, 0.5, 0.9];
        assert_eq!(ranks(&similarities, &[0]), [2]);
        assert_eq!(ranks(&similarities, &[2]), [3]);
        assert_eq!(ranks(&similarities, &[1, 2, 3]), [1, 3, 4]);
        assert_eq!(ranks(&similarities, &[]), [0; 0]);
    }

    #[test]
    fn one_point_for_everything_is_chance() {
        let same = Array2::from_elem((40, 3), 0.7);
        let relevance = Relevance::from_groups(40, &(0..40).collect::<Vec<_>>());
        let ranking = Ranking::of(same.view(), same.view(), &relevance, Metric::L2).unwrap();
        let ranks: Vec<_> = ranking.answerable().map(|(_, ranks)| ranks[0]).collect();
        assert_eq!(ranks, (1..=40).collect::<Vec<_>>());
    }

    #[test]
    fn a_query_without_an_answer_is_counted_and_left_out() {
        let rows = array![[1., 0.], [0., 1.]];
        let relevance = Relevance::from_pairs(2, 2, [(1, 0)]);
        let ranking =
            Ranking::of(rows.view(), rows.view(), &relevance, Metric::InnerProduct).unwrap();
        assert_eq!(ranking.unanswerable(), 1);
        assert_eq!(ranking.answerable().collect::<Vec<_>>(), [(1, &[2][..])]);
    }

    #[test]
    fn an_empty_gallery_leaves_all_unanswered() {
        let (queries, gallery) = (Array2::zeros((3, 2)), Array2::zeros((0, 2)));
        let relevance = Relevance::from_pairs(3, 0, []);
        let ranking = Ranking::of(queries.view(), gallery.view(), &relevance, Metric::L2).unwrap();
        assert_eq!(ranking.unanswerable(), 3);
    }

    #[test]
    fn not_a_number() {
        let (queries, gallery) = (array![[1., 0.]], array![[1., 0.], [0., f32::NAN]]);
        let relevance = Relevance::from_pairs(1, 2, [(0, 0)]);
        let error =
            Ranking::of(queries.view(), gallery.view(), &relevance, Metric::L2).unwrap_err();
        assert!(error.to_string().starts_with("row 1 of the gallery is not finite"), "{error}");
    }

    /// The slow, obvious way: sort the gallery, look for the answers.
    fn sorted(similarities: &[f32], relevant: &[u32]) -> Vec<u32> {
        let mut order: Vec<_> = (0..similarities.len() as u32).collect();
        let of = |item: u32| similarities[item as usize];
        order.sort_by(|&a, &b| of(b).partial_cmp(&of(a)).unwrap());
        (1..).zip(order).filter(|(_, item)| relevant.contains(item)).map(|(r, _)| r).collect()
    }

    proptest! {
        #[test]
        fn counting_is_sorting(
            queries in 1usize..80,
            gallery in 1usize..60,
            seed: u64,
        ) {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            // Whole numbers: exact sums, and many ties.
            let mut rows =
                |n| Array2::from_shape_simple_fn((n, 3), || f32::from(rng.random_range(-2i8..=2)));
            let (q, g) = (rows(queries), rows(gallery));
            let pairs: Vec<_> = (0..2 * queries)
                .map(|_| (rng.random_range(0..queries as u32), rng.random_range(0..gallery as u32)))
                .collect();
            let relevance = Relevance::from_pairs(queries, gallery, pairs);
            let ranking =
                Ranking::of(q.view(), g.view(), &relevance, Metric::InnerProduct).unwrap();
            let products = q.dot(&g.t());
            let rows = products.rows().into_iter().map(|row| row.to_vec());
            let expected = rows.enumerate().map(|(i, row)| sorted(&row, relevance.of(i)));
            prop_assert_eq!(ranking, Ranking::from_ranks(gallery, expected.collect()));
        }
    }
}
