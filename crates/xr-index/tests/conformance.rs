//! What every index promises, stamped for each specification; `exact` says what is right.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use ndarray::{Array2, ArrayView2, Axis, array, s};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use xr_data::{Embeddings, Fingerprint};
use xr_index::{Effort, Error, Hits, IdFilter, IndexSpec, Metric, SearchParams, VectorIndex, open};

const DIM: usize = 32;
const ROWS: usize = 1_200;
const CENTRES: usize = 40;
const METRICS: [Metric; 3] = [Metric::InnerProduct, Metric::Cosine, Metric::L2];

/// A specification, how hard it is to look, and what it then promises.
#[derive(Clone, Copy)]
struct Case {
    spec: &'static str,
    effort: &'static str,
    /// Of the ten best.
    recall: f64,
    /// Of all within a bound.
    within: f64,
    /// How far a score may be from the true one, relative to the largest.
    error: f32,
}

impl Case {
    /// Finds nearly all, with true scores up to rounding.
    #[cfg(any(feature = "faiss", feature = "milvus"))]
    fn near(spec: &'static str, effort: &'static str) -> Self {
        Self { spec, effort, recall: 0.95, within: 0.95, error: 1e-5 }
    }

    fn build(self, metric: Metric) -> Box<dyn VectorIndex> {
        build(self.spec, &rows(), Some(ids()), metric)
    }

    fn params(self) -> SearchParams<'static> {
        SearchParams { effort: self.effort.parse().unwrap(), filter: None }
    }
}

fn build(
    spec: &str,
    rows: &Array2<f32>,
    ids: Option<Vec<u64>>,
    metric: Metric,
) -> Box<dyn VectorIndex> {
    let values = rows.iter().copied().collect();
    let embeddings = Embeddings::new(values, rows.ncols(), Fingerprint::of(["test"]));
    parse(spec).build(embeddings, ids, metric).unwrap()
}

/// Settings, `?index=FLAT`, stand for a new collection on the Milvus server that `XR_MILVUS` names.
fn parse(spec: &str) -> IndexSpec {
    static COLLECTIONS: AtomicUsize = AtomicUsize::new(0);
    if !spec.starts_with('?') {
        return spec.parse().unwrap();
    }
    let server = env::var("XR_MILVUS").expect("XR_MILVUS, such as http://localhost:19530");
    let (process, number) = (process::id(), COLLECTIONS.fetch_add(1, Ordering::Relaxed));
    format!("{server}/conformance_{process}_{number}{spec}").parse().unwrap()
}

/// Vectors around a few centres, as embeddings lie.
fn clustered(rows: usize, seed: u64) -> Array2<f32> {
    let mut centres = ChaCha8Rng::seed_from_u64(7);
    let centres = Array2::from_shape_simple_fn((CENTRES, DIM), || centres.random_range(-1f32..1.));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut out = Array2::zeros((rows, DIM));
    for mut row in out.rows_mut() {
        row.assign(&centres.row(rng.random_range(0..CENTRES)));
        row.mapv_inplace(|x| x + rng.random_range(-0.5..0.5));
    }
    out
}

fn rows() -> Array2<f32> {
    clustered(ROWS, 0)
}

fn queries() -> Array2<f32> {
    clustered(40, 1)
}

/// Neither dense nor sorted, and some of them large.
fn ids() -> Vec<u64> {
    (0..ROWS as u64).map(|row| (row * 7919 % 9973) << (row % 3 * 20)).collect()
}

fn found(hits: &Hits) -> Vec<Vec<u64>> {
    hits.iter().map(|hits| hits.iter().map(|hit| hit.id).collect()).collect()
}

/// The share of `expected` that is among `hits`.
fn recall(hits: &Hits, expected: &Hits) -> f64 {
    let pairs = found(hits).into_iter().zip(found(expected));
    let (mut right, mut all) = (0, 0);
    for (hits, expected) in pairs {
        right += expected.iter().filter(|id| hits.contains(id)).count();
        all += expected.len();
    }
    right as f64 / all as f64
}

fn best_first(hits: &Hits, metric: Metric) -> bool {
    let rank = |score: f32| if metric == Metric::L2 { score } else { -score };
    let key =
        |hits: &[xr_index::Hit]| hits.iter().map(|h| (rank(h.score), h.id)).collect::<Vec<_>>();
    hits.iter().all(|hits| key(hits).is_sorted())
}

fn finds_and_scores(case: Case) {
    for metric in METRICS {
        let exact = build("exact", &rows(), Some(ids()), metric);
        let index = case.build(metric);
        let hits = index.search(queries().view(), 10, &case.params()).unwrap();
        let expected = exact.search(queries().view(), 10, &SearchParams::default()).unwrap();
        assert!(best_first(&hits, metric));
        let recall = recall(&hits, &expected);
        assert!(recall >= case.recall, "{metric}: {recall}");
        scores_are_true(case, &exact, &hits);
    }
}

fn scores_are_true(case: Case, exact: &dyn AsIndex, hits: &Hits) {
    let all = exact.index().search(queries().view(), ROWS, &SearchParams::default()).unwrap();
    for (hits, all) in hits.iter().zip(all.iter()) {
        let largest = all.iter().fold(0f32, |largest, hit| largest.max(hit.score.abs()));
        for hit in hits {
            let truth = all.iter().find(|other| other.id == hit.id).unwrap().score;
            assert!((hit.score - truth).abs() <= case.error * largest, "{hit:?}, truly {truth}");
        }
    }
}

trait AsIndex {
    fn index(&self) -> &dyn VectorIndex;
}

impl AsIndex for Box<dyn VectorIndex> {
    fn index(&self) -> &dyn VectorIndex {
        &**self
    }
}

fn the_same_search_finds_the_same(case: Case) {
    let index = case.build(Metric::Cosine);
    let first = index.search(queries().view(), 10, &case.params()).unwrap();
    for _ in 0..3 {
        assert_eq!(index.search(queries().view(), 10, &case.params()).unwrap(), first);
    }
    assert_eq!(first.queries(), queries().nrows());
}

fn single_queries_find_what_a_batch_finds(case: Case) {
    let index = case.build(Metric::InnerProduct);
    let batch = index.search(queries().view(), 10, &case.params()).unwrap();
    for (row, expected) in queries().axis_chunks_iter(Axis(0), 1).zip(batch.iter()) {
        let single = index.search(row, 10, &case.params()).unwrap();
        assert_eq!(found(&single)[0], expected.iter().map(|hit| hit.id).collect::<Vec<_>>());
    }
}

fn threads_find_what_one_finds(case: Case) {
    let index = case.build(Metric::L2);
    let expected = index.search(queries().view(), 10, &case.params()).unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let hits = index.search(queries().view(), 10, &case.params()).unwrap();
                    assert_eq!(hits, expected);
                }
            });
        }
    });
}

fn fewer_than_k(case: Case) {
    let mut index = case.build(Metric::InnerProduct);
    let (kept, removed) = (&ids()[..3], &ids()[3..]);
    assert_eq!(index.remove(removed).unwrap(), ROWS - 3);
    assert_eq!(index.len(), 3);
    let params = SearchParams { effort: all(case), filter: None };
    let hits = index.search(queries().view(), 10, &params).unwrap();
    for mut hits in found(&hits) {
        hits.sort_unstable();
        let mut kept = kept.to_vec();
        kept.sort_unstable();
        assert_eq!(hits, kept);
    }
    let none = index.search(queries().view(), 0, &params).unwrap();
    assert_eq!(found(&none), vec![vec![0; 0]; queries().nrows()]);
}

/// Looks everywhere.
fn all(case: Case) -> Effort {
    let mut effort: Effort = case.effort.parse().unwrap();
    effort.nprobe = effort.nprobe.map(|_| 1_000.try_into().unwrap());
    effort.ef_search = effort.ef_search.map(|_| ROWS.try_into().unwrap());
    effort
}

fn emptied(case: Case) {
    let mut index = case.build(Metric::Cosine);
    assert_eq!(index.remove(&ids()).unwrap(), ROWS);
    assert!(index.is_empty());
    let hits = index.search(queries().view(), 10, &case.params()).unwrap();
    assert!(hits.iter().all(<[_]>::is_empty) && hits.queries() == queries().nrows());
    index.add(&ids(), rows().view()).unwrap();
    assert_eq!(index.search(queries().view(), 1, &case.params()).unwrap().of(0).len(), 1);
}

fn no_queries(case: Case) {
    let index = case.build(Metric::Cosine);
    let none = Array2::zeros((0, DIM));
    assert_eq!(index.search(none.view(), 10, &case.params()).unwrap().queries(), 0);
    assert_eq!(index.within(none.view(), 0., &case.params()).unwrap().queries(), 0);
}

fn equal_vectors_tie_by_id(case: Case) {
    let mut rows = rows();
    let copies = [5, 17, 900, 1_199];
    let original = rows.row(3).to_owned();
    copies.iter().for_each(|&row| rows.row_mut(row).assign(&original));
    for metric in METRICS {
        let index = build(case.spec, &rows, Some(ids()), metric);
        let params = SearchParams { effort: all(case), filter: None };
        let query = original.view().insert_axis(Axis(0));
        // Among vectors that look alike to a quantizer, all copies are.
        let hits = index.search(query, 50, &params).unwrap();
        let mut expected: Vec<_> = [3].iter().chain(&copies).map(|&row| ids()[row]).collect();
        expected.sort_unstable();
        let hits: Vec<_> = hits.of(0).iter().filter(|hit| expected.contains(&hit.id)).collect();
        assert_eq!(hits.iter().map(|hit| hit.id).collect::<Vec<_>>(), expected, "{metric}");
        assert!(hits.iter().all(|hit| hit.score == hits[0].score));
    }
}

fn removed_is_not_found(case: Case) {
    let mut index = case.build(Metric::L2);
    let before = index.search(queries().view(), 5, &case.params()).unwrap();
    let best: IdFilter = found(&before).concat().into_iter().collect();
    let removed: Vec<_> = found(&before).concat();
    assert_eq!(index.remove(&removed).unwrap(), best.len());
    assert_eq!(index.remove(&removed).unwrap(), 0);
    assert_eq!(index.len(), ROWS - best.len());
    let mut exact = build("exact", &rows(), Some(ids()), Metric::L2);
    exact.remove(&removed).unwrap();
    let after = index.search(queries().view(), 10, &case.params()).unwrap();
    let expected = exact.search(queries().view(), 10, &SearchParams::default()).unwrap();
    assert!(found(&after).concat().iter().all(|&id| !best.contains(id)));
    assert!(recall(&after, &expected) >= case.recall);
}

fn added_is_found(case: Case) {
    let new = queries();
    let ids: Vec<_> = (0..new.nrows() as u64).map(|i| u64::MAX - i).collect();
    let mut index = case.build(Metric::Cosine);
    index.add(&ids, new.view()).unwrap();
    assert_eq!(index.len(), ROWS + ids.len());
    let hits = index.search(new.view(), 10, &case.params()).unwrap();
    let itself = found(&hits).iter().zip(&ids).filter(|(hits, id)| hits.contains(id)).count();
    assert!(itself as f64 >= case.recall * ids.len() as f64, "{itself} of {}", ids.len());
}

fn an_id_can_be_used_again(case: Case) {
    let mut index = case.build(Metric::L2);
    let id = ids()[11];
    let far = Array2::from_elem((1, DIM), 9.);
    index.remove(&[id]).unwrap();
    index.add(&[id], far.view()).unwrap();
    let params = SearchParams { effort: all(case), filter: None };
    let hits = index.search(far.view(), 1, &params).unwrap();
    assert_eq!(found(&hits), [[id]]);
    let there = index.search(rows().slice(s![11..12, ..]), 30, &params).unwrap();
    assert!(!found(&there)[0].contains(&id));
}

fn refused_additions_change_nothing(case: Case) {
    let mut index = case.build(Metric::L2);
    let before = index.search(queries().view(), 10, &case.params()).unwrap();
    let two = clustered(2, 5);
    let new = [1 << 60, 1 << 61];
    let mut refused =
        |ids: &[u64], rows: ArrayView2<f32>| index.add(ids, rows).unwrap_err().to_string();
    let there = ids()[4];
    let taken =
        format!("two vectors have the id {there}; give each its own, or remove the old one first");
    assert_eq!(refused(&[1 << 60, there], two.view()), taken);
    assert!(refused(&[1 << 60, 1 << 60], two.view()).starts_with("two vectors have the id "));
    let one_id = "1 ids came with 2 vectors; give each vector one";
    assert_eq!(refused(&new[..1], two.view()), one_id);
    assert!(refused(&new, Array2::zeros((2, DIM + 1)).view()).contains("33 dimensions"));
    let mut bad = two.clone();
    bad[[1, 3]] = f32::NAN;
    assert!(refused(&new, bad.view()).starts_with("row 1 of the gallery is not finite: "));
    assert_eq!(index.len(), ROWS);
    assert_eq!(index.search(queries().view(), 10, &case.params()).unwrap(), before);
}

fn queries_of_another_width(case: Case) {
    let index = case.build(Metric::L2);
    let other = Array2::zeros((1, DIM + 1));
    let sentence =
        "the queries have 33 dimensions and the gallery 32; embed both with the same model";
    let search = index.search(other.view(), 1, &case.params()).unwrap_err();
    let within = index.within(other.view(), 1., &case.params()).unwrap_err();
    assert_eq!([search, within].map(|error| error.to_string()), [sentence, sentence]);
}

fn what_is_not_finite_is_named(case: Case) {
    let index = case.build(Metric::InnerProduct);
    // The last is finite, but no similarity to it need be.
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e20] {
        let mut queries = queries();
        queries[[7, 3]] = bad;
        let error = index.search(queries.view(), 1, &case.params()).unwrap_err().to_string();
        assert!(error.starts_with("row 7 of the queries is not finite: "), "{error}");
        let mut rows = rows();
        rows[[9, 0]] = bad;
        let values = rows.into_raw_vec_and_offset().0;
        let rows = Embeddings::new(values, DIM, Fingerprint::of(["test"]));
        let error = parse(case.spec).build(rows, None, Metric::L2).unwrap_err().to_string();
        assert!(error.starts_with("row 9 of the gallery is not finite: "), "{error}");
    }
}

fn zeros_are_vectors_too(case: Case) {
    let mut rows = rows();
    rows.row_mut(8).fill(0.);
    for metric in METRICS {
        let index = build(case.spec, &rows, None, metric);
        let zero = Array2::zeros((1, DIM));
        let hits = index.search(zero.view(), 5, &case.params()).unwrap();
        assert_eq!(hits.of(0).len(), 5);
        assert!(hits.of(0).iter().all(|hit| hit.score.is_finite()));
    }
}

fn a_filter_lets_through_what_it_lists(case: Case) {
    let exact = build("exact", &rows(), Some(ids()), Metric::Cosine);
    let index = case.build(Metric::Cosine);
    for step in [2, 50, 700] {
        let filter: IdFilter = ids().into_iter().step_by(step).collect();
        let with = |effort| SearchParams { filter: Some(&filter), effort };
        let hits = index.search(queries().view(), 10, &with(all(case))).unwrap();
        let expected = exact.search(queries().view(), 10, &with(Effort::default())).unwrap();
        assert!(found(&hits).concat().iter().all(|&id| filter.contains(id)));
        assert!(recall(&hits, &expected) >= case.recall, "one in {step}");
    }
    let none = IdFilter::from_iter([]);
    let params = SearchParams { filter: Some(&none), ..case.params() };
    let hits = index.search(queries().view(), 10, &params).unwrap();
    assert!(hits.iter().all(<[_]>::is_empty));
}

fn within_a_bound(case: Case) {
    for (metric, bound) in [(Metric::InnerProduct, 9.), (Metric::Cosine, 0.8), (Metric::L2, 5.)] {
        let exact = build("exact", &rows(), Some(ids()), metric);
        let index = case.build(metric);
        let filter: IdFilter = ids().into_iter().step_by(2).collect();
        for filter in [None, Some(&filter)] {
            let params = SearchParams { filter, effort: all(case) };
            let hits = index.within(queries().view(), bound, &params).unwrap();
            let all = SearchParams { filter, effort: Effort::default() };
            let expected = exact.within(queries().view(), bound, &all).unwrap();
            assert!(expected.iter().map(<[_]>::len).sum::<usize>() > 100, "a test of something");
            assert!(best_first(&hits, metric));
            let inside =
                |score: f32| if metric == Metric::L2 { score <= bound } else { score >= bound };
            assert!(hits.iter().flatten().all(|hit| inside(hit.score)));
            assert!(found(&hits).concat().iter().all(|&id| filter.is_none_or(|f| f.contains(id))));
            let recall = recall(&hits, &expected);
            assert!(recall >= case.within, "{metric}: {recall}");
        }
    }
}

fn saved_and_opened(case: Case) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("index");
    for metric in METRICS {
        let mut index = case.build(metric);
        index.remove(&ids()[..500]).unwrap();
        let opened = saved(&*index, &dir);
        same(&*opened, &*index, case);
        assert_eq!(opened.made_by(), &Fingerprint::of(["test"]));
    }
    // Row numbers as ids, and an index that goes on growing after it was opened.
    let mut opened = saved(&*build(case.spec, &rows(), None, Metric::L2), &dir);
    opened.add(&[5_000], queries().slice(s![..1, ..])).unwrap();
    opened.remove(&[0]).unwrap();
    same(&*saved(&*opened, &dir), &*opened, case);
}

fn saved(index: &dyn VectorIndex, dir: &Path) -> Box<dyn VectorIndex> {
    index.save(dir).unwrap();
    open(dir).unwrap()
}

fn same(a: &dyn VectorIndex, b: &dyn VectorIndex, case: Case) {
    let about = |index: &dyn VectorIndex| (index.name(), index.dim(), index.len(), index.metric());
    assert_eq!(about(a), about(b));
    let search =
        |index: &dyn VectorIndex| index.search(queries().view(), 10, &case.params()).unwrap();
    assert_eq!(search(a), search(b));
}

fn any_byte_changed_or_missing_is_noticed(case: Case) {
    let dir = tempfile::tempdir().unwrap();
    case.build(Metric::Cosine).save(dir.path()).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    for path in files(dir.path()) {
        let bytes = fs::read(&path).unwrap();
        let refused = |changed: &[u8]| {
            fs::write(&path, changed).unwrap();
            let error = open(dir.path()).expect_err("a damaged file");
            assert!(matches!(error, Error::Damaged { .. }), "{error}");
            assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
        };
        for _ in 0..20 {
            refused(&bytes[..rng.random_range(0..bytes.len())]);
            let at = rng.random_range(0..bytes.len());
            let mut changed = bytes.clone();
            changed[at] ^= 1 << rng.random_range(0..5);
            // Of index.json, what matters is what it says.
            let means = |bytes| serde_json::from_slice::<serde_json::Value>(bytes).ok();
            if !path.ends_with("index.json") || means(&changed) != means(&bytes) {
                refused(&changed);
            }
        }
        fs::write(&path, bytes).unwrap();
    }
    open(dir.path()).unwrap();
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

fn a_foreign_parameter_is_refused(case: Case) {
    let index = case.build(Metric::L2);
    let names = ["nprobe", "ef_search", "rerank"];
    for name in names.into_iter().filter(|name| !case.effort.contains(name)) {
        let effort: Effort = format!("{name}=3").parse().unwrap();
        let params = SearchParams { effort, filter: None };
        let error = index.search(queries().view(), 1, &params).unwrap_err().to_string();
        let start = format!("the index {} has no parameter {name}; it has ", index.name());
        assert!(error.starts_with(&start), "{error}");
    }
}

/// Cases with properties, behind a condition for ignoring them: `any()` never holds, `all()` always.
macro_rules! conformance {
    ($ignored:meta; $($name:ident: $case:expr, [$($property:ident)*];)*) => {
        $(mod $name {
            $(#[test]
            #[cfg_attr($ignored, ignore = "needs a server")]
            fn $property() {
                super::$property($case);
            })*
        })*
    };
}

/// All properties for each case.
macro_rules! every_property {
    ($ignored:meta; $($name:ident: $case:expr;)*) => {
        conformance! { $ignored; $($name: $case, [
            finds_and_scores
            the_same_search_finds_the_same
            single_queries_find_what_a_batch_finds
            threads_find_what_one_finds
            fewer_than_k
            emptied
            no_queries
            equal_vectors_tie_by_id
            removed_is_not_found
            added_is_found
            an_id_can_be_used_again
            refused_additions_change_nothing
            queries_of_another_width
            what_is_not_finite_is_named
            zeros_are_vectors_too
            a_filter_lets_through_what_it_lists
            within_a_bound
            saved_and_opened
            any_byte_changed_or_missing_is_noticed
            a_foreign_parameter_is_refused
        ];)* }
    };
}

every_property! {
    any();
    exact: super::Case { spec: "exact", effort: "default", recall: 1., within: 1., error: 0. };
    exact_i8: super::Case { spec: "exact-i8", effort: "rerank=4", recall: 0.99, within: 1., error: 0. };
}

// Recall is of all lists where there are lists: what is lost is lost by the codes.
#[cfg(feature = "faiss")]
every_property! {
    any();
    flat: super::Case::near("Flat", "default");
    ivf_flat: super::Case::near("IVF16,Flat", "nprobe=16");
    ivf_sq8: super::Case { error: 0.01, ..super::Case::near("IVF16,SQ8", "nprobe=16") };
    ivf_hnsw_flat: super::Case::near("IVF16_HNSW8,Flat", "nprobe=16,ef_search=64");
    hnsw: super::Case::near("HNSW16", "ef_search=200");
    rotated_sq8: super::Case { error: 0.01, ..super::Case::near("RR32,SQ8", "default") };
    pq_refined: super::Case {
        within: 0.5, ..super::Case::near("IVF16,PQ16x4,RFlat", "nprobe=16,rerank=20")
    };
}

// Not for the zero vector: a fast scan finds nothing for it.
#[cfg(feature = "faiss")]
conformance! {
    any();
    pq_fast_scan: super::Case {
        within: 0.4, ..super::Case::near("IVF16,PQ16x4fs,RFlat", "nprobe=16,rerank=20")
    }, [
        finds_and_scores
        the_same_search_finds_the_same
        threads_find_what_one_finds
        fewer_than_k
        removed_is_not_found
        added_is_found
        a_filter_lets_through_what_it_lists
        within_a_bound
        saved_and_opened
    ];
}

#[cfg(feature = "milvus")]
every_property! {
    all();
    milvus_flat: super::Case::near("?index=FLAT", "default");
    milvus_hnsw: super::Case::near("?index=HNSW&shards=2", "ef_search=200");
    milvus_ivf_flat: super::Case::near("?index=IVF_FLAT&nlist=16&consistency=strong", "nprobe=16");
}

/// Bytes alone find fewer, so the scan of bytes is really what answers.
#[test]
fn more_candidates_find_more() {
    let exact = build("exact", &rows(), None, Metric::L2);
    let index = build("exact-i8", &rows(), None, Metric::L2);
    let expected = exact.search(queries().view(), 100, &SearchParams::default()).unwrap();
    let recall = |effort: &str| {
        let params = SearchParams { effort: effort.parse().unwrap(), filter: None };
        recall(&index.search(queries().view(), 100, &params).unwrap(), &expected)
    };
    let (few, many) = (recall("rerank=1"), recall("rerank=2"));
    assert!(few < 1. && few < many && many >= 0.99, "{few}, {many}");
}

#[test]
fn saving_over_an_index_leaves_one() {
    let dir = tempfile::tempdir().unwrap();
    let index = build("exact", &array![[1., 2.]], Some(vec![3]), Metric::L2);
    index.save(dir.path()).unwrap();
    let first = files(dir.path());
    build("exact", &array![[5., 6.]], Some(vec![4]), Metric::L2).save(dir.path()).unwrap();
    let second = files(dir.path());
    assert_eq!((first.len(), second.len()), (3, 3));
    assert_ne!(first, second);
}

#[test]
fn a_folder_without_an_index() {
    let dir = tempfile::tempdir().unwrap();
    let expected = format!(
        "{}: no index is here (it has no index.json); was it built elsewhere?",
        dir.path().display()
    );
    assert_eq!(open(dir.path()).unwrap_err().to_string(), expected);
}
