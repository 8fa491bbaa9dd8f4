use std::collections::HashMap;

use image::{
    RgbImage,
    imageops::{FilterType, grayscale, resize},
};

use crate::{Corpus, Result, decoding::decode_each};

/// A hash compares each pixel of 8 × 8 with its neighbour: of 9 pixels there are 8 pairs.
const PAIRS: u32 = 8;
/// Bits of either hash in which near duplicates differ at most.
const BITS: u32 = 3;
/// Of this many parts of a hash, at least one is equal when [`BITS`] differ.
const PARTS: u32 = BITS + 1;

/// What a picture looks like, in 128 bits that hardly change when it is resized, compressed again,
/// or made a little brighter.
///
/// Difference hashes (Krawetz, 2013): whether each pixel of the picture, shrunk to grey 9 × 8, is
/// darker than the one to its right; and of 8 × 9, than the one below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Look([u64; 2]);

impl Look {
    /// Of a picture.
    pub fn of(picture: &RgbImage) -> Self {
        let grey = grayscale(picture);
        let shrunk = |width, height| resize(&grey, width, height, FilterType::Triangle);
        let (wide, tall) = (shrunk(PAIRS + 1, PAIRS), shrunk(PAIRS, PAIRS + 1));
        let right = hash(|x, y| wide.get_pixel(x, y)[0] < wide.get_pixel(x + 1, y)[0]);
        let below = hash(|x, y| tall.get_pixel(x, y)[0] < tall.get_pixel(x, y + 1)[0]);
        Self([right, below])
    }

    /// Do two pictures show the same, as far as this can tell: at most three bits of either hash
    /// differ?
    pub fn is_near(self, other: Self) -> bool {
        self.0.iter().zip(other.0).all(|(a, b)| (a ^ b).count_ones() <= BITS)
    }

    /// Has the picture anything to compare? One of a single colour looks like any other such one.
    pub fn is_telling(self) -> bool {
        self.0.iter().all(|hash| hash.count_ones() > BITS)
    }
}

/// The looks of a corpus' pictures, in order, or why one can't be decoded; on all cores. `observer` is
/// told how many of how many are done.
pub fn looks(corpus: &Corpus, observer: impl FnMut(usize, usize)) -> Vec<Result<Look>> {
    decode_each(corpus, |picture| Look::of(&picture), observer)
}

fn hash(bit: impl Fn(u32, u32) -> bool) -> u64 {
    let bits = (0..PAIRS * PAIRS).map(|i| u64::from(bit(i % PAIRS, i / PAIRS)) << i);
    bits.sum()
}

/// All pairs of [near](Look::is_near) looks, each with the smaller position first, in order.
///
/// Only looks that share a part are compared, so that a million take seconds.
///
/// ```
/// use image::{Rgb, RgbImage, imageops};
/// use xr_data::{Look, near_duplicates};
///
/// let picture = RgbImage::from_fn(90, 60, |x, y| Rgb([(x * y % 251) as u8; 3]));
/// let smaller = imageops::thumbnail(&picture, 45, 30);
/// let mirrored = imageops::flip_horizontal(&picture);
/// let looks = [&picture, &mirrored, &smaller].map(Look::of);
/// assert_eq!(near_duplicates(&looks), [[0, 2]]);
/// ```
pub fn near_duplicates(looks: &[Look]) -> Vec<[u32; 2]> {
    let mut pairs: Vec<_> = (0..PARTS).flat_map(|part| sharing(looks, part)).collect();
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

/// Near ones among those that have one part of their first hash in common.
fn sharing(looks: &[Look], part: u32) -> Vec<[u32; 2]> {
    const WIDTH: u32 = u64::BITS / PARTS;
    let mut places: HashMap<u64, Vec<u32>> = HashMap::new();
    for (i, look) in (0..).zip(looks).filter(|(_, look)| look.is_telling()) {
        places.entry(look.0[0] >> (part * WIDTH) & ((1 << WIDTH) - 1)).or_default().push(i);
    }
    let near = |a: u32, b: u32| looks[a as usize].is_near(looks[b as usize]);
    let pairs = places.values().flat_map(|places| {
        let pairs = places.iter().enumerate();
        pairs.flat_map(move |(i, &a)| places[i + 1..].iter().map(move |&b| [a, b]))
    });
    pairs.filter(|&[a, b]| near(a, b)).collect()
}

#[cfg(test)]
mod tests {
    use image::{Rgb, imageops};
    use proptest::prelude::*;

    use super::*;
    use crate::dataset::synthetic::{SyntheticConfig, generate};

    #[test]
    fn a_picture_and_its_copies() {
        let corpus = generate(&SyntheticConfig { pictures: 1, ..Default::default() });
        let picture = corpus.pictures[0].load().unwrap();
        let look = Look::of(&picture);
        let (width, height) = picture.dimensions();
        let larger = resize(&picture, width * 2, height * 2, FilterType::CatmullRom);
        assert!(look.is_telling() && look.is_near(Look::of(&larger)));
        assert!(look.is_near(Look::of(&imageops::brighten(&picture, 4))));
        assert!(!look.is_near(Look::of(&imageops::rotate180(&picture))));
    }

    #[test]
    fn pictures_of_one_colour_are_no_duplicates() {
        let plain = |level| Look::of(&RgbImage::from_pixel(40, 30, Rgb([level; 3])));
        assert!(!plain(0).is_telling());
        assert_eq!(near_duplicates(&[plain(0), plain(0), plain(200)]), Vec::<[u32; 2]>::new());
    }

    proptest! {
        #[test]
        fn as_many_as_when_all_are_compared(seeds in prop::collection::vec(0u64..40, 0..60)) {
            // Few different looks, some of them a few bits apart.
            let look = |&seed: &u64| {
                let far = (seed / 4).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 0xFFFF;
                Look([far ^ (seed % 4), far.rotate_left(9) ^ (seed % 4)])
            };
            let looks: Vec<_> = seeds.iter().map(look).collect();
            let mut all = vec![];
            for (i, a) in (0..).zip(&looks) {
                for (j, b) in (0..i).zip(&looks) {
                    if a.is_near(*b) && a.is_telling() && b.is_telling() {
                        all.push([j, i]);
                    }
                }
            }
            all.sort_unstable();
            prop_assert_eq!(near_duplicates(&looks), all);
        }
    }
}
