use std::{fs, path::PathBuf, slice::from_ref};

use clap::Args;
use xr::{
    Encoders, Listing, Recipe, Run, Shelf,
    data::Sampling,
    eval::plot::{self, gallery::draw},
    gallery,
    train::Bar,
};

use crate::{
    Result,
    options::{Global, Precision},
    search::row,
};

/// Shows what xr does, offline and without data.
///
/// Finds photographs by words with the model that is built in. Then makes pictures of coloured
/// shapes, trains a model on them from scratch, scores it, and finds pictures by their captions.
#[derive(Debug, Args)]
pub struct Demo {
    /// Folder to work in.
    #[arg(long, value_name = "DIR", default_value = "xr-demo")]
    out: PathBuf,
}

const DATA: &str = "synthetic:2000";
/// Captions of the test part that are looked for.
const QUERIES: [u32; 3] = [0, 302, 604];

/// What is looked for among the photographs.
const WORDS: [&str; 4] =
    ["a cat with green eyes", "a building by a lake", "a man taking a picture", "an orange flower"];

impl Demo {
    pub fn run(&self, global: &Global) -> Result<()> {
        self.find_photos(global)?;
        self.train(global)
    }

    fn find_photos(&self, global: &Global) -> Result<()> {
        let photos = self.out.join("photos");
        fs::create_dir_all(&photos)?;
        for (name, content) in xr_mini::PHOTOS {
            fs::write(photos.join(name), content)?;
        }
        println!("finding photographs in {} with the model that is built in", photos.display());
        let (model, options) = (global.retriever(None, Precision::default())?, global.options());
        let folder = photos.to_str().ok_or("the name of the folder is not UTF-8")?;
        let listing = Listing::of(folder, &options)?;
        let (shelf, _) = Shelf::update(&self.out.join("photos-shelf"), listing, &model, &options)?;
        let mut rows = vec![];
        for words in WORDS {
            let found = shelf.search(words, 5, &model)?;
            println!("    {words}: {}", found[0].picture.name);
            rows.push(row(words, &found)?);
        }
        Ok(plot::save(&draw(&rows), &self.out.join("photos.png"))?)
    }

    fn train(&self, global: &Global) -> Result<()> {
        let (options, device) = (global.options(), global.device()?);
        println!("\ntraining a dual encoder on {DATA}, from scratch, in {}", self.out.display());
        let run =
            Run::train(&recipe(), &self.out, &options, from_ref(&device), &mut Bar::default())?.run;
        let (corpus, model) = (run.corpus(&options)?, run.retriever(&device)?);
        println!("\n{}", model.score(&corpus, "test", &options)?);

        let (shelf, _) = Shelf::update(&self.out, Listing::of(DATA, &options)?, &model, &options)?;
        let test = corpus.split("test")?;
        let texts: Vec<_> = corpus.texts(&test).collect();
        for query in QUERIES {
            let query = texts[query as usize];
            println!("{query}:");
            for found in shelf.search(query, 3, &model)? {
                println!("    {:.3}  picture {}", found.score, found.picture.name);
            }
        }
        let mut part = corpus.only(&test);
        let (image, text) = model.embeddings(&mut part, &options)?;
        let path = self.out.join("gallery.png");
        plot::save(&gallery(&part, &part.split("test")?, &image, &text, &QUERIES)?, &path)?;
        println!("\nlook at photos.png, curves.png and gallery.png in {}", self.out.display());
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
