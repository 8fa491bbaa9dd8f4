//! Cross-modal retrieval: finds pictures by words and words by pictures.
//!
//! A [`Recipe`] says everything about an experiment, a [`Run`] is the folder it leaves behind, a
//! [`Retriever`] is its model in use, a [`Shelf`] what it finds pictures in. They stand on five crates, each of use alone and re-exported here:
//!
//! | crate | what |
//! |---|---|
//! | [`data`] | pictures, captions, splits; preprocessing, tokenisation, feature cache |
//! | [`models`] | encoders, heads, checkpoints |
//! | [`train`] | losses, one objective, one resumable loop |
//! | [`index`] | nearest neighbours |
//! | [`eval`] | metrics with intervals; plots and galleries |
//!
//! ```no_run
//! use xr::{Encoders, Options, Recipe, Run, models::device};
//!
//! let device = device("flex")?;
//! let options = Options { cache: "cache".into(), strict: false };
//! let recipe = Recipe::dual_encoder("synthetic", Encoders::small());
//! let run = Run::train(&recipe, "run".as_ref(), &options, &[device.clone()], &mut ())?.run;
//! let model = run.retriever(&device)?;
//! println!("{}", model.score(&run.corpus(&options)?, "test", &options)?);
//! # Ok::<(), xr::Error>(())
//! ```

mod allocator;
mod catalogue;
mod curves;
mod distil;
mod encoders;
mod end_to_end;
mod error;
mod features;
mod fine_tune;
mod fit;
mod gallery;
mod one_batch;
mod pack;
mod progress;
mod recipe;
mod retriever;
mod run;
mod shelf;
mod training;
mod validation;

pub use xr_data as data;
pub use xr_eval as eval;
pub use xr_index as index;
pub use xr_models as models;
pub use xr_train as train;

pub use allocator::tune_allocator;
pub use burn::tensor::Device;
pub use catalogue::{EmbeddedPictures, item_id, source_of};
pub use curves::curves;
pub use encoders::{Encoders, FineTuning, ImageTower, TextTower};
pub use end_to_end::fit_end_to_end;
pub use error::{Error, Result};
pub use features::{Features, FrozenEncoders};
pub use fine_tune::fit_tuned;
pub use fit::{Fitted, fit_head};
pub use gallery::gallery;
pub use one_batch::overfit_one_batch;
pub use pack::{Reduction, pack};
pub use progress::bar as progress_bar;
pub use recipe::{PRESETS, Recipe};
pub use retriever::Retriever;
pub use run::{Options, Run, TrainedRun};
pub use shelf::{Listing, Match, Shelf, Update};
pub use training::{InFolder, Training};

use run::{read_json, write_json};

/// Weights and dropout are drawn from a generator that all threads share, so tests that train take
/// turns.
#[cfg(test)]
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static TRAINING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    TRAINING.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
