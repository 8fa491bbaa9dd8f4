use std::fmt;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::{Measures, Scores, Table, report::figure};

/// Mean and spread of the scores of several runs that differ in their seed alone.
///
/// The spread is over trainings, where an [`Interval`](crate::Interval) is over pictures: a new
/// method has to pass both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Captions as queries, pictures as gallery.
    pub text_to_image: IndexMap<String, Spread>,
    /// Pictures as queries, captions as gallery.
    pub image_to_text: IndexMap<String, Spread>,
}

/// Mean and standard deviation of a metric over runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Mean over the runs.
    pub mean: f64,
    /// Standard deviation of the runs (divided by their number less one); 0 for a single run.
    pub sd: f64,
}

impl Summary {
    /// Of the metrics that the first of `runs` has.
    ///
    /// # Panics
    /// If there is no run, or one lacks a metric of the first.
    pub fn of(runs: &[Scores]) -> Self {
        Self {
            text_to_image: spreads(runs, |scores| &scores.text_to_image),
            image_to_text: spreads(runs, |scores| &scores.image_to_text),
        }
    }
}

fn spreads(runs: &[Scores], direction: fn(&Scores) -> &Measures) -> IndexMap<String, Spread> {
    let of = |name: &String| {
        let values: Vec<_> = runs.iter().map(|run| direction(run)[name].value).collect();
        (name.clone(), Spread::of(&values))
    };
    direction(&runs[0]).keys().map(of).collect()
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Self { mean, sd: (squares / (n - 1.0).max(1.0)).sqrt() }
    }

    /// `.161 ± .003`, or `8 ± 0.6` for a metric that is a rank.
    pub fn show(&self, metric: &str) -> String {
        format!("{} ± {}", figure(metric, self.mean), figure(metric, self.sd))
    }
}

impl fmt::Display for Summary {
    /// A row for each metric, a column for each direction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["metric", "text → image", "image → text"]);
        for (name, to_image) in &self.text_to_image {
            let to_text = self.image_to_text.get(name).map(|spread| spread.show(name));
            table.row([name.clone(), to_image.show(name), to_text.unwrap_or_default()]);
        }
        table.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use xr_data::{Fingerprint, Manifest};

    use super::*;
    use crate::Interval;

    fn run(recall: f64, rank: f64) -> Scores {
        let exactly = |value| Interval { value, low: value, high: value };
        let measures =
            Measures::from([("R@1".into(), exactly(recall)), ("MedR".into(), exactly(rank))]);
        let manifest = Manifest {
            corpus: "hand".into(),
            split: "dev".into(),
            drawn: None,
            pictures: 2,
            captions: 3,
            sha256: Fingerprint::of(["names"]),
        };
        Scores { manifest, text_to_image: measures.clone(), image_to_text: measures }
    }

    #[test]
    fn three_seeds() {
        // Mean .2, deviations −.1, 0, .1: √(.02 / 2) = .1. Ranks 7, 8, 9 likewise.
        let summary = Summary::of(&[run(0.1, 7.), run(0.2, 8.), run(0.3, 9.)]);
        let expected = "\
metric  text → image  image → text
R@1      .200 ± .100   .200 ± .100
MedR           8 ± 1         8 ± 1
";
        assert_eq!(summary.to_string(), expected);
    }

    #[test]
    fn one_run_has_no_spread() {
        assert_eq!(Summary::of(&[run(0.1, 7.)]).text_to_image["R@1"].show("R@1"), ".100 ± .000");
    }
}
