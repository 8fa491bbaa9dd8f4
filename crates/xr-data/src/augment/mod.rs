//! Random changes to pictures while training, as torchvision draws and Pillow makes them.

mod color_jitter;
mod contact_sheet;
mod perspective;
mod rotation;

use image::{RgbImage, imageops};
use rand::Rng;
use serde::{Deserialize, Serialize};

pub use color_jitter::ColorJitter;
pub use contact_sheet::contact_sheet;
pub use perspective::Perspective;
pub use rotation::Rotation;

use crate::{Error, Picture, Preprocess, RandomCrop, Resize, Result};

/// One random change to a picture. A list of them is applied in order.
///
/// What is drawn has the distribution of [torchvision's transform](https://docs.pytorch.org/vision/stable/transforms.html)
/// of that name, and the pixels are those of Pillow 12 for the same draw. Numbers mean what the single
/// numbers of torchvision's constructors mean.
///
/// ```
/// use image::RgbImage;
/// use rand::SeedableRng;
/// use rand_chacha::ChaCha8Rng;
/// use xr_data::{Augment, Preprocess};
///
/// let list: Vec<Augment> = serde_json::from_str(
///     r#"[{"resized_crop": {"area": [0.5, 1.0], "aspect": [0.75, 1.333]}},
///         {"horizontal_flip": {"probability": 0.5}},
///         {"color_jitter": {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.02}},
///         {"rotation": {"degrees": 10}},
///         {"perspective": {"distortion": 0.2, "probability": 0.5}}]"#,
/// )?;
/// let mut rng = ChaCha8Rng::seed_from_u64(0);
/// let changed = Preprocess::unit(64).augmented(&RgbImage::new(400, 300), &list, &mut rng);
/// assert_eq!(changed.dimensions(), (64, 64));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Augment {
    /// A random part, squashed to the square that the encoder eats, with the filter of its
    /// [`Preprocess`]: `RandomResizedCrop`.
    ResizedCrop(RandomCrop),
    /// Mirrored left to right: `RandomHorizontalFlip`.
    HorizontalFlip {
        /// How often.
        probability: f64,
    },
    /// Brighter or darker, and so on: `ColorJitter`.
    ColorJitter(ColorJitter),
    /// Turned about its middle: `RandomRotation`.
    Rotation(Rotation),
    /// As if seen from the side: `RandomPerspective`.
    Perspective(Perspective),
}

impl Augment {
    /// Are the numbers such that something can be drawn?
    ///
    /// # Errors
    /// [`Error::Augment`], saying what they have to be.
    pub fn check(&self) -> Result<()> {
        let share = |value: &f64| (0.0..=1.0).contains(value);
        let (holds, expected) = match self {
            Self::ResizedCrop(crop) => (
                crop.is_drawable(),
                "areas between 0 and 1 and aspects above 0, each the least one first",
            ),
            Self::HorizontalFlip { probability } => {
                (share(probability), "a probability between 0 and 1")
            }
            Self::ColorJitter(jitter) => (
                jitter.is_drawable(),
                "brightness, contrast and saturation of 0 or more and a hue between 0 and 0.5",
            ),
            Self::Rotation(rotation) => {
                ((0.0..=180.0).contains(&rotation.degrees), "degrees between 0 and 180")
            }
            Self::Perspective(Perspective { distortion, probability }) => (
                share(distortion) && share(probability),
                "a distortion and a probability between 0 and 1",
            ),
        };
        let found = || serde_json::to_string(self).unwrap_or_else(|e| e.to_string());
        if holds { Ok(()) } else { Err(Error::Augment { expected, found: found() }) }
    }

    /// The picture changed at random; `square` is what a resized crop is squashed with.
    fn apply(&self, picture: RgbImage, square: &Preprocess, rng: &mut impl Rng) -> RgbImage {
        match self {
            Self::ResizedCrop(crop) => square.pixels(&crop.cut(&picture, rng)),
            Self::HorizontalFlip { probability } => match rng.random_bool(*probability) {
                true => imageops::flip_horizontal(&picture),
                false => picture,
            },
            Self::ColorJitter(jitter) => jitter.apply(picture, rng),
            Self::Rotation(rotation) => rotation.apply(picture, rng),
            Self::Perspective(perspective) => perspective.apply(picture, rng),
        }
    }
}

impl Preprocess {
    /// The picture after all changes of `augment`, in order, [`side`](Self::side) ×
    /// [`side`](Self::side).
    ///
    /// A [resized crop](Augment::ResizedCrop) makes the square, and what follows it changes that.
    /// Without one, the changes are made to the whole picture, which is then resized and cropped as
    /// [`pixels`](Self::pixels) does; with no change at all, the result is that of `pixels`.
    ///
    /// # Panics
    /// If the picture has no pixels, or [`Augment::check`] fails.
    pub fn augmented(
        &self,
        picture: &RgbImage,
        augment: &[Augment],
        rng: &mut impl Rng,
    ) -> RgbImage {
        if augment.is_empty() {
            return self.pixels(picture);
        }
        let square = Self { resize: Resize::Squash { size: self.side() }, ..self.clone() };
        let change = |picture, one: &Augment| one.apply(picture, &square, rng);
        let changed = augment.iter().fold(picture.clone(), change);
        let is_square = augment.iter().any(|one| matches!(one, Augment::ResizedCrop(_)));
        if is_square { changed } else { self.pixels(&changed) }
    }
}

/// Loads a picture for training: changed by `augment`, mirrored left to right with `flip`, and as
/// numbers, `[3, side, side]`.
///
/// # Errors
/// Those of [`Picture::load`].
///
/// # Panics
/// If [`Augment::check`] fails.
pub fn load_augmented(
    picture: &Picture,
    preprocess: &Preprocess,
    flip: bool,
    augment: &[Augment],
    rng: &mut impl Rng,
) -> Result<Vec<f32>> {
    let mut pixels = preprocess.augmented(&picture.load()?, augment, rng);
    if flip {
        imageops::flip_horizontal_in_place(&mut pixels);
    }
    Ok(preprocess.normalized(&pixels))
}

/// `reference/fixtures_augment.py` makes the fixtures.
#[cfg(test)]
mod fixture {
    use std::{fs, path::PathBuf};

    use image::RgbImage;
    use serde_json::Value;

    /// Values that may differ from Pillow's, of a hundred, and by how many levels.
    pub struct Tolerance {
        pub percent: f64,
        pub levels: u8,
    }

    pub const EQUAL: Tolerance = Tolerance { percent: 0.0, levels: 0 };

    fn path(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/augment").join(name)
    }

    pub fn picture(name: &str) -> RgbImage {
        image::open(path(name)).unwrap().into_rgb8()
    }

    /// What `cases.json` holds under `name`.
    pub fn of(name: &str) -> Value {
        let text = fs::read_to_string(path("cases.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()[name].take()
    }

    /// Holds `change` to what Pillow makes of the same numbers.
    pub fn assert_as_pillow(
        name: &str,
        tolerance: &Tolerance,
        change: impl Fn(RgbImage, &Value) -> RgbImage,
    ) {
        let cases = of(name);
        let cases = cases.as_array().unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let text = |field: &str| case[field].as_str().unwrap();
            let found = change(picture(text("source")), &case["numbers"]);
            let expected = picture(text("expected"));
            assert_eq!(found.dimensions(), expected.dimensions());
            let by = found.iter().zip(expected.iter()).map(|(a, b)| a.abs_diff(*b));
            let (most, differ) = (by.clone().max().unwrap(), by.clone().filter(|d| *d > 0).count());
            let percent = 100.0 * differ as f64 / by.len() as f64;
            println!("{name} {}: {percent:.2} % by {most} at most", case["numbers"]);
            let holds = percent <= tolerance.percent && most <= tolerance.levels;
            assert!(holds, "{case}: {percent} % differ, by {most} at most");
        }
    }

    /// Holds 20,000 draws to the deciles of as many of torchvision's, from least to largest, within
    /// `tolerance`.
    pub fn assert_as_torchvision(name: &str, tolerance: f64, draw: impl FnMut(usize) -> f64) {
        let mut drawn: Vec<f64> = (0..20_000).map(draw).collect();
        drawn.sort_unstable_by(f64::total_cmp);
        let deciles: Vec<f64> = serde_json::from_value(of("drawn")[name].clone()).unwrap();
        assert_eq!(deciles.len(), 11);
        for (i, expected) in deciles.iter().enumerate() {
            let found = drawn[(i * drawn.len() / 10).min(drawn.len() - 1)];
            assert!((found - expected).abs() <= tolerance, "{name}, {i}: {found}, not {expected}");
        }
    }
}

#[cfg(test)]
mod tests {
    use image::Rgb;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const CROP: RandomCrop = RandomCrop { area: [0.3, 0.9], aspect: [0.75, 4.0 / 3.0] };

    fn each() -> [Augment; 5] {
        [
            Augment::ResizedCrop(CROP),
            Augment::HorizontalFlip { probability: 0.5 },
            Augment::ColorJitter(ColorJitter {
                brightness: 0.4,
                contrast: 0.4,
                saturation: 0.4,
                hue: 0.1,
            }),
            Augment::Rotation(Rotation { degrees: 20.0 }),
            Augment::Perspective(Perspective { distortion: 0.4, probability: 1.0 }),
        ]
    }

    fn picture() -> RgbImage {
        RgbImage::from_fn(90, 60, |x, y| Rgb([(2 * x) as u8, (4 * y) as u8, (x * y % 256) as u8]))
    }

    fn changed(list: &[Augment], seed: u64) -> RgbImage {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Preprocess::imagenet(28).augmented(&picture(), list, &mut rng)
    }

    #[test]
    fn no_change_is_the_preprocessing() {
        assert_eq!(changed(&[], 0), Preprocess::imagenet(28).pixels(&picture()));
    }

    #[test]
    fn a_seed_says_what_is_drawn() {
        for list in each().map(|one| vec![one]).into_iter().chain([each().into()]) {
            assert_eq!(changed(&list, 1).dimensions(), (28, 28));
            assert_eq!(changed(&list, 1), changed(&list, 1), "{list:?}");
            assert!((2..12).any(|seed| changed(&list, seed) != changed(&list, 1)), "{list:?}");
        }
    }

    #[test]
    fn the_order_counts() {
        let mut backwards = each();
        backwards.reverse();
        assert_ne!(changed(&each(), 3), changed(&backwards, 3));
    }

    /// After a resized crop there is no second resizing: the part is whole, up to its edges.
    #[test]
    fn a_resized_crop_is_squashed_and_not_cropped_again() {
        let whole = RandomCrop { area: [1.0, 1.0], aspect: [1.5, 1.5] };
        let squashed =
            Preprocess { resize: Resize::Squash { size: 28 }, ..Preprocess::imagenet(28) };
        assert_eq!(changed(&[Augment::ResizedCrop(whole)], 0), squashed.pixels(&picture()));
    }

    #[test]
    fn flips() {
        let flipped = |probability| changed(&[Augment::HorizontalFlip { probability }], 0);
        assert_eq!(flipped(1.0), imageops::flip_horizontal(&flipped(0.0)));
    }

    #[test]
    fn one_of_more_parts_as_torchvision_squashes_it() {
        // The filter's weights have fewer bits here: see `Preprocess`.
        let tolerance = fixture::Tolerance { percent: 3.0, levels: 2 };
        fixture::assert_as_pillow("resized_crop", &tolerance, |picture, numbers| {
            let [top, left, height, width, side]: [u32; 5] =
                serde_json::from_value(numbers.clone()).unwrap();
            let part = imageops::crop_imm(&picture, left, top, width, height).to_image();
            Preprocess { resize: Resize::Squash { size: side }, ..Preprocess::unit(side) }
                .pixels(&part)
        });
    }

    #[test]
    fn crops_are_drawn_as_torchvision_draws_them() {
        let crop = RandomCrop { area: [0.08, 1.0], aspect: [0.75, 4.0 / 3.0] };
        // Brightness is the place, so that what was cut can be seen.
        let picture = RgbImage::from_fn(120, 90, |x, y| Rgb([x as u8, y as u8, 0]));
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let parts: Vec<_> = (0..20_000).map(|_| crop.cut(&picture, &mut rng)).collect();
        let (mut area, mut aspect, mut left) = (vec![], vec![], vec![]);
        for part in &parts {
            let (width, height) = (f64::from(part.width()), f64::from(part.height()));
            area.push(width * height / (120.0 * 90.0));
            aspect.push((width / height).ln());
            left.push(f64::from(part.get_pixel(0, 0)[0]));
        }
        // Four standard errors of a median are 0.015 and 0.012. Sides are whole pixels, and so are places,
        // which makes the smallest and largest aspects uneven.
        fixture::assert_as_torchvision("area", 0.015, |i| area[i]);
        fixture::assert_as_torchvision("aspect", 0.05, |i| aspect[i]);
        fixture::assert_as_torchvision("left", 2.0, |i| left[i]);
    }

    #[test]
    fn numbers_that_nothing_can_be_drawn_from() {
        for (json, expected) in [
            (
                r#"{"resized_crop":{"area":[0.9,0.3],"aspect":[1.0,1.0]}}"#,
                "areas between 0 and 1 and aspects above 0, each the least one first",
            ),
            (r#"{"horizontal_flip":{"probability":1.5}}"#, "a probability between 0 and 1"),
            (
                r#"{"color_jitter":{"brightness":0.0,"contrast":0.0,"saturation":0.0,"hue":0.6}}"#,
                "brightness, contrast and saturation of 0 or more and a hue between 0 and 0.5",
            ),
            (r#"{"rotation":{"degrees":-5.0}}"#, "degrees between 0 and 180"),
            (
                r#"{"perspective":{"distortion":2.0,"probability":0.5}}"#,
                "a distortion and a probability between 0 and 1",
            ),
        ] {
            let augment: Augment = serde_json::from_str(json).unwrap();
            assert_eq!(
                augment.check().unwrap_err().to_string(),
                format!("augment: expected {expected}, found {json}")
            );
        }
        assert!(each().iter().all(|augment| augment.check().is_ok()));
    }

    #[test]
    fn a_name_that_is_not_there() {
        let error = serde_json::from_str::<Augment>(r#"{"blur": {}}"#).unwrap_err().to_string();
        assert!(error.contains("`resized_crop`, `horizontal_flip`, `color_jitter`"), "{error}");
    }
}
