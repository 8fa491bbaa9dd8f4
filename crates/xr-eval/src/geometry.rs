use ndarray::{Array1, Array2, Axis, s};
use serde::{Deserialize, Serialize};
use xr_data::Embeddings;

/// Rows that are looked at; more say the same.
const ROWS: usize = 1_000;

/// How the embeddings of pictures and texts lie: what shows that a space has collapsed or fallen
/// apart before recalls do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Geometry {
    /// Of the pictures.
    pub image: Dispersion,
    /// Of the texts.
    pub text: Dispersion,
    /// Distance between the mean picture and the mean text: the modality gap of Liang et al., "Mind
    /// the gap" (2022), 0 to 2.
    pub gap: f64,
}

/// How embeddings of one modality lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dispersion {
    /// Mean cosine between two of them: 0 when they point everywhere, 1 when all are the same.
    pub cosine: f64,
    /// In how many directions they differ: `(Σ λ)² / Σ λ²` of the covariance's eigenvalues, the
    /// participation ratio; 1 on a line, as many as dimensions in a ball.
    pub dimensions: f64,
}

impl Geometry {
    /// Of rows of length 1; of many, a thousand spread evenly. `None` if there are fewer than two
    /// pictures or texts.
    ///
    /// # Panics
    /// If their widths differ.
    pub fn of(image: &Embeddings, text: &Embeddings) -> Option<Self> {
        if image.rows().min(text.rows()) < 2 {
            return None;
        }
        let [image, text] = [image, text].map(some);
        let gap = mean(&image) - mean(&text);
        let gap = gap.dot(&gap).sqrt();
        Some(Self { image: Dispersion::of(&image), text: Dispersion::of(&text), gap })
    }
}

impl Dispersion {
    fn of(rows: &Array2<f64>) -> Self {
        let n = rows.nrows() as f64;
        let mean = mean(rows);
        // All pairs, less each row with itself.
        let cosine = (mean.dot(&mean) * n * n - n) / (n * (n - 1.0));
        let centred = rows - &mean;
        // The eigenvalues' sum and sum of squares are the trace and the squared Frobenius norm.
        let covariance = centred.t().dot(&centred) / n;
        let (trace, squares) = (covariance.diag().sum(), covariance.mapv(|x| x * x).sum());
        let dimensions = if squares > 0.0 { trace * trace / squares } else { 0.0 };
        Self { cosine, dimensions }
    }
}

/// At most [`ROWS`] rows.
fn some(all: &Embeddings) -> Array2<f64> {
    let step = all.rows().div_ceil(ROWS).max(1);
    all.view().slice(s![..;step, ..]).mapv(f64::from)
}

fn mean(rows: &Array2<f64>) -> Array1<f64> {
    rows.mean_axis(Axis(0)).expect("at least two rows")
}

#[cfg(test)]
mod tests {
    use xr_data::Fingerprint;

    use super::*;

    fn rows<const N: usize>(rows: [[f32; 2]; N]) -> Embeddings {
        Embeddings::new(rows.as_flattened().to_vec(), 2, Fingerprint::of(["test"]))
    }

    #[test]
    fn by_hand() {
        // A cross: cosines are 0, 0 and -1, each twice, over 12 pairs; as much in both directions.
        let cross = rows([[1., 0.], [-1., 0.], [0., 1.], [0., -1.]]);
        // A line through (0, 1): the cosine of the two.
        let line = rows([[0.6, 0.8], [-0.6, 0.8]]);
        let found = Geometry::of(&cross, &line).unwrap();
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a}, {b}");
        close(found.image.cosine, -1.0 / 3.0);
        close(found.image.dimensions, 2.0);
        close(found.text.cosine, -0.36 + 0.64);
        close(found.text.dimensions, 1.0);
        close(found.gap, 0.8);
    }

    #[test]
    fn all_in_one_place() {
        let one = rows([[0., 1.], [0., 1.], [0., 1.]]);
        let found = Geometry::of(&one, &one).unwrap();
        assert_eq!((found.image.cosine, found.image.dimensions, found.gap), (1.0, 0.0, 0.0));
        assert_eq!(Geometry::of(&one, &rows([[0., 1.]])), None);
    }
}
