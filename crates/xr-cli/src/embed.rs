use std::path::PathBuf;

use clap::Args;
use xr::Run;

use crate::{
    Result,
    options::{Global, report_skipped},
};

/// Embeds all pictures of a data set, to be searched.
///
/// Killed and called again, it goes on where it stopped. Memory does not grow with the number of
/// pictures.
#[derive(Debug, Args)]
pub struct Embed {
    /// Folder of the run whose model embeds.
    #[arg(long = "in", value_name = "RUN")]
    run: PathBuf,
    /// Data set, or a folder of pictures.
    #[arg(long, value_name = "DATA")]
    data: String,
}

impl Embed {
    pub fn run(&self, global: &Global) -> Result<()> {
        let run = Run::open(&self.run)?;
        let embedded = run.embed_pictures(&self.data, &global.options(), &global.device()?)?;
        report_skipped(&embedded.skipped);
        println!("{} pictures embedded", embedded.pictures);
        Ok(())
    }
}
