use image::{Rgb, RgbImage};
use rand::Rng;
use serde::{Deserialize, Serialize};

/// As if seen from the side: the corners of the picture move inwards, each by itself; the rest is
/// black.
///
/// Mixed of four pixels (bilinear), as by default in
/// [`RandomPerspective`](https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.RandomPerspective.html),
/// and equal to Pillow's `transform`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Perspective {
    /// How far a corner moves at most, as a share of half the width and half the height.
    pub distortion: f64,
    /// How often anything is done.
    pub probability: f64,
}

/// Top left, top right, bottom right, bottom left, each x and y.
type Corners = [[u32; 2]; 4];

impl Perspective {
    pub(super) fn apply(&self, picture: RgbImage, rng: &mut impl Rng) -> RgbImage {
        match rng.random_bool(self.probability) {
            true => seen_from_aside(&picture, &self.draw(picture.dimensions(), rng)),
            false => picture,
        }
    }

    /// Where the corners go: by a uniform whole number of pixels in each direction.
    fn draw(&self, (width, height): (u32, u32), rng: &mut impl Rng) -> Corners {
        let mut inwards =
            |length: u32| rng.random_range(0..=(self.distortion * f64::from(length / 2)) as u32);
        let mut corner = |right: bool, below: bool| {
            let (x, y) = (inwards(width), inwards(height));
            [if right { width - 1 - x } else { x }, if below { height - 1 - y } else { y }]
        };
        [corner(false, false), corner(true, false), corner(true, true), corner(false, true)]
    }
}

fn seen_from_aside(picture: &RgbImage, corners: &Corners) -> RgbImage {
    let (width, height) = picture.dimensions();
    let [a, b, c, d, e, f, g, h] = coefficients(corners, (width, height));
    RgbImage::from_fn(width, height, |column, row| {
        let (x, y) = (f64::from(column) + 0.5, f64::from(row) + 0.5);
        let scale = g * x + h * y + 1.0;
        bilinear(picture, (a * x + b * y + c) / scale, (d * x + e * y + f) / scale)
    })
}

/// The *a* … *h* that send target (x, y) to source ((ax + by + c) / (gx + hy + 1),
/// (dx + ey + f) / (gx + hy + 1)) and each of `corners` to the picture's corner: eight linear
/// equations, solved in double precision and rounded to single, as torchvision does by least squares.
fn coefficients(corners: &Corners, (width, height): (u32, u32)) -> [f64; 8] {
    let (right, bottom) = (f64::from(width - 1), f64::from(height - 1));
    let sources = [[0.0, 0.0], [right, 0.0], [right, bottom], [0.0, bottom]];
    let mut equations = [[0.0; 9]; 8];
    let pairs = equations.as_chunks_mut::<2>().0.iter_mut();
    for (pair, (corner, [u, v])) in pairs.zip(corners.iter().zip(sources)) {
        let [x, y] = corner.map(f64::from);
        *pair = [
            [x, y, 1.0, 0.0, 0.0, 0.0, -u * x, -u * y, u],
            [0.0, 0.0, 0.0, x, y, 1.0, -v * x, -v * y, v],
        ];
    }
    solve(equations).map(|value| f64::from(value as f32))
}

/// Gauss' elimination with pivots; the last column is the right-hand side.
fn solve(mut rows: [[f64; 9]; 8]) -> [f64; 8] {
    for column in 0..8 {
        let largest =
            |&a: &usize, &b: &usize| rows[a][column].abs().total_cmp(&rows[b][column].abs());
        let pivot = (column..8).max_by(largest).expect("at least one row is left");
        rows.swap(column, pivot);
        let row = rows[column].map(|value| value / rows[column][column]);
        for other in &mut rows {
            let times = other[column];
            other.iter_mut().zip(&row).for_each(|(value, of)| *value -= times * of);
        }
        rows[column] = row;
    }
    rows.map(|row| row[8])
}

/// The picture at a place between the middles of pixels; black outside. Fractions of levels are cut
/// off.
fn bilinear(picture: &RgbImage, x: f64, y: f64) -> Rgb<u8> {
    let (width, height) = (f64::from(picture.width()), f64::from(picture.height()));
    if !((0.0..width).contains(&x) && (0.0..height).contains(&y)) {
        return Rgb([0; 3]);
    }
    let (x, y) = (x - 0.5, y - 0.5);
    let pixel = |right: f64, below: f64| {
        let column = (x.floor() + right).clamp(0.0, width - 1.0);
        let row = (y.floor() + below).clamp(0.0, height - 1.0);
        picture.get_pixel(column as u32, row as u32).0.map(f64::from)
    };
    let between = |a: f64, b: f64, share: f64| a + (b - a) * share;
    let across = |below: f64| {
        let (left, right) = (pixel(0.0, below), pixel(1.0, below));
        std::array::from_fn(|c| between(left[c], right[c], x - x.floor()))
    };
    let (above, below): ([f64; 3], [f64; 3]) = (across(0.0), across(1.0));
    Rgb(std::array::from_fn(|c| between(above[c], below[c], y - y.floor()) as u8))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::augment::fixture::{EQUAL, assert_as_pillow, assert_as_torchvision, picture};

    #[test]
    fn as_pillow_does() {
        assert_as_pillow("perspective", &EQUAL, |picture, corners| {
            seen_from_aside(&picture, &serde_json::from_value(corners.clone()).unwrap())
        });
    }

    #[test]
    fn corners_that_stay_change_nothing() {
        let picture = picture("33x21.png");
        let corners = [[0, 0], [32, 0], [32, 20], [0, 20]];
        assert_eq!(coefficients(&corners, (33, 21)), [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(seen_from_aside(&picture, &corners), picture);
    }

    /// A picture of 3 × 3 shrunk to its upper left quarter: twice the coordinates.
    #[test]
    fn coefficients_that_can_be_worked_out() {
        let corners = [[0, 0], [1, 0], [1, 1], [0, 1]];
        assert_eq!(coefficients(&corners, (3, 3)), [2.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn drawn_as_torchvision_draws() {
        let perspective = Perspective { distortion: 0.5, probability: 0.5 };
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let drawn: Vec<_> = (0..20_000).map(|_| perspective.draw((400, 300), &mut rng)).collect();
        // Ranges of 100 and 75 pixels: four standard errors of a median are two of a hundred.
        for (corner, name) in
            ["top left", "top right", "bottom right", "bottom left"].iter().enumerate()
        {
            for (axis, letter) in ["x", "y"].iter().enumerate() {
                let place = |i: usize| f64::from(drawn[i][corner][axis]);
                assert_as_torchvision(&format!("{name} {letter}"), 2.0, place);
            }
        }
    }

    #[test]
    fn as_often_as_it_is_said() {
        let picture = picture("33x21.png");
        let perspective = Perspective { distortion: 0.5, probability: 0.3 };
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let changed =
            (0..2_000).filter(|_| perspective.apply(picture.clone(), &mut rng) != picture).count();
        // Four standard deviations about 600: 4 · √(2,000 · 0.3 · 0.7) = 82.
        assert!((518..682).contains(&changed), "{changed}");
    }
}
