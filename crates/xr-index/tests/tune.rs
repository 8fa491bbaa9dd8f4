//! What tuning finds out, where it can be said beforehand.

use std::time::Duration;

use ndarray::{Array2, s};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use xr_data::{Embeddings, Fingerprint};
use xr_index::{
    IndexSpec, Metric,
    tune::{QuerySample, Tuning, tune},
};

fn uniform(rows: usize) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(rows as u64);
    Array2::from_shape_simple_fn((rows, 16), || rng.random_range(-1.0..1.0))
}

fn tuning(specs: &[&str]) -> Tuning {
    Tuning {
        specs: specs.iter().map(|spec| spec.parse().unwrap()).collect(),
        k: 10,
        max_bytes: None,
        max_p99: None,
        time: Duration::from_millis(5),
    }
}

fn embeddings() -> Embeddings {
    Embeddings::new(uniform(500).into_iter().collect(), 16, Fingerprint::of(["model"]))
}

#[test]
fn exact_finds_all_of_every_kind() {
    let queries = uniform(20);
    let samples = [
        QuerySample { kind: "image", queries: queries.slice(s![..5, ..]) },
        QuerySample { kind: "text", queries: queries.slice(s![5.., ..]) },
    ];
    let mut seen = 0;
    let tuning = tuning(&["exact", "exact-i8"]);
    let report = tune(&embeddings(), Metric::Cosine, &samples, &tuning, |_| seen += 1).unwrap();
    // exact once, exact-i8 with four values of rerank.
    assert_eq!((report.measured.len(), seen), (5, 5));
    let exact = &report.measured[0];
    assert_eq!(exact.spec, IndexSpec::Exact);
    assert_eq!((exact.worst_recall(), exact.bytes), (1., 64.));
    assert_eq!(exact.recall[1].kind, "text");
    assert!(exact.p50 <= exact.p99 && exact.qps_one > 0. && exact.qps_all > 0.);
    let choice = &report.measured[report.choice.unwrap()];
    assert_eq!(choice.worst_recall(), 1.);
    let table = report.markdown();
    let heads = "| index | effort | recall@10, image | recall@10, text | p50 ms |";
    assert!(table.contains(heads), "{table}");
    assert!(table.contains("| 1.000 ± 0.000 | 1.000 ± 0.000 |"), "{table}");
}

#[test]
fn nothing_is_chosen_beyond_the_budget() {
    let queries = uniform(20);
    let samples = [QuerySample { kind: "image", queries: queries.view() }];
    let tuning = Tuning { max_bytes: Some(63.), ..tuning(&["exact", "exact-i8"]) };
    let report = tune(&embeddings(), Metric::L2, &samples, &tuning, |_| {}).unwrap();
    assert_eq!(report.choice, None);
}

#[test]
fn nothing_to_tune() {
    let report = tune(&embeddings(), Metric::L2, &[], &tuning(&["exact"]), |_| {});
    assert_eq!(
        report.unwrap_err().to_string(),
        "nothing to measure: tuning needs vectors, queries and at least one index to try"
    );
}
