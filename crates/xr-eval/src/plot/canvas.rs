use image::{Rgb, RgbImage, imageops};

use super::colour;

/// A white sheet to draw on; what falls outside is cut off. Coordinates are pixels from the top
/// left, and edges are smooth.
pub(super) struct Canvas {
    pixels: RgbImage,
}

/// A rectangle by its corner and size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Area {
    pub x: f32,
    pub y: f32,
    pub width: f32,
    pub height: f32,
}

impl Area {
    pub fn right(self) -> f32 {
        self.x + self.width
    }

    pub fn bottom(self) -> f32 {
        self.y + self.height
    }

    pub fn grown(self, by: f32) -> Self {
        let (width, height) = (self.width + 2.0 * by, self.height + 2.0 * by);
        Self { x: self.x - by, y: self.y - by, width, height }
    }
}

impl Canvas {
    pub fn new(width: f32, height: f32) -> Self {
        Self { pixels: RgbImage::from_pixel(width as u32, height as u32, colour::PAPER) }
    }

    pub fn into_pixels(self) -> RgbImage {
        self.pixels
    }

    /// Lays `colour` over a pixel, covering this share of it.
    pub fn blend(&mut self, x: i32, y: i32, colour: Rgb<u8>, coverage: f32) {
        let inside = |v: i32, end| u32::try_from(v).ok().filter(|&v| v < end);
        let (width, height) = self.pixels.dimensions();
        let (Some(x), Some(y)) = (inside(x, width), inside(y, height)) else { return };
        let coverage = coverage.clamp(0.0, 1.0);
        for (old, new) in self.pixels.get_pixel_mut(x, y).0.iter_mut().zip(colour.0) {
            *old = (f32::from(*old) + (f32::from(new) - f32::from(*old)) * coverage).round() as u8;
        }
    }

    pub fn fill(&mut self, area: Area, colour: Rgb<u8>) {
        for y in area.y as i32..area.bottom() as i32 {
            for x in area.x as i32..area.right() as i32 {
                self.blend(x, y, colour, 1.0);
            }
        }
    }

    /// A frame around `area`, outside it.
    pub fn frame(&mut self, area: Area, width: f32, colour: Rgb<u8>) {
        let outer = area.grown(width);
        self.fill(Area { height: width, ..outer }, colour);
        self.fill(Area { y: area.bottom(), height: width, ..outer }, colour);
        self.fill(Area { width, ..outer }, colour);
        self.fill(Area { x: area.right(), width, ..outer }, colour);
    }

    /// A line with round ends; of no length, a dot.
    pub fn line(&mut self, from: (f32, f32), to: (f32, f32), width: f32, colour: Rgb<u8>) {
        let reach = width / 2.0 + 1.0;
        let range = |a: f32, b: f32| (a.min(b) - reach) as i32..=(a.max(b) + reach) as i32;
        for y in range(from.1, to.1) {
            for x in range(from.0, to.0) {
                let distance = distance((x as f32 + 0.5, y as f32 + 0.5), from, to);
                self.blend(x, y, colour, width / 2.0 + 0.5 - distance);
            }
        }
    }

    /// A vertical line of dashes.
    pub fn dashes(&mut self, x: f32, top: f32, bottom: f32, colour: Rgb<u8>) {
        let mut y = top;
        while y < bottom {
            self.fill(Area { x, y, width: 1.0, height: (bottom - y).min(5.0) }, colour);
            y += 9.0;
        }
    }

    pub fn picture(&mut self, picture: &RgbImage, x: f32, y: f32) {
        imageops::replace(&mut self.pixels, picture, x as i64, y as i64);
    }
}

/// Distance of a point to the segment between two.
fn distance(point: (f32, f32), from: (f32, f32), to: (f32, f32)) -> f32 {
    let along = (to.0 - from.0, to.1 - from.1);
    let off = (point.0 - from.0, point.1 - from.1);
    let length = along.0 * along.0 + along.1 * along.1;
    let share = if length > 0.0 { (off.0 * along.0 + off.1 * along.1) / length } else { 0.0 };
    let share = share.clamp(0.0, 1.0);
    (off.0 - share * along.0).hypot(off.1 - share * along.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance((2., 3.), (0., 0.), (4., 0.)), 3.); // beside
        assert_eq!(distance((7., 4.), (0., 0.), (4., 0.)), 5.); // past the end: 3, 4, 5
        assert_eq!(distance((3., 4.), (0., 0.), (0., 0.)), 5.);
    }

    #[test]
    fn drawing_past_the_edge_is_cut_off() {
        let mut canvas = Canvas::new(4.0, 3.0);
        canvas.line((-5.0, 1.5), (9.0, 1.5), 1.0, colour::INK);
        canvas.picture(&RgbImage::new(9, 9), 3.0, 2.0);
        let pixels = canvas.into_pixels();
        assert_eq!(*pixels.get_pixel(0, 1), colour::INK);
        assert_eq!(*pixels.get_pixel(0, 0), colour::PAPER);
        assert_eq!(*pixels.get_pixel(3, 2), Rgb([0, 0, 0]));
    }
}
