//! Grid search over any field of a configuration.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use xr_data::{Fingerprint, atomic};

use crate::{BoxError, Error, Result, Validation};

/// What to search: all combinations of the values of `grid`.
///
/// A field is named by its path, with dots: `optimizer.lr`, and for the first of a list
/// `objective.alignment.0.weight`.
///
/// ```
/// use xr_train::{TrainConfig, search::Search};
///
/// let search: Search<TrainConfig> = serde_json::from_str(
///     r#"{"base": {"epochs": 5},
///         "grid": {"optimizer.lr": [1e-3, 1e-4], "batch_size": [64, 128]},
///         "select": "R@5"}"#,
/// )?;
/// let cells = search.cells()?;
/// assert_eq!(cells.len(), 4);
/// assert_eq!((cells[3].config.optimizer.lr, cells[3].config.batch_size), (1e-4, 128));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Search<C> {
    /// The configuration of every cell, apart from the fields searched over.
    pub base: C,
    /// Field → values.
    pub grid: BTreeMap<String, Vec<Value>>,
    /// The validation metric to rank by, of which more is better, or `loss`, of which less is.
    pub select: String,
}

/// One configuration of the grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell<C> {
    /// What names its folder: the fingerprint of `config`.
    pub name: String,
    /// The fields searched over, with their values here.
    pub set: BTreeMap<String, Value>,
    /// The whole configuration.
    pub config: C,
}

/// What came of a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellResult {
    /// The cell's name.
    pub cell: String,
    /// The fields searched over, with their values here.
    pub set: BTreeMap<String, Value>,
    /// What was measured, or why nothing was.
    pub measured: Result<Validation, String>,
}

/// The cells, best first; those that failed stand last. It displays as a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    /// What it is ranked by.
    pub select: String,
    /// The cells.
    pub cells: Vec<CellResult>,
}

/// Runs `run` on every cell of the grid, in a folder of its own under `folder`.
///
/// Results are collected in `folder/results.jsonl`; called again, cells measured before are not
/// run again. A cell that fails is reported, tried again by the next call, and stops nothing.
///
/// # Errors
/// A field or value that the configuration doesn't have, before anything is run, and
/// [`Error::Io`].
pub fn search<C: Serialize + DeserializeOwned>(
    search: &Search<C>,
    folder: &Path,
    mut run: impl FnMut(&C, &Path) -> Result<Validation, BoxError>,
) -> Result<Ranked> {
    let cells = search.cells()?;
    fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    let path = folder.join("results.jsonl");
    let mut results = read(&path)?;
    for cell in &cells {
        if results.get(&cell.name).is_some_and(|result| result.measured.is_ok()) {
            continue;
        }
        let measured = run(&cell.config, &folder.join(&cell.name)).map_err(|e| e.to_string());
        let result = CellResult { cell: cell.name.clone(), set: cell.set.clone(), measured };
        results.insert(cell.name.clone(), result);
        write(&path, &results)?;
    }
    let results = cells.iter().filter_map(|cell| results.remove(&cell.name)).collect();
    Ok(Ranked::new(search.select.clone(), results))
}

impl<C: Serialize + DeserializeOwned> Search<C> {
    /// All combinations of the values.
    ///
    /// # Errors
    /// [`Error::NoSuchField`] naming the nearest one, and [`Error::Cell`] for a value that its
    /// field can't have.
    pub fn cells(&self) -> Result<Vec<Cell<C>>> {
        let base = serde_json::to_value(&self.base).expect("a configuration is JSON");
        combinations(&self.grid).into_iter().map(|set| cell(&base, set)).collect()
    }
}

/// All choices of one value for each field; the last field changes fastest.
fn combinations(grid: &BTreeMap<String, Vec<Value>>) -> Vec<BTreeMap<String, Value>> {
    grid.iter().fold(vec![BTreeMap::new()], |sets, (field, values)| {
        let with = |set: &BTreeMap<_, _>, value: &Value| {
            let mut set = set.clone();
            set.insert(field.clone(), value.clone());
            set
        };
        sets.iter().flat_map(|set| values.iter().map(|value| with(set, value))).collect()
    })
}

fn cell<C: Serialize + DeserializeOwned>(
    base: &Value,
    set: BTreeMap<String, Value>,
) -> Result<Cell<C>> {
    let mut config = base.clone();
    for (field, value) in &set {
        *field_of(&mut config, field)? = value.clone();
    }
    let config = serde_json::from_value(config)
        .map_err(|e| Error::Cell { set: display(&set), why: e.to_string() })?;
    let json = serde_json::to_string(&config).expect("a configuration is JSON");
    Ok(Cell { name: Fingerprint::of([json]).short().to_string(), set, config })
}

fn field_of<'a>(config: &'a mut Value, field: &str) -> Result<&'a mut Value> {
    let pointer: String = field.split('.').map(|name| format!("/{name}")).collect();
    if config.pointer(&pointer).is_none() {
        return Err(Error::NoSuchField { field: field.into(), nearest: nearest(config, field) });
    }
    Ok(config.pointer_mut(&pointer).expect("found a moment ago"))
}

/// The field whose path takes the fewest edits to become `field`.
fn nearest(config: &Value, field: &str) -> String {
    let mut fields = vec![];
    collect_fields("", config, &mut fields);
    fields.into_iter().min_by_key(|candidate| edits(candidate, field)).unwrap_or_default()
}

fn collect_fields(path: &str, value: &Value, fields: &mut Vec<String>) {
    let below: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(list) => {
            (0..).zip(list).map(|(i, v): (usize, _)| (i.to_string(), v)).collect()
        }
        _ => return,
    };
    for (name, value) in below {
        let path = if path.is_empty() { name } else { format!("{path}.{name}") };
        collect_fields(&path, value, fields);
        fields.push(path);
    }
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in (1..).zip(a.chars()) {
        let mut diagonal = std::mem::replace(&mut row[0], i);
        for (j, y) in (1..).zip(b.chars()) {
            let edited = 1 + diagonal.min(row[j]).min(row[j - 1]);
            let cost = if x == y { diagonal } else { edited };
            diagonal = std::mem::replace(&mut row[j], cost);
        }
    }
    row[row.len() - 1]
}

fn read(path: &Path) -> Result<BTreeMap<String, CellResult>> {
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let text = fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    let parse = |line| {
        let result: CellResult = serde_json::from_str(line)
            .map_err(|e| Error::Config { path: path.into(), why: e.to_string() })?;
        Ok((result.cell.clone(), result))
    };
    text.lines().map(parse).collect()
}

fn write(path: &Path, results: &BTreeMap<String, CellResult>) -> Result<()> {
    let line = |result| serde_json::to_string(result).expect("a result is JSON") + "\n";
    let text: String = results.values().map(line).collect();
    Ok(atomic::write(path, text.as_bytes())?)
}

impl CellResult {
    /// The value to rank by, the larger the better.
    fn rank(&self, select: &str) -> f64 {
        let value = self.measured.as_ref().ok().and_then(|measured| match select {
            "loss" => Some(-measured.loss),
            metric => measured.metrics.get(metric).copied(),
        });
        value.filter(|value| !value.is_nan()).unwrap_or(f64::NEG_INFINITY)
    }
}

impl Ranked {
    fn new(select: String, mut cells: Vec<CellResult>) -> Self {
        cells.sort_by(|a, b| b.rank(&select).total_cmp(&a.rank(&select)));
        Self { select, cells }
    }
}

impl fmt::Display for Ranked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| {} | loss | fields | cell |\n|---|---|---|---|", self.select)?;
        for result in &self.cells {
            let (value, loss) = match &result.measured {
                Ok(measured) => (
                    measured.metrics.get(&self.select).map_or("–".into(), |v| format!("{v:.4}")),
                    format!("{:.4}", measured.loss),
                ),
                Err(why) => ("failed".into(), why.clone()),
            };
            writeln!(f, "| {value} | {loss} | {} | {} |", display(&result.set), result.cell)?;
        }
        Ok(())
    }
}

fn display(set: &BTreeMap<String, Value>) -> String {
    let pairs: Vec<_> = set.iter().map(|(field, value)| format!("{field} = {value}")).collect();
    pairs.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TrainConfig;

    fn grid(grid: &str) -> Search<TrainConfig> {
        let json = format!(r#"{{"base": {{"epochs": 5}}, "grid": {grid}, "select": "R@5"}}"#);
        serde_json::from_str(&json).unwrap()
    }

    fn measured(value: f64) -> Validation {
        Validation {
            loss: 1.0 - value,
            metrics: [("R@5".to_string(), value)].into(),
            ..Validation::default()
        }
    }

    #[test]
    fn fields_at_any_depth() {
        let search = grid(
            r#"{"objective.alignment.0.weight": [0.5], "schedule": [{"cosine": {"warmup": 3}}], "patience": [4]}"#,
        );
        let [cell] = &search.cells().unwrap()[..] else { panic!("one cell") };
        assert_eq!(cell.config.objective.alignment[0].weight, 0.5);
        assert_eq!(cell.config.schedule, crate::ScheduleConfig::Cosine { warmup: 3 });
        assert_eq!((cell.config.patience, cell.config.epochs), (Some(4), 5));
    }

    #[test]
    fn a_field_that_is_not_there() {
        assert_eq!(
            grid(r#"{"optimiser.lr": [1]}"#).cells().unwrap_err().to_string(),
            "the configuration has no field `optimiser.lr`; the nearest is `optimizer.lr`"
        );
    }

    #[test]
    fn a_value_that_its_field_does_not_take() {
        let error = grid(r#"{"optimizer.lr": ["fast"]}"#).cells().unwrap_err().to_string();
        assert!(
            error.starts_with(
                "the configuration doesn't take optimizer.lr = \"fast\": invalid type: string"
            ),
            "{error}"
        );
    }

    #[test]
    fn finished_cells_are_not_run_again_and_failed_ones_are() {
        let dir = tempfile::tempdir().unwrap();
        let grid = grid(r#"{"optimizer.lr": [0.25, 0.5, 0.75]}"#);
        let mut runs = vec![];
        let first = search(&grid, dir.path(), |config, folder| {
            runs.push(config.optimizer.lr);
            assert!(folder.starts_with(dir.path()));
            if config.optimizer.lr == 0.5 {
                Err("the loss became NaN".into())
            } else {
                Ok(measured(config.optimizer.lr))
            }
        })
        .unwrap();
        assert_eq!(runs, [0.25, 0.5, 0.75]);
        let table = first.to_string();
        let rows: Vec<_> = table.lines().skip(2).collect();
        assert!(rows[0].starts_with("| 0.7500 | 0.2500 | optimizer.lr = 0.75 |"), "{table}");
        assert!(rows[1].starts_with("| 0.2500 | 0.7500 | optimizer.lr = 0.25 |"), "{table}");
        assert!(
            rows[2].starts_with("| failed | the loss became NaN | optimizer.lr = 0.5 |"),
            "{table}"
        );

        runs.clear();
        let second = search(&grid, dir.path(), |config, _| {
            runs.push(config.optimizer.lr);
            Ok(measured(1.0))
        })
        .unwrap();
        assert_eq!(runs, [0.5]);
        assert_eq!(second.cells[0].set["optimizer.lr"], 0.5);
        assert_eq!(second.cells.len(), 3);
    }

    #[test]
    fn ranked_by_loss() {
        let dir = tempfile::tempdir().unwrap();
        let grid = Search { select: "loss".into(), ..grid(r#"{"seed": [1, 2]}"#) };
        let loss = |seed| Validation { loss: seed as f64, ..Validation::default() };
        let ranked = search(&grid, dir.path(), |config, _| Ok(loss(config.seed))).unwrap();
        assert_eq!(ranked.cells[0].set["seed"], 1);
    }

    #[test]
    fn distance_between_names() {
        // k → s, e → i, + g
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
