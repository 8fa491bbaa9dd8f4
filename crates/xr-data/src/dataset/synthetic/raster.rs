//! Filled shapes with soft edges, by signed distance.

use image::RgbImage;

/// The edge of a shape around the origin.
pub(super) enum Outline {
    Circle(f32),
    Polygon(Vec<[f32; 2]>),
}

impl Outline {
    pub fn scaled(self, by: f32) -> Self {
        match self {
            Self::Circle(radius) => Self::Circle(radius * by),
            Self::Polygon(corners) => {
                Self::Polygon(corners.into_iter().map(|[x, y]| [x * by, y * by]).collect())
            }
        }
    }

    /// Turned by `angle` radians.
    pub fn turned(self, angle: f32) -> Self {
        let (sin, cos) = angle.sin_cos();
        match self {
            Self::Circle(radius) => Self::Circle(radius),
            Self::Polygon(corners) => {
                let turn = |[x, y]: [f32; 2]| [cos * x - sin * y, sin * x + cos * y];
                Self::Polygon(corners.into_iter().map(turn).collect())
            }
        }
    }

    /// Distance from `point` to the edge, negative inside.
    fn distance(&self, point: [f32; 2]) -> f32 {
        match self {
            Self::Circle(radius) => point[0].hypot(point[1]) - radius,
            Self::Polygon(corners) => polygon_distance(corners, point),
        }
    }
}

/// The distance to the nearest edge, its sign by the even-odd rule.
fn polygon_distance(corners: &[[f32; 2]], [x, y]: [f32; 2]) -> f32 {
    let mut nearest = f32::INFINITY;
    let mut inside = false;
    for (i, &[ax, ay]) in corners.iter().enumerate() {
        let [bx, by] = corners[(i + 1) % corners.len()];
        let (ex, ey) = (bx - ax, by - ay);
        let along = (((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey)).clamp(0.0, 1.0);
        nearest = nearest.min((x - ax - along * ex).hypot(y - ay - along * ey));
        inside ^= (ay > y) != (by > y) && x < ax + (y - ay) / ey * ex;
    }
    if inside { -nearest } else { nearest }
}

/// Paints `outline` around `centre`, both in fractions of the picture's width. A pixel is covered
/// in proportion to its distance from the edge, one pixel wide.
pub(super) fn fill(picture: &mut RgbImage, outline: &Outline, centre: [f32; 2], rgb: [u8; 3]) {
    let side = picture.width() as f32;
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        let point = [(x as f32 + 0.5) / side - centre[0], (y as f32 + 0.5) / side - centre[1]];
        let coverage = (0.5 - outline.distance(point) * side).clamp(0.0, 1.0);
        for (old, new) in pixel.0.iter_mut().zip(rgb) {
            let (from, to) = (f32::from(*old), f32::from(new));
            *old = (from + (to - from) * coverage).round() as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit_square() -> Outline {
        Outline::Polygon(vec![[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    }

    #[test]
    fn distances_to_a_square_of_side_two() {
        let square = unit_square();
        assert_eq!(square.distance([0.0, 0.0]), -1.0);
        assert_eq!(square.distance([3.0, 0.5]), 2.0);
        // 3-4-5 from the corner (1, 1).
        assert_eq!(square.distance([4.0, 5.0]), 5.0);
    }

    #[test]
    fn half_covered_pixels_are_half_painted() {
        // Four pixels wide; the square reaches from 0.125 to 0.875: half of the outer pixels.
        let mut picture = RgbImage::new(4, 4);
        fill(&mut picture, &unit_square().scaled(0.375), [0.5, 0.5], [200, 100, 0]);
        assert_eq!(picture.get_pixel(1, 1).0, [200, 100, 0]);
        assert_eq!(picture.get_pixel(0, 1).0, [100, 50, 0]);
    }
}
