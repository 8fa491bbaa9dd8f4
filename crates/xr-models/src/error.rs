use std::path::PathBuf;

use xr_data::Fingerprint;

/// What can go wrong with models, each as a sentence that names the file and the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A device name that nobody knows.
    #[error(
        "there is no device `{name}`; the names are flex, libtorch, libtorch-cuda:0, cuda:0 and \
         wgpu, where 0 is the number of the GPU"
    )]
    NoSuchDevice {
        /// What was asked for.
        name: String,
    },
    /// A device whose backend isn't in this program.
    #[error(
        "device `{name}` is not compiled into this program; build it with `--features {feature}`"
    )]
    DeviceNotCompiled {
        /// What was asked for.
        name: String,
        /// The cargo feature that brings it.
        feature: &'static str,
    },
    /// A device that is compiled in, but not present on this machine.
    #[error("device `{name}` is not on this machine: {why}; `libtorch` runs on its processor")]
    DeviceMissing {
        /// What was asked for.
        name: String,
        /// What was found.
        why: String,
    },
    /// Weights of a text encoder without the files that say how to use them.
    #[error(
        "{}: `{missing}` is not beside it; a text encoder is a folder as Hugging Face has it, with \
         model.safetensors, config.json and tokenizer.json",
        path.display()
    )]
    IncompleteTextEncoder {
        /// The weights.
        path: PathBuf,
        /// The file that isn't there.
        missing: &'static str,
    },
    /// A model's `config.json` that can't be read as what it should describe.
    #[error("{}: not a configuration of {model}: {why}", path.display())]
    BadModelConfig {
        /// The file.
        path: PathBuf,
        /// The model that was to be built.
        model: &'static str,
        /// What was found.
        why: String,
    },
    /// A folder without weights.
    #[error(
        "{}: no weights in this folder or below; expected a .safetensors, .pth or .pt file",
        path.display()
    )]
    NoWeights {
        /// The folder.
        path: PathBuf,
    },
    /// A folder with more than one file of weights.
    #[error("{}: several weights files, name one of them: {}", path.display(), paths(found))]
    SeveralWeights {
        /// The folder.
        path: PathBuf,
        /// The files.
        found: Vec<PathBuf>,
    },
    /// A weights file that can't be read.
    #[error(
        "{}: not a whole file of weights ({why}); get the file again from where it came from",
        path.display()
    )]
    BadWeights {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// Something other than a packed model.
    #[error("not a whole packed model ({why}); expected a file that `xr pack` wrote")]
    NotPacked {
        /// What was found.
        why: String,
    },
    /// A query bank of another model than it is packed with.
    #[error(
        "the query bank was made by model {found}, but this is model {expected}; embed it anew"
    )]
    OtherBank {
        /// The model that is packed.
        expected: Fingerprint,
        /// The model that made the bank.
        found: Fingerprint,
    },
    /// Weights of another model.
    #[error("{}: not the weights of {model}: {}", path.display(), difference(missing, unexpected))]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// The model that was to be loaded.
        model: &'static str,
        /// Tensors of that model that the file lacks, by the names they should have there.
        missing: Vec<String>,
        /// Tensors of the file that the model has no place for.
        unexpected: Vec<String>,
    },
    /// Weights of a model of another size.
    #[error(
        "{}: not the weights of {model}: `{tensor}` should have the shape {expected:?}, but has \
         {found:?}",
        path.display()
    )]
    OtherShape {
        /// The file.
        path: PathBuf,
        /// The model that was to be loaded.
        model: &'static str,
        /// The tensor, by its name in the file.
        tensor: String,
        /// Its shape in that model.
        expected: Vec<usize>,
        /// Its shape in the file.
        found: Vec<usize>,
    },
    /// Fine-tuning of another number of image encoders than there are.
    #[error(
        "the model has {expected} image encoders, but `blocks` says of {found} how many of their \
         last blocks are trained; list one number for each"
    )]
    TuningEncoders {
        /// Encoders of the model.
        expected: usize,
        /// Numbers given.
        found: usize,
    },
    /// Fine-tuning of more than there is.
    #[error("the last {asked} {what} were to be trained, but the encoder has {found}")]
    TuningTooDeep {
        /// `blocks` or `layers`.
        what: &'static str,
        /// How many were asked for.
        asked: usize,
        /// How many there are.
        found: usize,
    },
    /// Fine-tuning of a text encoder that has no layers to choose from.
    #[error("only a BERT encoder can be fine-tuned; train a recurrent one whole, from scratch")]
    TuningText,
    /// Encoders and a head that don't fit.
    #[error(
        "the head takes {modality} features of width {head}, but the encoder makes {encoders}; \
         set `{modality}_width` to {encoders}"
    )]
    WidthMismatch {
        /// `image` or `text`.
        modality: &'static str,
        /// What the encoders make, together.
        encoders: usize,
        /// What the head takes.
        head: usize,
    },
    /// A context that the text encoder can't read.
    #[error(
        "a context of {context} tokens, but the text encoder has only {positions} positions; set \
         `context` to {positions}"
    )]
    ContextTooLong {
        /// Longest text in tokens.
        context: usize,
        /// What the encoder has.
        positions: usize,
    },
    /// A tokenizer that isn't the text encoder's.
    #[error(
        "the tokenizer makes {tokenizer} kinds of tokens, but the text encoder knows only \
         {encoder}; use the tokenizer that belongs to the weights"
    )]
    UnknownTokens {
        /// What the tokenizer makes.
        tokenizer: usize,
        /// What the encoder knows.
        encoder: usize,
    },
    /// A folder that isn't a checkpoint.
    #[error(
        "{}: no checkpoint here, there is no checkpoint.json; name a folder that training saved, \
         such as RUN/best-loss",
        path.display()
    )]
    NoCheckpoint {
        /// The folder.
        path: PathBuf,
    },
    /// A `checkpoint.json` that can't be read.
    #[error(
        "{}: not a list of a checkpoint's files ({why}); copy the whole folder again",
        path.display()
    )]
    BadManifest {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// A checkpoint of a later version of this program.
    #[error(
        "{}: written in format {found}, but this program reads formats up to {known}; update the \
         program",
        path.display()
    )]
    NewerCheckpoint {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that can be read.
        known: u32,
    },
    /// A checkpoint that isn't complete.
    #[error("{}: missing from its checkpoint; copy the whole folder again", path.display())]
    FileMissing {
        /// The file.
        path: PathBuf,
    },
    /// A checkpoint that isn't what was saved.
    #[error(
        "{}: altered since it was saved (SHA-256 {found}, expected {expected}); copy the whole \
         folder again",
        path.display()
    )]
    FileAltered {
        /// The file.
        path: PathBuf,
        /// Digest when it was saved.
        expected: String,
        /// Digest now.
        found: String,
    },
    /// A folder that a checkpoint would have replaced.
    #[error(
        "{}: holds other things than a checkpoint, and saving would delete them; name another \
         folder",
        path.display()
    )]
    NotReplaced {
        /// The folder.
        path: PathBuf,
    },
    /// A problem with data.
    #[error(transparent)]
    Data(#[from] xr_data::Error),
}

/// The result of working with models.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How many tensors differ, and the first of each kind.
fn difference(missing: &[String], unexpected: &[String]) -> String {
    let first = |names: &[String], what: &str| {
        names.first().map(|name| format!("{} {what}, the first is `{name}`", names.len()))
    };
    let parts = [first(missing, "missing"), first(unexpected, "unexpected")];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn paths(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
