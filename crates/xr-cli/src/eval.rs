use std::{fs, path::PathBuf};

use clap::Args;
use serde::Serialize;
use xr::{
    Run,
    data::{Manifest, dataset::published},
    eval::{Banks, Scores, plot},
    gallery,
};

use crate::{
    Result,
    options::{Global, report_skipped},
};

/// Scores a model on a split, in both directions, with confidence intervals.
///
/// By cosine similarity, and once more with the query-bank correction: what is near to very many of
/// the training queries is found less.
#[derive(Debug, Args)]
pub struct Eval {
    /// Folder of the run.
    #[arg(long = "in", value_name = "RUN")]
    run: PathBuf,
    /// Data set [default: the one it was trained on].
    #[arg(long, value_name = "DATA")]
    data: Option<String>,
    /// Which part to score on.
    #[arg(long, value_name = "NAME", default_value = "test")]
    split: String,
    /// Print one JSON object: manifest, text_to_image, image_to_text, corrected.
    #[arg(long)]
    json: bool,
    /// Refuse other data than that of this file: a manifest, or the JSON of an earlier --json.
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// Draw the best pictures for a few captions.
    #[arg(long, value_name = "PNG")]
    gallery: Option<PathBuf>,
}

/// Scores by cosine, and with the query-bank correction.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    scores: Scores,
    corrected: Scores,
}

impl Report {
    fn text(&self, Banks { pictures, captions }: &Banks) -> String {
        let Self { scores, corrected } = self;
        let [pictures, captions] = [pictures, captions].map(|bank| bank.queries().rows());
        format!(
            "{scores}\nwith the query-bank correction, by {captions} training captions and \
             {pictures} training pictures:\n{corrected}\n\
             in brackets: 95 % intervals, by 1,000 bootstrap resamples of pictures"
        )
    }
}

impl Eval {
    pub fn run(&self, global: &Global) -> Result<()> {
        let (options, device) = (global.options(), global.device()?);
        let run = Run::open(&self.run)?;
        let data = self.data.as_deref().unwrap_or(&run.recipe().data);
        let corpus = run.other_corpus(data, &options)?;
        report_skipped(&corpus.skipped);
        let banks = run.banks()?;
        let [scores, corrected] =
            run.score_with(&banks, &corpus, &self.split, &options, &device)?;
        if let Some(path) = &self.expect {
            scores.manifest.check(&expected(path)?, &published())?;
        }
        let report = Report { scores, corrected };
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(&report)?),
            false => println!("{}", report.text(&banks)),
        }
        let Some(path) = &self.gallery else { return Ok(()) };
        let mut part = corpus.only(&corpus.split(&self.split)?);
        let (image, text) = run.embeddings(&mut part, &options, &device)?;
        let split = part.split(&self.split)?;
        // Spread over the split, so that they are of different pictures.
        let step = (split.captions.len() / 8).max(1);
        let captions: Vec<_> = (0..split.captions.len() as u32).step_by(step).take(8).collect();
        plot::save(&gallery(&part, &split, &image, &text, &captions)?, path)?;
        Ok(())
    }
}

/// A manifest, on its own or in a report.
fn expected(path: &PathBuf) -> Result<Manifest> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let manifest = serde_json::from_str::<Scores>(&text).map(|scores| scores.manifest);
    manifest.or_else(|_| serde_json::from_str(&text)).map_err(|_| {
        format!("{}: no manifest; expected the output of `xr eval --json`", path.display()).into()
    })
}
