//! Tables for people.

use std::fmt;

use crate::{Interval, Measures, Scores};

/// Text in columns: the first flush left, the others flush right.
///
/// ```
/// use xr_eval::Table;
///
/// let mut table = Table::new(["head", "R@1"]);
/// table.row(["Corr-AE", ".161"]);
/// table.row(["cross-modal AE", ".159"]);
/// assert_eq!(table.to_string(), "\
/// head             R@1
/// Corr-AE         .161
/// cross-modal AE  .159
/// ");
/// ```
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new<S: Into<String>>(headings: impl IntoIterator<Item = S>) -> Self {
        Self { rows: vec![headings.into_iter().map(Into::into).collect()] }
    }

    /// Adds a row; it may be shorter or longer than the headings.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            let cell = |(i, cell): (usize, &String)| match (i, self.width(i)) {
                (0, width) => format!("{cell:<width$}"),
                (_, width) => format!("  {cell:>width$}"),
            };
            let line: String = row.iter().enumerate().map(cell).collect();
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A value as papers print it: shares as `.161`, ranks as `13` or `2.5`.
///
/// `metric` is a metric's name: `MedR`, `MeanR` and whatever else ends in a capital R without an
/// `@` is a rank, but not MRR, the mean of reciprocals.
pub fn figure(metric: &str, value: f64) -> String {
    let is_rank = metric.ends_with('R') && metric != "MRR";
    match format!("{value:.3}") {
        _ if is_rank => format!("{value:.1}").trim_end_matches(".0").into(),
        share => share.strip_prefix('0').map_or(share.clone(), Into::into),
    }
}

/// `.161 [.140, .182]`.
pub fn with_interval(metric: &str, interval: &Interval) -> String {
    let [value, low, high] =
        [interval.value, interval.low, interval.high].map(|value| figure(metric, value));
    format!("{value} [{low}, {high}]")
}

impl fmt::Display for Scores {
    /// The manifest, and a row for each metric, a column for each direction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.manifest)?;
        let mut table = Table::new(["metric", "text → image", "image → text"]);
        for (name, to_image) in &self.text_to_image {
            let cell = |measures: &Measures| {
                measures.get(name).map_or(String::new(), |to_text| with_interval(name, to_text))
            };
            table.row([name.clone(), with_interval(name, to_image), cell(&self.image_to_text)]);
        }
        table.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use xr_data::{Fingerprint, Manifest};

    use super::*;

    #[test]
    fn figures_as_papers_print_them() {
        assert_eq!(figure("R@1", 0.1607), ".161");
        assert_eq!(figure("R@10", 1.0), "1.000");
        assert_eq!(figure("MRR", 0.25), ".250");
        assert_eq!(figure("MedR", 13.0), "13");
        assert_eq!(figure("MeanR", 36.97), "37");
        assert_eq!(figure("MedR", 2.5), "2.5");
    }

    #[test]
    fn both_directions_beside_each_other() {
        let interval = |value, low, high| Interval { value, low, high };
        let measures = |share, rank| Measures::from([("R@1".into(), share), ("MedR".into(), rank)]);
        let sha256 = Fingerprint::of(["names"]);
        let manifest = Manifest {
            corpus: "hand".into(),
            split: "dev".into(),
            drawn: None,
            pictures: 2,
            captions: 3,
            sha256,
        };
        let scores = Scores {
            manifest: manifest.clone(),
            text_to_image: measures(interval(0.161, 0.14, 0.182), interval(8.0, 7.0, 8.5)),
            image_to_text: measures(interval(0.2, 0.19, 0.21), interval(10.0, 9.0, 11.0)),
        };
        let expected = "\
metric       text → image       image → text
R@1     .161 [.140, .182]  .200 [.190, .210]
MedR           8 [7, 8.5]         10 [9, 11]
";
        assert_eq!(scores.to_string(), format!("{manifest}\n{expected}"));
    }
}
