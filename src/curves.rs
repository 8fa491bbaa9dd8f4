use xr_eval::plot::curves::{Curve, Panel};
use xr_train::{EpochRecord, Record, epochs};

/// Losses on one panel and recalls on another, over the epochs of a log.
pub fn curves(log: &[Record]) -> Vec<Panel> {
    let epochs: Vec<_> = epochs(log).collect();
    let curve = |name: &str, value: &dyn Fn(&EpochRecord) -> f64| Curve {
        name: name.into(),
        points: epochs.iter().map(|e| (e.epoch as f64, value(e))).collect(),
    };
    let lowest = epochs
        .iter()
        .min_by(|a, b| a.validation.loss.total_cmp(&b.validation.loss))
        .map(|e| (e.epoch as f64, "lowest validation loss".to_string()));
    let recalls = ["R@1", "R@5", "R@10"]
        .map(|name| curve(name, &|e| e.validation.metrics.get(name).copied().unwrap_or(f64::NAN)));
    let panel = |title: &str, curves| Panel {
        title: title.into(),
        x: "epoch".into(),
        curves,
        mark: lowest.clone(),
    };
    let losses = vec![curve("training", &|e| e.loss), curve("validation", &|e| e.validation.loss)];
    vec![panel("loss", losses), panel("text → image, validation", recalls.into())]
}
