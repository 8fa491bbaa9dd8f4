//! Scenes of coloured shapes with captions, made from a seed.
//!
//! A scene is two shapes (8 colours, 6 shapes, 2 sizes), one left of, above or in front of the
//! other, on one of 4 backgrounds. It needs no file, is drawn when asked for, and its captions say
//! which shape is where, so that a model has to see more than a bag of words.

mod captions;
mod raster;
mod scene;

use std::collections::{BTreeMap, HashSet};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use scene::Scene;

use crate::{Caption, Corpus, Picture, Source};

/// The most pictures [`generate`] makes: there are about 80,000 different descriptions, and no two
/// pictures share one.
pub const MOST_PICTURES: u32 = 50_000;

/// What [`generate`] makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SyntheticConfig {
    /// Number of pictures: 8 in 10 for train, 1 for dev, 1 for test. Default 5,000.
    pub pictures: u32,
    /// Captions of each picture; the first five differ. Default 5.
    pub captions: u32,
    /// Width and height in pixels. Default 64.
    pub side: u32,
    /// Seed of everything: picture `i` is a function of the seed and `i`, however many are made.
    pub seed: u64,
}

impl Default for SyntheticConfig {
    fn default() -> Self {
        Self { pictures: 5_000, captions: 5, side: 64, seed: 0 }
    }
}

/// Makes the corpus `synthetic` with the splits `train`, `dev` and `test`.
///
/// No two pictures have the same description. Six pairs of a colour and a shape (purple circle,
/// pink square, cyan triangle, orange diamond, green star, yellow cross) are held out: they appear
/// in every fourth test picture and nowhere else, so a model that learnt pairs by heart instead of
/// colours and shapes loses there.
///
/// ```
/// use xr_data::dataset::synthetic::{SyntheticConfig, generate};
///
/// let corpus = generate(&SyntheticConfig { pictures: 40, ..Default::default() });
/// assert_eq!(corpus.captions.len(), 200);
/// assert_eq!(corpus.split("test").unwrap().pictures, [9, 19, 29, 39]);
/// ```
///
/// # Panics
/// For more than [`MOST_PICTURES`] pictures.
pub fn generate(config: &SyntheticConfig) -> Corpus {
    assert!(config.pictures <= MOST_PICTURES, "at most {MOST_PICTURES} pictures");
    let mut corpus = Corpus {
        name: "synthetic".into(),
        pictures: Vec::new(),
        captions: Vec::new(),
        splits: BTreeMap::new(),
        drawn: None,
        skipped: Vec::new(),
    };
    let mut taken = HashSet::new();
    for picture in 0..config.pictures {
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        rng.set_stream(picture.into());
        let scene = untaken_scene(picture, config.side, &mut taken, &mut rng);
        let texts = (0..config.captions).map(|form| captions::caption(&scene, form, &mut rng));
        corpus.captions.extend(texts.map(|text| Caption { picture, text }));
        corpus.splits.entry(split_of(picture).into()).or_default().push(picture);
        corpus
            .pictures
            .push(Picture { name: format!("{picture:06}"), source: Source::Scene(scene) });
    }
    corpus
}

fn split_of(picture: u32) -> &'static str {
    match picture % 10 {
        0..8 => "train",
        8 => "dev",
        _ => "test",
    }
}

fn untaken_scene(
    picture: u32,
    side: u32,
    taken: &mut HashSet<scene::Description>,
    rng: &mut ChaCha8Rng,
) -> Scene {
    let held_out = picture % 40 == 39;
    loop {
        let description = scene::Description::random(rng);
        if description.is_held_out() == held_out && taken.insert(description.clone()) {
            return Scene { description, side, jitter: rng.random() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus(pictures: u32, seed: u64) -> Corpus {
        generate(&SyntheticConfig { pictures, seed, ..Default::default() })
    }

    fn scenes(corpus: &Corpus) -> Vec<Scene> {
        let scene = |p: &Picture| match &p.source {
            Source::Scene(scene) => scene.clone(),
            Source::File(_) => unreachable!("generated"),
        };
        corpus.pictures.iter().map(scene).collect()
    }

    #[test]
    fn a_picture_depends_on_the_seed_and_its_number_alone() {
        let (few, many) = (corpus(50, 3), corpus(200, 3));
        assert_eq!(scenes(&few), scenes(&many)[..50]);
        assert_eq!(few.captions, many.captions[..250]);
        assert_ne!(scenes(&few), scenes(&corpus(50, 4)));
    }

    // Scores of one seed are compared across versions: a change here must be meant.
    #[test]
    fn the_first_captions_stay_what_they_are() {
        let corpus = corpus(1, 0);
        let texts: Vec<_> = corpus.captions.iter().map(|c| c.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "a big blue triangle over a large blue rhombus against a white background",
                "a big blue diamond under a big blue triangle on a white background",
                "a picture of a blue triangle above a big blue rhombus",
                "a large blue rhombus with a blue triangle above it",
                "a large blue triangle against a white background",
            ]
        );
    }

    #[test]
    fn held_out_pairs_are_in_a_quarter_of_test_and_nowhere_else() {
        let corpus = corpus(400, 0);
        let scenes = scenes(&corpus);
        let held_out = |split: &str| {
            let pictures = &corpus.splits[split];
            pictures.iter().filter(|&&p| scenes[p as usize].description.is_held_out()).count()
        };
        assert_eq!(["train", "dev", "test"].map(held_out), [0, 0, 10]);
    }

    #[test]
    fn descriptions_and_the_first_five_captions_differ() {
        let corpus = corpus(2000, 1);
        let descriptions: HashSet<_> = scenes(&corpus).into_iter().map(|s| s.description).collect();
        assert_eq!(descriptions.len(), 2000);
        for captions in corpus.captions.chunks(5) {
            let texts: HashSet<_> = captions.iter().map(|c| &c.text).collect();
            assert_eq!(texts.len(), 5, "{captions:?}");
        }
    }

    // The shortest captions of two shapes say no size and no background. Still most of 1,000
    // pictures are told apart by them; those that say everything fit one picture by construction.
    #[test]
    fn a_caption_of_both_shapes_mostly_fits_one_picture() {
        let mut fitting = BTreeMap::<_, u32>::new();
        for scene in scenes(&corpus(1000, 0)) {
            *fitting.entry(scene.description.without_size_and_background()).or_default() += 1;
        }
        let unique = fitting.values().filter(|&&pictures| pictures == 1).count();
        assert!(unique > 750, "{unique} of 1,000");
    }

    #[test]
    fn drawing_is_repeatable_and_heeds_the_side() {
        let config = SyntheticConfig { pictures: 1, side: 24, ..Default::default() };
        let scene = &scenes(&generate(&config))[0];
        assert_eq!(scene.draw(), scene.draw());
        assert_eq!(scene.draw().dimensions(), (24, 24));
    }

    #[test]
    fn one_description_is_drawn_in_many_ways() {
        let scene = scenes(&corpus(1, 0)).remove(0);
        let other = Scene { jitter: scene.jitter + 1, ..scene.clone() };
        assert_ne!(scene.draw(), other.draw());
    }
}
