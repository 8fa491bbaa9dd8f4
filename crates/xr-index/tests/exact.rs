//! The exact index against the slow, obvious way: all scores, sorted.

use ndarray::{Array2, ArrayView2, Axis, array, concatenate};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::ThreadPoolBuilder;
use xr_data::{Embeddings, Fingerprint};
use xr_index::{ExactIndex, Hit, Metric, SearchParams, VectorIndex, map_blocks};

fn index(rows: &Array2<f32>, metric: Metric) -> ExactIndex {
    let values = rows.iter().copied().collect();
    let embeddings = Embeddings::new(values, rows.ncols(), Fingerprint::of(["test"]));
    ExactIndex::new(embeddings, metric).unwrap()
}

fn search(index: &ExactIndex, queries: &Array2<f32>, k: usize) -> Vec<Vec<Hit>> {
    index
        .search(queries.view(), k, &SearchParams::default())
        .unwrap()
        .iter()
        .map(<[Hit]>::to_vec)
        .collect()
}

fn oracle(queries: &Array2<f32>, rows: &Array2<f32>, metric: Metric, k: usize) -> Vec<Vec<Hit>> {
    let of = |query: ndarray::ArrayView1<f32>| {
        let mut hits: Vec<_> = (0..)
            .zip(rows.outer_iter())
            .map(|(id, row)| Hit {
                id,
                score: match metric {
                    Metric::InnerProduct => query.dot(&row),
                    Metric::Cosine => unreachable!("not a whole number"),
                    Metric::L2 => query.iter().zip(row).map(|(q, g)| (q - g) * (q - g)).sum(),
                },
            })
            .collect();
        // A stable sort leaves equal scores in the order of their ids.
        hits.sort_by(|a, b| match metric {
            Metric::InnerProduct | Metric::Cosine => b.score.partial_cmp(&a.score).unwrap(),
            Metric::L2 => a.score.partial_cmp(&b.score).unwrap(),
        });
        hits.truncate(k);
        hits
    };
    queries.outer_iter().map(of).collect()
}

/// Small whole numbers: every sum is exact in any order, and there are many ties.
fn whole_numbers(rows: usize, dim: usize, seed: u64) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Array2::from_shape_simple_fn((rows, dim), || rng.random_range(-2i8..=2).into())
}

fn uniform(rows: usize, dim: usize, seed: u64) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Array2::from_shape_simple_fn((rows, dim), || rng.random_range(-1.0..1.0))
}

const METRICS: [Metric; 2] = [Metric::InnerProduct, Metric::L2];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn is_the_sorted_list(
        (queries, rows, dim) in (0usize..9, 0usize..200, 1usize..40),
        k in 0usize..30,
        metric in prop::sample::select(METRICS.to_vec()),
        seed: u64,
    ) {
        let queries = whole_numbers(queries, dim, seed);
        let rows = whole_numbers(rows, dim, seed ^ 1);
        prop_assert_eq!(
            search(&index(&rows, metric), &queries, k),
            oracle(&queries, &rows, metric, k)
        );
    }
}

#[test]
fn many_queries_and_blocks() {
    let (queries, rows) = (whole_numbers(150, 257, 0), whole_numbers(1_000, 257, 1));
    for metric in METRICS {
        assert_eq!(search(&index(&rows, metric), &queries, 7), oracle(&queries, &rows, metric, 7));
    }
}

/// Fractions, where another order of summation would change the last bits.
#[test]
fn threads_and_company_change_no_bit() {
    let (queries, rows) = (uniform(70, 203, 0), uniform(3_001, 203, 1));
    for metric in METRICS {
        let index = index(&rows, metric);
        let with_threads = |n| {
            let pool = ThreadPoolBuilder::new().num_threads(n).build().unwrap();
            pool.install(|| search(&index, &queries, 10))
        };
        let expected = with_threads(1);
        assert_eq!(with_threads(2), expected);
        assert_eq!(with_threads(5), expected);
        for (query, expected) in queries.axis_chunks_iter(Axis(0), 1).zip(&expected) {
            assert_eq!(index.search(query, 10, &SearchParams::default()).unwrap().of(0), expected);
        }
    }
}

/// The same vector at every place of a block and its edges, in galleries of every length.
#[test]
fn equal_vectors_tie_wherever_they_lie() {
    let (one, queries) = (uniform(1, 101, 0), uniform(7, 101, 1));
    for len in 1..60 {
        let rows = concatenate(Axis(0), &vec![one.view(); len]).unwrap();
        for metric in METRICS {
            for hits in search(&index(&rows, metric), &queries, len) {
                assert!(hits.iter().map(|hit| hit.id).eq(0..len as u64));
                assert!(hits.iter().all(|hit| hit.score == hits[0].score));
            }
        }
    }
}

#[test]
fn a_vector_is_at_distance_zero_from_itself() {
    let rows = uniform(50, 33, 0) * 1e4;
    for (id, hits) in (0..).zip(search(&index(&rows, Metric::L2), &rows, 1)) {
        assert_eq!(hits, [Hit { id, score: 0.0 }]);
        assert!(hits[0].score.is_sign_positive());
    }
}

#[test]
fn a_column_major_query() {
    let rows = whole_numbers(20, 6, 0);
    let queries = whole_numbers(6, 3, 1);
    let index = index(&rows, Metric::L2);
    assert_eq!(
        index.search(queries.t(), 4, &SearchParams::default()).unwrap().iter().collect::<Vec<_>>(),
        oracle(&queries.t().to_owned(), &rows, Metric::L2, 4)
    );
}

/// cos((3, 4), (4, 3)) = 24 / 25.
#[test]
fn cosines() {
    let index = index(&array![[0., 0.], [4., 3.], [-6., -8.]], Metric::Cosine);
    let hits = search(&index, &array![[3., 4.]], 3).concat();
    assert_eq!(hits.iter().map(|hit| hit.id).collect::<Vec<_>>(), [1, 0, 2]);
    for (hit, expected) in hits.iter().zip([0.96, 0., -1.]) {
        assert!((hit.score - expected).abs() < 1e-6, "{hit:?}");
    }
}

fn all_blocks(queries: ArrayView2<f32>, gallery: ArrayView2<f32>, metric: Metric) -> Array2<f32> {
    let mut next = 0;
    let blocks = map_blocks(queries, gallery, metric, |first, block| (first, block.to_owned()));
    let blocks = blocks.unwrap().into_iter().map(|(first, block)| {
        assert_eq!(first, next);
        next += block.nrows();
        block
    });
    let blocks: Vec<_> = blocks.collect();
    concatenate(Axis(0), &blocks.iter().map(|block| block.view()).collect::<Vec<_>>()).unwrap()
}

#[test]
fn blocks_make_up_the_whole_matrix() {
    let (queries, gallery) = (whole_numbers(133, 19, 0), whole_numbers(2_000, 19, 1));
    let products = all_blocks(queries.view(), gallery.view(), Metric::InnerProduct);
    assert_eq!(products, queries.dot(&gallery.t()));
    let distances = all_blocks(queries.view(), gallery.view(), Metric::L2);
    let norms = |rows: &Array2<f32>| rows.mapv(|x| x * x).sum_axis(Axis(1));
    let expected = 2. * products - norms(&queries).insert_axis(Axis(1)) - norms(&gallery);
    assert_eq!(distances, expected);
}
