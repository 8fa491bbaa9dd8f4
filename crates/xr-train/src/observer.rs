use std::{fmt::Write, ops::ControlFlow};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{EpochRecord, StepRecord};

/// What a training run tells while it runs.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// It begins, or goes on, after `step` of at most `steps` steps.
    Begin {
        /// Steps done before.
        step: usize,
        /// Steps of all epochs.
        steps: usize,
    },
    /// A step was made.
    Step(&'a StepRecord),
    /// An epoch was trained, validated and saved.
    Epoch(&'a EpochRecord),
}

/// Watches a run, and may interrupt it: on `Break` the run is saved and ends, to be continued by
/// calling [`train`](crate::train) again.
///
/// Any closure of that shape is one, and `()` watches nothing.
pub trait Observer {
    /// Takes note of an event.
    fn observe(&mut self, event: Event<'_>) -> ControlFlow<()>;
}

impl<F: FnMut(Event<'_>) -> ControlFlow<()>> Observer for F {
    fn observe(&mut self, event: Event<'_>) -> ControlFlow<()> {
        self(event)
    }
}

impl Observer for () {
    fn observe(&mut self, _event: Event<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// A progress bar on the standard error, with steps a second, the time left, and a line for each
/// epoch. It stays away when that is no terminal.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Default for Bar {
    fn default() -> Self {
        let style = "{bar:30} {pos}/{len} steps  {msg}  {per_sec}  {eta} left";
        let style = ProgressStyle::with_template(style).expect("a template known to be right");
        Self(ProgressBar::no_length().with_style(style))
    }
}

impl Observer for Bar {
    fn observe(&mut self, event: Event<'_>) -> ControlFlow<()> {
        match event {
            Event::Begin { step, steps } => {
                self.0.set_length(steps as u64);
                self.0.set_position(step as u64);
                // The speed is that of this process.
                self.0.reset_eta();
            }
            Event::Step(record) => {
                self.0.set_position(record.step as u64);
                self.0.set_message(format!("loss {:.4}", record.loss));
            }
            Event::Epoch(record) => self.0.println(line(record)),
        }
        ControlFlow::Continue(())
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn line(record: &EpochRecord) -> String {
    let mut line = format!(
        "epoch {:>3}  loss {:.4}  validation {:.4}",
        record.epoch, record.loss, record.validation.loss
    );
    for (name, value) in &record.validation.metrics {
        write!(line, "  {name} {value:.3}").expect("a string grows");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Validation;

    #[test]
    fn an_epoch_in_a_line() {
        let metrics = [("R@1".to_string(), 0.125), ("R@5".to_string(), 0.5)].into();
        let record = EpochRecord {
            epoch: 3,
            step: 30,
            loss: 1.5,
            parts: [].into(),
            chance_loss: 4.8,
            lr: 1e-3,
            temperature: None,
            grad_norm: None,
            grad_norms: [].into(),
            steps_per_second: 10.0,
            waited: 0.0,
            validation: Validation { loss: 2.0, metrics, ..Validation::default() },
        };
        assert_eq!(
            line(&record),
            "epoch   3  loss 1.5000  validation 2.0000  R@1 0.125  R@5 0.500"
        );
    }

    #[test]
    fn a_bar_never_interrupts() {
        let mut bar = Bar::default();
        assert!(bar.observe(Event::Begin { step: 3, steps: 10 }).is_continue());
        assert_eq!((bar.0.position(), bar.0.length()), (3, Some(10)));
    }
}
