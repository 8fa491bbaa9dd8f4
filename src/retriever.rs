use std::{path::Path, sync::OnceLock};

use burn::{module::Module, tensor::Device};
use xr_data::{Corpus, Embeddings, Fingerprint, Manifest, Split, SplitSpec, dataset};
use xr_eval::{Banks, EvalConfig, Scores, evaluate, evaluate_corrected};
use xr_index::QueryBank;
use xr_models::{Checkpoint, Embedder, Packed};

use crate::{Error, FrozenEncoders, Options, Result, Run, run::corpus};

/// A trained model in use: it embeds, scores, and [searches](crate::Shelf).
///
/// It comes from a [`Run`], or from one file.
#[derive(Debug)]
pub struct Retriever {
    checkpoint: Checkpoint,
    fingerprint: Fingerprint,
    /// Made when it is first asked for: that takes longer than embedding a text.
    embedder: OnceLock<Embedder>,
    banks: Banks,
    /// How data sets are split.
    split: (SplitSpec, u64),
    /// Which pictures the splits had when the model was trained.
    known: Vec<Manifest>,
}

/// A split as the model embeds it.
struct Embedded {
    image: Embeddings,
    text: Embeddings,
    split: Split,
    manifest: Manifest,
}

impl Retriever {
    pub(crate) fn new(
        checkpoint: Checkpoint,
        banks: Banks,
        split: (SplitSpec, u64),
        known: Vec<Manifest>,
    ) -> Self {
        let (fingerprint, embedder) = (checkpoint.fingerprint(), OnceLock::new());
        Self { checkpoint, fingerprint, embedder, banks, split, known }
    }

    /// The model of a packed file, which takes data sets with the splits that they have.
    ///
    /// # Errors
    /// As [`Packed::checkpoint`]; [`xr_models::Error::NotPacked`] if it has no query bank.
    pub fn unpacked(packed: &Packed, device: &Device) -> Result<Self> {
        let why = || xr_models::Error::NotPacked { why: "it has no query bank".into() };
        let [pictures, captions] = packed.bank().ok_or_else(why)?.map(QueryBank::new);
        Ok(Self {
            checkpoint: packed.checkpoint(device)?,
            fingerprint: packed.fingerprint().clone(),
            embedder: OnceLock::new(),
            banks: Banks { pictures, captions },
            split: (SplitSpec::Official, 0),
            known: vec![],
        })
    }

    /// The model of the [`Run`] in a folder, or of the file that [`pack`](crate::pack) wrote.
    ///
    /// # Errors
    /// As [`Run::open`] and [`Run::retriever`], and as [`Packed::from_bytes`].
    pub fn open(path: &Path, device: &Device) -> Result<Self> {
        if !path.is_file() {
            return Run::open(path)?.retriever(device);
        }
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let packed = Packed::from_bytes(&bytes).map_err(|e| Error::bad_file(path, &e))?;
        Self::unpacked(&packed, device)
    }

    /// The same model with its encoders' products in bf16, as [`Model::in_bf16`] has them. What it
    /// embeds isn't mixed with what the model embeds in single precision; its query banks are the
    /// model's.
    ///
    /// [`Model::in_bf16`]: xr_models::Model::in_bf16
    pub fn in_bf16(self) -> Self {
        let Self { mut checkpoint, fingerprint, banks, .. } = self;
        checkpoint.model = checkpoint.model.valid().in_bf16();
        let fingerprint = Fingerprint::of([fingerprint.as_str(), "bf16"]);
        let [pictures, captions] =
            [banks.pictures, banks.captions].map(|bank| bank.for_model(fingerprint.clone()));
        let banks = Banks { pictures, captions };
        Self { checkpoint, fingerprint, banks, embedder: OnceLock::new(), ..self }
    }

    /// The model.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The query banks of the model: training pictures and captions.
    pub fn banks(&self) -> &Banks {
        &self.banks
    }

    /// The model, ready to embed.
    pub fn embedder(&self) -> &Embedder {
        self.embedder.get_or_init(|| {
            Embedder::with_fingerprint(self.checkpoint.clone(), self.fingerprint.clone())
        })
    }

    /// A data set, split as the model's own was.
    ///
    /// # Errors
    /// Of the data set.
    pub fn corpus(&self, data: &str, options: &Options) -> Result<Corpus> {
        let (split, seed) = &self.split;
        corpus(data, split, *seed, options)
    }

    /// Embeddings of the pictures and captions of a corpus, in its order, each row of length 1.
    /// Pictures that can't be decoded leave the corpus.
    ///
    /// # Errors
    /// In a strict run, of the first bad picture; those of the cache.
    pub fn embeddings(
        &self,
        corpus: &mut Corpus,
        options: &Options,
    ) -> Result<(Embeddings, Embeddings)> {
        embeddings(&self.checkpoint, &self.fingerprint, corpus, options)
    }

    /// Scores the model on a split, by cosine similarity.
    ///
    /// # Errors
    /// [`xr_data::Error::WrongSplit`] if that split of that corpus had other pictures when the model
    /// was trained; those of the data and the scoring.
    pub fn score(&self, corpus: &Corpus, split: &str, options: &Options) -> Result<Scores> {
        let Embedded { image, text, split, manifest } = self.embedded(corpus, split, options)?;
        Ok(evaluate(&image, &text, &split, &manifest, &EvalConfig::default())?)
    }

    /// [`score`](Self::score), and the same with the correction of the [banks](Self::banks).
    ///
    /// # Errors
    /// As [`score`](Self::score).
    pub fn score_corrected(
        &self,
        corpus: &Corpus,
        split: &str,
        options: &Options,
    ) -> Result<[Scores; 2]> {
        let Embedded { image, text, split, manifest } = self.embedded(corpus, split, options)?;
        let config = EvalConfig::default();
        Ok([
            evaluate(&image, &text, &split, &manifest, &config)?,
            evaluate_corrected(&image, &text, &self.banks, &split, &manifest, &config)?,
        ])
    }

    fn embedded(&self, corpus: &Corpus, split: &str, options: &Options) -> Result<Embedded> {
        let mut part = corpus.only(&corpus.split(split)?);
        let (image, text) = self.embeddings(&mut part, options)?;
        let split = part.split(split)?;
        let manifest = Manifest::of(&part, &split);
        self.check(&manifest)?;
        Ok(Embedded { image, text, split, manifest })
    }

    /// Refuses a split that had other pictures when the model was trained.
    pub(crate) fn check(&self, manifest: &Manifest) -> Result<()> {
        let name = |m: &Manifest| (m.corpus.clone(), m.split.clone(), m.drawn);
        let Some(expected) = self.known.iter().find(|m| name(m) == name(manifest)) else {
            return Ok(());
        };
        Ok(manifest.check(expected, &[&self.known[..], &dataset::published()].concat())?)
    }
}

/// What [`Retriever::embeddings`] returns.
pub(crate) fn embeddings(
    checkpoint: &Checkpoint,
    fingerprint: &Fingerprint,
    corpus: &mut Corpus,
    options: &Options,
) -> Result<(Embeddings, Embeddings)> {
    let encoders = FrozenEncoders::of(checkpoint.clone());
    let views = checkpoint.config.views;
    let features = encoders.features(corpus, views, Some(&options.cache), options.strict)?;
    let dim = checkpoint.config.features.head.latent();
    Ok(features.embed_by(&checkpoint.model.features, dim, fingerprint))
}
