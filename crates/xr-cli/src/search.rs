use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use clap::Args;
use xr::{
    Listing, Match, Retriever, Run, Shelf,
    data::Fingerprint,
    eval::plot::{
        self,
        gallery::{Found, Row, draw},
    },
    index::{self, Catalogue, Condition, IndexSpec, Item},
    source_of,
};

use crate::{
    Result,
    options::{Global, Precision, report_skipped},
};

/// Finds pictures by words, best first.
///
/// Each line is a score and a picture: of a folder of pictures, which the model that is built in
/// embeds (only what is new or has changed since the last search); of those that `xr embed` embedded
/// in a run; or of a catalogue. The score is a cosine, less what a picture gets that is near to very
/// many texts.
#[derive(Debug, Args)]
pub struct Search {
    /// What to look for: "a dog on a beach".
    query: String,
    /// Folder of pictures, or of the run whose pictures `xr embed` embedded; with --catalogue, what
    /// embeds the query: folder of a run, or a model that `xr pack` wrote.
    #[arg(long = "in", value_name = "DIR", required_unless_present = "catalogue")]
    place: Option<PathBuf>,
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
    #[command(flatten)]
    precision: Precision,
}

impl Search {
    pub fn run(&self, global: &Global) -> Result<()> {
        match (&self.catalogue, &self.place) {
            (Some(catalogue), _) => self.in_catalogue(catalogue, global),
            (None, Some(run)) if Run::is_at(run) => {
                let model = global.retriever(Some(run), self.precision)?;
                self.on_shelf(&Shelf::open(run, &global.options())?, &model)
            }
            (None, Some(folder)) => self.in_folder(folder, global),
            (None, None) => unreachable!("clap requires one of them"),
        }
    }

    fn in_catalogue(&self, catalogue: &str, global: &Global) -> Result<()> {
        let model = global.retriever(self.place.as_deref(), self.precision)?;
        let found = match catalogue.parse() {
            Ok(IndexSpec::Milvus(uri)) => self.on_servers(&uri, &model)?,
            _ => {
                let catalogue = Catalogue::open(catalogue.as_ref())?;
                model.search_catalogue(&catalogue, &self.query, self.top, &self.conditions)?
            }
        };
        for (item, score) in found {
            println!("{score:.4}  {}", item.source);
        }
        Ok(())
    }

    #[cfg(feature = "milvus")]
    fn on_servers(&self, uri: &str, model: &Retriever) -> Result<Vec<(Item, f32)>> {
        let catalogue = index::MilvusCatalogue::open(uri)?;
        Ok(model.search_catalogue(&catalogue, &self.query, self.top, &self.conditions)?)
    }

    #[cfg(not(feature = "milvus"))]
    fn on_servers(&self, uri: &str, _: &Retriever) -> Result<Vec<(Item, f32)>> {
        Err(index::Error::WithoutMilvus(uri.into()).into())
    }

    /// In a folder of pictures, whose shelf is in the cache.
    fn in_folder(&self, folder: &Path, global: &Global) -> Result<()> {
        let options = global.options();
        let folder = fs::canonicalize(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let folder = folder.to_str().ok_or("the name of the folder is not UTF-8")?;
        let name = Fingerprint::of([folder].into_iter().chain(self.precision.suffix()));
        let shelf = options.cache.join("folders").join(name.short());
        let (listing, model) = thread::scope(|scope| {
            let listing = scope.spawn(|| Listing::of(folder, &options));
            let model = global.retriever(None, self.precision);
            (listing.join().expect("listing doesn't panic"), model)
        });
        let model = model?;
        let (shelf, update) = Shelf::update(&shelf, listing?, &model, &options)?;
        report_skipped(&update.skipped);
        if update.embedded > 0 {
            eprintln!("{} pictures embedded, {} in all", update.embedded, update.pictures);
        }
        self.on_shelf(&shelf, &model)
    }

    fn on_shelf(&self, shelf: &Shelf, model: &Retriever) -> Result<()> {
        let matches = shelf.search(&self.query, self.top, model)?;
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
