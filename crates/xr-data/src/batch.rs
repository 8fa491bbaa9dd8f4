use std::sync::Mutex;

use rand::{SeedableRng, seq::SliceRandom, seq::index};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::Relevance;

/// How the captions of a split become an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// Every caption once, in any order; captions of one picture meet by chance.
    EveryCaption,
    /// Every picture once, with this many of its captions next to each other; other ones every
    /// epoch. A picture that has fewer gives all it has.
    PerPicture {
        /// Captions of each picture, at least 1.
        captions: usize,
    },
}

/// Which captions, with their pictures, each training step sees: a function of the seed, the epoch
/// and the step, so that a run goes on at any step as if it had never stopped.
///
/// Every batch has the same number of captions (of pictures, under [`Sampling::PerPicture`]). The
/// few that are left over at an epoch's end are dropped: with fewer negatives a contrastive loss is
/// another loss. The next epoch is shuffled anew and drops others. A split smaller than one batch is
/// one batch.
///
/// ```
/// use xr_data::{EpochOrder, Sampling};
///
/// // Three pictures with two captions each.
/// let order = EpochOrder::new(&[0, 0, 1, 1, 2, 2], Sampling::EveryCaption, 2, 7);
/// assert_eq!(order.steps(), 3);
/// assert_eq!(order.batch(0, 1).len(), 2);
/// ```
#[derive(Debug)]
pub struct EpochOrder {
    captions_of: Relevance,
    sampling: Sampling,
    batch_size: usize,
    seed: u64,
    /// What is shuffled: captions, or pictures that have any.
    units: Vec<u32>,
    /// The epoch asked for last, shuffled.
    shuffled: Mutex<Option<(usize, Vec<u32>)>>,
}

impl EpochOrder {
    /// The order of the captions whose pictures are `picture_of`
    /// ([`Split::picture_of`](crate::Split::picture_of)), at most `batch_size` captions a batch.
    ///
    /// # Panics
    /// If `batch_size` is 0 or smaller than the captions taken of a picture, or those are 0.
    pub fn new(picture_of: &[u32], sampling: Sampling, batch_size: usize, seed: u64) -> Self {
        let pictures = picture_of.iter().max().map_or(0, |&last| last as usize + 1);
        let captions_of = Relevance::from_groups(pictures, picture_of).transpose();
        let has_captions = |&picture: &u32| !captions_of.of(picture as usize).is_empty();
        let (units, least) = match sampling {
            Sampling::EveryCaption => ((0..picture_of.len() as u32).collect(), 1),
            Sampling::PerPicture { captions } => {
                assert!(captions > 0, "no captions of each picture");
                ((0..pictures as u32).filter(has_captions).collect(), captions)
            }
        };
        assert!(batch_size >= least, "a batch of {batch_size}, smaller than {least}");
        Self { captions_of, sampling, batch_size, seed, units, shuffled: Mutex::new(None) }
    }

    /// Steps in an epoch; 0 when there are no captions.
    pub fn steps(&self) -> usize {
        let whole = self.units.len() / self.units_per_batch();
        whole.max(usize::from(!self.units.is_empty()))
    }

    /// The captions of one step: positions in the `picture_of` that this was made from.
    ///
    /// # Panics
    /// If the epoch has no such step.
    pub fn batch(&self, epoch: usize, step: usize) -> Vec<u32> {
        assert!(step < self.steps(), "step {step} of {}", self.steps());
        let units = self.units_of(epoch, step);
        match self.sampling {
            Sampling::EveryCaption => units,
            Sampling::PerPicture { captions } => {
                units.iter().flat_map(|&picture| self.some_of(picture, captions, epoch)).collect()
            }
        }
    }

    fn units_per_batch(&self) -> usize {
        match self.sampling {
            Sampling::EveryCaption => self.batch_size,
            Sampling::PerPicture { captions } => self.batch_size / captions,
        }
    }

    fn units_of(&self, epoch: usize, step: usize) -> Vec<u32> {
        let mut shuffled = self.shuffled.lock().expect("shuffling doesn't panic");
        if shuffled.as_ref().is_none_or(|(of, _)| *of != epoch) {
            let mut units = self.units.clone();
            units.shuffle(&mut rng(self.seed, epoch, None));
            *shuffled = Some((epoch, units));
        }
        let (_, units) = shuffled.as_ref().expect("filled above");
        units.chunks(self.units_per_batch()).nth(step).expect("a step of the epoch").to_vec()
    }

    /// `wanted` different captions of a picture, in any order.
    fn some_of(&self, picture: u32, wanted: usize, epoch: usize) -> impl Iterator<Item = u32> {
        let captions = self.captions_of.of(picture as usize);
        let rng = &mut rng(self.seed, epoch, Some(picture));
        let chosen = index::sample(rng, captions.len(), wanted.min(captions.len()));
        chosen.into_iter().map(|i| captions[i])
    }
}

/// A generator of its own for each epoch, and for each picture in it.
fn rng(seed: u64, epoch: usize, picture: Option<u32>) -> ChaCha8Rng {
    let picture = picture.map_or(u64::MAX, u64::from);
    let mut key = [0; 32];
    for (part, value) in key.chunks_exact_mut(8).zip([seed, epoch as u64, picture]) {
        part.copy_from_slice(&value.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn epoch(order: &EpochOrder, epoch: usize) -> Vec<u32> {
        (0..order.steps()).flat_map(|step| order.batch(epoch, step)).collect()
    }

    /// A change here changes what every seed means, and how runs begun before go on.
    #[test]
    fn what_a_seed_means() {
        let picture_of = [0, 0, 0, 1, 1, 1, 2, 2, 2];
        let every = EpochOrder::new(&picture_of, Sampling::EveryCaption, 3, 0);
        let two = EpochOrder::new(&picture_of, Sampling::PerPicture { captions: 2 }, 2, 0);
        assert_eq!(epoch(&every, 0), [2, 4, 5, 6, 0, 7, 1, 3, 8]);
        assert_eq!(epoch(&every, 1), [8, 6, 5, 3, 7, 0, 2, 1, 4]);
        assert_eq!(epoch(&two, 0), [6, 7, 0, 2, 3, 5]);
        assert_eq!(epoch(&two, 1), [4, 5, 7, 6, 2, 0]);
    }

    #[test]
    fn a_split_smaller_than_a_batch_is_one_batch() {
        let order = EpochOrder::new(&[0, 0, 1], Sampling::EveryCaption, 8, 0);
        assert_eq!((order.steps(), order.batch(0, 0).len()), (1, 3));
    }

    #[test]
    fn no_captions_no_steps() {
        assert_eq!(EpochOrder::new(&[], Sampling::EveryCaption, 8, 0).steps(), 0);
    }

    #[test]
    fn a_picture_with_fewer_captions_gives_what_it_has() {
        // Picture 1 has no captions, picture 2 has one.
        let order = EpochOrder::new(&[0, 0, 0, 2], Sampling::PerPicture { captions: 2 }, 4, 0);
        assert_eq!((order.steps(), order.batch(0, 0).len()), (1, 3));
    }

    #[test]
    #[should_panic(expected = "step 3 of 3")]
    fn a_step_too_many() {
        EpochOrder::new(&[0, 0, 1, 1, 2, 2], Sampling::EveryCaption, 2, 7).batch(0, 3);
    }

    proptest! {
        #[test]
        fn every_caption_at_most_once_and_the_rest_is_less_than_a_batch(
            captions in 1u32..60, size in 1usize..9, seed: u64, number in 0usize..5,
        ) {
            let order = EpochOrder::new(&vec![0; captions as usize], Sampling::EveryCaption, size, seed);
            let seen = epoch(&order, number);
            let distinct: HashSet<_> = seen.iter().copied().collect();
            prop_assert_eq!(distinct.len(), seen.len());
            prop_assert!(distinct.iter().all(|&caption| caption < captions));
            prop_assert!(captions as usize - seen.len() < size);
        }

        #[test]
        fn captions_of_a_picture_stand_together(
            pictures in 1u32..30, k in 1usize..5, size in 1usize..4, seed: u64,
        ) {
            // Five captions a picture: caption c is of picture c / 5.
            let picture_of: Vec<u32> = (0..pictures * 5).map(|c| c / 5).collect();
            let order = EpochOrder::new(&picture_of, Sampling::PerPicture { captions: k }, size * k, seed);
            let mut pictures_seen = HashSet::new();
            for step in 0..order.steps() {
                for rows in order.batch(3, step).chunks(k) {
                    prop_assert_eq!(rows.iter().collect::<HashSet<_>>().len(), k);
                    prop_assert!(rows.iter().all(|&c| c / 5 == rows[0] / 5));
                    prop_assert!(pictures_seen.insert(rows[0] / 5));
                }
            }
        }

        #[test]
        fn any_step_can_be_asked_for_first(
            captions in 1usize..60, k in 1usize..3, size in 2usize..9, seed: u64, number in 0usize..4,
        ) {
            let picture_of: Vec<u32> = (0..captions as u32).map(|c| c / 3).collect();
            for sampling in [Sampling::EveryCaption, Sampling::PerPicture { captions: k }] {
                let new = || EpochOrder::new(&picture_of, sampling, size, seed);
                let whole = new();
                epoch(&whole, number + 1);
                let in_turn: Vec<_> = (0..whole.steps()).map(|s| whole.batch(number, s)).collect();
                for (step, batch) in in_turn.iter().enumerate().rev() {
                    prop_assert_eq!(&new().batch(number, step), batch);
                }
            }
        }
    }

    #[test]
    fn epochs_and_seeds_differ() {
        let picture_of: Vec<u32> = (0..100).map(|c| c / 5).collect();
        for sampling in [Sampling::EveryCaption, Sampling::PerPicture { captions: 2 }] {
            let order = |seed| EpochOrder::new(&picture_of, sampling, 10, seed);
            assert_ne!(epoch(&order(0), 0), epoch(&order(0), 1));
            assert_ne!(epoch(&order(0), 0), epoch(&order(1), 0));
        }
    }

    #[test]
    fn every_caption_of_a_picture_has_its_turn() {
        let order = EpochOrder::new(&[0; 5], Sampling::PerPicture { captions: 1 }, 1, 0);
        let seen: HashSet<u32> = (0..60).flat_map(|number| order.batch(number, 0)).collect();
        assert_eq!(seen.len(), 5);
    }
}
