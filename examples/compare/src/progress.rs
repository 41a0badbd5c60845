//! What is seen while it runs: a bar on a terminal, a line a run elsewhere.

use std::cell::Cell;
use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use crate::outcome::{Ending, Run};

/// One bar over all runs.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    finished: Cell<u64>,
}

/// Ticks of the bar for a run.
const RUN: u64 = 1000;

impl Progress {
    /// For a number of runs.
    pub(crate) fn new(runs: usize) -> Self {
        let ticks = runs as u64 * RUN;
        let bar = std::io::stderr().is_terminal().then(|| ProgressBar::new(ticks));
        if let Some(bar) = &bar {
            let line = "{bar:24} {percent:>3}% {elapsed}<{eta} {wide_msg}";
            bar.set_style(
                ProgressStyle::with_template(line).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
        }
        Self { bar, finished: Cell::new(0) }
    }

    /// The run has used this share of its budget.
    pub(crate) fn step(&self, used: f64) {
        if let Some(bar) = &self.bar {
            bar.set_position(self.finished.get() * RUN + (used * RUN as f64) as u64);
        }
    }

    /// An epoch ended.
    pub(crate) fn epoch(&self, run: &Run) {
        if let (Some(bar), Some(last), Some(step)) =
            (&self.bar, run.epochs.last(), run.steps.last())
        {
            let (loss, percent) = (step.loss, 100.0 * last.test_accuracy);
            let (name, seed, epoch) = (&run.optimizer, run.seed, last.epoch);
            bar.set_message(format!(
                "{name} · seed {seed} · epoch {epoch} · loss {loss:.4} · test {percent:.1} %"
            ));
        }
    }

    /// A run ended.
    pub(crate) fn run(&self, run: &Run) {
        let seconds = run.cost.total();
        let head = format!("{:<18} rate {:<7} seed {}", run.optimizer, run.rate, run.seed);
        let line = match (&run.ending, run.epochs.last()) {
            (Ending::Diverged { step, cause }, _) => {
                format!("{head}  diverged at step {step}: {cause}")
            }
            (_, Some(last)) => format!(
                "{head}  {} steps, {seconds:.1} s, test {:.2} %",
                run.steps.len(),
                100.0 * last.test_accuracy,
            ),
            (_, None) => format!("{head}  no epoch was completed"),
        };
        match &self.bar {
            None => eprintln!("{line}"),
            Some(bar) => {
                self.finished.set(self.finished.get() + 1);
                bar.set_position(self.finished.get() * RUN);
                if run.diverged() {
                    bar.println(line);
                }
            }
        }
    }

    /// Something to read, above the bar.
    pub(crate) fn aside(&self, text: &str) {
        match &self.bar {
            None => println!("{text}"),
            Some(bar) => bar.suspend(|| println!("{text}")),
        }
    }

    /// All is done.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
