//! Vectors that lie as embeddings of pictures and texts do: in clusters, each kind on its own side.

use ndarray::{Array2, ArrayViewMut1};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use xr_data::{Embeddings, Fingerprint, normalize_rows};

/// Pictures in a cluster, on average.
const CLUSTER: usize = 100;
/// How far a picture is from its centre, how far a text is, and how far the two kinds are apart;
/// a centre has length 1. So texts find pictures, at cosines well below those between pictures.
const PICTURE_SPREAD: f32 = 0.8;
const TEXT_SPREAD: f32 = 1.2;
const GAP: f32 = 0.8;

/// Pictures to search, and queries of both kinds; rows of length 1.
pub struct Clustered {
    /// `[rows, dim]`.
    pub gallery: Embeddings,
    /// Pictures that are not in the gallery, `[queries, dim]`.
    pub image: Embeddings,
    /// Texts, which lie elsewhere, `[queries, dim]`.
    pub text: Embeddings,
}

impl Clustered {
    pub fn new(rows: usize, queries: usize, dim: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let centres = noise(rows.div_ceil(CLUSTER), dim, 1.0, &mut rng);
        let sides = noise(2, dim, GAP / 2.0, &mut rng);
        let mut around = |count: usize, spread: f32, side: usize| {
            let mut out = noise(count, dim, spread, &mut rng);
            for mut row in out.rows_mut() {
                row += &centres.row(rng.random_range(0..centres.nrows()));
                row += &sides.row(side);
            }
            let mut values = out.into_raw_vec_and_offset().0;
            normalize_rows(&mut values, dim);
            Embeddings::new(values, dim, Fingerprint::of(["clustered"]))
        };
        Self {
            gallery: around(rows, PICTURE_SPREAD, 0),
            image: around(queries, PICTURE_SPREAD, 0),
            text: around(queries, TEXT_SPREAD, 1),
        }
    }
}

/// Rows of random directions and of this length.
fn noise(rows: usize, dim: usize, length: f32, rng: &mut ChaCha8Rng) -> Array2<f32> {
    let mut out = Array2::from_shape_simple_fn((rows, dim), || rng.random_range(-1f32..1.0));
    out.rows_mut().into_iter().for_each(|row| stretch(row, length));
    out
}

fn stretch(mut row: ArrayViewMut1<f32>, length: f32) {
    let factor = length / row.dot(&row).sqrt();
    row.mapv_inplace(|x| x * factor);
}
