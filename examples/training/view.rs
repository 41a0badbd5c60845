//! What is seen while a run goes on: two bars on a terminal, a line an evaluation elsewhere.

use std::io::IsTerminal;

use alcyon::prelude::*;
use alcyon::train::{Evaluation, Event, Observer, Score, Step};
use indicatif::{ProgressBar, ProgressStyle};

/// Ticks of the bar.
const TICKS: u64 = 1000;

pub(crate) struct View {
    bar: Option<ProgressBar>,
    score: Score,
    steps_per_epoch: u64,
    /// The last evaluation, in words.
    judged: String,
}

impl View {
    pub(crate) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| ProgressBar::new(TICKS));
        if let Some(bar) = &bar {
            let lines =
                "{bar:32.cyan/blue} {percent:>3} %  {elapsed} gone, {eta} to go\n{wide_msg}";
            let style = ProgressStyle::with_template(lines);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        }
        Self { bar, score: Score::Loss, steps_per_epoch: 1, judged: String::new() }
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    fn step(&self, step: &Step) {
        let Some(bar) = &self.bar else { return };
        bar.set_position((step.used * TICKS as f64) as u64);
        let speed = step.step as f64 / step.seconds.max(1e-9);
        let within = (step.step - 1) % self.steps_per_epoch + 1;
        bar.set_message(format!(
            "epoch {} · step {within} of {} · loss {:.4} · rate {:.2e} · {speed:.1} steps/s{}",
            step.epoch + 1,
            self.steps_per_epoch,
            step.loss,
            step.rate,
            self.judged,
        ));
    }

    fn evaluation(&mut self, evaluation: &Evaluation) {
        let Evaluation { step, seconds, loss, score, best, .. } = evaluation;
        let score = match self.score {
            Score::Accuracy => format!("accuracy {:.2} %", 100.0 * score),
            other => format!("{} {score:.3}", other.name()),
        };
        self.judged = format!(" · {score}");
        let star = if *best { "  (best)" } else { "" };
        self.say(&format!("step {step:>6}  {seconds:>8.1} s  loss {loss:.4}  {score}{star}"));
    }
}

impl Observer for View {
    fn on(&mut self, event: &Event<'_>) -> Result<()> {
        match event {
            Event::Started { place, score, steps_per_epoch } => {
                (self.score, self.steps_per_epoch) = (*score, *steps_per_epoch);
                if place.step > 0 {
                    let (step, epoch) = (place.step, place.epoch + 1);
                    self.say(&format!("resumed after step {step}, in epoch {epoch}"));
                }
            }
            Event::Stepped(step) => self.step(step),
            Event::Overflowed { step, loss_scale } => {
                let (factor, skipped) = (loss_scale.factor, loss_scale.skipped);
                let so =
                    format!("step {step:>6} skipped, the {skipped}. so far: gradients beyond f16");
                self.say(&format!("{so}; they are scaled by {factor} now"));
            }
            Event::Evaluated { evaluation, .. } => self.evaluation(evaluation),
            Event::Damaged { kept, error, .. } => {
                let kept = kept.map_or_else(
                    || "it is gone".to_owned(),
                    |kept| format!("not used; kept as {}", kept.display()),
                );
                self.say(&format!("damaged: {error}; {kept}"));
            }
            Event::Failed { .. } | Event::Finished { .. } => {
                if let Some(bar) = &self.bar {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
        Ok(())
    }
}
