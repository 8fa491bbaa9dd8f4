//! Two learning rates for one dual encoder, compared: "P0", the lost and found system of Kamran, Zhu
//! and Syed (2025).
//!
//! We will: train the same model at 1e-4 and at 1e-3 on the same split, each with a rate that falls
//! when the validation loss doesn't, and with early stopping; draw both runs' curves together; take
//! the model of the lowest validation loss; and ask it for pictures, by words and by a picture.
//!
//! ```text
//! cargo run --example p0_lost_and_found
//!
//! cargo run --release --example p0_lost_and_found -- --data FLICKR8K \
//!     --image-weights resnet18.pth --text-weights MINILM_FOLDER
//! ```

use std::{error::Error, path::PathBuf, slice::from_ref};

use clap::Parser;
use image::RgbImage;
use xr::{
    Encoders, Options, Recipe, Retriever, Run, curves,
    data::{Corpus, Embeddings, Split, SplitSpec},
    eval::plot::{
        self,
        curves::Panel,
        gallery::{Found, Row},
    },
    gallery,
    index::{ExactIndex, Hit, Metric, SearchParams, VectorIndex},
    models::device,
    train::{Bar, Validation, read_log},
};

/// One dual encoder at two learning rates.
#[derive(Parser)]
struct Args {
    /// A folder (Flickr8k, or pictures with captions), a CSV file of pictures and titles, or
    /// synthetic:PICTURES.
    #[arg(long, default_value = "synthetic:300")]
    data: String,
    /// official, or a random partition by picture.
    #[arg(long, default_value = "official")]
    split: SplitSpec,
    /// Learning rates to compare.
    #[arg(long, value_delimiter = ',', default_value = "1e-4,1e-3")]
    rates: Vec<f64>,
    /// At most this many epochs.
    #[arg(long, default_value_t = 10)]
    epochs: usize,
    /// Published image encoder; without, a small one is trained from scratch.
    #[arg(long)]
    image_weights: Vec<PathBuf>,
    /// Folder of a published text encoder; without, a GRU is trained from scratch.
    #[arg(long)]
    text_weights: Option<PathBuf>,
    /// Train published encoders whole, and not only the image encoder's blocks.
    #[arg(long)]
    end_to_end: bool,
    /// Where runs and pictures go.
    #[arg(long, default_value = "p0-runs")]
    out: PathBuf,
    /// Folder of the feature cache.
    #[arg(long, default_value = "p0-runs/cache")]
    cache: PathBuf,
    /// flex, libtorch, libtorch-cuda:0, …
    #[arg(long, default_value = "flex")]
    device: String,
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Queries of each kind in the galleries, and pictures found for each.
const QUERIES: usize = 4;
const FOUND: usize = 5;

fn main() -> Result<()> {
    xr::tune_allocator();
    let args = Args::parse();
    let device = device(&args.device)?;
    let options = Options { cache: args.cache.clone(), strict: false };

    // The same data, weights and order for each rate; nothing else differs.
    let mut trained = Vec::new();
    for &rate in &args.rates {
        let recipe = recipe(&args, rate);
        let dir = args.out.join(format!("rate-{rate:e}"));
        println!("learning rate {rate:e}");
        let run = Run::train(&recipe, &dir, &options, from_ref(&device), &mut Bar::default())?;
        trained.push((rate, run.run, run.best));
    }

    draw_curves(&args)?;
    let corpus = trained[0].1.corpus(&options)?;
    let rows = recipe(&args, args.rates[0]).train.batch_size;
    let best = print(&trained, rows.min(corpus.split("dev")?.captions.len()));
    let (rate, run, _) = &trained[best];
    println!("galleries and scores are of the model trained at {rate:e}");

    // Scores and galleries are of the part that nothing was chosen on.
    let model = run.retriever(&device)?;
    println!("{}", model.score(&corpus, "test", &options)?);
    draw_galleries(&args, &model, &corpus, &options)?;
    println!("curves.png, by-words.png and by-picture.png are in {}", args.out.display());
    Ok(())
}

fn recipe(args: &Args, rate: f64) -> Recipe {
    let (image, text) = (args.image_weights.clone(), args.text_weights.clone());
    let encoders = match args.end_to_end {
        true => Encoders::end_to_end(image, text),
        false => Encoders::frozen(image, text),
    };
    let mut recipe = Recipe::lost_and_found(&args.data, encoders);
    (recipe.split, recipe.train.epochs) = (args.split, args.epochs);
    recipe.train.optimizer.lr = rate;
    recipe
}

/// Both runs' losses on one panel, and a recall on another.
fn draw_curves(args: &Args) -> Result<()> {
    let mut together: Vec<Panel> = Vec::new();
    for rate in &args.rates {
        let log = args.out.join(format!("rate-{rate:e}/training/log.jsonl"));
        let [mut loss, mut recall] =
            <[Panel; 2]>::try_from(curves(&read_log(&log)?)).expect("losses, recalls");
        recall.curves.retain(|curve| curve.name == "R@5");
        for (i, panel) in [&mut loss, &mut recall].into_iter().enumerate() {
            panel.mark = None;
            for curve in &mut panel.curves {
                curve.name = format!("{} at {rate:e}", curve.name);
            }
            match together.get_mut(i) {
                Some(there) => there.curves.append(&mut panel.curves),
                None => together.push(panel.clone()),
            }
        }
    }
    Ok(plot::save(&plot::curves::draw(&together), &args.out.join("curves.png"))?)
}

/// Prints a row for each rate, and returns which has the lowest validation loss, of batches of so many
/// pairs.
fn print(trained: &[(f64, Run, Validation)], batch: usize) -> usize {
    // A contrastive loss depends on the batch: a model that knows nothing has its logarithm.
    println!("{:>8}  {:>15}  {:>6}", "rate", "validation loss", "R@5");
    for (rate, _, best) in trained {
        println!("{rate:>8e}  {:>15.4}  {:>6.3}", best.loss, best.metrics["R@5"]);
    }
    let chance = (batch as f64).ln();
    println!("chance: {chance:.4}, which is ln {batch}; the paper, batch unknown: 2.2840, 2.8901");
    let losses = trained.iter().enumerate().map(|(i, (_, _, best))| (i, best.loss));
    losses.min_by(|a, b| a.1.total_cmp(&b.1)).expect("at least one rate").0
}

fn draw_galleries(
    args: &Args,
    model: &Retriever,
    corpus: &Corpus,
    options: &Options,
) -> Result<()> {
    let mut part = corpus.only(&corpus.split("test")?);
    let (image, text) = model.embeddings(&mut part, options)?;
    let split = part.split("test")?;
    let by_words = gallery(&part, &split, &image, &text, &evenly(split.captions.len()))?;
    plot::save(&by_words, &args.out.join("by-words.png"))?;
    plot::save(&by_picture(&part, &split, &image)?, &args.out.join("by-picture.png"))?;
    Ok(())
}

/// For some pictures those nearest to them: themselves, and then others.
fn by_picture(corpus: &Corpus, split: &Split, image: &Embeddings) -> Result<RgbImage> {
    let queries = evenly(split.pictures.len());
    let index = ExactIndex::new(image.normalized(), Metric::InnerProduct)?;
    let vectors = image.select(&queries);
    let hits = index.search(vectors.view(), FOUND, &SearchParams::default())?;
    let picture = |row: u64| &corpus.pictures[split.pictures[row as usize] as usize];
    let rows = queries.iter().zip(hits.iter()).map(|(&query, hits)| {
        let found = hits.iter().map(|&Hit { id, score }| {
            Ok(Found { picture: picture(id).load()?, score, right: id == u64::from(query) })
        });
        let found = found.collect::<Result<Vec<_>>>()?;
        let caption = format!("like {}", picture(query.into()).name);
        let itself = found.iter().position(|found| found.right);
        Ok(Row { caption, found, right_at: itself.map(|place| place as u32 + 1) })
    });
    Ok(plot::gallery::draw(&rows.collect::<Result<Vec<_>>>()?))
}

/// Some of `count` rows.
fn evenly(count: usize) -> Vec<u32> {
    (0..count as u32).step_by((count / QUERIES).max(1)).take(QUERIES).collect()
}
