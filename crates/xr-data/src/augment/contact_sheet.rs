use image::{RgbImage, imageops};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::Augment;
use crate::Preprocess;

/// Pixels between pictures.
const GAP: u32 = 4;

/// What `augment` does to a picture, to look at: a row for each change by itself and a last one for all
/// in order, with the picture as it is and then `draws` draws in each.
///
/// # Panics
/// If the picture has no pixels, or [`Augment::check`] fails.
pub fn contact_sheet(
    picture: &RgbImage,
    augment: &[Augment],
    preprocess: &Preprocess,
    draws: u32,
    seed: u64,
) -> RgbImage {
    let cell = preprocess.side() + GAP;
    let lists: Vec<_> = augment.chunks(1).chain([augment]).collect();
    let mut sheet = RgbImage::from_pixel(
        (draws + 1) * cell - GAP,
        lists.len() as u32 * cell - GAP,
        image::Rgb([255; 3]),
    );
    for (row, list) in (0..).zip(lists) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for column in 0..=draws {
            let shown = if column == 0 { &[] } else { list };
            let shown = preprocess.augmented(picture, shown, &mut rng);
            imageops::replace(&mut sheet, &shown, (column * cell).into(), (row * cell).into());
        }
    }
    sheet
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn a_row_for_each_and_one_for_all() {
        let picture = RgbImage::from_fn(20, 20, |x, y| Rgb([(9 * x) as u8, (9 * y) as u8, 0]));
        let flip = |probability| Augment::HorizontalFlip { probability };
        let sheet = contact_sheet(&picture, &[flip(0.0), flip(1.0)], &Preprocess::unit(20), 2, 0);
        assert_eq!(sheet.dimensions(), (3 * 24 - 4, 3 * 24 - 4));
        let cell = |column: u32, row: u32| {
            imageops::crop_imm(&sheet, 24 * column, 24 * row, 20, 20).to_image()
        };
        let flipped = imageops::flip_horizontal(&picture);
        for row in 0..3 {
            assert_eq!(cell(0, row), picture);
            assert_eq!(cell(2, row), if row == 0 { picture.clone() } else { flipped.clone() });
        }
    }
}
