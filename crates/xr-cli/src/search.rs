use std::path::PathBuf;

use clap::Args;
use xr::{
    Match, Run,
    data::Source,
    eval::plot::{
        self,
        gallery::{Found, Row, draw},
    },
};

use crate::{Result, options::Global};

/// Finds pictures by words, best first.
///
/// Each line is a cosine and a picture.
#[derive(Debug, Args)]
pub struct Search {
    /// What to look for: "a dog on a beach".
    query: String,
    /// Folder of a run whose pictures were embedded by `xr embed`.
    #[arg(long = "in", value_name = "RUN")]
    run: PathBuf,
    /// How many pictures.
    #[arg(long, short = 'k', value_name = "N", default_value_t = 5)]
    top: usize,
    /// Draw the pictures.
    #[arg(long, value_name = "PNG")]
    gallery: Option<PathBuf>,
}

impl Search {
    pub fn run(&self, global: &Global) -> Result<()> {
        let matches = Run::open(&self.run)?.search(&self.query, self.top, &global.device()?)?;
        for found in &matches {
            println!("{:.4}  {}", found.score, place(found));
        }
        if let Some(path) = &self.gallery {
            plot::save(&draw(&[row(&self.query, &matches)?]), path)?;
        }
        Ok(())
    }
}

fn place(Match { picture, .. }: &Match) -> String {
    match &picture.source {
        Source::File(path) => path.display().to_string(),
        Source::Scene(_) => picture.name.clone(),
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
