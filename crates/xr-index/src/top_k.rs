use std::cmp::Ordering;

use crate::Hit;

/// Scores looked at together: a chunk without a candidate costs a few vector instructions.
const CHUNK: usize = 32;

/// The best `k` of a stream of similarities (larger is better) with ascending ids.
///
/// Up to `2k` candidates are kept, and then the worse half is dropped: a constant number of
/// comparisons a candidate. What doesn't pass the worst of the best `k` is no candidate.
#[derive(Debug)]
pub(crate) struct TopK {
    k: usize,
    found: Vec<Hit>,
    bar: f32,
}

impl TopK {
    pub fn new(k: usize) -> Self {
        Self { k, found: Vec::with_capacity(2 * k), bar: f32::NEG_INFINITY }
    }

    /// Takes the similarities of items `first_id..`; ids ascend from call to call, so an item equal
    /// to the bar is behind the one that set it.
    #[inline(always)]
    pub fn offer(&mut self, first_id: u32, similarities: &[f32]) {
        for (first, chunk) in (first_id..).step_by(CHUNK).zip(similarities.chunks(CHUNK)) {
            let passing: u32 = chunk.iter().map(|&s| u32::from(s > self.bar)).sum();
            if passing > 0 || self.found.len() < self.k {
                self.offer_each(first, chunk);
            }
        }
    }

    fn offer_each(&mut self, first_id: u32, similarities: &[f32]) {
        for (id, &score) in (first_id..).zip(similarities) {
            if score > self.bar || self.found.len() < self.k {
                self.found.push(Hit { id, score });
                self.drop_half_when_full();
            }
        }
    }

    fn drop_half_when_full(&mut self) {
        if self.found.len() == 2 * self.k {
            let (_, &mut last, _) = self.found.select_nth_unstable_by(self.k - 1, best_first);
            self.bar = last.score;
            self.found.truncate(self.k);
        }
    }

    /// The candidates of both.
    pub fn merge(mut self, other: Self) -> Self {
        self.found.extend(other.found);
        self
    }

    pub fn into_sorted(mut self) -> Vec<Hit> {
        self.found.sort_unstable_by(best_first);
        self.found.truncate(self.k);
        self.found
    }
}

fn best_first(a: &Hit, b: &Hit) -> Ordering {
    b.score.total_cmp(&a.score).then(a.id.cmp(&b.id))
}
