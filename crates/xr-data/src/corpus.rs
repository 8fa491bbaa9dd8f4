use std::{collections::BTreeMap, fmt, path::PathBuf};

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::{Drawn, Error, Relevance, Result, dataset::synthetic::Scene};

/// Pictures, their captions and named splits. What every loader returns.
///
/// Pictures are not decoded here: a corpus of a million is a million names.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// What the data set is called, in reports and manifests.
    pub name: String,
    /// The pictures, by ascending name.
    pub pictures: Vec<Picture>,
    /// The captions; those of one picture stand together, in the order of `pictures`.
    pub captions: Vec<Caption>,
    /// Published or chosen parts: positions in `pictures`, ascending.
    pub splits: BTreeMap<String, Vec<u32>>,
    /// How the splits were drawn, if they aren't the data set's own.
    pub drawn: Option<Drawn>,
    /// What a loader left out, and why.
    pub skipped: Vec<Skipped>,
}

/// A picture and where its pixels come from.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Unique in its corpus: the file name, or the number of a generated scene.
    pub name: String,
    /// Where the pixels come from.
    pub source: Source,
}

/// Where a picture's pixels come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// An image file.
    File(PathBuf),
    /// A generated scene, drawn when asked for.
    Scene(Scene),
}

/// One sentence about one picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caption {
    /// Position of the picture in [`Corpus::pictures`].
    pub picture: u32,
    /// The sentence.
    pub text: String,
}

/// An input that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// File, or file and line.
    pub what: String,
    /// Why.
    pub why: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

/// One part of a corpus: its pictures and all their captions.
///
/// Rows of embeddings, and everything scored, are numbered as here: picture `i` of the split is
/// corpus picture `pictures[i]`, caption `j` is corpus caption `captions[j]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The split's name: `train`, `dev`, `test`.
    pub name: String,
    /// Positions in [`Corpus::pictures`], ascending.
    pub pictures: Vec<u32>,
    /// Positions in [`Corpus::captions`], ascending.
    pub captions: Vec<u32>,
    /// For each caption of the split, its picture's row in `self.pictures`.
    pub picture_of: Vec<u32>,
}

impl Split {
    /// Which pictures answer which caption, `captions × pictures`; transpose for the other way.
    pub fn text_to_image(&self) -> Relevance {
        Relevance::from_groups(self.pictures.len(), &self.picture_of)
    }

    /// A part of it: `count` of its pictures at most, evenly spread, and all their captions.
    pub fn sample(&self, count: usize) -> Self {
        let step = self.pictures.len().div_ceil(count.max(1)).max(1) as u32;
        let kept = self.picture_of.iter().zip(&self.captions).filter(|(row, _)| *row % step == 0);
        let (picture_of, captions) = kept.map(|(row, caption)| (row / step, caption)).unzip();
        Self {
            name: self.name.clone(),
            pictures: self.pictures.iter().step_by(step as usize).copied().collect(),
            captions,
            picture_of,
        }
    }
}

impl Corpus {
    /// The part called `name`; `all` is every picture.
    ///
    /// # Errors
    /// [`Error::NoSuchSplit`], naming the splits there are.
    pub fn split(&self, name: &str) -> Result<Split> {
        let pictures = match self.splits.get(name) {
            Some(pictures) => pictures.clone(),
            None if name == "all" => (0..self.pictures.len() as u32).collect(),
            None => {
                return Err(Error::NoSuchSplit {
                    corpus: self.name.clone(),
                    wanted: name.into(),
                    available: self.splits.keys().cloned().collect(),
                });
            }
        };
        Ok(self.part(name, pictures))
    }

    fn part(&self, name: &str, pictures: Vec<u32>) -> Split {
        let mut row = vec![u32::MAX; self.pictures.len()];
        for (r, &p) in (0..).zip(&pictures) {
            row[p as usize] = r;
        }
        let (captions, picture_of) = (0..)
            .zip(&self.captions)
            .map(|(c, caption)| (c, row[caption.picture as usize]))
            .filter(|&(_, row)| row != u32::MAX)
            .unzip();
        Split { name: name.into(), pictures, captions, picture_of }
    }

    /// Replaces the splits by a random partition into `train`, `dev` and `test` by picture: all
    /// captions of a picture fall into one part. `fractions` are those of train and dev; test is
    /// the rest.
    ///
    /// The pictures are shuffled by ChaCha8 seeded with `seed`, so the parts depend on nothing else.
    /// [`SplitSpec::apply`](crate::SplitSpec::apply) also records how, for the manifest.
    pub fn split_randomly(&mut self, fractions: [f64; 2], seed: u64) {
        let mut order: Vec<u32> = (0..self.pictures.len() as u32).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let [train, dev] = fractions.map(|f| (f * order.len() as f64) as usize);
        let mut rest = order.split_off(train.min(order.len()));
        let test = rest.split_off(dev.min(rest.len()));
        self.drawn = None;
        self.splits = [("train", order), ("dev", rest), ("test", test)]
            .map(|(name, mut pictures)| {
                pictures.sort_unstable();
                (name.to_string(), pictures)
            })
            .into();
    }

    /// Takes out `pictures`, each with the reason, and their captions, and names them in
    /// [`Corpus::skipped`]. For pictures that turn out not to be decodable; the others keep their
    /// order and get new positions, so splits and rows made before are void.
    pub fn drop_pictures(&mut self, pictures: &[(u32, String)]) {
        let why: BTreeMap<u32, &String> = pictures.iter().map(|(p, why)| (*p, why)).collect();
        let skipped = why.iter().map(|(&picture, &why)| Skipped {
            what: self.pictures[picture as usize].name.clone(),
            why: why.clone(),
        });
        self.skipped.extend(skipped);
        self.keep(|picture| !why.contains_key(&picture));
    }

    /// The corpus of one split alone: its pictures, their captions, and that split.
    pub fn only(&self, split: &Split) -> Self {
        let mut part = self.clone();
        part.splits = BTreeMap::from([(split.name.clone(), split.pictures.clone())]);
        part.keep(|picture| split.pictures.binary_search(&picture).is_ok());
        part
    }

    /// The picture of that name.
    ///
    /// # Errors
    /// [`Error::NoSuchPicture`] if there is none.
    pub fn picture(&self, name: &str) -> Result<&Picture> {
        self.pictures
            .iter()
            .find(|p| p.name == name)
            .ok_or_else(|| Error::NoSuchPicture { corpus: self.name.clone(), name: name.into() })
    }

    /// Leaves these pictures and their captions, in their order, at new positions.
    fn keep(&mut self, keep: impl Fn(u32) -> bool) {
        let mut kept = 0;
        let position: Vec<Option<u32>> = (0..self.pictures.len() as u32)
            .map(|old| {
                keep(old).then(|| {
                    kept += 1;
                    kept - 1
                })
            })
            .collect();
        let moved = |old: u32| position[old as usize];
        let mut old = 0..;
        self.pictures.retain(|_| old.next().and_then(moved).is_some());
        self.captions.retain_mut(|caption| match moved(caption.picture) {
            Some(new) => {
                caption.picture = new;
                true
            }
            None => false,
        });
        for split in self.splits.values_mut() {
            *split = split.iter().filter_map(|&old| moved(old)).collect();
        }
    }

    /// The caption texts of a split, in its order.
    pub fn texts<'a>(&'a self, split: &'a Split) -> impl ExactSizeIterator<Item = &'a str> {
        split.captions.iter().map(|&c| self.captions[c as usize].text.as_str())
    }

    /// The pictures of a split, in its order.
    pub fn pictures_of<'a>(
        &'a self,
        split: &'a Split,
    ) -> impl ExactSizeIterator<Item = &'a Picture> {
        split.pictures.iter().map(|&p| &self.pictures[p as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus(pictures: u32) -> Corpus {
        let picture = |i| Picture { name: format!("{i:03}"), source: Source::File("x".into()) };
        let caption = |i| Caption { picture: i / 2, text: format!("caption {i}") };
        Corpus {
            name: "test".into(),
            pictures: (0..pictures).map(picture).collect(),
            captions: (0..2 * pictures).map(caption).collect(),
            splits: BTreeMap::from([("dev".into(), vec![1, 3])]),
            drawn: None,
            skipped: vec![],
        }
    }

    #[test]
    fn a_split_numbers_its_own_rows() {
        let corpus = corpus(4);
        let dev = corpus.split("dev").unwrap();
        assert_eq!(dev.captions, [2, 3, 6, 7]);
        assert_eq!(dev.picture_of, [0, 0, 1, 1]);
        assert_eq!(dev.text_to_image().transpose().of(1), [2, 3]);
        assert_eq!(corpus.texts(&dev).next(), Some("caption 2"));
    }

    #[test]
    fn a_sample_of_a_split() {
        let split = corpus(7).split("all").unwrap();
        let sample = split.sample(3);
        assert_eq!(sample.pictures, [0, 3, 6]);
        assert_eq!(split.sample(7), split);
        for (&caption, &row) in sample.captions.iter().zip(&sample.picture_of) {
            let place = split.captions.iter().position(|&other| other == caption).unwrap();
            let picture = split.pictures[split.picture_of[place] as usize];
            assert_eq!(sample.pictures[row as usize], picture);
        }
        assert_eq!(sample.captions.len(), sample.picture_of.len());
        assert!(split.sample(1).pictures.len() == 1 && !sample.captions.is_empty());
    }

    #[test]
    fn one_split_alone() {
        let corpus = corpus(4);
        let dev = corpus.only(&corpus.split("dev").unwrap());
        assert_eq!(
            dev.pictures.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(),
            ["001", "003"]
        );
        assert_eq!(dev.split("dev").unwrap().pictures, [0, 1]);
        assert_eq!(dev.captions[3], Caption { picture: 1, text: "caption 7".into() });
        assert_eq!(dev.splits.len(), 1);
    }

    #[test]
    fn an_unknown_picture() {
        let corpus = corpus(2);
        assert_eq!(corpus.picture("001").unwrap().name, "001");
        assert_eq!(
            corpus.picture("dog.jpg").unwrap_err().to_string(),
            "the corpus `test` has no picture `dog.jpg`; was it removed or renamed since it was embedded?"
        );
    }

    #[test]
    fn an_unknown_split() {
        assert_eq!(
            corpus(4).split("test").unwrap_err().to_string(),
            "the corpus `test` has no split `test`; it has dev, and all"
        );
        let without = Corpus { splits: BTreeMap::new(), ..corpus(4) };
        assert_eq!(
            without.split("test").unwrap_err().to_string(),
            "the corpus `test` has no split `test`; it has only all of it; `xr train --split \
             random-80-10-10` draws train, dev and test"
        );
    }

    #[test]
    fn dropped_pictures_take_their_captions_along() {
        let mut corpus = corpus(4);
        corpus.drop_pictures(&[(3, "truncated".into()), (0, "empty".into())]);
        let names: Vec<_> = corpus.pictures.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["001", "002"]);
        let captions: Vec<_> =
            corpus.captions.iter().map(|c| (c.picture, c.text.as_str())).collect();
        let expected = [(0, "caption 2"), (0, "caption 3"), (1, "caption 4"), (1, "caption 5")];
        assert_eq!(captions, expected);
        assert_eq!(corpus.splits["dev"], [0]);
        let skipped: Vec<_> = corpus.skipped.iter().map(Skipped::to_string).collect();
        assert_eq!(skipped, ["000: empty", "003: truncated"]);
    }

    #[test]
    fn a_random_split_is_a_partition_and_depends_on_the_seed_alone() {
        let split = |seed| {
            let mut c = corpus(100);
            c.split_randomly([0.7, 0.15], seed);
            c.splits
        };
        let parts = split(7);
        let sizes: Vec<_> = ["train", "dev", "test"].map(|n| parts[n].len()).into();
        assert_eq!(sizes, [70, 15, 15]);
        let mut all: Vec<_> = parts.values().flatten().copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        assert_eq!(split(7), parts);
        assert_ne!(split(8), parts);
    }
}
