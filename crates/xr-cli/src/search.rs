use std::path::PathBuf;

use clap::Args;
use xr::{
    Match, Run,
    data::Embeddings,
    eval::plot::{
        self,
        gallery::{Found, Row, draw},
    },
    index::{self, Catalogue, Condition, IndexSpec, Item, Query},
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
    /// Search in a catalogue: a folder that `xr index build` made, or a collection on Milvus
    /// servers that `xr index push` made, such as http://localhost:19530/shelf.
    #[arg(long, value_name = "DIR|URI", conflicts_with = "gallery")]
    catalogue: Option<String>,
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
            Some(catalogue) => self.in_catalogue(catalogue, global),
            None => self.in_run(global),
        }
    }

    fn in_catalogue(&self, catalogue: &str, global: &Global) -> Result<()> {
        let embedder = Run::open(&self.run)?.embedder(&global.device()?)?;
        let queries = embedder.texts(&[&self.query], embed::Run::new(1))?;
        let query = Query { k: self.top, conditions: &self.conditions, ..Query::default() };
        if let Ok(IndexSpec::Milvus(uri)) = catalogue.parse() {
            return on_servers(&uri, &queries, &query);
        }
        let catalogue = Catalogue::open(catalogue.as_ref())?;
        print(&catalogue.search(&queries, &query)?, |id| catalogue.item(id))
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

#[cfg(feature = "milvus")]
fn on_servers(uri: &str, queries: &Embeddings, query: &Query) -> Result<()> {
    let catalogue = xr::index::MilvusCatalogue::open(uri)?;
    print(&catalogue.search(queries, query)?, |id| catalogue.item(id))
}

#[cfg(not(feature = "milvus"))]
fn on_servers(uri: &str, _: &Embeddings, _: &Query) -> Result<()> {
    Err(index::Error::WithoutMilvus(uri.into()).into())
}

/// What was found for the only query.
fn print(
    found: &[Vec<index::Found>],
    item: impl Fn(u64) -> index::Result<Option<Item>>,
) -> Result<()> {
    for found in &found[0] {
        if let Some(item) = item(found.item)? {
            println!("{:.4}  {}", found.score, item.source);
        }
    }
    Ok(())
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
