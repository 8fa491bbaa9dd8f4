use std::path::{Path, PathBuf};

use burn::{
    module::Module,
    tensor::{Device, Tensor, TensorData},
};
use xr_data::{Corpus, Embeddings, Fingerprint, Picture, Split};
use xr_models::{
    Checkpoint, FeatureModel, FeatureModelConfig, Model, ModelConfig, View, Views,
    embed::{Failure, Run, image_features, side_by_side, text_features},
    pretrained::{PretrainedImage, PretrainedText, image_part, text_part},
};

use crate::{Result, progress};

/// Encoders whose weights stay as they are.
#[derive(Clone, Debug)]
pub struct FrozenEncoders {
    image: Vec<PretrainedImage>,
    text: PretrainedText,
}

/// Features of every picture and caption of a corpus.
#[derive(Debug)]
pub struct Features {
    /// For each view, `[pictures, width]`, in the order of [`Corpus::pictures`].
    pub image: Vec<Embeddings>,
    /// `[captions, width]`, in the order of [`Corpus::captions`].
    pub text: Embeddings,
}

impl FrozenEncoders {
    /// Loads published weights.
    ///
    /// # Errors
    /// As [`image_part`] and [`text_part`].
    pub fn load(image: &[PathBuf], text: &Path, device: &Device) -> Result<Self> {
        let image = image.iter().map(|path| image_part(path, device));
        Ok(Self { image: image.collect::<Result<_, _>>()?, text: text_part(text, device)? })
    }

    /// The encoders of a trained model.
    pub fn of(checkpoint: Checkpoint) -> Self {
        let Checkpoint { config, tokenizer, model } = checkpoint;
        let image = config.image.into_iter().zip(model.image);
        Self {
            image: image.map(|(part, encoder)| PretrainedImage { part, encoder }).collect(),
            text: PretrainedText { part: config.text, encoder: model.text, tokenizer },
        }
    }

    /// Features of all of `corpus`, from the caches in folder `cache` where they are there, if one is
    /// named.
    ///
    /// Pictures that can't be decoded leave the corpus with their captions, and are named in
    /// [`Corpus::skipped`]; in a strict run they are an error.
    ///
    /// # Errors
    /// Of the caches, and in a strict run the first picture's that can't be decoded.
    pub fn features(
        &self,
        corpus: &mut Corpus,
        views: Views,
        cache: Option<&Path>,
        strict: bool,
    ) -> Result<Features> {
        let all: Vec<_> = corpus.pictures.iter().collect();
        let mut failures = Vec::new();
        let mut image = Vec::new();
        for &view in views.each() {
            let run = || {
                let run = cached(Run::new(16), cache, "pictures");
                let run = run.with_observer(progress::bar("pictures"));
                if strict { run.strict() } else { run }
            };
            let (features, failed) = self.pictures(&all, view, run)?;
            image.push(features);
            failures = failed;
        }
        drop_undecodable(corpus, &failures);
        let texts: Vec<_> = corpus.captions.iter().map(|c| c.text.as_str()).collect();
        let run = cached(Run::new(64), cache, "texts");
        let text = self.texts(&texts, run.with_observer(progress::bar("captions")))?;
        Ok(Features { image, text })
    }

    /// Features of one split, computed anew.
    ///
    /// # Errors
    /// The first picture's that can't be decoded.
    pub(crate) fn features_of(
        &self,
        corpus: &Corpus,
        split: &Split,
        views: Views,
    ) -> Result<Features> {
        let pictures: Vec<_> = corpus.pictures_of(split).collect();
        let texts: Vec<_> = corpus.texts(split).collect();
        let of_view = |&view| Ok(self.pictures(&pictures, view, || Run::new(64).strict())?.0);
        Ok(Features {
            image: views.each().iter().map(of_view).collect::<Result<_>>()?,
            text: self.texts(&texts, Run::new(256))?,
        })
    }

    /// Features of one view, the encoders' side by side, and the pictures that were left out.
    fn pictures<'a>(
        &self,
        pictures: &[&Picture],
        view: View,
        run: impl Fn() -> Run<'a>,
    ) -> Result<(Embeddings, Vec<Failure>)> {
        let mut failures = Vec::new();
        let mut parts = Vec::new();
        for PretrainedImage { part, encoder } in &self.image {
            // Decoding fails for each encoder alike.
            let (features, failed) = image_features(part, encoder, view, pictures, run())?;
            parts.push(features);
            failures = failed;
        }
        Ok((side_by_side(&parts.iter().collect::<Vec<_>>()), failures))
    }

    fn texts(&self, texts: &[&str], run: Run) -> Result<Embeddings> {
        let PretrainedText { part, encoder, tokenizer } = &self.text;
        Ok(text_features(part, encoder, tokenizer, texts, run)?)
    }

    /// Where they compute.
    pub fn device(&self) -> Device {
        self.text.encoder.devices().remove(0)
    }

    /// Widths of image and text features.
    pub fn widths(&self) -> (usize, usize) {
        let image = self.image.iter().map(|p| p.part.encoder.width()).sum();
        (image, self.text.part.encoder.width())
    }

    /// The complete model: these encoders under `head`.
    pub fn with_head(
        &self,
        features: FeatureModelConfig,
        head: FeatureModel,
        views: Views,
    ) -> Checkpoint {
        let image = self.image.iter().map(|p| (p.part.clone(), p.encoder.clone()));
        let (parts, encoders) = image.unzip();
        let PretrainedText { part, encoder, tokenizer } = self.text.clone();
        Checkpoint {
            config: ModelConfig::new(parts, part, features).with_views(views),
            tokenizer,
            model: Model { image: encoders, text: encoder, features: head },
        }
    }
}

impl Features {
    /// The rows of one split: pictures for each view, and captions.
    pub fn of(&self, split: &Split) -> Self {
        Self {
            image: self.image.iter().map(|view| view.select(&split.pictures)).collect(),
            text: self.text.select(&split.captions),
        }
    }

    /// Embeddings that the model makes of them, `[pictures, latent]` and `[captions, latent]`, each
    /// row of length 1; those of several views are summed.
    ///
    /// The features must come from the model's own encoders.
    pub fn embed(&self, model: &Checkpoint) -> (Embeddings, Embeddings) {
        let dim = model.config.features.head.latent();
        self.embed_by(&model.model.features, dim, &model.fingerprint())
    }

    /// Standardised features of the pictures, and what the model decodes captions into there, both
    /// `[rows, image_width]`: the other way to retrieve of P1. `None` for a head without decoders.
    pub fn decode(&self, model: &Checkpoint) -> Option<(Embeddings, Embeddings)> {
        let head = &model.model.features;
        let row = matrix(self.text.row(0).to_vec(), self.text.dim(), &device_of(head));
        head.decode_to_image(row)?;
        let decode = |x| head.decode_to_image(x).expect("as the first row was");
        let image = encode(&self.image[0], head, |x| head.image_stats.forward(x));
        let text = encode(&self.text, head, decode);
        let (dim, made_by) = (self.image[0].dim(), model.fingerprint());
        let rows = |values| Embeddings::new(values, dim, made_by.clone());
        Some((rows(image), rows(text)))
    }

    pub(crate) fn embed_by(
        &self,
        head: &FeatureModel,
        dim: usize,
        made_by: &Fingerprint,
    ) -> (Embeddings, Embeddings) {
        let embeddings = |values| Embeddings::new(values, dim, made_by.clone()).normalized();
        let sum = |a: Vec<f32>, b: Vec<f32>| a.iter().zip(b).map(|(a, b)| a + b).collect();
        let views = self.image.iter().map(|view| encode(view, head, |x| head.embed_image(x)));
        let image = views.reduce(sum).expect("at least one view");
        (embeddings(image), embeddings(encode(&self.text, head, |x| head.embed_text(x))))
    }
}

fn cached<'a>(run: Run<'a>, cache: Option<&Path>, kind: &str) -> Run<'a> {
    match cache {
        Some(cache) => run.with_cache(&cache.join(kind)),
        None => run,
    }
}

/// Rows of `of` through `encode`, some at a time.
fn encode(
    of: &Embeddings,
    head: &FeatureModel,
    encode: impl Fn(Tensor<2>) -> Tensor<2>,
) -> Vec<f32> {
    let device = device_of(head);
    let values = |x: Tensor<2>| -> Vec<f32> {
        x.into_data().try_into_vec_as().expect("heads compute in f32")
    };
    let chunks = of.values().chunks(1024 * of.dim());
    chunks.flat_map(|rows| values(encode(matrix(rows.to_vec(), of.dim(), &device)))).collect()
}

pub(crate) fn device_of(head: &FeatureModel) -> Device {
    head.logit_scale.val().device()
}

/// `[rows, width]` on a device.
pub(crate) fn matrix(values: Vec<f32>, width: usize, device: &Device) -> Tensor<2> {
    let rows = values.len() / width;
    Tensor::from_data(TensorData::new(values, [rows, width]), device)
}

/// Takes the pictures that couldn't be decoded out of the corpus, and notes why.
fn drop_undecodable(corpus: &mut Corpus, failures: &[Failure]) {
    let why = failures.iter().map(|f| (f.position as u32, f.error.to_string()));
    corpus.drop_pictures(&why.collect::<Vec<_>>());
}
