use std::path::PathBuf;

use clap::Args;
use xr::{data::Sampling, Encoders, Recipe, Run, eval::plot, train::Bar};

use crate::{Result, options::Global, search::row};

/// Shows what xr does, offline and without data: makes pictures of coloured shapes, trains a model
/// on them from scratch, scores it, and searches with it.
#[derive(Debug, Args)]
pub struct Demo {
    /// Folder to work in.
    #[arg(long, value_name = "DIR", default_value = "xr-demo")]
    out: PathBuf,
}

const DATA: &str = "synthetic:3000";

/// The last names a pair of colour and shape that no training picture shows.
const QUERIES: [&str; 3] = [
    "a large red circle to the left of a small blue square",
    "a yellow star above a green triangle",
    "a green star in front of a red diamond",
];

impl Demo {
    pub fn run(&self, global: &Global) -> Result<()> {
        let (options, device) = (global.options(), global.device()?);
        println!("training a dual encoder on {DATA}, from scratch, in {}", self.out.display());
        let recipe = recipe();
        let run = Run::train(&recipe, &self.out, &options, &device, &mut Bar::default())?.run;
        println!("\n{}", run.score(&run.corpus(&options)?, "test", &options, &device)?);
        run.embed_pictures(DATA, &options, &device)?;
        let mut rows = Vec::new();
        for query in QUERIES {
            let found = run.search(query, 5, &device)?;
            let names: Vec<_> = found.iter().map(|m| m.picture.name.as_str()).collect();
            println!("{query}: {}", names.join(" "));
            rows.push(row(query, &found)?);
        }
        let path = self.out.join("gallery.png");
        plot::save(&plot::gallery::draw(&rows), &path)?;
        println!("\nlook at {} and {}", path.display(), self.out.join("curves.png").display());
        Ok(())
    }
}

/// The preset, for encoders that have yet to learn to see and a minute to do it.
fn recipe() -> Recipe {
    let mut recipe = Recipe::dual_encoder(DATA, Encoders::small());
    recipe.train.batch_size = 128;
    recipe.train.sampling = Sampling::PerPicture { captions: 1 };
    recipe.train.epochs = 16;
    recipe
}
