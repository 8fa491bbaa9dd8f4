use burn::tensor::{Device, Tensor};
use xr_data::{FeatureCache, Fingerprint, Tokenizer, Tokens, text_key};

use super::{Run, Sink, rows_of};
use crate::{Result, TokenBatch, in_pool};

/// How many batches of texts are sorted by length together.
const WINDOW: usize = 64;

/// Texts to rows of one width.
pub(super) struct TextJob<'a> {
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) dim: usize,
    pub(super) made_by: Fingerprint,
    pub(super) device: Device,
    /// Texts to `[batch, dim]`.
    pub(super) encode: &'a (dyn Fn(&TokenBatch) -> Tensor<2> + Sync),
}

impl TextJob<'_> {
    pub(super) fn run(&self, texts: &[&str], mut run: Run, sink: Sink) -> Result<()> {
        let mut cache = run.open_cache(&self.made_by, self.dim)?;
        let mut done = 0;
        for window in texts.chunks(run.batch.saturating_mul(WINDOW)) {
            let mut rows = vec![0.0; window.len() * self.dim];
            let fresh = fill(&mut rows, window, self.dim, cache.as_ref());
            done += window.len() - fresh.len();
            (run.observer)(done, texts.len());
            let (tokens, by_length) = self.tokens(window, &fresh)?;
            for batch in by_length.chunks(run.batch) {
                let new = self.encode(&tokens.select(batch));
                let positions = batch.iter().map(|&row| fresh[row]);
                let new = positions.zip(new.chunks_exact(self.dim));
                if let Some(cache) = &mut cache {
                    let rows = new.clone().map(|(i, row)| (text_key(window[i]), row));
                    cache.append(&rows.collect::<Vec<_>>())?;
                }
                for (i, row) in new {
                    rows[i * self.dim..][..self.dim].copy_from_slice(row);
                }
                done += batch.len();
                (run.observer)(done, texts.len());
            }
            sink(&rows)?;
        }
        Ok(())
    }

    /// Tokens of the texts at these positions, and their rows from the shortest to the longest.
    fn tokens(&self, texts: &[&str], positions: &[usize]) -> Result<(Tokens, Vec<usize>)> {
        let texts: Vec<_> = positions.iter().map(|&i| texts[i]).collect();
        let tokens = self.tokenizer.encode(&texts)?;
        let rows = tokens.by_length();
        Ok((tokens, rows))
    }

    fn encode(&self, tokens: &Tokens) -> Vec<f32> {
        in_pool(|| rows_of((self.encode)(&TokenBatch::new(tokens, &self.device))))
    }
}

/// Writes the rows that the cache has; returns the positions of the others.
fn fill(rows: &mut [f32], texts: &[&str], dim: usize, cache: Option<&FeatureCache>) -> Vec<usize> {
    let Some(cache) = cache else { return (0..texts.len()).collect() };
    let mut fresh = Vec::new();
    for (i, row) in rows.chunks_exact_mut(dim).enumerate() {
        match cache.get(&text_key(texts[i])) {
            Some(cached) => row.copy_from_slice(cached),
            None => fresh.push(i),
        }
    }
    fresh
}
