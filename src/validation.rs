use std::collections::BTreeMap;

use xr_data::{Embeddings, EpochOrder, Fingerprint, Sampling, Split};
use xr_eval::{Geometry, Ranking, metric};
use xr_index::Metric as Similarity;
use xr_models::FeatureModel;
use xr_train::{ObjectiveConfig, Validation};

use crate::{
    Features, Recipe, Result,
    features::{device_of, matrix},
};

/// Rows of a batch of the validation loss. A contrastive loss depends on it, so it is the same for
/// every training.
const ROWS: usize = 128;

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
        let groups: Vec<u32> = captions.iter().map(|&c| split.picture_of[c as usize]).collect();
        let [image, text] = [(&features.image[0], &groups), (&features.text, &captions)]
            .map(|(of, rows)| matrix(of.select(rows).values().to_vec(), of.dim(), device));
        let output = model.forward(image, text);
        sum += f64::from(objective.loss(&output, &groups)?.total.into_scalar::<f32>());
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
