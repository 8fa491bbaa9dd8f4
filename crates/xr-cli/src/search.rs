use std::path::PathBuf;

use clap::Args;
use xr::{
    Match, Run,
    eval::plot::{
        self,
        gallery::{Found, Row, draw},
    },
    index::{Catalogue, Condition, Query},
    models::embed,
    source_of,
};

use crate::{Result, options::Global};

/// Finds pictures by words, best first.
///
/// Each line is a cosine and a picture: of those that `xr embed` embedded, or of a catalogue.
#[derive(Debug, Args)]
pub struct Search {
    /// What to look for: "a dog on a beach".
    query: String,
    /// Folder of the run whose model embeds the query, and whose pictures `xr embed` embedded.
    #[arg(long = "in", value_name = "RUN")]
    run: PathBuf,
    /// Search in a catalogue that `xr index build` made.
    #[arg(long, value_name = "DIR", conflicts_with = "gallery")]
    catalogue: Option<PathBuf>,
    /// Only what has this value in its metadata; may be given several times.
    #[arg(long = "where", value_name = "FIELD=VALUE", requires = "catalogue")]
    conditions: Vec<Condition>,
    /// How many pictures.
    #[arg(long, short = 'k', value_name = "N", default_value_t = 5)]
    top: usize,
    /// Draw the pictures.
    #[arg(long, value_name = "PNG")]
    gallery: Option<PathBuf>,
}

impl Search {
    pub fn run(&self, global: &Global) -> Result<()> {
        match &self.catalogue {
            Some(catalogue) => self.in_catalogue(&Catalogue::open(catalogue)?, global),
            None => self.in_run(global),
        }
    }

    fn in_catalogue(&self, catalogue: &Catalogue, global: &Global) -> Result<()> {
        let embedder = Run::open(&self.run)?.embedder(&global.device()?)?;
        let queries = embedder.texts(&[&self.query], embed::Run::new(1))?;
        let query = Query { k: self.top, conditions: &self.conditions, ..Query::default() };
        for found in &catalogue.search(&queries, &query)?[0] {
            if let Some(item) = catalogue.item(found.item)? {
                println!("{:.4}  {}", found.score, item.source);
            }
        }
        Ok(())
    }

    fn in_run(&self, global: &Global) -> Result<()> {
        let matches = Run::open(&self.run)?.search(&self.query, self.top, &global.device()?)?;
        for found in &matches {
            println!("{:.4}  {}", found.score, source_of(&found.picture));
        }
        if let Some(path) = &self.gallery {
            plot::save(&draw(&[row(&self.query, &matches)?]), path)?;
        }
        Ok(())
    }
}

/// A row of a gallery for a query without a right answer.
pub fn row(query: &str, matches: &[Match]) -> Result<Row> {
    let found = |m: &Match| {
        Ok::<_, xr::Error>(Found { picture: m.picture.load()?, score: m.score, right: false })
    };
    Ok(Row {
        caption: query.into(),
        found: matches.iter().map(found).collect::<std::result::Result<_, _>>()?,
        right_at: None,
    })
}
