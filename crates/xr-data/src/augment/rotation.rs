use image::{Rgb, RgbImage};
use rand::Rng;
use serde::{Deserialize, Serialize};

/// Turned about its middle by a uniform angle; what comes in from outside is black.
///
/// Each pixel is the nearest one of the source, as by default in
/// [`RandomRotation`](https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.RandomRotation.html),
/// and equal to Pillow's `rotate`, which counts in 16 binary places.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// Angles lie between minus this and this; positive ones turn against the clock.
    pub degrees: f64,
}

impl Rotation {
    pub(super) fn apply(&self, picture: RgbImage, rng: &mut impl Rng) -> RgbImage {
        rotate(&picture, self.draw(rng))
    }

    fn draw(&self, rng: &mut impl Rng) -> f64 {
        rng.random_range(-self.degrees..=self.degrees)
    }
}

/// Where the middles of target pixels lie in the source, along one axis: at
/// `start + column · column + row · row`, in units of 2⁻¹⁶ pixels.
struct Line {
    column: i64,
    row: i64,
    start: i64,
}

impl Line {
    fn new(column: f64, row: f64, start: f64) -> Self {
        let fixed = |x: f64| (x * 65_536.0 + 0.5).floor() as i64;
        let middle = start + (column + row) / 2.0;
        Self { column: fixed(column), row: fixed(row), start: fixed(middle) }
    }

    /// The pixel of the source, or one outside.
    fn at(&self, column: u32, row: u32) -> u32 {
        let place = self.start + self.column * i64::from(column) + self.row * i64::from(row);
        u32::try_from(place >> 16).unwrap_or(u32::MAX)
    }
}

fn rotate(picture: &RgbImage, degrees: f64) -> RgbImage {
    let (width, height) = picture.dimensions();
    let (sin, cos) = degrees.to_radians().sin_cos();
    let (x, y) = (f64::from(width) / 2.0, f64::from(height) / 2.0);
    let across = Line::new(cos, -sin, x - cos * x + sin * y);
    let down = Line::new(sin, cos, y - sin * x - cos * y);
    RgbImage::from_fn(width, height, |column, row| {
        let source = picture.get_pixel_checked(across.at(column, row), down.at(column, row));
        source.copied().unwrap_or(Rgb([0; 3]))
    })
}

#[cfg(test)]
mod tests {
    use image::imageops;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::augment::fixture::{EQUAL, assert_as_pillow, assert_as_torchvision, picture};

    #[test]
    fn as_pillow_does() {
        assert_as_pillow("rotation", &EQUAL, |picture, degrees| {
            rotate(&picture, degrees.as_f64().unwrap())
        });
    }

    #[test]
    fn quarter_turns_of_a_square() {
        let square = imageops::crop_imm(&picture("33x21.png"), 3, 0, 21, 21).to_image();
        assert_eq!(rotate(&square, 0.0), square);
        assert_eq!(rotate(&square, 90.0), imageops::rotate270(&square));
        assert_eq!(rotate(&square, 180.0), imageops::rotate180(&square));
    }

    #[test]
    fn drawn_as_torchvision_draws() {
        let (rotation, mut rng) = (Rotation { degrees: 15.0 }, ChaCha8Rng::seed_from_u64(0));
        // Two of a hundred of the range: four standard errors of a median.
        assert_as_torchvision("degrees", 0.6, |_| rotation.draw(&mut rng));
    }
}
