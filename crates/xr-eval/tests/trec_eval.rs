//! The metrics against trec_eval, the reference of information retrieval; the fixture is made by
//! `reference/fixtures_metrics.py`.

use std::collections::BTreeMap;

use ndarray::Array2;
use serde::Deserialize;
use xr_data::Relevance;
use xr_eval::{Metric, Ranking, metric::*};
use xr_index::Metric as Similarity;

#[derive(Deserialize)]
struct Fixture {
    scores: Vec<Vec<f32>>,
    relevant: Vec<Vec<u32>>,
    values: BTreeMap<String, Vec<f64>>,
}

impl Fixture {
    /// Query `i` is the `i`-th unit vector, so its products with the gallery are `scores[i]`.
    fn ranking(&self) -> Ranking {
        let (queries, documents) = (self.scores.len(), self.scores[0].len());
        let scores = Array2::from_shape_vec((queries, documents), self.scores.concat()).unwrap();
        let pairs = (0..).zip(&self.relevant).flat_map(|(q, r)| r.iter().map(move |&d| (q, d)));
        let relevance = Relevance::from_pairs(queries, documents, pairs);
        let unit = Array2::eye(queries);
        Ranking::of(unit.view(), scores.t(), &relevance, Similarity::InnerProduct).unwrap()
    }
}

#[test]
fn agrees_for_every_query() {
    let fixture: Fixture = serde_json::from_str(include_str!("fixtures/trec_eval.json")).unwrap();
    let ranking = fixture.ranking();
    let metrics: [Box<dyn Metric>; 8] = [
        Box::new(RecallAt(1)),
        Box::new(RecallAt(5)),
        Box::new(RecallAt(10)),
        Box::new(FoundAt(10)),
        Box::new(ReciprocalRank),
        Box::new(AveragePrecision),
        Box::new(Ndcg::At(10)),
        Box::new(Ndcg::Whole),
    ];
    assert_eq!(metrics.len(), fixture.values.len());
    for metric in metrics {
        let ours = values(metric.as_ref(), &ranking);
        let theirs = &fixture.values[&metric.name()];
        assert_eq!(ours.len(), theirs.len());
        for (a, b) in ours.iter().zip(theirs) {
            // Both sum a handful of doubles, in another order perhaps.
            assert!((a - b).abs() < 1e-6, "{}: {ours:?}, not {theirs:?}", metric.name());
        }
    }
}
