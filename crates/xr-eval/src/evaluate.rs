use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use xr_data::{Embeddings, Manifest, Relevance, Split};
use xr_index::{Metric as Similarity, QueryBank};

use crate::{
    Bootstrap, Error, Interval, Ranking, Result,
    metric::{Metric, standard, values},
};

/// What is reported and how sure it must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalConfig {
    /// The `k` of each `R@k`.
    pub ks: Vec<u32>,
    /// How intervals are made.
    pub bootstrap: Bootstrap,
}

impl Default for EvalConfig {
    /// R@1, R@5, R@10 and R@50, and 95 % intervals of 1,000 resamples.
    fn default() -> Self {
        Self { ks: vec![1, 5, 10, 50], bootstrap: Bootstrap::default() }
    }
}

/// Metrics by name, in the order they were asked for.
pub type Measures = IndexMap<String, Interval>;

/// Scores of one model on one split, in both directions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// What exactly was scored.
    pub manifest: Manifest,
    /// Captions as queries, pictures as gallery.
    pub text_to_image: Measures,
    /// Pictures as queries, captions as gallery.
    pub image_to_text: Measures,
}

/// Scores embeddings of a split's pictures `[pictures, dim]` and captions `[captions, dim]`, in the
/// order of the split, by cosine similarity, in both directions, with the
/// [standard metrics](standard). `manifest` says which split that is, and goes into the scores.
///
/// Intervals resample pictures: in either direction all queries of a picture come and go together.
///
/// # Errors
/// [`Error::TwoModels`] if two models made the embeddings, [`Error::OtherSplit`] if the rows aren't
/// those of the split, [`Error::Search`] if a row holds NaN or infinity, and
/// [`Error::NothingToFind`] if no query has an answer.
pub fn evaluate(
    image: &Embeddings,
    text: &Embeddings,
    split: &Split,
    manifest: &Manifest,
    config: &EvalConfig,
) -> Result<Scores> {
    check(image, text, split)?;
    let (image, text) = (image.normalized(), text.normalized());
    both_directions([&text, &image], [&image, &text], split, manifest, config)
}

/// Queries of training: captions correct pictures, and pictures captions.
#[derive(Debug)]
pub struct Banks {
    /// Embeddings of pictures.
    pub pictures: QueryBank,
    /// Embeddings of captions.
    pub captions: QueryBank,
}

/// [`evaluate`] by cosine similarity less the correction of a [`QueryBank`]. The banks must not hold
/// anything of the split.
///
/// # Errors
/// As [`evaluate`], and [`Error::Search`] if another model made the banks.
pub fn evaluate_corrected(
    image: &Embeddings,
    text: &Embeddings,
    banks: &Banks,
    split: &Split,
    manifest: &Manifest,
    config: &EvalConfig,
) -> Result<Scores> {
    check(image, text, split)?;
    let corrected = |bank: &QueryBank, queries, gallery| {
        Ok::<_, Error>([bank.correct_queries(queries)?, bank.correct(gallery)?])
    };
    let to_image = corrected(&banks.captions, text, image)?;
    let to_text = corrected(&banks.pictures, image, text)?;
    both_directions(to_image.each_ref(), to_text.each_ref(), split, manifest, config)
}

/// Scores queries and gallery of either direction, by inner product.
fn both_directions(
    to_image: [&Embeddings; 2],
    to_text: [&Embeddings; 2],
    split: &Split,
    manifest: &Manifest,
    config: &EvalConfig,
) -> Result<Scores> {
    let metrics = standard(&config.ks);
    let score = |[queries, gallery]: [&Embeddings; 2], relevance: &Relevance, pictures: &[u32]| {
        let (queries, gallery) = (queries.view(), gallery.view());
        let ranking = Ranking::of(queries, gallery, relevance, Similarity::InnerProduct)?;
        measure(&ranking, &metrics, pictures, &config.bootstrap)
    };
    let relevance = split.text_to_image();
    let every_picture: Vec<u32> = (0..split.pictures.len() as u32).collect();
    Ok(Scores {
        manifest: manifest.clone(),
        text_to_image: score(to_image, &relevance, &split.picture_of)?,
        image_to_text: score(to_text, &relevance.transpose(), &every_picture)?,
    })
}

/// Every metric of a ranking with its interval; query `i` belongs to cluster `clusters[i]`.
///
/// # Errors
/// [`Error::NothingToFind`] if no query has an answer.
///
/// # Panics
/// If there is no cluster for a query.
pub fn measure(
    ranking: &Ranking,
    metrics: &[Box<dyn Metric>],
    clusters: &[u32],
    bootstrap: &Bootstrap,
) -> Result<Measures> {
    let clusters: Vec<_> = ranking.answerable().map(|(query, _)| clusters[query]).collect();
    if clusters.is_empty() {
        let (queries, gallery) = (ranking.unanswerable(), ranking.gallery());
        return Err(Error::NothingToFind { queries, gallery });
    }
    let of = |metric: &dyn Metric| {
        let values = values(metric, ranking);
        (metric.name(), bootstrap.interval(&values, &clusters, metric.aggregate()))
    };
    Ok(metrics.iter().map(|metric| of(metric.as_ref())).collect())
}

fn check(image: &Embeddings, text: &Embeddings, split: &Split) -> Result<()> {
    if image.made_by() != text.made_by() {
        let (image, text) = (image.made_by().clone(), text.made_by().clone());
        return Err(Error::TwoModels { image, text });
    }
    let rows = [
        ("picture", image.rows(), split.pictures.len()),
        ("caption", text.rows(), split.captions.len()),
    ];
    match rows.into_iter().find(|(_, found, expected)| found != expected) {
        None => Ok(()),
        Some((what, found, expected)) => {
            Err(Error::OtherSplit { what, found, expected, split: split.name.clone() })
        }
    }
}

#[cfg(test)]
mod tests {
    use xr_data::Fingerprint;

    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            corpus: "hand".into(),
            split: "dev".into(),
            drawn: None,
            pictures: 2,
            captions: 3,
            sha256: Fingerprint::from("abc".to_string()),
        }
    }

    /// Two pictures; captions 0 and 1 describe the first, caption 2 the second.
    fn split() -> Split {
        Split {
            name: "dev".into(),
            pictures: vec![4, 9],
            captions: vec![20, 21, 45],
            picture_of: vec![0, 0, 1],
        }
    }

    fn rows(values: &[f32]) -> Embeddings {
        Embeddings::new(values.to_vec(), 2, Fingerprint::of(["model"]))
    }

    fn pictures() -> Embeddings {
        rows(&[1., 0., 0., 1.])
    }

    fn scores(image: &Embeddings, text: &Embeddings) -> Result<Scores> {
        evaluate(image, text, &split(), &manifest(), &EvalConfig::default())
    }

    #[test]
    fn json_keeps_the_order() {
        let interval = Interval { value: 0.5, low: 0.25, high: 0.75 };
        let measures = Measures::from([("R@1".into(), interval), ("MedR".into(), interval)]);
        let scores = Scores {
            manifest: manifest(),
            text_to_image: measures,
            image_to_text: Measures::new(),
        };
        let json = serde_json::to_string(&scores).unwrap();
        let half = r#"{"value":0.5,"low":0.25,"high":0.75}"#;
        let expected =
            format!(r#""text_to_image":{{"R@1":{half},"MedR":{half}}},"image_to_text":{{}}}}"#);
        assert!(json.starts_with(r#"{"manifest":{"corpus":"hand","#), "{json}");
        assert!(json.ends_with(&expected), "{json}");
        assert_eq!(serde_json::from_str::<Scores>(&json).unwrap(), scores);
    }

    #[test]
    fn both_directions_by_hand() {
        // Caption 1 lies nearer to the wrong picture. Its length would put it first if the inner
        // product counted and not the cosine.
        let captions = rows(&[2., 1., 30., 40., 1., 2.]);
        let config = EvalConfig { ks: vec![1, 2], ..Default::default() };
        let scores = evaluate(&pictures(), &captions, &split(), &manifest(), &config).unwrap();
        // Captions: ranks 1, 2, 1.
        assert_eq!(scores.text_to_image["R@1"].value, 2. / 3.);
        assert_eq!(scores.text_to_image["R@2"].value, 1.);
        assert_eq!(scores.text_to_image["MeanR"].value, 4. / 3.);
        // Picture 0: cosines .894, .6, .447, so its captions rank 1 and 2. Picture 1: .447, .8, .894.
        assert_eq!(scores.image_to_text["R@1"].value, 1.);
        assert_eq!(scores.image_to_text["mAP"].value, 1.);
        // Of the two pictures, the first alone has a miss: drawn twice, one caption in two is right.
        assert_eq!(scores.text_to_image["R@1"].low, 0.5);
        assert_eq!(scores.text_to_image["R@1"].high, 1.);
    }

    #[test]
    fn embeddings_of_two_models() {
        let other = Embeddings::new(vec![0.; 6], 2, Fingerprint::of(["other"]));
        let error = scores(&pictures(), &other).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "the pictures were embedded by model {} and the texts by model {}, whose spaces \
                 have nothing in common; embed both with one model",
                Fingerprint::of(["model"]),
                Fingerprint::of(["other"])
            )
        );
    }

    #[test]
    fn embeddings_of_another_split() {
        let error = scores(&pictures(), &pictures()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there are 2 caption embeddings, but the split `dev` has 3; embed this split"
        );
    }

    #[test]
    fn nothing_to_find() {
        let ranking = Ranking::from_ranks(5, vec![vec![], vec![]]);
        let error = measure(&ranking, &standard(&[1]), &[0, 1], &Bootstrap::default()).unwrap_err();
        assert_eq!(error.to_string(), "none of the 2 queries has an answer in the gallery of 5");
    }
}
