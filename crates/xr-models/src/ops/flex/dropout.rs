use burn::{
    backend::{
        Flex,
        flex::{FlexDevice, FlexTensor},
        ops::FloatTensorOps,
    },
    tensor::{Distribution, FloatDType, Shape},
};

use super::{
    arch::{Arch, dispatch},
    blocks::{self, BLOCK},
    storage::{tensor, values},
};

/// 0 with this probability, else what keeps the mean at 1.
pub(super) fn mask(x: FlexTensor, probability: f64) -> FlexTensor {
    let shape = x.layout().shape().clone();
    tensor(draw(shape.num_elements(), seed(), probability), shape)
}

fn draw(len: usize, seed: [u32; 2], probability: f64) -> Vec<f32> {
    blocks::generate(len, BLOCK, |block, out| {
        fill(Arch::new(), (block * BLOCK) as u32, seed, probability, out);
    })
}

/// From the device's random numbers, and so from its seed.
fn seed() -> [u32; 2] {
    let uniform = Distribution::Uniform(0.0, 1.0);
    let drawn = Flex::float_random(Shape::new([2]), uniform, &FlexDevice, FloatDType::F32);
    [0, 1].map(|i| values(&drawn)[i].to_bits())
}

fn fill(arch: Arch, first: u32, seed: [u32; 2], probability: f64, out: &mut [f32]) {
    let dropped = (probability * 2f64.powi(32)) as u32;
    let kept = (1.0 / (1.0 - probability)) as f32;
    dispatch(
        arch,
        #[inline(always)]
        || {
            for (i, out) in out.iter_mut().enumerate() {
                let random = scramble(first.wrapping_add(i as u32), seed);
                *out = if random < dropped { 0.0 } else { kept };
            }
        },
    );
}

/// A random number of its place: MurmurHash3's finalizer, with the seed mixed in twice.
#[inline(always)]
fn scramble(place: u32, [a, b]: [u32; 2]) -> u32 {
    let round = |x: u32, shift: u32, factor: u32| (x ^ (x >> shift)).wrapping_mul(factor);
    let x = place.wrapping_mul(0x9e37_79b9) ^ a;
    let x = round(x, 16, 0x85eb_ca6b) ^ b;
    let x = round(x, 13, 0xc2b2_ae35);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use rayon::ThreadPoolBuilder;

    use super::super::arch;
    use super::*;

    #[test]
    fn every_instruction_set_draws_the_same() {
        let draw = |arch| {
            let mut out = [0.0; 103];
            fill(arch, u32::MAX - 5, [7, 8], 0.3, &mut out);
            out
        };
        for arch in arch::all() {
            assert_eq!(draw(arch), draw(Arch::Scalar), "{arch:?}");
        }
    }

    #[test]
    fn blocks_on_one_thread_and_two_are_what_one_block_would_be() {
        let mut expected = vec![0.0; 2 * BLOCK + 3];
        fill(Arch::new(), 0, [7, 8], 0.3, &mut expected);
        for threads in [1, 2] {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let found = pool.install(|| draw(expected.len(), [7, 8], 0.3));
            assert!(found == expected, "{threads} threads");
        }
    }
}
