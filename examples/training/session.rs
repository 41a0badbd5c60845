//! A run from its options to its report.

use std::fs;
use std::path::PathBuf;

use alcyon::optim;
use alcyon::prelude::*;
use alcyon::train::{Batches, Event, Outcome, Record, Run, Task, Trainer, report};

use super::options::Options;
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

    /// Trains, or goes on; the report is new after each evaluation.
    pub(crate) fn run<M: Parameters>(
        &self,
        model: &mut M,
        task: &dyn Task<M>,
        train: &dyn Batches,
        held_out: &dyn Batches,
    ) -> Result<Outcome> {
        let (usual, epochs) = self.usual;
        let name = self.options.optimizer.as_deref().unwrap_or(usual);
        let mut optimizer = optim::build(name, self.options.rate)?;
        let plan = self.options.plan(optimizer.rate(), epochs)?;
        let folder = self.folder(name);
        let snapshots = self.options.snapshots(folder.clone());
        if self.options.fresh {
            for file in snapshots.files()? {
                fs::remove_file(&file).map_err(|e| Error::io(file, e))?;
            }
        }
        let mut settings = self.settings.clone();
        settings.extend(self.options.settings(&*optimizer, &plan));
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
        let mut view = View::new();
        let outcome = Trainer::new(model, &mut *optimizer, task, plan)?
            .snapshots(snapshots)
            .observe(&mut view)
            .observe(&mut record)
            .observe(&mut write_report)
            .run(train, held_out)?;
        println!("{} steps; written: {}", outcome.place.step, page.display());
        Ok(outcome)
    }
}
