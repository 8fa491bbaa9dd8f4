use std::ops::Range;

/// Which gallery items answer which query: for each query a sorted list of gallery positions.
///
/// ```
/// use xr_data::Relevance;
///
/// // Two pictures; captions 0 and 1 describe picture 0, caption 2 describes picture 1.
/// let text_to_image = Relevance::from_pairs(3, 2, [(0, 0), (1, 0), (2, 1)]);
/// assert_eq!(text_to_image.of(1), [0]);
/// assert_eq!(text_to_image.transpose().of(0), [0, 1]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relevance {
    gallery: usize,
    // Compressed rows: the answers of query `q` are `items[starts[q]..starts[q + 1]]`.
    starts: Vec<usize>,
    items: Vec<u32>,
}

impl Relevance {
    /// Relevance of `queries` × `gallery` from `(query, item)` pairs, in any order; repeated pairs
    /// count once.
    ///
    /// # Panics
    /// If a pair lies outside `queries` × `gallery`.
    pub fn from_pairs(
        queries: usize,
        gallery: usize,
        pairs: impl IntoIterator<Item = (u32, u32)>,
    ) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.sort_unstable();
        pairs.dedup();
        let mut starts = vec![0; queries + 1];
        for &(query, item) in &pairs {
            assert!((item as usize) < gallery, "item {item} of a gallery of {gallery}");
            starts[query as usize + 1] += 1;
        }
        for q in 0..queries {
            starts[q + 1] += starts[q];
        }
        Self { gallery, starts, items: pairs.into_iter().map(|(_, item)| item).collect() }
    }

    /// Query `i` is answered by item `group[i]` alone: captions and the pictures they describe.
    pub fn from_groups(gallery: usize, group: &[u32]) -> Self {
        Self::from_pairs(group.len(), gallery, (0..).zip(group.iter().copied()))
    }

    /// Number of queries.
    pub fn queries(&self) -> usize {
        self.starts.len() - 1
    }

    /// Number of gallery items.
    pub fn gallery(&self) -> usize {
        self.gallery
    }

    /// The gallery positions that answer `query`, ascending.
    pub fn of(&self, query: usize) -> &[u32] {
        &self.items[self.range(query)]
    }

    /// Is `item` an answer to `query`?
    pub fn is_relevant(&self, query: usize, item: u32) -> bool {
        self.of(query).binary_search(&item).is_ok()
    }

    /// The same judgements with queries and gallery exchanged.
    pub fn transpose(&self) -> Self {
        let pairs =
            (0..self.queries()).flat_map(|q| self.of(q).iter().map(move |&item| (item, q as u32)));
        Self::from_pairs(self.gallery, self.queries(), pairs)
    }

    fn range(&self, query: usize) -> Range<usize> {
        self.starts[query]..self.starts[query + 1]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn unsorted_and_repeated_pairs() {
        let r = Relevance::from_pairs(3, 4, [(2, 3), (0, 1), (2, 0), (2, 3)]);
        assert_eq!((r.queries(), r.gallery()), (3, 4));
        assert_eq!(r.of(0), [1]);
        assert!(r.of(1).is_empty());
        assert_eq!(r.of(2), [0, 3]);
        assert!(r.is_relevant(2, 3) && !r.is_relevant(2, 1));
    }

    #[test]
    #[should_panic(expected = "item 4 of a gallery of 4")]
    fn an_item_outside_the_gallery() {
        Relevance::from_pairs(1, 4, [(0, 4)]);
    }

    proptest! {
        #[test]
        fn transposing_twice_changes_nothing(pairs in prop::collection::vec((0u32..7, 0u32..5), 0..30)) {
            let r = Relevance::from_pairs(7, 5, pairs);
            prop_assert_eq!(r.transpose().transpose(), r);
        }
    }
}
