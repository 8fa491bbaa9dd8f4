use std::path::Path;

use burn::tensor::Device;
use xr_data::{Corpus, Embeddings, Manifest};
use xr_train::{Batches, BoxError, Taught, TrainConfig, Trainable, Validation};

use crate::{Features, Options, Result, Retriever, Training, fit::split};

/// Training that also follows what a teacher makes of the training part.
pub(crate) struct Distilling<'a, T> {
    training: &'a mut T,
    image: Embeddings,
    text: Embeddings,
}

impl<'a, T: Training> Distilling<'a, T> {
    /// Embeds the training part by the model in `teacher`. Pictures that can't be decoded leave
    /// `corpus`.
    ///
    /// # Errors
    /// Those of [`Retriever::open`] and the caches; [`xr_data::Error::WrongSplit`] for a teacher that
    /// was trained on another training part, which may hold what this one's student is tested on.
    pub fn new(
        training: &'a mut T,
        teacher: &Path,
        corpus: &mut Corpus,
        options: &Options,
        device: &Device,
    ) -> Result<Self> {
        let teacher = Retriever::open(teacher, device)?;
        let (image, text) = teacher.embeddings(corpus, options)?;
        let train = split(corpus, "train")?;
        teacher.check(&Manifest::of(corpus, &train))?;
        let Features { mut image, text } = Features { image: vec![image], text }.of(&train);
        Ok(Self { training, image: image.remove(0), text })
    }
}

impl<T: Training> Training for Distilling<'_, T> {
    fn train<M: Trainable>(
        &mut self,
        model: M,
        batches: &impl Batches<Batch = M::Batch>,
        config: &TrainConfig,
        validate: impl FnMut(&M) -> Result<Validation, BoxError>,
    ) -> Result<(M, Validation)> {
        let taught = Taught::new(batches, &self.image, &self.text);
        self.training.train(model, &taught, config, validate)
    }
}
