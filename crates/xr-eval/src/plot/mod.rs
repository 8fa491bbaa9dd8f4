//! Pictures of results: [`curves`] of a training, and the [`gallery`] of what queries found.
//!
//! They are drawn with a font of their own, so they look the same on every machine.

mod canvas;
pub mod curves;
pub mod gallery;
mod text;

use std::{io::Cursor, path::Path};

use image::{ImageFormat, RgbImage};

use crate::{Error, Result};

/// Writes a picture as PNG; the file appears when it is whole.
///
/// # Errors
/// [`Error::Data`] if the file can't be written, [`Error::Png`] if the picture has no pixels.
pub fn save(picture: &RgbImage, path: &Path) -> Result<()> {
    let mut png = Cursor::new(vec![]);
    picture
        .write_to(&mut png, ImageFormat::Png)
        .map_err(|e| Error::Png { path: path.into(), why: e.to_string() })?;
    Ok(xr_data::atomic::write(path, png.get_ref())?)
}

mod colour {
    use image::Rgb;

    pub const PAPER: Rgb<u8> = Rgb([255, 255, 255]);
    pub const INK: Rgb<u8> = Rgb([32, 33, 36]);
    pub const QUIET: Rgb<u8> = Rgb([110, 115, 122]);
    pub const GRID: Rgb<u8> = Rgb([228, 230, 234]);
    pub const RIGHT: Rgb<u8> = Rgb([0, 135, 90]);
    pub const MISSED: Rgb<u8> = Rgb([178, 80, 0]);
    /// Told apart also by colour-blind readers: Okabe and Ito 2008.
    pub const SERIES: [Rgb<u8>; 6] = [
        Rgb([0, 114, 178]),
        Rgb([213, 94, 0]),
        Rgb([0, 158, 115]),
        Rgb([204, 121, 167]),
        Rgb([86, 180, 233]),
        Rgb([230, 159, 0]),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let (path, picture) = (dir.path().join("a.png"), RgbImage::new(3, 2));
        save(&picture, &path).unwrap();
        assert_eq!(image::open(&path).unwrap().into_rgb8(), picture);
        let nowhere = dir.path().join("missing").join("a.png");
        let error = save(&picture, &nowhere).unwrap_err().to_string();
        assert!(error.ends_with("a.png: No such file or directory (os error 2)"), "{error}");
    }
}
