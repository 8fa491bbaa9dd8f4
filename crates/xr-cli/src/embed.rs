use std::path::PathBuf;

use clap::Args;
use xr::{Listing, Run, Shelf};

use crate::{
    Result,
    options::{Global, Precision, report_skipped},
};

/// Embeds all pictures of a data set, to be searched.
///
/// Called again, it embeds what is new or has changed; killed and called again, it goes on where it
/// stopped. Memory does not grow with the number of pictures.
#[derive(Debug, Args)]
pub struct Embed {
    /// Folder of the run whose model embeds.
    #[arg(long = "in", value_name = "RUN")]
    run: PathBuf,
    /// Data set, or a folder of pictures.
    #[arg(long, value_name = "DATA")]
    data: String,
    #[command(flatten)]
    precision: Precision,
}

impl Embed {
    pub fn run(&self, global: &Global) -> Result<()> {
        // Not a packed model: what it embeds is kept with the run.
        Run::open(&self.run)?;
        let model = global.retriever(Some(&self.run), self.precision)?;
        let options = global.options();
        let listing = Listing::of(&self.data, &options)?;
        let (_, update) = Shelf::update(&self.run, listing, &model, &options)?;
        report_skipped(&update.skipped);
        println!("{} pictures embedded, {} in all", update.embedded, update.pictures);
        Ok(())
    }
}
