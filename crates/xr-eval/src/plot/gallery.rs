//! What queries found: a row for each, its caption, its best pictures, the right one marked.

use image::{RgbImage, imageops};

use super::{
    canvas::{Area, Canvas},
    colour,
    text::{Align, Type},
};

/// A query and what it found.
#[derive(Clone, Debug)]
pub struct Row {
    /// The words looked for.
    pub caption: String,
    /// The pictures found, best first; as many as are to be shown.
    pub found: Vec<Found>,
    /// Rank, from 1, of the right picture in the whole gallery; `None` if there is no right one.
    pub right_at: Option<u32>,
}

/// A picture that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Of any size and shape; it is drawn as large as fits, never cropped.
    pub picture: RgbImage,
    /// Its similarity to the query.
    pub score: f32,
    /// Is it the one the caption describes?
    pub right: bool,
}

const MARGIN: f32 = 36.0;
const CELL: Area = Area { x: 0.0, y: 0.0, width: 216.0, height: 162.0 };
const GAP: f32 = 20.0;
const FRAME: f32 = 4.0;
const ROW_GAP: f32 = 64.0;
const CAPTION: Type = Type::bold(21.0);
const CAPTION_LINES: usize = 3;
const NOTE: Type = Type::regular(16.0);
const RANK: Type = Type::bold(16.0);
/// Between caption and pictures, and between pictures and what stands under them.
const NEAR: f32 = 14.0;

/// Draws the rows one under the other, with as many columns as the longest has pictures.
pub fn draw(rows: &[Row]) -> RgbImage {
    let columns = rows.iter().map(|row| row.found.len()).max().unwrap_or(0).max(3) as f32;
    let inner = columns * (CELL.width + GAP) - GAP;
    let captions = rows.iter().map(|row| CAPTION.wrap(&row.caption, inner, CAPTION_LINES));
    let captions: Vec<_> = captions.collect();
    let heights: f32 = captions.iter().map(|caption| row_height(caption) + ROW_GAP).sum();
    let mut canvas =
        Canvas::new(inner + 2.0 * MARGIN, heights - ROW_GAP.min(heights) + 2.0 * MARGIN);
    let mut top = MARGIN;
    for (i, (row, caption)) in rows.iter().zip(&captions).enumerate() {
        if i > 0 {
            let rule = Area { x: MARGIN, y: top - ROW_GAP / 2.0, width: inner, height: 1.0 };
            canvas.fill(rule, colour::GRID);
        }
        draw_row(&mut canvas, row, caption, top, MARGIN + inner);
        top += row_height(caption) + ROW_GAP;
    }
    canvas.into_pixels()
}

fn row_height(caption: &[String]) -> f32 {
    caption.len() as f32 * CAPTION.line_height()
        + NOTE.line_height()
        + NEAR
        + CELL.height
        + NEAR
        + RANK.line_height()
}

fn draw_row(canvas: &mut Canvas, row: &Row, caption: &[String], top: f32, right: f32) {
    let mut y = top;
    for line in caption {
        let middle = y + CAPTION.line_height() / 2.0;
        CAPTION.draw(canvas, (MARGIN, middle), Align::Left, line, colour::INK);
        y += CAPTION.line_height();
    }
    let (note, colour) = note(row);
    NOTE.draw(canvas, (MARGIN, y + NOTE.line_height() / 2.0), Align::Left, &note, colour);
    y += NOTE.line_height() + NEAR;
    for (i, found) in row.found.iter().enumerate() {
        let x = MARGIN + i as f32 * (CELL.width + GAP);
        debug_assert!(x < right);
        draw_found(canvas, found, i + 1, Area { x, y, ..CELL });
    }
}

fn note(row: &Row) -> (String, image::Rgb<u8>) {
    match row.right_at {
        None => ("no picture is known to be right".into(), colour::QUIET),
        Some(rank) if rank as usize <= row.found.len() => {
            (format!("the right picture is number {rank}"), colour::RIGHT)
        }
        Some(rank) => {
            (format!("the right picture is not shown: it is number {rank}"), colour::MISSED)
        }
    }
}

/// The picture centred at the bottom of its cell; rank and score under it.
fn draw_found(canvas: &mut Canvas, found: &Found, rank: usize, cell: Area) {
    let picture = fitted(&found.picture);
    let (width, height) = (picture.width() as f32, picture.height() as f32);
    let x = (cell.x + (cell.width - width) / 2.0).floor();
    let area = Area { x, y: cell.bottom() - height, width, height };
    canvas.picture(&picture, area.x, area.y);
    if found.right {
        canvas.frame(area, FRAME, colour::RIGHT);
    }
    let y = cell.bottom() + NEAR + RANK.line_height() / 2.0;
    let (mark, colour) = if found.right { (" ✓", colour::RIGHT) } else { ("", colour::INK) };
    let (rank, score) = (format!("{rank}{mark}"), format!("   {:.3}", found.score));
    let whole = RANK.width(&rank) + NOTE.width(&score);
    let x = cell.x + (cell.width - whole) / 2.0;
    RANK.draw(canvas, (x, y), Align::Left, &rank, colour);
    NOTE.draw(canvas, (x + RANK.width(&rank), y), Align::Left, &score, colour::QUIET);
}

/// As large as fits the cell, in its own proportions, and not without pixels.
fn fitted(picture: &RgbImage) -> RgbImage {
    let (width, height) = (picture.width().max(1) as f32, picture.height().max(1) as f32);
    let scale = (CELL.width / width).min(CELL.height / height);
    let side = |length: f32| ((length * scale).round() as u32).max(1);
    imageops::resize(picture, side(width), side(height), imageops::FilterType::CatmullRom)
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    fn row(pictures: usize, right: Option<usize>) -> Row {
        let found = |i| Found {
            picture: RgbImage::from_pixel(40, 30, Rgb([9, 9, 200])),
            score: 0.5,
            right: Some(i) == right,
        };
        let right_at = right.map(|i| i as u32 + 1);
        Row { caption: "a dog".into(), found: (0..pictures).map(found).collect(), right_at }
    }

    fn count(picture: &RgbImage, colour: Rgb<u8>) -> usize {
        picture.pixels().filter(|&&pixel| pixel == colour).count()
    }

    #[test]
    fn the_right_one_is_framed() {
        // 40 × 30 fills the cell, 216 × 162, so its frame has 2 · 4 · (216 + 162 + 2 · 4) pixels,
        // and letters and tick of the same colour come on top.
        let frame = 2 * 4 * (216 + 162 + 8);
        let right = count(&draw(&[row(5, Some(2))]), colour::RIGHT);
        assert!((frame..frame + 2_000).contains(&right), "{right}");
        assert_eq!(count(&draw(&[row(5, None)]), colour::RIGHT), 0);
    }

    #[test]
    fn pictures_keep_their_proportions() {
        assert_eq!(fitted(&RgbImage::new(100, 300)).dimensions(), (54, 162));
        assert_eq!(fitted(&RgbImage::new(2160, 400)).dimensions(), (216, 40));
        assert_eq!(fitted(&RgbImage::new(10_000, 1)).dimensions(), (216, 1));
    }

    #[test]
    fn notes() {
        let of = |right_at| note(&Row { right_at, ..row(5, None) }).0;
        assert_eq!(of(Some(5)), "the right picture is number 5");
        assert_eq!(of(Some(6)), "the right picture is not shown: it is number 6");
        assert_eq!(of(None), "no picture is known to be right");
    }

    #[test]
    fn nothing_to_draw() {
        assert!(draw(&[]).height() > 0);
        assert!(draw(&[row(0, None)]).height() > draw(&[]).height());
    }
}
