use pulp::bytemuck;
use xr_data::{Embeddings, Fingerprint};

use crate::{Error, Metric, Result, map_blocks};

/// How much more the nearest queries of the bank count than the others; β of the paper.
const SHARPNESS: f32 = 20.0;

/// How much of the correction is taken.
const WEIGHT: f32 = 0.5;

/// Queries of training, which tell what items are hubs: near to far more queries than they answer.
///
/// After query-bank normalisation (Bogolin et al., CVPR 2022), in a form that costs nothing when
/// searching: an item's score is its cosine with the query, less
///
/// `.5 / 20 · ln(mean over the bank's queries b of exp(20 · cos(item, b)))`.
///
/// That is one number an item, kept as one more dimension: any index under
/// [`Metric::InnerProduct`] then ranks by corrected scores. 20 and .5 were picked on Flickr8k's dev
/// part. The queries of a bank are those of training: never those that are scored.
///
/// ```
/// use xr_data::{Embeddings, Fingerprint};
/// use xr_index::QueryBank;
///
/// let rows = |values: &[f32]| Embeddings::new(values.to_vec(), 2, Fingerprint::of(["model"]));
/// let bank = QueryBank::new(rows(&[1., 0.]));
/// let items = bank.correct(&rows(&[1., 0., 0., 1.]))?;
/// // The first is near to what is always asked: its score is .5 lower, the second's as it was.
/// assert_eq!(items.values(), [1., 0., -0.5, 0., 1., 0.]);
/// assert_eq!(bank.correct_queries(&rows(&[0., 1.]))?.values(), [0., 1., 1.]);
/// # Ok::<(), xr_index::Error>(())
/// ```
#[derive(Debug)]
pub struct QueryBank {
    /// Of length 1.
    queries: Embeddings,
    /// Of corrected rows: they must not be compared with others.
    made_by: Fingerprint,
}

impl QueryBank {
    /// A bank of these queries, `[queries, dim]`; without any it corrects nothing.
    pub fn new(queries: Embeddings) -> Self {
        let queries = queries.normalized();
        let parts: [&[u8]; 2] =
            [queries.made_by().as_str().as_bytes(), bytemuck::cast_slice(queries.values())];
        Self { made_by: Fingerprint::of(parts), queries }
    }

    /// The same queries, as if another model had made them: one that differs so little that they
    /// stand for its own.
    pub fn for_model(self, made_by: Fingerprint) -> Self {
        let (values, dim) = (self.queries.values().to_vec(), self.queries.dim());
        Self::new(Embeddings::new(values, dim, made_by))
    }

    /// What identifies rows that it corrected.
    pub fn made_by(&self) -> &Fingerprint {
        &self.made_by
    }

    /// Its queries, each row of length 1.
    pub fn queries(&self) -> &Embeddings {
        &self.queries
    }

    /// Items `[items, dim]` as rows of length 1, with their corrections: `[items, dim + 1]`.
    ///
    /// # Errors
    /// [`Error::OtherModel`] if another model made them than the bank, [`Error::NotFinite`] for the
    /// first that holds NaN or infinity.
    pub fn correct(&self, items: &Embeddings) -> Result<Embeddings> {
        let corrections = self.corrections(items)?;
        self.widened(&items.normalized(), corrections.into_iter().map(|correction| -correction))
    }

    /// Queries `[queries, dim]` as rows of length 1, for corrected items: `[queries, dim + 1]`.
    ///
    /// # Errors
    /// [`Error::OtherModel`] if another model made them than the bank.
    pub fn correct_queries(&self, queries: &Embeddings) -> Result<Embeddings> {
        self.widened(&queries.normalized(), std::iter::repeat(1.0))
    }

    /// What is taken from the scores of each of the items, `[items, dim]`.
    ///
    /// # Errors
    /// As [`correct`](Self::correct).
    pub fn corrections(&self, items: &Embeddings) -> Result<Vec<f32>> {
        self.check(items)?;
        if self.queries.rows() == 0 {
            return Ok(vec![0.0; items.rows()]);
        }
        let items = items.normalized();
        let (items, bank) = (items.view(), self.queries.view());
        let blocks = map_blocks(items, bank, Metric::InnerProduct, |_, cosines| {
            cosines
                .rows()
                .into_iter()
                .map(|row| correction(row.iter().copied()))
                .collect::<Vec<_>>()
        })?;
        Ok(blocks.concat())
    }

    fn check(&self, rows: &Embeddings) -> Result<()> {
        if rows.made_by() == self.queries.made_by() {
            return Ok(());
        }
        let (expected, found) = (self.queries.made_by().clone(), rows.made_by().clone());
        Err(Error::OtherModel { expected, found })
    }

    fn widened(&self, rows: &Embeddings, last: impl Iterator<Item = f32>) -> Result<Embeddings> {
        self.check(rows)?;
        let dim = rows.dim();
        let mut values = Vec::with_capacity(rows.rows() * (dim + 1));
        for (row, last) in rows.values().chunks_exact(dim).zip(last) {
            values.extend_from_slice(row);
            values.push(last);
        }
        Ok(Embeddings::new(values, dim + 1, self.made_by.clone()))
    }
}

/// Of an item that has these cosines with the bank.
fn correction(cosines: impl ExactSizeIterator<Item = f32>) -> f32 {
    let count = cosines.len() as f64;
    // Less 1, so that the largest exponent is about 0.
    let sum: f64 = cosines.map(|cosine| f64::from(SHARPNESS * (cosine - 1.0)).exp()).sum();
    WEIGHT * (1.0 + ((sum / count).ln() as f32) / SHARPNESS)
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::{ExactIndex, SearchParams, VectorIndex};

    fn rows(values: &[f32]) -> Embeddings {
        Embeddings::new(values.to_vec(), 2, Fingerprint::of(["model"]))
    }

    #[test]
    fn the_correction_by_hand() {
        // ½ · ln((e^(20·1) + e^(20·0)) / 2) / 20 = ½ · (20 − ln 2 + ln(1 + e^−20)) / 20.
        let expected = 0.5 * (20.0 - 2f32.ln()) / 20.0;
        assert!((correction([1.0, 0.0].into_iter()) - expected).abs() < 1e-6);
        assert!((correction([-1.0].into_iter()) + 0.5).abs() < 1e-6);
    }

    #[test]
    fn a_hub_is_found_for_its_own_queries_alone() -> Result<()> {
        // The hub lies between the other two, and near to everything in the bank.
        let items = rows(&[0.8, 0.6, 1.0, 0.0, 0.0, 1.0]);
        let bank = QueryBank::new(rows(&[0.8, 0.6, 0.75, 0.66, 0.7, 0.7, 0.9, 0.4]));
        let best = |items: Embeddings, queries: Embeddings| -> Result<Vec<u64>> {
            let index = ExactIndex::new(items, Metric::InnerProduct)?;
            let hits = index.search(queries.view(), 1, &SearchParams::default())?;
            Ok(hits.iter().map(|hits| hits[0].id).collect())
        };
        let queries = rows(&[0.93, 0.37, 0.8, 0.6]);
        assert_eq!(best(items.normalized(), queries.normalized())?, [0, 0]);
        let (items, queries) = (bank.correct(&items)?, bank.correct_queries(&queries)?);
        assert_eq!(best(items, queries)?, [1, 0]);
        Ok(())
    }

    #[test]
    fn an_empty_bank_corrects_nothing() -> Result<()> {
        let items = QueryBank::new(rows(&[])).correct(&rows(&[0.0, 2.0]))?;
        assert_eq!(items.view(), array![[0.0, 1.0, 0.0]]);
        Ok(())
    }

    #[test]
    fn corrected_rows_bear_another_mark_than_plain_ones() -> Result<()> {
        let bank = QueryBank::new(rows(&[1.0, 0.0]));
        let corrected = bank.correct(&rows(&[0.0, 1.0]))?;
        assert_ne!(corrected.made_by(), rows(&[]).made_by());
        assert_eq!(corrected.made_by(), bank.correct_queries(&rows(&[1.0, 0.0]))?.made_by());
        let other = QueryBank::new(rows(&[0.0, 1.0])).correct(&rows(&[0.0, 1.0]))?;
        assert_ne!(corrected.made_by(), other.made_by());
        Ok(())
    }

    #[test]
    fn rows_of_another_model() {
        let bank = QueryBank::new(rows(&[1.0, 0.0]));
        let others = Embeddings::new(vec![0.0, 1.0], 2, Fingerprint::of(["another"]));
        let errors = [bank.correct(&others), bank.correct_queries(&others)].map(Result::unwrap_err);
        assert!(errors.iter().all(|error| matches!(error, Error::OtherModel { .. })), "{errors:?}");
    }
}
