use burn::tensor::Device;
use xr_data::Embeddings;

use crate::{Batches, BoxError, Labels, Teacher, feature_batches::rows};

/// Batches whose labels say what a teacher makes of their rows.
#[derive(Debug)]
pub struct Taught<'a, B> {
    batches: &'a B,
    image: &'a Embeddings,
    text: &'a Embeddings,
}

impl<'a, B: Batches> Taught<'a, B> {
    /// `batches` with the teacher's embeddings of all their pictures and all their captions, each
    /// row of length 1.
    pub fn new(batches: &'a B, image: &'a Embeddings, text: &'a Embeddings) -> Self {
        Self { batches, image, text }
    }
}

impl<B: Batches> Batches for Taught<'_, B> {
    type Batch = B::Batch;

    fn steps(&self) -> usize {
        self.batches.steps()
    }

    fn batch(
        &self,
        epoch: usize,
        step: usize,
        device: &Device,
    ) -> Result<(B::Batch, Labels), BoxError> {
        let (batch, labels) = self.batches.batch(epoch, step, device)?;
        let image = labels.pictures.iter().map(|&picture| self.image.row(picture as usize));
        let text = labels.captions.iter().map(|&caption| self.text.row(caption as usize));
        let image = rows(image, self.image.dim(), device);
        let text = rows(text, self.text.dim(), device);
        Ok((batch, Labels { teacher: Some(Teacher { image, text }), ..labels }))
    }
}
