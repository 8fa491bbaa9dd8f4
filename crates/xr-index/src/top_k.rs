use std::cmp::Ordering;

use crate::Hit;

/// Scores looked at together: a chunk without a candidate costs a few vector instructions.
const CHUNK: usize = 32;

/// What is kept of a stream of similarities, of which larger is better.
pub(crate) trait Collect: Send {
    /// Takes the similarities of rows `first..`. `id` is the id of a row that may be found.
    fn offer(&mut self, first: usize, similarities: &[f32], id: &impl Fn(usize) -> Option<u64>);

    /// What was kept of both.
    fn merge(self, other: Self) -> Self;

    /// Best first, equal similarities by ascending id.
    fn into_sorted(self) -> Vec<Hit>;
}

/// The best `k`.
///
/// Up to `2k` candidates are kept, and then the worse half is dropped: a constant number of
/// comparisons a candidate. What is behind the worst of the best `k` is no candidate.
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

    fn drop_half_when_full(&mut self) {
        if self.found.len() == 2 * self.k {
            let (_, &mut last, _) = self.found.select_nth_unstable_by(self.k - 1, best_first);
            self.bar = last.score;
            self.found.truncate(self.k);
        }
    }
}

impl Collect for TopK {
    #[inline(always)]
    fn offer(&mut self, first: usize, similarities: &[f32], id: &impl Fn(usize) -> Option<u64>) {
        for (row, score) in passing(first, similarities, self.bar) {
            // The bar may have risen since; an equal score is ahead if its id is lower.
            if score >= self.bar
                && let Some(id) = id(row)
            {
                self.found.push(Hit { id, score });
                self.drop_half_when_full();
            }
        }
    }

    fn merge(mut self, other: Self) -> Self {
        self.found.extend(other.found);
        self
    }

    fn into_sorted(mut self) -> Vec<Hit> {
        self.found.sort_unstable_by(best_first);
        self.found.truncate(self.k);
        self.found
    }
}

/// All that are at least as similar as a bar.
#[derive(Debug)]
pub(crate) struct AtLeast {
    bar: f32,
    found: Vec<Hit>,
}

impl AtLeast {
    pub fn new(bar: f32) -> Self {
        Self { bar, found: vec![] }
    }
}

impl Collect for AtLeast {
    #[inline(always)]
    fn offer(&mut self, first: usize, similarities: &[f32], id: &impl Fn(usize) -> Option<u64>) {
        let passing = passing(first, similarities, self.bar);
        self.found.extend(passing.filter_map(|(row, score)| Some(Hit { id: id(row)?, score })));
    }

    fn merge(mut self, other: Self) -> Self {
        self.found.extend(other.found);
        self
    }

    fn into_sorted(mut self) -> Vec<Hit> {
        self.found.sort_unstable_by(best_first);
        self.found
    }
}

/// Rows from `first` on and their similarities, where these reach the bar.
#[inline(always)]
fn passing(first: usize, similarities: &[f32], bar: f32) -> impl Iterator<Item = (usize, f32)> {
    let chunks = (first..).step_by(CHUNK).zip(similarities.chunks(CHUNK));
    let chunks = chunks.filter(move |(_, chunk)| {
        let passing: u32 = chunk.iter().map(|&score| u32::from(score >= bar)).sum();
        passing > 0
    });
    chunks
        .flat_map(|(first, chunk)| (first..).zip(chunk.iter().copied()))
        .filter(move |&(_, score)| score >= bar)
}

pub(crate) fn best_first(a: &Hit, b: &Hit) -> Ordering {
    b.score.total_cmp(&a.score).then(a.id.cmp(&b.id))
}
