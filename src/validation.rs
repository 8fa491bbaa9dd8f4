use std::collections::{BTreeMap, HashMap};

use xr_data::{Corpus, Embeddings, EpochOrder, Fingerprint, Sampling, Split};
use xr_eval::{Geometry, Ranking, metric};
use xr_index::Metric as Similarity;
use xr_models::FeatureModel;
use xr_train::{Labels, ObjectiveConfig, Validation};

use crate::{
    Features, Recipe, Result,
    features::{device_of, matrix},
};

/// Rows of a batch of the validation loss. A contrastive loss depends on it, so it is the same for
/// every training.
const ROWS: usize = 128;

/// How the models of a training are validated.
pub(crate) struct Validator<'a> {
    recipe: &'a Recipe,
    dev: &'a Split,
    false_negatives: f64,
}

impl<'a> Validator<'a> {
    pub(crate) fn new(recipe: &'a Recipe, corpus: &Corpus, train: &Split, dev: &'a Split) -> Self {
        let (config, picture_of) = (&recipe.train, &train.picture_of);
        let order = EpochOrder::new(picture_of, config.sampling, config.batch_size, config.seed);
        let texts: Vec<_> = corpus.texts(train).collect();
        Self { recipe, dev, false_negatives: false_negatives(&texts, picture_of, &order) }
    }

    /// What [`validate`] measures on the split `dev`, and `false negatives` among the diagnostics.
    pub(crate) fn measure(&self, model: &FeatureModel, features: &Features) -> Result<Validation> {
        let mut validation = validate(self.recipe, model, features, self.dev)?;
        validation.diagnostics.insert("false negatives".into(), self.false_negatives);
        Ok(validation)
    }
}

/// The share of captions that also stand, in the same words, under another picture of their batch, in
/// the first epoch. A contrastive loss takes that picture for a wrong answer.
fn false_negatives(texts: &[&str], picture_of: &[u32], order: &EpochOrder) -> f64 {
    let words: Vec<_> = texts.iter().map(|text| words(text)).collect();
    let (mut captions, mut under_others) = (0, 0);
    for step in 0..order.steps() {
        let batch = order.batch(0, step);
        let rows = || batch.iter().map(|&c| (words[c as usize].as_str(), picture_of[c as usize]));
        // The picture of each text, if it is only one.
        let mut only = HashMap::new();
        for (text, picture) in rows() {
            let kept = only.entry(text).or_insert(Some(picture));
            *kept = kept.filter(|&first| first == picture);
        }
        captions += batch.len();
        under_others += rows().filter(|(text, _)| only[text].is_none()).count();
    }
    under_others as f64 / captions.max(1) as f64
}

/// A text without punctuation and capitals.
fn words(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

/// The mean loss over batches of a split's pairs, and text→image and image→text recalls.
///
/// Recalls of pictures as queries are called `i2t R@k`.
pub(crate) fn validate(
    recipe: &Recipe,
    model: &FeatureModel,
    features: &Features,
    split: &Split,
) -> Result<Validation> {
    let made_by = Fingerprint::of(["validation"]);
    let (image, text) = features.embed_by(model, recipe.head.latent(), &made_by);
    Ok(Validation {
        loss: loss(&recipe.train.objective, model, features, split)?,
        metrics: recalls(&image, &text, split)?,
        diagnostics: Geometry::of(&image, &text).map(diagnostics).unwrap_or_default(),
    })
}

fn diagnostics(geometry: Geometry) -> BTreeMap<String, f64> {
    let Geometry { image, text, gap } = geometry;
    let named = [
        ("image cosine", image.cosine),
        ("image dimensions", image.dimensions),
        ("text cosine", text.cosine),
        ("text dimensions", text.dimensions),
        ("gap", gap),
    ];
    named.map(|(name, value)| (name.to_string(), value)).into()
}

fn loss(
    objective: &ObjectiveConfig,
    model: &FeatureModel,
    features: &Features,
    split: &Split,
) -> Result<f64> {
    let device = &device_of(model);
    let order = EpochOrder::new(&split.picture_of, Sampling::EveryCaption, ROWS, 0);
    let mut sum = 0.0;
    for step in 0..order.steps() {
        let captions = order.batch(0, step);
        let pictures: Vec<u32> = captions.iter().map(|&c| split.picture_of[c as usize]).collect();
        let [image, text] = [(&features.image[0], &pictures), (&features.text, &captions)]
            .map(|(of, rows)| matrix(of.select(rows).values().to_vec(), of.dim(), device));
        let output = model.forward(image, text);
        sum +=
            f64::from(objective.loss(&output, &Labels::of(pictures))?.total.into_scalar::<f32>());
    }
    Ok(sum / order.steps() as f64)
}

fn recalls(image: &Embeddings, text: &Embeddings, split: &Split) -> Result<BTreeMap<String, f64>> {
    let to_image = split.text_to_image();
    let [image, text] = [image.view(), text.view()];
    let forth = Ranking::of(text, image, &to_image, Similarity::InnerProduct)?;
    let back = Ranking::of(image, text, &to_image.transpose(), Similarity::InnerProduct)?;
    let at = |prefix: &'static str, ranking: Ranking| {
        [1, 5, 10]
            .map(|k| (format!("{prefix}R@{k}"), metric::value(&metric::RecallAt(k), &ranking)))
    };
    Ok(at("", forth).into_iter().chain(at("i2t ", back)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_under_other_pictures_of_their_batch() {
        let texts = ["A dog.", "a  dog", "a cat", "a dog", "a cat", "A cat!"];
        let picture_of = [0, 1, 2, 0, 2, 2];
        let all = EpochOrder::new(&picture_of, Sampling::EveryCaption, 6, 0);
        // The three dogs are of two pictures, the cats of one.
        assert_eq!(false_negatives(&texts, &picture_of, &all), 0.5);
        let one_by_one = EpochOrder::new(&picture_of, Sampling::EveryCaption, 1, 0);
        assert_eq!(false_negatives(&texts, &picture_of, &one_by_one), 0.0);
    }
}
