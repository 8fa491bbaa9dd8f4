use std::ops::RangeInclusive;

use image::{RgbImage, imageops};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::Key;

/// Parts that are tried before the middle is taken.
const TRIES: usize = 10;

/// A random part of a picture, in half of the cases mirrored left to right: torchvision's
/// [`RandomResizedCrop`](https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.RandomResizedCrop.html)
/// and `RandomHorizontalFlip`, without the resizing.
///
/// ```
/// use image::RgbImage;
/// use rand::SeedableRng;
/// use rand_chacha::ChaCha8Rng;
/// use xr_data::RandomCrop;
///
/// let crop = RandomCrop { area: [0.5, 1.0], aspect: [0.8, 1.25] };
/// let part = crop.draw(&RgbImage::new(400, 300), &mut ChaCha8Rng::seed_from_u64(0));
/// let share = f64::from(part.width() * part.height()) / f64::from(400 * 300);
/// assert!((0.49..=1.0).contains(&share));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomCrop {
    /// The least and the largest share of the picture's area.
    pub area: [f64; 2],
    /// The least and the largest width divided by height; their logarithm is uniform.
    pub aspect: [f64; 2],
}

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Part {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
}

impl RandomCrop {
    /// Draws a part of `picture`, never mirrored.
    ///
    /// # Panics
    /// If a range is empty.
    pub fn cut(&self, picture: &RgbImage, rng: &mut impl Rng) -> RgbImage {
        let Part { left, top, width, height } = self.part(picture.dimensions(), rng);
        imageops::crop_imm(picture, left, top, width, height).to_image()
    }

    /// Draws a part of `picture`.
    ///
    /// # Panics
    /// If a range is empty.
    pub fn draw(&self, picture: &RgbImage, rng: &mut impl Rng) -> RgbImage {
        let part = self.cut(picture, rng);
        match rng.random_bool(0.5) {
            true => imageops::flip_horizontal(&part),
            false => part,
        }
    }

    /// The `number`-th part of the picture filed under `key`: always the same one.
    ///
    /// # Panics
    /// If a range is empty.
    pub fn of(&self, picture: &RgbImage, key: &Key, number: u32) -> RgbImage {
        let mut rng = ChaCha8Rng::from_seed(*key);
        rng.set_stream(number.into());
        self.draw(picture, &mut rng)
    }

    /// Are the ranges such that a part can be drawn?
    pub(crate) fn is_drawable(&self) -> bool {
        let ([least, most], [narrowest, widest]) = (self.area, self.aspect);
        (0.0 < least && least <= most && most <= 1.0)
            && (0.0 < narrowest && narrowest <= widest && widest.is_finite())
    }

    fn part(&self, picture: (u32, u32), rng: &mut impl Rng) -> Part {
        (0..TRIES).find_map(|_| self.attempt(picture, rng)).unwrap_or_else(|| self.middle(picture))
    }

    /// A part that may not fit into the picture.
    fn attempt(&self, (width, height): (u32, u32), rng: &mut impl Rng) -> Option<Part> {
        let area = f64::from(width) * f64::from(height) * rng.random_range(inclusive(self.area));
        let aspect = rng.random_range(inclusive(self.aspect.map(f64::ln))).exp();
        let side = |square: f64| square.sqrt().round() as u32;
        let (w, h) = (side(area * aspect), side(area / aspect));
        let fits = (1..=width).contains(&w) && (1..=height).contains(&h);
        fits.then(|| Part {
            left: rng.random_range(0..=width - w),
            top: rng.random_range(0..=height - h),
            width: w,
            height: h,
        })
    }

    /// All of the picture, or what is left of it within the bounds of the aspect.
    fn middle(&self, (width, height): (u32, u32)) -> Part {
        let [least, largest] = self.aspect;
        let (w, h) = (f64::from(width), f64::from(height));
        let (w, h) = match w / h {
            aspect if aspect < least => (w, w / least),
            aspect if aspect > largest => (h * largest, h),
            _ => (w, h),
        };
        let (w, h) = ((w.round() as u32).clamp(1, width), (h.round() as u32).clamp(1, height));
        Part { left: (width - w) / 2, top: (height - h) / 2, width: w, height: h }
    }
}

fn inclusive([least, largest]: [f64; 2]) -> RangeInclusive<f64> {
    least..=largest
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    const CROP: RandomCrop = RandomCrop { area: [0.2, 0.8], aspect: [0.75, 4.0 / 3.0] };

    fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
        let count = values.len() as f64;
        values.sum::<f64>() / count
    }

    #[test]
    fn areas_and_logarithms_of_aspects_are_uniform() {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let parts: Vec<_> = (0..20_000).map(|_| CROP.part((1_000, 1_000), &mut rng)).collect();
        let area = |p: &Part| f64::from(p.width) * f64::from(p.height) / 1e6;
        let aspect = |p: &Part| (f64::from(p.width) / f64::from(p.height)).ln();
        let areas: Vec<_> = parts.iter().map(area).collect();
        assert!(areas.iter().all(|area| (0.199..=0.801).contains(area)));
        // Of 20,000 draws, the mean of either is within 4 standard errors of the middle: 0.6 / √12
        // and 0.575 / √12, over √20,000.
        assert!((mean(areas.into_iter()) - 0.5).abs() < 0.005);
        assert!(mean(parts.iter().map(aspect)).abs() < 0.005);
        // Places are uniform too: as much is left out on the left as on the right.
        let left = |p: &Part| 2.0 * f64::from(p.left) + f64::from(p.width) - 1_000.0;
        assert!(mean(parts.iter().map(left)).abs() < 5.0);
    }

    #[test]
    fn a_picture_too_narrow_for_any_part_gives_its_middle() {
        let whole = RandomCrop { area: [1.0, 1.0], ..CROP };
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let part = whole.part((900, 90), &mut rng);
        assert_eq!(part, Part { left: 390, top: 0, width: 120, height: 90 });
        let part = whole.part((90, 900), &mut rng);
        assert_eq!(part, Part { left: 0, top: 390, width: 90, height: 120 });
        assert_eq!(whole.part((1, 1), &mut rng), Part { left: 0, top: 0, width: 1, height: 1 });
    }

    #[test]
    fn half_of_them_are_mirrored_and_a_seed_says_which() {
        // Brightness is the column.
        let picture = RgbImage::from_fn(200, 100, |x, _| Rgb([x as u8; 3]));
        let mirrored = |seed| {
            let part = CROP.draw(&picture, &mut ChaCha8Rng::seed_from_u64(seed));
            part.get_pixel(0, 0)[0] > part.get_pixel(1, 0)[0]
        };
        let count = (0..400).filter(|&seed| mirrored(seed)).count();
        assert!((160..240).contains(&count), "{count} of 400");
        assert_eq!(mirrored(3), mirrored(3));
        let part = |key, number| CROP.of(&picture, &[key; 32], number);
        assert_eq!(part(0, 1), part(0, 1));
        assert!(part(0, 1) != part(0, 2) && part(0, 1) != part(1, 1));
    }
}
