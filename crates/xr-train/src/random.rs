use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

/// What randomness is for: purposes don't share numbers.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    Model = 0,
    Views = 1,
}

/// The numbers of one step, whatever was drawn before it.
pub(crate) fn at(seed: u64, purpose: Purpose, epoch: usize, step: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(2 * epoch as u64 + purpose as u64);
    // 2³² words a step: far more than a batch draws.
    rng.set_word_pos((step as u128) << 32);
    rng
}

#[cfg(test)]
mod tests {
    use rand::RngCore;

    use super::*;

    #[test]
    fn every_step_has_numbers_of_its_own() {
        let mut seen: Vec<u64> = [(0, Purpose::Model, 0, 0), (1, Purpose::Model, 0, 0)]
            .into_iter()
            .chain([
                (0, Purpose::Views, 0, 0),
                (0, Purpose::Model, 1, 0),
                (0, Purpose::Model, 0, 1),
            ])
            .map(|(seed, purpose, epoch, step)| at(seed, purpose, epoch, step).next_u64())
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 5);
        assert_eq!(at(3, Purpose::Views, 4, 5).next_u64(), at(3, Purpose::Views, 4, 5).next_u64());
    }
}
