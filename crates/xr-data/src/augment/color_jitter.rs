use image::RgbImage;
use rand::{Rng, seq::SliceRandom};
use serde::{Deserialize, Serialize};

/// Brightness, contrast, saturation and hue, each changed at random, in random order.
///
/// The first three are mixed with black, with the mean grey, and with the picture in grey: a factor of
/// 1 is the picture, 0 what it is mixed with, and beyond 1 lies away from it. A factor is uniform
/// between 1 - *x* (but not below 0) and 1 + *x*. Hue goes round the colour circle by a share of it
/// between -`hue` and `hue`. What is 0 changes nothing.
///
/// Equal to [`ColorJitter`](https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.ColorJitter.html)
/// on Pillow's pictures, level by level: mixing cuts off fractions of levels, and hue goes through
/// Pillow's HSV of 8 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ColorJitter {
    /// How much darker or brighter.
    pub brightness: f64,
    /// How much flatter or harder.
    pub contrast: f64,
    /// How much greyer or more colourful.
    pub saturation: f64,
    /// How far round the colour circle; at most 0.5, half of it.
    pub hue: f64,
}

/// One of the four, with what was drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    Brightness(f32),
    Contrast(f32),
    Saturation(f32),
    Hue(f64),
}

impl ColorJitter {
    pub(super) fn is_drawable(&self) -> bool {
        let factors = [self.brightness, self.contrast, self.saturation];
        factors.iter().all(|x| (0.0..f64::INFINITY).contains(x)) && (0.0..=0.5).contains(&self.hue)
    }

    pub(super) fn apply(&self, mut picture: RgbImage, rng: &mut impl Rng) -> RgbImage {
        for change in self.draw(rng) {
            change.apply(&mut picture);
        }
        picture
    }

    fn draw(&self, rng: &mut impl Rng) -> [Change; 4] {
        let mut factor = |x: f64| rng.random_range((1.0 - x).max(0.0)..=1.0 + x) as f32;
        let mut changes = [
            Change::Brightness(factor(self.brightness)),
            Change::Contrast(factor(self.contrast)),
            Change::Saturation(factor(self.saturation)),
            Change::Hue(rng.random_range(-self.hue..=self.hue)),
        ];
        changes.shuffle(rng);
        changes
    }
}

impl Change {
    fn apply(self, picture: &mut RgbImage) {
        match self {
            Self::Brightness(factor) => mix_with(picture, 0, factor),
            Self::Contrast(factor) => {
                let grey = mean_grey(picture);
                mix_with(picture, grey, factor);
            }
            Self::Saturation(factor) => each(picture, |pixel| {
                let grey = grey(pixel);
                pixel.map(|level| mix(grey, level, factor))
            }),
            // To HSV and back costs levels, also where the hue stays.
            Self::Hue(0.0) => {}
            Self::Hue(share) => {
                // Pillow's circle has 255 steps and its 8 bits 256; torchvision lets them overflow.
                let steps = (share * 255.0) as i32 as u8;
                each(picture, |pixel| {
                    let [hue, saturation, value] = to_hsv(pixel);
                    from_hsv([hue.wrapping_add(steps), saturation, value])
                });
            }
        }
    }
}

fn each(picture: &mut RgbImage, change: impl Fn([u8; 3]) -> [u8; 3]) {
    picture.pixels_mut().for_each(|pixel| pixel.0 = change(pixel.0));
}

/// All levels mixed with one.
fn mix_with(picture: &mut RgbImage, from: u8, factor: f32) {
    let table: [u8; 256] = std::array::from_fn(|level| mix(from, level as u8, factor));
    each(picture, |pixel| pixel.map(|level| table[usize::from(level)]));
}

/// From `from`, at a factor of 0, to `to`, at 1, and beyond: `Image.blend`, which cuts off the
/// fraction.
fn mix(from: u8, to: u8, factor: f32) -> u8 {
    let (from, to) = (f32::from(from), f32::from(to));
    (from + factor * (to - from)) as u8
}

/// `convert("L")`: ITU-R 601-2 luma in 16 bits, rounded.
fn grey([red, green, blue]: [u8; 3]) -> u8 {
    ((u32::from(red) * 19_595 + u32::from(green) * 38_470 + u32::from(blue) * 7_471 + 0x8000) >> 16)
        as u8
}

fn mean_grey(picture: &RgbImage) -> u8 {
    let sum: u64 = picture.pixels().map(|pixel| u64::from(grey(pixel.0))).sum();
    (sum as f64 / f64::from(picture.width() * picture.height()) + 0.5) as u8
}

/// Hue, saturation and value from 0 to 255, as `convert("HSV")` has them: by the formulas of Python's
/// `colorsys`, in the precision of Pillow's C, with the fraction cut off.
fn to_hsv([red, green, blue]: [u8; 3]) -> [u8; 3] {
    let (most, least) = (red.max(green).max(blue), red.min(green).min(blue));
    if most == least {
        return [0, 0, most];
    }
    let range = f32::from(most - least);
    let [r, g, b] = [red, green, blue].map(|level| f32::from(most - level) / range);
    let behind =
        |sixth: f64, more: f32, less: f32| (sixth + f64::from(more) - f64::from(less)) as f32;
    let sixths = match most {
        _ if red == most => b - g,
        _ if green == most => behind(2.0, r, b),
        _ => behind(4.0, g, r),
    };
    let hue = (f64::from(sixths) / 6.0 + 1.0).fract() as f32;
    let level = |share: f32| (f64::from(share) * 255.0) as u8;
    [level(hue), level(range / f32::from(most)), most]
}

/// Back again: `convert("RGB")`, rounded.
fn from_hsv([hue, saturation, value]: [u8; 3]) -> [u8; 3] {
    if saturation == 0 {
        return [value; 3];
    }
    let sixths = f64::from(hue) * 6.0 / 255.0;
    let part = (sixths - sixths.floor()) as f32;
    let saturation = (f64::from(saturation) / 255.0) as f32;
    let level = |less: f64| (f64::from(value) * (1.0 - less)).round() as u8;
    let low = level(saturation.into());
    let falling = level((saturation * part).into());
    let rising = level(f64::from(saturation) * (1.0 - f64::from(part)));
    match sixths as u8 % 6 {
        0 => [value, rising, low],
        1 => [falling, value, low],
        2 => [low, value, rising],
        3 => [low, falling, value],
        4 => [rising, low, value],
        _ => [value, low, falling],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use serde_json::Value;

    use super::*;
    use crate::augment::fixture::{EQUAL, assert_as_pillow, assert_as_torchvision};

    const JITTER: ColorJitter =
        ColorJitter { brightness: 0.4, contrast: 0.5, saturation: 1.5, hue: 0.1 };

    /// `["brightness", 0.5]`.
    fn change(step: &Value) -> Change {
        let number = step[1].as_f64().unwrap();
        match step[0].as_str().unwrap() {
            "brightness" => Change::Brightness(number as f32),
            "contrast" => Change::Contrast(number as f32),
            "saturation" => Change::Saturation(number as f32),
            "hue" => Change::Hue(number),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn as_pillow_does() {
        assert_as_pillow("color_jitter", &EQUAL, |mut picture, steps| {
            steps.as_array().unwrap().iter().for_each(|step| change(step).apply(&mut picture));
            picture
        });
    }

    #[test]
    fn what_is_zero_changes_nothing() {
        let picture = RgbImage::from_fn(7, 5, |x, y| image::Rgb([3 * x as u8, 50 * y as u8, 90]));
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        assert_eq!(ColorJitter::default().apply(picture.clone(), &mut rng), picture);
    }

    #[test]
    fn drawn_as_torchvision_draws() {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let drawn: Vec<_> = (0..20_000).map(|_| JITTER.draw(&mut rng)).collect();
        let number = |name: &str, i: usize| {
            let found = drawn[i].iter().find_map(|change| match (name, *change) {
                ("brightness", Change::Brightness(x))
                | ("contrast", Change::Contrast(x))
                | ("saturation", Change::Saturation(x)) => Some(x.into()),
                ("hue", Change::Hue(x)) => Some(x),
                _ => None,
            });
            found.unwrap()
        };
        // Four standard errors of a median: 2 of the range, over the root of 20,000.
        for (name, range) in
            [("brightness", 0.8), ("contrast", 1.0), ("saturation", 2.5), ("hue", 0.2)]
        {
            assert_as_torchvision(name, 0.02 * range, |i| number(name, i));
        }
    }

    #[test]
    fn all_orders_are_equally_frequent() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut orders = HashMap::new();
        for _ in 0..24_000 {
            let order = JITTER.draw(&mut rng).map(|change| std::mem::discriminant(&change));
            *orders.entry(order).or_insert(0) += 1;
        }
        assert_eq!(orders.len(), 24);
        // Five standard deviations of a count of 1,000: 5 · √1,000.
        assert!(orders.values().all(|count| (842..1_158).contains(count)), "{orders:?}");
    }
}
