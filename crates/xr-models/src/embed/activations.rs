use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use xr_data::{
    CachedRows, FeatureCache, Fingerprint, Picture, Preprocess, RandomCrop, Resize, content_keys,
};

use super::{Run, device_of, pictures::PictureJob};
use crate::{ImagePart, Result, View, encoder::ImageEncoder, model::json, weights_fingerprint};

/// Pictures that are encoded at a time.
const BATCH: usize = 16;

/// What is seen of a picture while training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sight {
    /// All of it.
    View(View),
    /// A random part, brought to the encoder's size whatever its aspect; each number is another part.
    Crop(RandomCrop, u32),
}

/// What the lower part of an image encoder makes of pictures, on disk.
#[derive(Debug)]
pub struct Activations {
    rows: CachedRows,
    shape: [usize; 3],
}

/// What `lower`, the lower part of `part`'s encoder, makes of pictures: from the [`FeatureCache`] in
/// folder `cache`, to which what isn't there is added, batch by batch.
///
/// # Errors
/// The first picture's that can't be decoded; the cache's.
pub fn activations<'a>(
    part: &ImagePart,
    lower: &ImageEncoder,
    sight: Sight,
    pictures: &[&Picture],
    cache: &Path,
    observer: impl FnMut(usize, usize) + 'a,
) -> Result<Activations> {
    let side = part.preprocess.side() as usize;
    let nothing = Tensor::zeros([1, 3, side, side], &device_of(lower));
    let [_, channels, height, width] = lower.activations(nothing).dims();
    let shape = [channels, height, width];
    let dim = shape.iter().product();
    let made_by = fingerprint(part, lower, sight);
    let keys = content_keys(pictures).into_iter().collect::<Result<Vec<_>, _>>()?;
    let cached = FeatureCache::open(cache, &made_by, dim)?;
    let missing = pictures.iter().zip(&keys).filter(|(_, key)| !cached.contains(key));
    let missing: Vec<_> = missing.map(|(&picture, _)| picture).collect();
    let (preprocess, view, crop) = sight.preprocess(&part.preprocess);
    let job = PictureJob {
        preprocess: vec![&preprocess],
        crop,
        dim,
        made_by: made_by.clone(),
        device: device_of(lower),
        encode: &|pixels| lower.activations(view.of(pixels[0].clone())).flatten(1, 3),
    };
    let run = Run::new(BATCH).strict().with_cache(cache).with_observer(observer);
    job.run(&missing, run, &mut |_| Ok(()))?;
    let rows = FeatureCache::open(cache, &made_by, dim)?.into_rows(&keys);
    Ok(Activations { rows: rows.expect("those that were missing were made"), shape })
}

fn fingerprint(part: &ImagePart, lower: &ImageEncoder, sight: Sight) -> Fingerprint {
    let (weights, sight) = (weights_fingerprint(lower), format!("{sight:?}"));
    Fingerprint::of(["activations", &json(part), weights.as_str(), &sight])
}

impl Sight {
    /// How a picture becomes the encoder's input.
    fn preprocess(self, usual: &Preprocess) -> (Preprocess, View, Option<(RandomCrop, u32)>) {
        match self {
            Self::View(view) => (usual.clone(), view, None),
            Self::Crop(crop, number) => {
                let squashed = Resize::Squash { size: usual.side() };
                let preprocess = Preprocess { resize: squashed, ..usual.clone() };
                (preprocess, View::Original, Some((crop, number)))
            }
        }
    }
}

impl Activations {
    /// Number of pictures.
    pub fn pictures(&self) -> usize {
        self.rows.rows()
    }

    /// Those of some pictures, `[pictures, channels, rows, columns]`, each from a table of its own.
    ///
    /// # Panics
    /// If there is no picture, or the tables are of other encoders.
    pub fn batch<'a>(
        of: impl ExactSizeIterator<Item = (&'a Self, usize)>,
        device: &Device,
    ) -> Tensor<4> {
        let (pictures, mut shape, mut values) = (of.len(), None, vec![]);
        for (table, picture) in of {
            assert_eq!(*shape.get_or_insert(table.shape), table.shape, "tables of one encoder");
            values.extend_from_slice(table.rows.row(picture));
        }
        let [channels, height, width] = shape.expect("at least one picture");
        Tensor::from_data(TensorData::new(values, [pictures, channels, height, width]), device)
    }
}
