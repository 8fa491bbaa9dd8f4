use std::path::PathBuf;

use clap::Args;
use xr::{Encoders, Recipe, Run, data::Sampling, eval::plot, gallery, train::Bar};

use crate::{Result, options::Global};

/// Shows what xr does, offline and without data: makes pictures of coloured shapes, trains a model
/// on them from scratch, scores it, and finds pictures by their captions.
#[derive(Debug, Args)]
pub struct Demo {
    /// Folder to work in.
    #[arg(long, value_name = "DIR", default_value = "xr-demo")]
    out: PathBuf,
}

const DATA: &str = "synthetic:2000";
/// Captions of the test part that are looked for.
const QUERIES: [u32; 3] = [0, 302, 604];

impl Demo {
    pub fn run(&self, global: &Global) -> Result<()> {
        let (options, device) = (global.options(), global.device()?);
        println!("training a dual encoder on {DATA}, from scratch, in {}", self.out.display());
        let run = Run::train(&recipe(), &self.out, &options, &device, &mut Bar::default())?.run;
        let corpus = run.corpus(&options)?;
        println!("\n{}", run.score(&corpus, "test", &options, &device)?);

        run.embed_pictures(DATA, &options, &device)?;
        let test = corpus.split("test")?;
        let texts: Vec<_> = corpus.texts(&test).collect();
        for query in QUERIES {
            let query = texts[query as usize];
            println!("{query}:");
            for found in run.search(query, 3, &device)? {
                println!("    {:.3}  picture {}", found.score, found.picture.name);
            }
        }
        let mut part = corpus.only(&test);
        let (image, text) = run.embeddings(&mut part, &options, &device)?;
        let path = self.out.join("gallery.png");
        plot::save(&gallery(&part, &part.split("test")?, &image, &text, &QUERIES)?, &path)?;
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
