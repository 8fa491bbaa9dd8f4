//! From an image file to the numbers an encoder eats, as Pillow and torchvision do it.

use std::{fs, io::Cursor};

use fast_image_resize::{
    CropBox, FilterType, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedImage, TypedImageRef},
    pixels::U8x3,
};
use image::{DynamicImage, ImageDecoder, ImageReader, RgbImage};
use serde::{Deserialize, Serialize};

use crate::{Error, Picture, Result, Source};

/// What is done to a picture before an encoder sees it. Belongs to the weights: a model fed with
/// another preprocessing than it was trained with is wrong without failing.
///
/// Equal to Pillow and torchvision on the same RGB input, but for one value in a hundred that is
/// rounded to the next level of 255: the filter's weights have 16 bits here and 32 there.
///
/// ```
/// use image::RgbImage;
/// use xr_data::Preprocess;
///
/// let clip = Preprocess::clip(224);
/// let picture = RgbImage::new(500, 375);
/// assert_eq!(clip.pixels(&picture).dimensions(), (224, 224));
/// assert_eq!(clip.apply(&picture).len(), 3 * 224 * 224);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocess {
    /// How the picture becomes a square.
    pub resize: Resize,
    /// The filter that resizes.
    pub interpolation: Interpolation,
    /// Taken from each channel, which runs from 0 to 1.
    pub mean: [f32; 3],
    /// What each channel is then divided by.
    pub std: [f32; 3],
}

/// How a picture becomes a square.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// The short side becomes `size`, the long side keeps the aspect, and the middle `crop` ×
    /// `crop` is cut out: torchvision's `Resize(size)` and `CenterCrop(crop)`.
    Shortest {
        /// Length of the short side, in pixels.
        size: u32,
        /// Side of the square that is cut out, in pixels; at most `size`.
        crop: u32,
    },
    /// Both sides become `size`; the aspect is lost.
    Squash {
        /// Side of the square, in pixels.
        size: u32,
    },
}

/// Pillow's filters; when a picture shrinks they widen with the scale (antialiasing).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// A triangle, one pixel to each side.
    Bilinear,
    /// Catmull and Rom's cubic (a = -1/2), two pixels to each side.
    Bicubic,
}

impl Preprocess {
    /// EfficientNet-Lite, [published](https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite)
    /// for levels from 0 to 255 as (x - 127) / 128.
    pub fn efficientnet_lite(size: u32) -> Self {
        Self {
            resize: Resize::Shortest { size, crop: size },
            interpolation: Interpolation::Bicubic,
            mean: [127.0 / 255.0; 3],
            std: [128.0 / 255.0; 3],
        }
    }

    /// ImageNet classifiers in torchvision: the crop is 7/8 of the short side (224 of 256).
    pub fn imagenet(size: u32) -> Self {
        Self {
            resize: Resize::Shortest { size: size * 8 / 7, crop: size },
            interpolation: Interpolation::Bilinear,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }

    /// CLIP ([`clip.py`](https://github.com/openai/CLIP/blob/main/clip/clip.py)).
    pub fn clip(size: u32) -> Self {
        Self {
            resize: Resize::Shortest { size, crop: size },
            interpolation: Interpolation::Bicubic,
            mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
        }
    }

    /// SigLIP: the whole picture, squashed, from -1 to 1.
    pub fn siglip(size: u32) -> Self {
        Self {
            resize: Resize::Squash { size },
            interpolation: Interpolation::Bicubic,
            mean: [0.5; 3],
            std: [0.5; 3],
        }
    }

    /// The middle square, from 0 to 1: for encoders trained from scratch.
    pub fn unit(size: u32) -> Self {
        Self {
            resize: Resize::Shortest { size, crop: size },
            interpolation: Interpolation::Bilinear,
            mean: [0.0; 3],
            std: [1.0; 3],
        }
    }

    /// Width and height of the result, in pixels.
    pub fn side(&self) -> u32 {
        match self.resize {
            Resize::Shortest { crop, .. } => crop,
            Resize::Squash { size } => size,
        }
    }

    /// The picture resized and cropped, [`side`](Self::side) × [`side`](Self::side).
    ///
    /// Pillow goes along the rows first, rounds to whole levels, and then along the columns; so does
    /// this. (Pillow 13 goes the other way round where the height shrinks much more than the width,
    /// a tall picture squashed for example: values there differ by up to six levels. Published
    /// weights were trained before.) What the crop would cut off is never computed.
    ///
    /// # Panics
    /// If the picture has no pixels, or the crop is larger than the size it is cut from.
    pub fn pixels(&self, picture: &RgbImage) -> RgbImage {
        let (width, height) = picture.dimensions();
        let side = self.side();
        let (resized_width, resized_height) = self.resized(width, height);
        let (left, columns) = middle(width, resized_width, side);
        let (top, rows) = middle(height, resized_height, side);
        let reach = FILTER_REACH * (rows / f64::from(side)).max(1.0);
        let first = (top - reach).max(0.0).floor();
        let seen = (top + rows + reach).ceil().min(f64::from(height)) - first;
        let part = CropBox { left, top: first, width: columns, height: seen };
        let narrow = resample(picture, part, (side, seen as u32), self.interpolation);
        let part = CropBox { left: 0.0, top: top - first, width: side.into(), height: rows };
        resample(&narrow, part, (side, side), self.interpolation)
    }

    /// Width and height before the crop.
    fn resized(&self, width: u32, height: u32) -> (u32, u32) {
        assert!(width > 0 && height > 0, "a picture of {width} × {height} pixels");
        match self.resize {
            Resize::Shortest { size, crop } => {
                assert!(crop <= size, "a crop of {crop} pixels from a short side of {size}");
                shortest(width, height, size)
            }
            Resize::Squash { size } => (size, size),
        }
    }

    /// The picture as numbers, `[3, side, side]`: all red, all green, all blue, each row by row,
    /// normalised by mean and deviation.
    ///
    /// # Panics
    /// If the picture has no pixels.
    pub fn apply(&self, picture: &RgbImage) -> Vec<f32> {
        self.normalized(&self.pixels(picture))
    }

    /// Levels to numbers, `[height, width, 3]` to `[3, height, width]`.
    pub(crate) fn normalized(&self, pixels: &RgbImage) -> Vec<f32> {
        let channel = |c: usize| {
            let table: [f32; 256] =
                std::array::from_fn(|level| (level as f32 / 255.0 - self.mean[c]) / self.std[c]);
            pixels.pixels().map(move |pixel| table[pixel[c] as usize])
        };
        (0..3).flat_map(channel).collect()
    }
}

impl Picture {
    /// The picture's pixels: the file decoded and turned upright as its EXIF orientation says, or
    /// the scene drawn.
    ///
    /// Any colours become RGB. Transparency is dropped and the colours under it stay, as in Pillow's
    /// `convert("RGB")`. A colour profile is ignored. Decoded JPEG differs from libjpeg's by a few
    /// levels, see the test `tests/image.rs`.
    ///
    /// # Errors
    /// [`Error::Io`] when the file can't be read, [`Error::Undecodable`] when it isn't a whole
    /// picture or would take more than 512 MiB of memory.
    pub fn load(&self) -> Result<RgbImage> {
        match &self.source {
            Source::File(path) => {
                let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
                decode(&bytes).map_err(|why| Error::Undecodable { path: path.clone(), why })
            }
            Source::Scene(scene) => Ok(scene.draw()),
        }
    }
}

/// An image file's bytes as upright RGB, or what is wrong with them.
pub(crate) fn decode(bytes: &[u8]) -> Result<RgbImage, String> {
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    if bytes.starts_with(JPEG_START) && !is_whole_jpeg(bytes) {
        return Err("the JPEG data ends too early".into());
    }
    decode_upright(bytes).map(DynamicImage::into_rgb8).map_err(|e| e.to_string())
}

fn decode_upright(bytes: &[u8]) -> image::ImageResult<DynamicImage> {
    let mut decoder = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?.into_decoder()?;
    // The memory is asked for before it is taken: a header of a few bytes can promise 4 gigapixels.
    image::Limits::default().reserve(decoder.total_bytes())?;
    let orientation = decoder.orientation()?;
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// No filter looks farther than two pixels (of the larger of the two pictures); one more to be sure.
const FILTER_REACH: f64 = 3.0;

const JPEG_START: &[u8] = &[0xff, 0xd8];
const JPEG_SCAN: [u8; 2] = [0xff, 0xda];
const JPEG_END: [u8; 2] = [0xff, 0xd9];

/// Does the end marker come after the last scan? The decoder would paint what is missing grey.
/// (A thumbnail in the header has an end marker of its own, before the picture's scan.)
fn is_whole_jpeg(bytes: &[u8]) -> bool {
    let last = |marker: [u8; 2]| bytes.array_windows().rposition(|pair| *pair == marker);
    last(JPEG_END) > last(JPEG_SCAN)
}

/// Width and height with the short side `size`; torchvision rounds the long one down.
fn shortest(width: u32, height: u32, size: u32) -> (u32, u32) {
    let scaled =
        |long: u32, short: u32| (u64::from(size) * u64::from(long) / u64::from(short)) as u32;
    if width <= height { (size, scaled(height, width)) } else { (scaled(width, height), size) }
}

/// Start and length, in source pixels, of what becomes the middle `side` of `resized` pixels.
/// torchvision's `CenterCrop` halves an odd rest to the even side.
fn middle(source: u32, resized: u32, side: u32) -> (f64, f64) {
    let scale = f64::from(source) / f64::from(resized);
    let start = (f64::from(resized - side) / 2.0).round_ties_even() * scale;
    (start, (f64::from(side) * scale).min(f64::from(source) - start))
}

/// `part` of the source, resized; the filter looks beyond the part's edges.
fn resample(
    source: &RgbImage,
    part: CropBox,
    (width, height): (u32, u32),
    interpolation: Interpolation,
) -> RgbImage {
    let filter = match interpolation {
        Interpolation::Bilinear => FilterType::Bilinear,
        Interpolation::Bicubic => FilterType::CatmullRom,
    };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).crop(
        part.left,
        part.top,
        part.width,
        part.height,
    );
    let mut resized = RgbImage::new(width, height);
    // Typed: the call that takes any image is compiled for every pixel format there is, in minutes.
    let view = TypedImageRef::<U8x3>::from_buffer(source.width(), source.height(), source);
    let target = TypedImage::<U8x3>::from_buffer(width, height, &mut resized);
    Resizer::new()
        .resize_typed(
            &view.expect("three bytes a pixel"),
            &mut target.expect("three bytes a pixel"),
            &options,
        )
        .expect("the part lies inside the source");
    resized
}
