//! The start of a run: first everything that can be refused, then everything that is written.
//!
//! A folder is locked; the settings are compared with those that it was made with; the snapshots are proved, and
//! the newest that is whole is read into the model. Nothing has been written until then but the lock. After that,
//! what is damaged is set aside and said, what dead processes left is removed, and the record goes on.

use std::fs;
use std::path::{Path, PathBuf};

use engine::{Error, Parameters, Result};

use crate::disk::{remove, set_aside};
use crate::factors::Factor;
use crate::folder::Folder;
use crate::snapshot::{Found, Manifest};
use crate::stock::Stock;
use crate::trainer::tell;
use crate::{About, Batches, Event, Row, Settings, Trainer, best, clock, metrics, step};

/// What was found in the folder, and is yet to be dealt with.
#[derive(Default)]
pub(crate) struct Findings {
    damaged: Vec<(PathBuf, Error)>,
    leftovers: Vec<PathBuf>,
}

impl<M: Parameters> Trainer<'_, M> {
    /// Everything up to the first step.
    pub(crate) fn start(&mut self, train: &dyn Batches, held_out: &dyn Batches) -> Result<u64> {
        let steps_per_epoch = self.steps_per_epoch(train)?;
        step::accept(self.model, self.optimizer, &self.plan)?;
        self.describe(train, held_out);
        self.folders = self.open()?;
        let findings = if self.fresh { Findings::default() } else { self.go_on_from()? };
        // From here on the run is accepted.
        self.enter(&findings)?;
        self.started = true;
        self.write_about()?;
        let (place, score) = (self.place, self.task.score());
        self.tell(&Event::Started { place: &place, score, steps_per_epoch })?;
        Ok(steps_per_epoch)
    }

    /// What is known about the run before it begins.
    fn describe(&mut self, train: &dyn Batches, held_out: &dyn Batches) {
        let mut about = About::new(self.optimizer.name(), self.task.score());
        let batches = (train.count(), held_out.count());
        let seen = Settings::seen(&self.plan, self.model, self.optimizer, batches);
        about.settings = self.settings.clone();
        self.observers.iter().for_each(|observer| observer.describe(&mut about));
        // Whoever names an optimizer's preset knows it better.
        about.settings = about.settings.clone().and(&seen).and(&about.settings);
        self.about = about;
    }

    /// Locks every folder that is written to.
    fn open(&self) -> Result<Vec<Folder>> {
        let own = self.snapshots.iter().map(|snapshots| snapshots.folder.as_path());
        let mut folders: Vec<Folder> = Vec::new();
        for path in own.chain(self.observers.iter().filter_map(|observer| observer.folder())) {
            let real = |path: &Path| fs::canonicalize(path).ok();
            let there = real(path);
            if there.is_none() || !folders.iter().any(|known| real(&known.path) == there) {
                folders.push(Folder::open(path)?);
            }
        }
        Ok(folders)
    }

    /// Compares settings and reads the newest snapshot that is whole; changes the model and no file.
    fn go_on_from(&mut self) -> Result<Findings> {
        let mut findings = Findings::default();
        for folder in &self.folders {
            if let Some(before) = &folder.before {
                self.accept(&folder.path, &before.settings, !self.extend)?;
            }
            match &folder.damaged {
                Some(error @ Error::Format { .. }) => return Err(error.clone()),
                Some(error) => findings.damaged.push((folder.path.join("run.json"), error.clone())),
                None => {}
            }
        }
        let Some(snapshots) = self.snapshots.clone() else { return Ok(findings) };
        let shelf = snapshots.shelf();
        let mut stock = Stock::of(&shelf)?;
        if let Some(error) = stock.of_another_version() {
            return Err(error);
        }
        // A budget that the record has was accepted when it was written there.
        let recorded = self.folders.first().is_some_and(|folder| folder.before.is_some());
        while let Some(manifest) = stock.whole.last().cloned() {
            self.accept(&snapshots.folder, &manifest.settings, !recorded && !self.extend)?;
            match Found::read(&shelf, &manifest) {
                Ok(found) => {
                    self.restore(found, &manifest, &mut findings)?;
                    break;
                }
                Err(error @ (Error::File { .. } | Error::Io { .. })) => {
                    stock.withdraw(&shelf, &manifest, error);
                }
                Err(error) => return Err(error),
            }
        }
        let saved = self.folders.first().and_then(|folder| folder.before.as_ref()?.saved());
        if stock.whole.is_empty() {
            self.refuse_lost(&stock, &findings, saved)?;
        }
        let (aside, leftovers) = stock.sorted_out(saved);
        findings.damaged.extend(aside);
        findings.leftovers = leftovers;
        self.whole = stock.whole;
        Ok(findings)
    }

    /// Whether a folder's settings are this run's.
    fn accept(&self, folder: &Path, made_with: &Settings, strictly: bool) -> Result<()> {
        let stretches = self.plan.pace.as_ref().is_some_and(crate::Pace::stretches);
        made_with.accept(folder, &self.about.settings, stretches && strictly)
    }

    fn restore(
        &mut self,
        found: Found,
        manifest: &Manifest,
        findings: &mut Findings,
    ) -> Result<()> {
        self.place = found.restore(self.model, self.optimizer, self.average.as_mut())?;
        self.saved = Some(self.place);
        let budget = |of: &Settings| of.get(crate::settings::BUDGET).map(str::to_owned);
        if budget(&manifest.settings) != budget(&self.about.settings) {
            self.place.calibrated = None;
        }
        let folder = self.snapshots.as_ref().map(|snapshots| &snapshots.folder);
        if let (Some(folder), Some(_)) = (folder, self.place.best)
            && let Err(error) = best::read(folder)
        {
            self.best_lost = true;
            findings.damaged.push((best::file(folder), error));
        }
        Ok(())
    }

    /// A run that has saved something begins again only when it is told to.
    fn refuse_lost(&self, stock: &Stock, findings: &Findings, saved: Option<u64>) -> Result<()> {
        let wrong = |(file, error): &(PathBuf, Error)| {
            let prefix = format!("{}: ", file.display());
            let text = error.to_string();
            (file.clone(), text.strip_prefix(&prefix).unwrap_or(&text).to_owned())
        };
        let mut files: Vec<_> = stock.damaged.iter().chain(&findings.damaged).map(wrong).collect();
        files.extend(stock.kept.iter().map(|file| (file.clone(), "set aside before".into())));
        let folder = match &self.snapshots {
            Some(snapshots) if !files.is_empty() || saved.is_some() => snapshots.folder.clone(),
            _ => return Ok(()),
        };
        if files.is_empty() {
            let step = saved.unwrap_or_default();
            files.push((folder.join("snapshots"), format!("no file of step {step}")));
        }
        Err(Error::Lost { folder, files })
    }

    /// Makes the folders this run's: clears them, or deals with what was found.
    fn enter(&mut self, findings: &Findings) -> Result<()> {
        for folder in &mut self.folders {
            folder.enter()?;
            if self.fresh {
                folder.clear()?;
                folder.before = None;
            }
        }
        findings.leftovers.iter().try_for_each(|file| remove(file))?;
        for (file, error) in &findings.damaged {
            let kept = if file.exists() { Some(set_aside(file)?) } else { None };
            let event = Event::Damaged { file, kept: kept.as_deref(), error };
            tell(&mut self.observers, &event)?;
        }
        for folder in &self.folders {
            let rows = metrics::mend::<Row>(&folder.path.join("metrics.jsonl"))?;
            let factors = metrics::mend::<Factor>(&folder.path.join("factors.jsonl"))?;
            for damage in [rows, factors].into_iter().flatten() {
                let (file, kept) = (damage.file.as_path(), Some(damage.kept.as_path()));
                let event = Event::Damaged { file, kept, error: &damage.error };
                tell(&mut self.observers, &event)?;
            }
        }
        let (step, now) = (self.place.step, clock::utc_now());
        match self.folders.first().and_then(|folder| folder.before.as_ref()) {
            Some(before) => self.about.go_on(before, step, now),
            None => self.about.begin(step, now, Vec::new()),
        }
        Ok(())
    }
}
