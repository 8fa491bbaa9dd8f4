use std::path::PathBuf;

use clap::Args;
use xr::{Reduction, Run, data::atomic, pack};

use crate::{Result, options::Global};

/// Makes one small file of a run's model, to be sent along or built into a program.
///
/// It has the words that the training captions need and the most frequent others, embeddings of
/// fewer dimensions, rounded weights, and a query bank. `xr eval --in FILE` says what that costs.
#[derive(Debug, Args)]
pub struct Pack {
    /// Folder of the run.
    #[arg(long = "in", value_name = "RUN")]
    run: PathBuf,
    /// The file.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Pieces of words that it knows, at most.
    #[arg(long, value_name = "N", default_value_t = Reduction::default().words)]
    words: usize,
    /// Dimensions of its embeddings, at most.
    #[arg(long, value_name = "N", default_value_t = Reduction::default().latent)]
    latent: usize,
}

impl Pack {
    pub fn run(&self, global: &Global) -> Result<()> {
        let Self { words, latent, .. } = *self;
        let reduction = Reduction { words, latent, ..Reduction::default() };
        let run = Run::open(&self.run)?;
        let bytes = pack(&run, &reduction, &global.options(), &global.device()?)?.to_bytes();
        atomic::write(&self.out, &bytes)?;
        println!("{}: {} bytes", self.out.display(), bytes.len());
        Ok(())
    }
}
