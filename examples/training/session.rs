//! A run from its options to its report.

use std::path::PathBuf;
use std::process::ExitCode;

use alcyon::optim;
use alcyon::prelude::*;
use alcyon::train::{Batches, Event, Outcome, Record, Run, Stop, Task, Trainer, report};

use super::options::Options;
use super::signal::Signals;
use super::view::View;

/// What a program knows about its run before it begins.
pub(crate) struct Session<'a> {
    pub(crate) options: &'a Options,
    /// Of the model and the data: `resnet18-cifar10`.
    pub(crate) name: String,
    /// Settings beside those of the options.
    pub(crate) settings: Vec<(String, String)>,
    /// Scores to compare with.
    pub(crate) references: Vec<(String, f64)>,
    /// The optimizer when none is asked for, and the epochs when no budget is given.
    pub(crate) usual: (&'static str, u64),
}

impl Session<'_> {
    /// Where the run is kept.
    fn folder(&self, optimizer: &str) -> PathBuf {
        let own = || PathBuf::from("target/alcyon/runs").join(format!("{}-{optimizer}", self.name));
        self.options.out.clone().unwrap_or_else(own)
    }

    /// Trains, or goes on; the report is new after each evaluation. A signal ends it with a snapshot. Returns
    /// what the run came to, and the code that its program ends with.
    pub(crate) fn run<M: Parameters>(
        &self,
        model: &mut M,
        task: &dyn Task<M>,
        train: &dyn Batches,
        held_out: &dyn Batches,
    ) -> Result<(Outcome, ExitCode)> {
        self.options.check()?;
        let (usual, epochs) = self.usual;
        let name = self.options.optimizer.as_deref().unwrap_or(usual);
        let mut optimizer = optim::build(name, self.options.rate)?;
        let plan = self.options.plan(optimizer.rate(), epochs)?;
        let folder = self.folder(name);
        let mut settings = self.settings.clone();
        settings.extend(self.options.settings(name, optimizer.rate()));
        let mut record = Record::new(&folder, name, settings);
        for (name, score) in &self.references {
            record = record.reference(name, *score);
        }
        let (page, title) = (folder.join("report.html"), self.name.replace('-', " · "));
        let beside = &self.options.beside;
        let mut write_report = |event: &Event<'_>| match event {
            Event::Evaluated { .. } | Event::Failed { .. } | Event::Finished { .. } => {
                let runs: Vec<Run> = std::iter::once(&folder)
                    .chain(beside)
                    .map(|folder| Run::read(folder))
                    .collect::<Result<_>>()?;
                report::write(&page, &title, &runs)
            }
            _ => Ok(()),
        };
        let (mut view, signals) = (View::new(), Signals::listen()?);
        let outcome = Trainer::new(model, &mut *optimizer, task, plan)?
            .snapshots(self.options.snapshots(folder.clone()))
            .fresh(self.options.fresh)
            .extend(self.options.extend)
            .stop_when(|| signals.number() > 0)
            .observe(&mut view)
            .observe(&mut record)
            .observe(&mut write_report)
            .run(train, held_out)?;
        let code = if outcome.stop == Stop::Asked {
            println!(
                "interrupted after step {}; to go on:\n  {}",
                outcome.place.step,
                self.again()
            );
            ExitCode::from(128 + signals.number())
        } else {
            println!("{} steps; written: {}", outcome.place.step, page.display());
            ExitCode::SUCCESS
        };
        Ok((outcome, code))
    }

    /// The command that goes on with this run: this one, but from where it is.
    fn again(&self) -> String {
        let mut words: Vec<String> = std::env::args().collect();
        let quick = words.iter().any(|word| word == "--quick");
        words.retain(|word| !["--quick", "--fresh"].contains(&word.as_str()));
        let budgets = [("--epochs", self.options.epochs), ("--steps", self.options.steps)];
        for (name, limit) in budgets {
            if let (true, Some(limit), false) =
                (quick, limit, words.iter().any(|w| w.starts_with(name)))
            {
                words.extend([name.to_owned(), limit.to_string()]);
            }
        }
        words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }
}

/// A word as a shell takes it for one.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=,:+@%~\\".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}
