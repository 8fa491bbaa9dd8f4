//! Progress bars with rates, drawn on standard error when it is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// What [`xr_models::embed::Run::with_observer`] and a push to servers take: a bar that shows how
/// many `what` are done, their rate, and the time left.
pub fn bar(what: &'static str) -> impl FnMut(usize, usize) {
    let mut bar = None;
    move |done, total| {
        let bar = bar.get_or_insert_with(|| styled(what, total as u64));
        bar.set_position(done as u64);
        if done == total {
            bar.finish_and_clear();
        }
    }
}

fn styled(what: &'static str, total: u64) -> ProgressBar {
    let template = "{prefix:>10} {bar:30} {human_pos}/{human_len} {per_sec} {eta} left";
    let bar = ProgressBar::new(total)
        .with_prefix(what)
        .with_style(ProgressStyle::with_template(template).expect("a template that was tried"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
