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
    options::{Global, Precision, report_skipped},
};

/// Scores a model on a split, in both directions, with confidence intervals.
///
/// By cosine similarity, and once more with the query-bank correction: what is near to very many of
/// the training queries is found less.
#[derive(Debug, Args)]
pub struct Eval {
    /// Folder of a run, or a model that `xr pack` wrote [default: the model that is built in].
    #[arg(long = "in", value_name = "MODEL", required_unless_present = "data")]
    model: Option<PathBuf>,
    /// Data set [default: the one that the run was trained on].
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
    #[command(flatten)]
    precision: Precision,
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
        let options = global.options();
        let model = global.retriever(self.model.as_deref(), self.precision)?;
        let corpus = model.corpus(&self.data()?, &options)?;
        report_skipped(&corpus.skipped);
        let [scores, corrected] = model.score_corrected(&corpus, &self.split, &options)?;
        if let Some(path) = &self.expect {
            scores.manifest.check(&expected(path)?, &published())?;
        }
        let report = Report { scores, corrected };
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(&report)?),
            false => println!("{}", report.text(model.banks())),
        }
        let Some(path) = &self.gallery else { return Ok(()) };
        let mut part = corpus.only(&corpus.split(&self.split)?);
        let (image, text) = model.embeddings(&mut part, &options)?;
        let split = part.split(&self.split)?;
        // Spread over the split, so that they are of different pictures.
        let step = (split.captions.len() / 8).max(1);
        let captions: Vec<_> = (0..split.captions.len() as u32).step_by(step).take(8).collect();
        plot::save(&gallery(&part, &split, &image, &text, &captions)?, path)?;
        Ok(())
    }

    /// The data that was named, or that of the run.
    fn data(&self) -> Result<String> {
        match (&self.data, &self.model) {
            (Some(data), _) => Ok(data.clone()),
            (None, Some(file)) if file.is_file() => {
                let file = file.display();
                Err(format!(
                    "{file}: a packed model doesn't name data to score it on; give --data DATA"
                )
                .into())
            }
            (None, Some(run)) => Ok(Run::open(run)?.recipe().data.clone()),
            (None, None) => unreachable!("clap requires one of them"),
        }
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
