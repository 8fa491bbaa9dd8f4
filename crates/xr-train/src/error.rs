use std::{
    io,
    path::{Path, PathBuf},
};

/// Any error, of what the caller brings: batches and validation.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What can go wrong with training, each as a sentence that names the place and the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder couldn't be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A number of training isn't one any more.
    #[error(
        "the {what} became {value} at epoch {epoch}, step {step}, with learning rate {lr:e}; try a \
         smaller `optimizer.lr`, or `clip_norm` 1, in another folder; {} holds the last good \
         weights",
        kept.display()
    )]
    NotFinite {
        /// Loss, gradient or validation loss.
        what: &'static str,
        /// NaN or infinity.
        value: f64,
        /// The epoch, from 1.
        epoch: usize,
        /// The step, from 1, over all epochs.
        step: usize,
        /// The learning rate of that step.
        lr: f64,
        /// The last checkpoint.
        kept: PathBuf,
    },
    /// The folder holds a run with other settings.
    #[error(
        "{}: this run has {field} = {found}, not {wanted}; to continue it, use its settings, and \
         for a new one another folder",
        run.display()
    )]
    OtherRun {
        /// The folder.
        run: PathBuf,
        /// What differs.
        field: String,
        /// What the folder's run has.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// A checkpoint that doesn't fit, or isn't whole.
    #[error("{}: {why}; to start afresh, train into another folder", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// A batch couldn't be made.
    #[error("no batch for epoch {epoch}, step {step}: {source}")]
    Batch {
        /// The epoch, from 1.
        epoch: usize,
        /// The step, from 1, over all epochs.
        step: usize,
        /// Why.
        source: BoxError,
    },
    /// There is no batch in an epoch.
    #[error("the training data is smaller than one batch: give more, or a smaller `batch_size`")]
    NoBatches,
    /// Validation failed.
    #[error("no validation after epoch {epoch}: {source}")]
    Validation {
        /// The epoch, from 1.
        epoch: usize,
        /// Why.
        source: BoxError,
    },
    /// The metric to select by isn't among those measured.
    #[error("validation has no metric `{wanted}` to select by; it has {}", available.join(", "))]
    NoSuchMetric {
        /// What was asked for.
        wanted: String,
        /// What there is.
        available: Vec<String>,
    },
    /// An objective without terms.
    #[error(
        "the objective has no term: name a loss in `objective.alignment`, or use a head that \
         reconstructs"
    )]
    NothingToLearn,
    /// A pattern for parameters that can't be read.
    #[error("`optimizer.rates`: `{pattern}` is no regular expression: {why}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// A configuration file that can't be read.
    #[error("{}: {why}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// A field to search over that the configuration doesn't have.
    #[error("the configuration has no field `{field}`; the nearest is `{nearest}`")]
    NoSuchField {
        /// What was asked for.
        field: String,
        /// The one most like it.
        nearest: String,
    },
    /// A value to search over that its field can't have.
    #[error("the configuration doesn't take {}: {why}", set)]
    Cell {
        /// Fields and values.
        set: String,
        /// What was found.
        why: String,
    },
    /// A problem with data.
    #[error(transparent)]
    Data(#[from] xr_data::Error),
    /// A problem with models.
    #[error(transparent)]
    Model(#[from] xr_models::Error),
}

/// The result of training.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    pub(crate) fn checkpoint(path: &Path, why: impl ToString) -> Self {
        Self::Checkpoint { path: path.into(), why: why.to_string() }
    }
}
