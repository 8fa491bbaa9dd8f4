use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::Value;
use xr::{
    Encoders, PRESETS, Recipe, Run,
    data::SplitSpec,
    models::Views,
    train::{Bar, Distillation, Validation, search::Search},
};

use crate::{
    Result,
    options::{Global, report_skipped},
};

/// Trains a model, or goes on where training stopped.
///
/// With --image-weights and --text-weights the published encoders stay as they are and a head is
/// trained on their features, which are computed once and cached; preset fine-tuned also trains their
/// last blocks and layers, and --end-to-end all of them. Where no weights are named, a small encoder
/// is trained from scratch, and the other one with it.
#[derive(Debug, Args)]
pub struct Train {
    /// Data set: a folder, or synthetic[:PICTURES[:SEED]].
    #[arg(long, value_name = "DATA", required_unless_present = "recipe")]
    data: Option<String>,
    /// Folder to train in.
    #[arg(long, value_name = "DIR", required_unless_present = "overfit_one_batch")]
    out: Option<PathBuf>,
    /// What to train.
    #[arg(long, value_name = "NAME", default_value = "dual-encoder", value_parser = PRESETS)]
    preset: String,
    /// Everything from a file: the recipe.json of a run.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "preset", "image_weights"])]
    recipe: Option<PathBuf>,
    /// Weights of a published image encoder (file or folder); given twice, features stand side by
    /// side.
    #[arg(long, value_name = "PATH")]
    image_weights: Vec<PathBuf>,
    /// Folder of a published text encoder.
    #[arg(long, value_name = "DIR", conflicts_with = "recipe")]
    text_weights: Option<PathBuf>,
    /// Train published encoders whole, from pixels and words; nothing is cached.
    #[arg(long, conflicts_with = "recipe")]
    end_to_end: bool,
    /// official, or a random partition by picture such as random-70-15-15.
    #[arg(long, value_name = "SPLIT", default_value = "official")]
    split: SplitSpec,
    /// Seed of the partition, the weights and the order of the data.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Also train on mirrored pictures, and embed both views.
    #[arg(long)]
    flip: bool,
    /// Also follow the answers of a larger model on the training data: a run on the same data, or a
    /// model that `xr pack` wrote; `train.objective.distillation` says how closely.
    #[arg(long, value_name = "MODEL", conflicts_with = "recipe")]
    teacher: Option<PathBuf>,
    /// Change a field of the recipe: train.optimizer.lr=3e-4.
    #[arg(long, value_name = "FIELD=VALUE", value_parser = assignment)]
    set: Vec<(String, Value)>,
    /// Grid search: {"grid": {"train.optimizer.lr": [1e-3, 1e-4]}, "select": "R@5"}.
    #[arg(long, value_name = "FILE")]
    grid: Option<PathBuf>,
    /// A self test before a long run: can one batch be learned by heart?
    ///
    /// Trains on 32 pairs over and over, at most 200 steps, and leaves no run behind. If they aren't
    /// learned it says what is likely wrong, and fails.
    #[arg(long, conflicts_with = "grid")]
    overfit_one_batch: bool,
}

/// The file of a grid search; what it starts from comes from the command line.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Grid {
    grid: BTreeMap<String, Vec<Value>>,
    select: String,
}

impl Train {
    pub fn run(&self, global: &Global) -> Result<()> {
        let recipe = self.recipe()?;
        match (&self.out, &self.grid) {
            (_, _) if self.overfit_one_batch => overfit(&recipe, global),
            (Some(out), Some(grid)) => {
                search(recipe, serde_json::from_str(&read(grid)?)?, out, global)
            }
            (Some(out), None) => train(&recipe, out, global),
            (None, _) => unreachable!("clap requires it"),
        }
    }

    fn recipe(&self) -> Result<Recipe> {
        let recipe = match &self.recipe {
            Some(path) => serde_json::from_str(&read(path)?)?,
            None => self.preset(),
        };
        let set = self.set.iter().map(|(field, value)| (field.clone(), vec![value.clone()]));
        let only = Search { base: recipe, grid: set.collect(), select: String::new() };
        let cell = only.cells()?.remove(0);
        Ok(cell.config)
    }

    fn preset(&self) -> Recipe {
        let (image, text) = (self.image_weights.clone(), self.text_weights.clone());
        let encoders = match self.end_to_end {
            true => Encoders::end_to_end(image, text),
            false => Encoders::frozen(image, text),
        };
        let data = self.data.as_deref().unwrap_or_default();
        let mut recipe =
            Recipe::preset(&self.preset, data, encoders).expect("clap lets only presets through");
        (recipe.split, recipe.split_seed, recipe.train.seed) = (self.split, self.seed, self.seed);
        if self.flip {
            recipe.views = Views::WithFlip;
        }
        if self.teacher.is_some() {
            recipe.teacher.clone_from(&self.teacher);
            recipe.train.objective.distillation = Some(Distillation::default());
        }
        recipe
    }
}

fn train(recipe: &Recipe, out: &Path, global: &Global) -> Result<()> {
    let (options, devices) = (global.options(), global.devices()?);
    let trained = Run::train(recipe, out, &options, &devices, &mut Bar::default())?;
    report_skipped(&trained.skipped);
    for warning in &trained.warnings {
        eprintln!("warning: {warning}");
    }
    let run = trained.run;
    println!("{}", run.retriever(&devices[0])?.score(&run.corpus(&options)?, "dev", &options)?);
    println!("the run is in {}; search it after", out.display());
    println!("    xr embed --data {} --in {}", recipe.data, out.display());
    Ok(())
}

fn search(base: Recipe, Grid { grid, select }: Grid, out: &Path, global: &Global) -> Result<()> {
    let (options, devices) = (global.options(), global.devices()?);
    let search = Search { base, grid, select };
    let ranked = xr::train::search::search(&search, out, |recipe: &Recipe, dir| {
        let trained = Run::train(recipe, dir, &options, &devices, &mut Bar::default())?;
        Ok::<Validation, _>(trained.best)
    })?;
    print!("{ranked}");
    Ok(())
}

fn overfit(recipe: &Recipe, global: &Global) -> Result<()> {
    let (options, device) = (global.options(), global.device()?);
    let report = xr::overfit_one_batch(recipe, &options, &device, &mut Bar::default())?;
    println!("{report}");
    match report.failure() {
        Some(failure) => Err(failure.to_string().into()),
        None => {
            println!(
                "the model can learn; whether captions belong to their pictures, this doesn't show"
            );
            Ok(())
        }
    }
}

/// `field=value`, where the value is JSON, or a word that is no JSON.
fn assignment(text: &str) -> std::result::Result<(String, Value), String> {
    let (field, value) = text.split_once('=').ok_or("expected FIELD=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((field.into(), value))
}

fn read(path: &PathBuf) -> Result<String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json_or_words() {
        assert_eq!(assignment("train.epochs=3").unwrap(), ("train.epochs".into(), 3.into()));
        assert_eq!(assignment("split=official").unwrap().1, Value::from("official"));
        assert_eq!(assignment("train.patience=null").unwrap().1, Value::Null);
        assert_eq!(assignment("epochs").unwrap_err(), "expected FIELD=VALUE");
    }
}
