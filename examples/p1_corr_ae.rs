//! Three autoencoder heads and a dual encoder over frozen features, compared: "P1", the modernised
//! correspondence autoencoders of Veiman, Hecke, Fowler and DeBlieck (2025).
//!
//! We will: open a corpus and split it; take encoders, published ones or, without any, two small
//! ones that we train first (the paper's "method 2"); compute features once; train each head on
//! them; score both directions on the test part, with intervals; and draw what was found.
//!
//! ```text
//! cargo run --release --example p1_corr_ae
//!
//! cargo run --release --example p1_corr_ae -- --data FLICKR8K --split random-70-15-15 \
//!     --seeds 0,1,2 --image-weights LITE0.pth --text-weights MINILM_FOLDER
//! ```

use std::{error::Error, fs, path::PathBuf};

use clap::Parser;
use xr::{
    Device, Encoders, Features, Fitted, FrozenEncoders, InFolder, Recipe, curves,
    data::{
        Corpus, Embeddings, Manifest, Split, SplitSpec,
        dataset::{Strictness, open},
    },
    eval::{EvalConfig, Scores, Summary, Table, evaluate, plot, report},
    fit_end_to_end, fit_head, gallery,
    models::{HeadConfig, Views, device},
    train::{Bar, read_log},
};

/// Three autoencoder heads and a dual encoder, compared.
#[derive(Parser)]
struct Args {
    /// A folder (Flickr8k, or pictures with captions), or synthetic:PICTURES.
    #[arg(long, default_value = "synthetic:600")]
    data: String,
    /// official, or a random partition by picture.
    #[arg(long, default_value = "official")]
    split: SplitSpec,
    /// One training for each; also the seeds of the random partition.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    seeds: Vec<u64>,
    /// Published image encoder; given twice, features stand side by side.
    #[arg(long, requires = "text_weights")]
    image_weights: Vec<PathBuf>,
    /// Folder of a published text encoder.
    #[arg(long, requires = "image_weights")]
    text_weights: Option<PathBuf>,
    /// Train on mirrored pictures too, and embed both views.
    #[arg(long)]
    flip: bool,
    /// Where runs, pictures and scores.json go.
    #[arg(long, default_value = "p1-runs")]
    out: PathBuf,
    /// Folder of the feature cache.
    #[arg(long, default_value = "p1-runs/cache")]
    cache: PathBuf,
    /// flex, libtorch, libtorch-cuda:0, …
    #[arg(long, default_value = "flex")]
    device: String,
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Preset, name in the table, and the paper's R@1, R@5, R@10 and median rank.
const HEADS: [(&str, &str, Option<[&str; 4]>); 4] = [
    ("corr-ae-mse", "Corr-AE (MSE)", Some([".052", ".167", ".249", "42"])),
    ("corr-ae", "Corr-AE (contrastive)", Some([".050", ".174", ".277", "30"])),
    ("cross-ae", "Cross-modal AE", Some([".134", ".372", ".503", "10"])),
    ("dual-encoder", "Dual encoder", None),
];
const METRICS: [&str; 4] = ["R@1", "R@5", "R@10", "MedR"];

fn main() -> Result<()> {
    xr::tune_allocator();
    let args = Args::parse();
    let device = device(&args.device)?;
    fs::create_dir_all(&args.out)?;

    // One experiment for each seed: another partition, other weights, another order.
    let mut scores: Vec<(&str, Vec<Scores>)> = Vec::new();
    for &seed in &args.seeds {
        for (name, score) in experiment(&args, seed, &device)? {
            match scores.iter_mut().find(|(known, _)| *known == name) {
                Some((_, of_seeds)) => of_seeds.push(score),
                None => scores.push((name, vec![score])),
            }
        }
    }

    print(&scores, args.text_weights.is_some());
    if args.text_weights.is_some() {
        println!("{CAVEAT}");
    }
    let json = args.out.join("scores.json");
    fs::write(&json, serde_json::to_string_pretty(&scores)?)?;
    println!("pictures, curves and {} are in {}", json.display(), args.out.display());
    Ok(())
}

const CAVEAT: &str = "\
The paper's features are ResNet-50 and BERT, and its test part has 1,214 of 8,091 pictures: a part
with fewer is slightly easier. If the text encoder is all-MiniLM-L6-v2: its model card lists
Flickr30k and COCO captions among its training data, and Flickr30k extends Flickr8k, so it has
probably seen these captions grouped by picture, which the paper's BERT has not. Not like for like.";

/// All heads on one partition.
fn experiment(args: &Args, seed: u64, device: &Device) -> Result<Vec<(&'static str, Scores)>> {
    let mut corpus = open(&args.data, Strictness::Lenient)?;
    args.split.apply(&mut corpus, seed);
    let mut scores = Vec::new();

    let encoders = match &args.text_weights {
        Some(text) => FrozenEncoders::load(&args.image_weights, text, device)?,
        // Without published weights we train a small pair of encoders end to end first.
        None => {
            let fitted = from_scratch(args, seed, &mut corpus, device)?;
            let encoders = FrozenEncoders::of(fitted.checkpoint.clone());
            let features = features(&encoders, &mut corpus, args)?;
            scores.push(("Method 2 (from scratch)", score(&corpus, &features, &fitted)?));
            encoders
        }
    };

    // Features are computed once, cached on disk, and shared by all heads and seeds.
    let features = features(&encoders, &mut corpus, args)?;
    for (preset, name, _) in HEADS {
        println!("seed {seed}: {name}");
        let recipe = recipe(preset, args, seed);
        let run = args.out.join(format!("{preset}-{seed}"));
        let bar = &mut Bar::default();
        let folder = &mut InFolder { run: &run, others: &[], observer: bar };
        let fitted = fit_head(&recipe, &corpus, &encoders, &features, folder)?;
        fitted.checkpoint.save(&run.join("checkpoint"))?;
        let log = read_log(&run.join("log.jsonl"))?;
        plot::save(&plot::curves::draw(&curves(&log)), &run.join("curves.png"))?;
        draw_gallery(&corpus, &features, &fitted, &run.join("gallery.png"))?;
        scores.push((name, score(&corpus, &features, &fitted)?));
        // The paper's other way to retrieve: decode the text into picture features, search there.
        if let Some(scored) = score_decoded(&corpus, &features, &fitted)? {
            scores.push((decoded_name(preset), scored));
        }
    }
    Ok(scores)
}

/// The paper's "method 2": a small convolutional network and a recurrent one, trained with the
/// contrastive Corr-AE head over them, to 256 dimensions.
fn from_scratch(args: &Args, seed: u64, corpus: &mut Corpus, device: &Device) -> Result<Fitted> {
    println!("seed {seed}: encoders from scratch");
    let mut recipe = recipe("corr-ae", args, seed);
    if let HeadConfig::CorrAe(head) = &mut recipe.head {
        head.latent = 256;
        (head.image.hidden, head.text.hidden) = (vec![], vec![]);
    }
    recipe.train.epochs = 6;
    let run = args.out.join(format!("scratch-{seed}"));
    let folder = &mut InFolder { run: &run, others: &[], observer: &mut Bar::default() };
    Ok(fit_end_to_end(&recipe, corpus, Strictness::Lenient, device, folder)?)
}

fn recipe(preset: &str, args: &Args, seed: u64) -> Recipe {
    let encoders = Encoders::frozen(args.image_weights.clone(), args.text_weights.clone());
    let mut recipe = Recipe::preset(preset, &args.data, encoders).expect("one of HEADS");
    (recipe.split, recipe.split_seed, recipe.train.seed) = (args.split, seed, seed);
    recipe.views = views(args);
    if args.text_weights.is_none() {
        // The made set is small: batches of the paper's size, or an epoch is a single step.
        (recipe.train.batch_size, recipe.train.epochs) = (128, 40);
    }
    recipe
}

fn views(args: &Args) -> Views {
    if args.flip { Views::WithFlip } else { Views::Original }
}

fn features(encoders: &FrozenEncoders, corpus: &mut Corpus, args: &Args) -> Result<Features> {
    Ok(encoders.features(corpus, views(args), Some(&args.cache), false)?)
}

/// The part to score on: test, or dev where the data has no test part.
fn scored(corpus: &Corpus) -> Result<Split> {
    Ok(corpus.split("test").or_else(|_| corpus.split("dev"))?)
}

fn score(corpus: &Corpus, features: &Features, fitted: &Fitted) -> Result<Scores> {
    let split = scored(corpus)?;
    let rows = features.of(&split).embed(&fitted.checkpoint);
    score_rows(corpus, &split, &rows)
}

fn score_decoded(corpus: &Corpus, features: &Features, fitted: &Fitted) -> Result<Option<Scores>> {
    let split = scored(corpus)?;
    let rows = features.of(&split).decode(&fitted.checkpoint);
    rows.map(|rows| score_rows(corpus, &split, &rows)).transpose()
}

fn score_rows(
    corpus: &Corpus,
    split: &Split,
    (image, text): &(Embeddings, Embeddings),
) -> Result<Scores> {
    let manifest = Manifest::of(corpus, split);
    Ok(evaluate(image, text, split, &manifest, &EvalConfig::default())?)
}

fn decoded_name(preset: &str) -> &'static str {
    match preset {
        "corr-ae-mse" => "  decoding into pictures (MSE)",
        "corr-ae" => "  decoding into pictures (contr.)",
        _ => "  decoding into pictures (cross)",
    }
}

/// Six captions spread over the part, each with its five best pictures.
fn draw_gallery(
    corpus: &Corpus,
    features: &Features,
    fitted: &Fitted,
    path: &std::path::Path,
) -> Result<()> {
    let split = scored(corpus)?;
    let (image, text) = features.of(&split).embed(&fitted.checkpoint);
    let captions: Vec<u32> = (0..6).map(|i| (i * split.captions.len() / 6) as u32).collect();
    Ok(plot::save(&gallery(corpus, &split, &image, &text, &captions)?, path)?)
}

/// The table; beside photographs, the paper's figures too.
fn print(scores: &[(&str, Vec<Scores>)], with_paper: bool) {
    let seeds = scores[0].1.len();
    println!("\n{}", scores[0].1[0].manifest);
    println!(
        "text → image, {}",
        match seeds {
            1 => "with 95 % intervals (bootstrap of pictures)".into(),
            n => format!("mean ± standard deviation of {n} seeds"),
        }
    );
    let mut table = Table::new(["head"].into_iter().chain(METRICS).chain(["image → text R@1"]));
    for (name, of_seeds) in scores {
        let cells = METRICS.map(|metric| cell(of_seeds, metric, Direction::ToImage));
        let back = cell(of_seeds, "R@1", Direction::ToText);
        table.row([name.to_string()].into_iter().chain(cells).chain([back]));
        let paper = HEADS.iter().find(|head| head.1 == *name).and_then(|head| head.2);
        if let Some(paper) = paper.filter(|_| with_paper) {
            let row = ["  the paper"].into_iter().chain(paper).chain([""]);
            table.row(row.map(String::from));
        }
    }
    println!("{table}");
}

/// A metric of one training with its interval, or of several with their spread.
fn cell(of_seeds: &[Scores], metric: &str, direction: Direction) -> String {
    match (of_seeds, direction) {
        ([one], Direction::ToImage) => report::with_interval(metric, &one.text_to_image[metric]),
        ([one], Direction::ToText) => report::with_interval(metric, &one.image_to_text[metric]),
        (many, Direction::ToImage) => Summary::of(many).text_to_image[metric].show(metric),
        (many, Direction::ToText) => Summary::of(many).image_to_text[metric].show(metric),
    }
}

#[derive(Clone, Copy)]
enum Direction {
    ToImage,
    ToText,
}
