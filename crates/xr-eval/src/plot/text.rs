use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, PxScale, PxScaleFont, ScaleFont, point};
use image::Rgb;

use super::canvas::Canvas;

type Face = LazyLock<FontRef<'static>>;

static REGULAR: Face = LazyLock::new(|| face(include_bytes!("font/DejaVuSans.ttf")));
static BOLD: Face = LazyLock::new(|| face(include_bytes!("font/DejaVuSans-Bold.ttf")));

fn face(bytes: &'static [u8]) -> FontRef<'static> {
    FontRef::try_from_slice(bytes).expect("the embedded font is whole")
}

/// A size and weight of type. Characters the font lacks are drawn as its empty box.
#[derive(Clone, Copy)]
pub(super) struct Type {
    size: f32,
    bold: bool,
}

/// On which side of its anchor a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Centre,
    Right,
}

impl Type {
    /// `size` in pixels an em.
    pub const fn regular(size: f32) -> Self {
        Self { size, bold: false }
    }

    pub const fn bold(size: f32) -> Self {
        Self { size, bold: true }
    }

    /// From one baseline to the next.
    pub fn line_height(self) -> f32 {
        (self.size * 1.4).round()
    }

    fn font(self) -> PxScaleFont<&'static FontRef<'static>> {
        let font: &FontRef = if self.bold { &BOLD } else { &REGULAR };
        // ab_glyph scales the height from ascent to descent, not the em.
        let em = font.units_per_em().expect("the embedded font says it");
        font.as_scaled(PxScale::from(self.size * font.height_unscaled() / em))
    }

    pub fn width(self, text: &str) -> f32 {
        let font = self.font();
        text.chars().map(|c| font.h_advance(font.glyph_id(c))).sum()
    }

    /// Draws one line whose capital letters are centred on `y`.
    pub fn draw(
        self,
        canvas: &mut Canvas,
        at: (f32, f32),
        align: Align,
        text: &str,
        colour: Rgb<u8>,
    ) {
        let shift = match align {
            Align::Left => 0.0,
            Align::Centre => self.width(text) / 2.0,
            Align::Right => self.width(text),
        };
        // Capitals of DejaVu are .73 em high. Baselines fall on whole pixels.
        let mut pen = point((at.0 - shift).round(), (at.1 + 0.365 * self.size).round());
        let font = self.font();
        for id in text.chars().map(|c| font.glyph_id(c)) {
            if let Some(outline) = font.outline_glyph(id.with_scale_and_position(font.scale(), pen))
            {
                let corner = outline.px_bounds().min;
                let (left, top) = (corner.x as i32, corner.y as i32);
                outline.draw(|x, y, c| canvas.blend(left + x as i32, top + y as i32, colour, c));
            }
            pen.x += font.h_advance(id);
        }
    }

    /// Breaks `text` at white space into lines of at most `width`, and what doesn't fit into
    /// `lines` lines ends in “…”. A word wider than a line is cut.
    pub fn wrap(self, text: &str, width: f32, lines: usize) -> Vec<String> {
        let (mut wrapped, mut line) = (vec![], String::new());
        for word in text.split_whitespace() {
            let longer = if line.is_empty() { word.into() } else { format!("{line} {word}") };
            let breaks = !line.is_empty() && self.width(&longer) > width;
            if breaks && wrapped.len() + 1 == lines {
                // Too wide by now: the cut below leaves its beginning and “…”.
                line = longer;
                break;
            }
            if breaks {
                wrapped.push(std::mem::replace(&mut line, word.into()));
            } else {
                line = longer;
            }
        }
        wrapped.push(line);
        wrapped.into_iter().map(|line| self.cut(line, width)).collect()
    }

    fn cut(self, mut line: String, width: f32) -> String {
        if self.width(&line) <= width {
            return line;
        }
        while !line.is_empty() && self.width(&line) + self.width("…") > width {
            line.pop();
        }
        line.truncate(line.trim_end().len());
        line + "…"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: Type = Type::regular(20.0);

    fn wrap(text: &str, letters: usize, lines: usize) -> Vec<String> {
        TYPE.wrap(text, TYPE.width(&"m".repeat(letters)), lines)
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("mm m\nmm  mmm", 5, 9), ["mm m", "mm", "mmm"]);
        assert_eq!(wrap("", 5, 9), [""]);
    }

    #[test]
    fn what_does_not_fit_ends_in_an_ellipsis() {
        assert_eq!(wrap("mm mm mm mm mm", 5, 2), ["mm mm", "mm m…"]);
        // “…” is a little wider than `m`, so it takes the place of two.
        assert_eq!(wrap("mmmmmmmmmm mm", 5, 2), ["mmm…", "mm"]);
    }

    #[test]
    fn unknown_characters_are_boxes() {
        let drawn = |text: &str| {
            let mut canvas = Canvas::new(40.0, 40.0);
            TYPE.draw(&mut canvas, (5.0, 20.0), Align::Left, text, Rgb([0, 0, 0]));
            canvas.into_pixels()
        };
        assert_eq!(drawn("猫"), drawn("🐈"));
        assert_ne!(drawn("猫"), drawn(" "));
        assert_ne!(drawn("✓"), drawn("猫"));
    }

    #[test]
    fn an_em_of_twenty_pixels() {
        // The advance of `m` in DejaVu Sans is 1995 of 2048 units an em.
        assert!((TYPE.width("m") - 20.0 * 1995.0 / 2048.0).abs() < 1e-3);
    }
}
