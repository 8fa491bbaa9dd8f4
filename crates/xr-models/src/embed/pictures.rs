use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;
use xr_data::{FeatureCache, Fingerprint, Key, Picture, Preprocess, RandomCrop, prefetch};

use super::{Failure, Run, Sink, rows_of};
use crate::{Result, in_pool};

/// Pictures to rows of one width.
pub(super) struct PictureJob<'a> {
    /// For each encoder.
    pub(super) preprocess: Vec<&'a Preprocess>,
    /// What is seen of each picture instead of all of it, and the number of that part; this takes a
    /// cache.
    pub(super) crop: Option<(RandomCrop, u32)>,
    pub(super) dim: usize,
    pub(super) made_by: Fingerprint,
    pub(super) device: Device,
    /// For each encoder `[batch, 3, side, side]` → `[batch, dim]`.
    pub(super) encode: &'a (dyn Fn(&[Tensor<4>]) -> Tensor<2> + Sync),
}

/// What loading made of one picture.
enum Loaded {
    /// Its row was in the cache.
    Cached(Vec<f32>),
    /// Its input for each encoder, and its key if there is a cache.
    Fresh(Vec<Vec<f32>>, Option<Key>),
    /// It can't be decoded.
    Failed(xr_data::Error),
}

/// The cache is looked into by the loading thread and added to by the encoding one.
type Cache = Option<Mutex<FeatureCache>>;

impl PictureJob<'_> {
    pub(super) fn run(&self, pictures: &[&Picture], run: Run, sink: Sink) -> Result<Vec<Failure>> {
        let cache = run.open_cache(&self.made_by, self.dim)?.map(Mutex::new);
        let Run { batch, mut observer, strict, .. } = run;
        let chunks: Vec<_> = pictures.chunks(batch).collect();
        let (mut done, mut failures) = (0, Vec::new());
        let loader = Loader { preprocess: &self.preprocess, crop: self.crop, cache: &cache };
        let load = |step: usize| loader.load_all(chunks[step]);
        prefetch(0..chunks.len(), load, |loaded| {
            for chunk in loaded {
                sink(&self.rows(&chunk, &cache)?)?;
                let first = done;
                done += chunk.len();
                failures.extend(failures_of(chunk, first));
                if strict && !failures.is_empty() {
                    return Err(failures.remove(0).error.into());
                }
                observer(done, pictures.len());
            }
            Ok(failures)
        })
    }

    /// The rows of a chunk, in order and without the failed ones.
    fn rows(&self, chunk: &[Loaded], cache: &Cache) -> Result<Vec<f32>> {
        let fresh = self.encode(chunk);
        let fresh = fresh.chunks_exact(self.dim);
        if let Some(cache) = cache {
            let keys = chunk.iter().filter_map(Loaded::key);
            lock(cache).append(&keys.zip(fresh.clone()).collect::<Vec<_>>())?;
        }
        let mut fresh = fresh;
        let mut rows = Vec::with_capacity(chunk.len() * self.dim);
        for loaded in chunk {
            match loaded {
                Loaded::Failed(_) => {}
                Loaded::Cached(row) => rows.extend_from_slice(row),
                Loaded::Fresh(..) => rows.extend(fresh.next().expect("a row for each")),
            }
        }
        Ok(rows)
    }

    /// The fresh pictures' rows, one after the other.
    fn encode(&self, chunk: &[Loaded]) -> Vec<f32> {
        let fresh: Vec<_> = chunk.iter().filter_map(Loaded::pixels).collect();
        if fresh.is_empty() {
            return Vec::new();
        }
        let input = |(i, preprocess): (usize, &&Preprocess)| {
            let side = preprocess.side() as usize;
            let pixels: Vec<f32> = fresh.iter().flat_map(|pixels| &pixels[i]).copied().collect();
            let data = TensorData::new(pixels, [fresh.len(), 3, side, side]);
            Tensor::from_data(data, &self.device)
        };
        let inputs: Vec<_> = self.preprocess.iter().enumerate().map(input).collect();
        in_pool(|| rows_of((self.encode)(&inputs)))
    }
}

impl Loaded {
    fn pixels(&self) -> Option<&Vec<Vec<f32>>> {
        match self {
            Self::Fresh(pixels, _) => Some(pixels),
            Self::Cached(_) | Self::Failed(_) => None,
        }
    }

    fn key(&self) -> Option<Key> {
        match self {
            Self::Fresh(_, key) => *key,
            Self::Cached(_) | Self::Failed(_) => None,
        }
    }
}

/// What loading takes of a job: the encoder stays on its own thread.
struct Loader<'a> {
    preprocess: &'a [&'a Preprocess],
    crop: Option<(RandomCrop, u32)>,
    cache: &'a Cache,
}

impl Loader<'_> {
    /// Loads pictures on all cores.
    fn load_all(&self, pictures: &[&Picture]) -> Vec<Loaded> {
        let load = |picture: &&Picture| self.load(picture).unwrap_or_else(Loaded::Failed);
        pictures.par_iter().map(load).collect()
    }

    fn load(&self, picture: &Picture) -> xr_data::Result<Loaded> {
        let key = self.cache.as_ref().map(|_| picture.content_key()).transpose()?;
        if let (Some(cache), Some(key)) = (self.cache, &key)
            && let Some(row) = lock(cache).get(key)
        {
            return Ok(Loaded::Cached(row.to_vec()));
        }
        let mut picture = picture.load()?;
        if let (Some((crop, number)), Some(key)) = (self.crop, &key) {
            picture = crop.of(&picture, key, number);
        }
        Ok(Loaded::Fresh(self.preprocess.iter().map(|p| p.apply(&picture)).collect(), key))
    }
}

fn failures_of(chunk: Vec<Loaded>, first: usize) -> impl Iterator<Item = Failure> {
    (first..).zip(chunk).filter_map(|(position, loaded)| match loaded {
        Loaded::Failed(error) => Some(Failure { position, error }),
        Loaded::Cached(_) | Loaded::Fresh(..) => None,
    })
}

/// A panic on the other thread ends the run anyway; it doesn't make the cache wrong.
fn lock(cache: &Mutex<FeatureCache>) -> MutexGuard<'_, FeatureCache> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}
