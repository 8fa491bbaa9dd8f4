use clap::{Args, Subcommand};
use xr::{
    data::{Corpus, SplitSpec, dataset::open, looks, near_duplicates},
    progress_bar,
};

use crate::{
    Result,
    options::{Global, report_skipped},
};

/// Looks at a data set before it is trained on.
#[derive(Debug, Subcommand)]
pub enum Data {
    Check(Check),
}

/// Decodes every picture and looks for what spoils a score.
///
/// Prints how many pictures and captions each split has, what can't be used, and pairs of pictures
/// that look the same: between two splits they let a model be tested on what it was trained on.
/// Fails if there are such pairs.
#[derive(Debug, Args)]
pub struct Check {
    /// Data set: a folder, or synthetic[:PICTURES[:SEED]].
    data: String,
    /// official, or a random partition by picture such as random-70-15-15.
    #[arg(long, value_name = "SPLIT", default_value = "official")]
    split: SplitSpec,
    /// Seed of the partition.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// Pairs that are printed.
const SHOWN: usize = 20;

impl Data {
    pub fn run(&self, global: &Global) -> Result<()> {
        match self {
            Self::Check(check) => check.run(global),
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
