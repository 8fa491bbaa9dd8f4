use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, value_parser};
use xr::{
    data::{
        Corpus, Download, Picture, Preprocess, Source, SplitSpec, contact_sheet,
        dataset::{csv_file::Columns, open},
        looks, near_duplicates,
    },
    eval::plot,
    progress_bar,
};

use crate::{
    Result,
    options::{Global, report_skipped},
};

/// Fetches a data set, or looks at one before it is trained on.
#[derive(Debug, Subcommand)]
pub enum Data {
    Check(Check),
    Fetch(Fetch),
    Augment(Augment),
}

/// Decodes every picture and looks for what spoils a score.
///
/// Prints how many pictures and captions each split has, what can't be used, and pairs of pictures
/// that look the same: between two splits they let a model be tested on what it was trained on.
/// Fails if there are such pairs.
#[derive(Debug, Args)]
pub struct Check {
    /// Data set: a folder, a CSV file, or synthetic[:PICTURES[:SEED]].
    data: String,
    /// official, or a random partition by picture such as random-70-15-15.
    #[arg(long, value_name = "SPLIT", default_value = "official")]
    split: SplitSpec,
    /// Seed of the partition.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// Fetches the pictures whose addresses are in a CSV file, into a folder that is a data set.
///
/// Called again it goes on where it stopped, and fetches nothing twice. What could not be fetched is in
/// the folder's dead.csv, each address with the reason.
#[derive(Debug, Args)]
pub struct Fetch {
    /// CSV file with a heading.
    table: PathBuf,
    /// Folder to fetch into.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Column of addresses [default: imgUrl, image_url, image, picture or path].
    #[arg(long, value_name = "COLUMN")]
    picture: Option<String>,
    /// Column of texts [default: title, caption or text].
    #[arg(long, value_name = "COLUMN")]
    text: Option<String>,
    /// Only the first rows.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Connections at a time.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = value_parser!(u16).range(1..=256))]
    parallel: u16,
    /// For one attempt at one picture, of which there are four.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = value_parser!(u64).range(1..))]
    timeout: u64,
}

/// Draws what augmentations do to a picture: a row for each by itself, and one for all in order.
#[derive(Debug, Args)]
pub struct Augment {
    /// Picture file.
    picture: PathBuf,
    /// What `xr train --set augment=JSON` is given.
    #[arg(long, value_name = "JSON")]
    augment: String,
    /// Width and height of what an encoder would see, in pixels.
    #[arg(long, value_name = "PIXELS", default_value_t = 128, value_parser = value_parser!(u32).range(1..=1024))]
    side: u32,
    /// Picture file to draw.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Draws of each augmentation that are shown.
const DRAWS: u32 = 6;

/// Pairs that are printed.
const SHOWN: usize = 20;

impl Data {
    pub fn run(&self, global: &Global) -> Result<()> {
        match self {
            Self::Check(check) => check.run(global),
            Self::Fetch(fetch) => fetch.run(global),
            Self::Augment(augment) => augment.run(),
        }
    }
}

impl Check {
    fn run(&self, global: &Global) -> Result<()> {
        let mut corpus = open(&self.data, global.options().strictness())?;
        self.split.apply(&mut corpus, self.seed);
        print_splits(&corpus)?;
        let (mut decoded, mut undecodable) = (vec![], vec![]);
        for (i, look) in (0..).zip(looks(&corpus, progress_bar("pictures"))) {
            match look {
                Ok(look) => decoded.push(look),
                Err(error) => undecodable.push((i, error.to_string())),
            }
        }
        corpus.drop_pictures(&undecodable);
        report_skipped(&corpus.skipped);
        report_pairs(&corpus, &near_duplicates(&decoded))
    }
}

impl Fetch {
    fn run(&self, global: &Global) -> Result<()> {
        let download = Download {
            columns: Columns { picture: self.picture.clone(), text: self.text.clone() },
            limit: self.limit,
            parallel: self.parallel.into(),
            timeout: Duration::from_secs(self.timeout),
            ..Download::default()
        };
        let made = download.run(&self.table, &self.out, progress_bar("pictures"))?;
        report_skipped(&made.skipped);
        println!("{made}");
        match made.dead + made.skipped.len() {
            missing if missing > 0 && global.options().strict => {
                Err(format!("{missing} rows and links gave no picture with a text").into())
            }
            _ => Ok(()),
        }
    }
}

impl Augment {
    fn run(&self) -> Result<()> {
        let augment: Vec<xr::data::Augment> = serde_json::from_str(&self.augment)?;
        augment.iter().try_for_each(xr::data::Augment::check)?;
        let name = self.picture.display().to_string();
        let picture = Picture { name, source: Source::File(self.picture.clone()) }.load()?;
        let sheet = contact_sheet(&picture, &augment, &Preprocess::unit(self.side), DRAWS, 0);
        Ok(plot::save(&sheet, &self.out)?)
    }
}

fn print_splits(corpus: &Corpus) -> Result<()> {
    println!(
        "{}: {} pictures, {} captions",
        corpus.name,
        corpus.pictures.len(),
        corpus.captions.len()
    );
    for name in corpus.splits.keys() {
        let split = corpus.split(name)?;
        println!("  {name}: {} pictures, {} captions", split.pictures.len(), split.captions.len());
    }
    Ok(())
}

/// Those between two splits first; they are an error.
fn report_pairs(corpus: &Corpus, pairs: &[[u32; 2]]) -> Result<()> {
    let split_of = |picture: u32| {
        let holds = |(_, pictures): &(&String, &Vec<u32>)| pictures.binary_search(&picture).is_ok();
        corpus.splits.iter().find(holds).map(|(name, _)| name.as_str())
    };
    let is_leak = |[a, b]: [u32; 2]| match (split_of(a), split_of(b)) {
        (Some(a), Some(b)) => a != b,
        _ => false,
    };
    let (leaks, within): (Vec<[u32; 2]>, Vec<_>) =
        pairs.iter().copied().partition(|pair| is_leak(*pair));
    println!("pairs that look the same: {}, between splits: {}", pairs.len(), leaks.len());
    for pair in leaks.iter().chain(&within).take(SHOWN) {
        let [a, b] = pair.map(|i| {
            let name = &corpus.pictures[i as usize].name;
            format!("{name} ({})", split_of(i).unwrap_or("no split"))
        });
        println!("  {a}  {b}");
    }
    match leaks.len() {
        0 => Ok(()),
        leaks => Err(format!(
            "pictures that look the same are in two splits ({leaks} pairs): take one of each out, or \
             scores will be too good"
        )
        .into()),
    }
}
