use std::{
    io,
    path::{Path, PathBuf},
};

/// What can go wrong in an experiment: what the crates below say, and a little more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Of the data.
    #[error(transparent)]
    Data(#[from] xr_data::Error),
    /// Of encoders, heads and checkpoints.
    #[error(transparent)]
    Models(#[from] xr_models::Error),
    /// Of training.
    #[error(transparent)]
    Train(#[from] xr_train::Error),
    /// Of searching.
    #[error(transparent)]
    Index(#[from] xr_index::Error),
    /// Of scoring.
    #[error(transparent)]
    Eval(#[from] xr_eval::Error),
    /// A file couldn't be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of a run that isn't what it should be.
    #[error("{}: {why}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// A folder that is no run.
    #[error("{}: no run is here (it has no recipe.json); make one with `xr train --out {}`", path.display(), path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
    /// A run without a query bank.
    #[error(
        "{}: this run has no query bank; train it with the same settings once more, which makes one",
        path.display()
    )]
    NoBank {
        /// The folder.
        path: PathBuf,
    },
    /// A run that was made with another recipe.
    #[error(
        "{}: holds a run with other settings; remove the folder, choose another, or use its recipe.json as it is",
        path.display()
    )]
    OtherRecipe {
        /// The folder.
        path: PathBuf,
    },
    /// Augmentation of pictures whose features are computed once.
    #[error(
        "`augment` changes pixels at every step, but what pretrained encoders make of a picture is computed \
         once and kept; leave it empty: preset fine-tuned sees random parts of each picture \
         (encoders.pretrained.tuning.crops); or train the encoders whole, with --end-to-end"
    )]
    AugmentedFeatures,
    /// Encoders' products are to be less precise where no encoder is trained.
    #[error(
        "`train.precision` is that of encoders in training, and this recipe's are frozen; leave it at f32, or \
         train encoders: preset fine-tuned, or --end-to-end"
    )]
    PrecisionOfFrozenEncoders,
    /// Distillation from nobody.
    #[error(
        "`train.objective.distillation` follows a teacher, and the recipe names none; name one in \
         `teacher`, or take the distillation out"
    )]
    NoTeacher,
    /// A teacher whom no loss follows.
    #[error(
        "{}: no loss follows this teacher; say in `train.objective.distillation` how, for example \
         {{\"weight\": 1}}",
        path.display()
    )]
    IdleTeacher {
        /// Its run or file.
        path: PathBuf,
    },
    /// Training data without a part to choose the best epoch on, or to learn from.
    #[error(
        "{corpus}: the split `{split}` has no captions; choose another partition with --split random-70-15-15"
    )]
    EmptySplit {
        /// Name of the corpus.
        corpus: String,
        /// The split.
        split: String,
    },
    /// Training was interrupted before its first epoch ended.
    #[error("training stopped before its first epoch was over; run it again to go on")]
    NoEpoch,
    /// A run without embedded pictures.
    #[error("{}: no pictures are embedded here yet; run `xr embed --data DATA --in {}`", path.display(), path.display())]
    NothingEmbedded {
        /// The run's folder.
        path: PathBuf,
    },
}

/// The result of an experiment.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    pub(crate) fn bad_file(path: &Path, why: &impl ToString) -> Self {
        Self::BadFile { path: path.into(), why: why.to_string() }
    }
}
