//! What a run leaves on the disk: `last`, to go on from, and the best models.

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn::{
    module::Module,
    optim::{ModuleOptimizer, OptimizerRecord},
    store::ModuleRecord,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    Error, Result, TrainConfig, Validation, early_stopping::EarlyStopping, folder, log::Bytes,
    means::Means, schedule::Plateau, train::Outcome,
};

const MODEL: &str = "model.bpk";
const AVERAGE: &str = "average.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const CONFIG: &str = "config.json";
const STATE: &str = "state.json";

/// The best epoch so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The epoch, from 1.
    pub epoch: usize,
    /// What decided: the validation loss or the metric.
    #[serde(with = "crate::exact")]
    pub value: f64,
    /// All that was measured.
    pub validation: Validation,
}

/// Where a run stands, apart from its weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Epochs finished.
    pub epoch: usize,
    /// Steps done in the present epoch.
    pub step: usize,
    /// Steps of an epoch.
    pub steps_per_epoch: usize,
    /// What the present epoch measured so far.
    pub means: Means,
    pub plateau: Plateau,
    pub stopping: EarlyStopping,
    pub best_loss: Option<Best>,
    pub best_metric: Option<Best>,
    pub log: Bytes,
    pub outcome: Option<Outcome>,
}

/// What is saved of weights.
pub(crate) struct Weights<M> {
    pub model: M,
    pub average: Option<M>,
    pub optimizer: ModuleOptimizer,
}

/// The folder of a run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    path: PathBuf,
}

impl Run {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.into() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn last(&self) -> PathBuf {
        self.path.join("last")
    }

    fn best(&self, by: &str) -> PathBuf {
        self.path.join(format!("best-{by}"))
    }

    /// Where the run stands; `None` if it has no `last` yet.
    ///
    /// # Errors
    /// [`Error::OtherRun`] when it has other settings or other data.
    pub(crate) fn state(
        &self,
        config: &TrainConfig,
        steps_per_epoch: usize,
    ) -> Result<Option<State>> {
        fs::create_dir_all(&self.path).map_err(|e| Error::io(&self.path, e))?;
        folder::recover(&self.last())?;
        if !self.last().exists() {
            return Ok(None);
        }
        self.same_config(config)?;
        let state: State = read_json(&self.last().join(STATE))?;
        match state.steps_per_epoch == steps_per_epoch {
            true => Ok(Some(state)),
            false => Err(self.other("steps per epoch", state.steps_per_epoch, steps_per_epoch)),
        }
    }

    /// Both as read from JSON, where numbers may be off in the last place. A run from before there was
    /// a setting has its default.
    fn same_config(&self, config: &TrainConfig) -> Result<()> {
        let path = self.last().join(CONFIG);
        let read = |text: &str| serde_json::from_str::<TrainConfig>(text).ok();
        let text = fs::read_to_string(&path).map_err(|e| Error::io(&path, e))?;
        let wanted = read(&json(config)).expect("JSON written a moment ago");
        let found: Value = match read(&text) {
            Some(found) if found == wanted => return Ok(()),
            Some(found) => value(&found),
            None => read_json(&path)?,
        };
        let wanted = value(&wanted);
        let (field, found, wanted) = first_difference("", &found, &wanted)
            .unwrap_or_else(|| ("config.json".into(), "another text".into(), "this".into()));
        Err(self.other(&field, found, wanted))
    }

    fn other(&self, field: &str, found: impl ToString, wanted: impl ToString) -> Error {
        Error::OtherRun {
            run: self.path.clone(),
            field: field.into(),
            found: found.to_string(),
            wanted: wanted.to_string(),
        }
    }

    /// Writes `last`.
    pub(crate) fn save<M: Module>(
        &self,
        weights: &Weights<M>,
        state: &State,
        config: &TrainConfig,
    ) -> Result<()> {
        folder::replace(&self.last(), |folder| {
            save_model(&weights.model, &folder.join(MODEL))?;
            if let Some(average) = &weights.average {
                save_model(average, &folder.join(AVERAGE))?;
            }
            let optimizer = folder.join(OPTIMIZER);
            let saved = weights.optimizer.to_record().save(&optimizer);
            saved.map_err(|e| Error::checkpoint(&optimizer, e))?;
            write(&folder.join(CONFIG), &json(config))?;
            write(&folder.join(STATE), &json(state))
        })
    }

    /// Puts the weights of `last` into `model`. `optimizer` makes the optimizer of the model: its
    /// state belongs to the parameters' ids, which come with the weights.
    pub(crate) fn load<M: Module>(
        &self,
        model: M,
        averaged: bool,
        optimizer: impl FnOnce(&M) -> ModuleOptimizer,
    ) -> Result<Weights<M>> {
        let model = load_model(model, &self.last().join(MODEL))?;
        let average =
            averaged.then(|| load_model(model.valid(), &self.last().join(AVERAGE))).transpose()?;
        let path = self.last().join(OPTIMIZER);
        let record = OptimizerRecord::load(&path).map_err(|e| Error::checkpoint(&path, e))?;
        let optimizer = optimizer(&model).load_record(record);
        Ok(Weights { model, average, optimizer })
    }

    /// Writes the best model by `by`.
    pub(crate) fn save_best<M: Module>(
        &self,
        by: &str,
        model: &M,
        best: &Option<Best>,
    ) -> Result<()> {
        folder::replace(&self.best(by), |folder| {
            save_model(model, &folder.join(MODEL))?;
            write(&folder.join("best.json"), &json(best))
        })
    }
}

/// Puts the best weights of the run in folder `run` into `model`: `by` is `loss`, or the metric
/// that the run selected by.
///
/// # Errors
/// [`Error::Checkpoint`] when there are none, or they don't fit.
///
/// ```no_run
/// # fn model() -> xr_models::FeatureModel { unimplemented!() }
/// let model = xr_train::load_best(model(), "runs/p1".as_ref(), "R@5")?;
/// # Ok::<(), xr_train::Error>(())
/// ```
pub fn load_best<M: Module>(model: M, run: &Path, by: &str) -> Result<M> {
    let folder = Run::new(run).best(by);
    folder::recover(&folder)?;
    load_model(model, &folder.join(MODEL))
}

fn save_model<M: Module>(model: &M, path: &Path) -> Result<()> {
    // `valid` brings running statistics up to date, which a record alone may take one step late.
    model.valid().into_record().save(path).map_err(|e| Error::checkpoint(path, e))
}

fn load_model<M: Module>(model: M, path: &Path) -> Result<M> {
    let record = ModuleRecord::load(path).map_err(|e| Error::checkpoint(path, e))?;
    model.try_load_record(record).map_err(|e| Error::checkpoint(path, e))
}

fn value(config: &TrainConfig) -> Value {
    serde_json::to_value(config).expect("names and numbers are JSON")
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("names and numbers are JSON")
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|e| Error::io(path, e))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    serde_json::from_str(&text).map_err(|e| Error::checkpoint(path, e))
}

/// The first field in which two configurations differ, and both its values.
fn first_difference(path: &str, a: &Value, b: &Value) -> Option<(String, String, String)> {
    if let (Value::Object(a), Value::Object(b)) = (a, b) {
        let names = a.keys().chain(b.keys());
        let below = |name: &String| match path {
            "" => name.clone(),
            path => format!("{path}.{name}"),
        };
        return names
            .filter_map(|n| {
                let value = |of: &serde_json::Map<_, _>| of.get(n).cloned().unwrap_or_default();
                first_difference(&below(n), &value(a), &value(b))
            })
            .next();
    }
    (a != b).then(|| (path.to_string(), a.to_string(), b.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named_with_its_path() {
        let a = serde_json::json!({"x": 1, "optimizer": {"lr": 0.5, "betas": [1, 2]}});
        let b = serde_json::json!({"x": 1, "optimizer": {"lr": 0.5, "betas": [1, 3]}});
        let difference = first_difference("", &a, &b).unwrap();
        assert_eq!(difference, ("optimizer.betas".into(), "[1,2]".into(), "[1,3]".into()));
        assert_eq!(first_difference("", &a, &a), None);
    }

    #[test]
    fn state_round_trip() {
        let state = State { epoch: 3, step: 2, ..State::default() };
        assert_eq!(serde_json::from_str::<State>(&json(&state)).unwrap(), state);
    }
}
