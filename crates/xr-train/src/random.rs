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

/// The numbers of one row of one step: a picture that is shown twice is changed differently.
pub(crate) fn of_row(seed: u64, epoch: usize, step: usize, row: usize) -> ChaCha8Rng {
    let mut key = [0; 32];
    let values = [seed, epoch as u64, step as u64, row as u64];
    key.as_chunks_mut().0.iter_mut().zip(values).for_each(|(part, v)| *part = v.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    // Such keys, with stream 0, are also those of `EpochOrder`.
    rng.set_stream(1);
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

    #[test]
    fn every_row_has_numbers_of_its_own() {
        let mut draws: Vec<u64> =
            [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
                .map(|(seed, epoch, step, row)| of_row(seed, epoch, step, row).next_u64())
                .into();
        draws.sort_unstable();
        draws.dedup();
        assert_eq!(draws.len(), 5);
    }
}
