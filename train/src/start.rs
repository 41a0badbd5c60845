//! The start of a run: first everything that can be refused, then everything that is written.
//!
//! A folder is locked; the settings are compared with those that it was made with; the snapshots are proved, and
//! the newest that is whole is read into the model. Nothing has been written until then but the lock. After that,
//! what is damaged is set aside and said, what dead processes left is removed, and the record goes on.

use std::fs;
use std::path::{Path, PathBuf};

use engine::{Error, Parameters, Result};

use crate::disk::{is_damage, remove, set_aside};
use crate::factors::Factor;
use crate::folder::Folder;
use crate::snapshot::{Found, Manifest};
use crate::stock::Stock;
use crate::trainer::tell;
use crate::{About, Batches, Event, Row, Settings, Snapshots, Trainer, best, clock, metrics, step};

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
        let findings = match self.fresh {
            true => Findings::default(),
            false => self.go_on_from(steps_per_epoch)?,
        };
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

    /// Reads the newest snapshot that is whole and compares settings; changes the model and no file.
    fn go_on_from(&mut self, steps_per_epoch: u64) -> Result<Findings> {
        let mut findings = Findings::default();
        for folder in &self.folders {
            match &folder.damaged {
                Some(error @ Error::Format { .. }) => return Err(error.clone()),
                Some(error) => findings.damaged.push((folder.path.join("run.json"), error.clone())),
                None => {}
            }
        }
        let shelf = self.snapshots.as_ref().map(Snapshots::shelf);
        let mut stock = shelf.as_deref().map(Stock::of).transpose()?.unwrap_or_default();
        if let Some(error) = stock.of_another_version() {
            return Err(error);
        }
        let found = match &shelf {
            Some(shelf) => newest(shelf, &mut stock)?,
            None => None,
        };
        let budget = &self.plan.budget;
        let used = found.as_ref().map(|(found, _)| budget.used(&found.place, steps_per_epoch));
        // A budget that is less than what was done already says nothing of how that was done.
        let used = used.filter(|&used| used < 1.0).unwrap_or(0.0);
        self.accept(found.as_ref().map(|(_, manifest)| &manifest.settings), used)?;
        let saved = self.folders.first().and_then(|folder| folder.before.as_ref()?.saved());
        match found {
            Some((found, manifest)) => self.restore(found, &manifest, &mut findings)?,
            None => self.refuse_lost(&stock, &findings, saved)?,
        }
        let (aside, leftovers) = stock.sorted_out(saved);
        findings.damaged.extend(aside);
        findings.leftovers = leftovers;
        self.whole = stock.whole;
        Ok(findings)
    }

    /// Whether the settings of every folder, and of the snapshot, are this run's. `used`: the share of the budget.
    fn accept(&self, of_snapshot: Option<&Settings>, used: f64) -> Result<()> {
        let asked = &self.about.settings;
        let stretches = self.plan.pace.as_ref().is_some_and(|pace| pace.stretches(used));
        let strict = stretches && !self.extend;
        let mut recorded = false;
        for folder in &self.folders {
            if let Some(before) = &folder.before {
                before.settings.accept(&folder.path, asked, strict)?;
                recorded = true;
            }
        }
        // A budget that the record has was accepted when it was written there.
        match (of_snapshot, &self.snapshots) {
            (Some(made_with), Some(snapshots)) => {
                made_with.accept(&snapshots.folder, asked, strict && !recorded)
            }
            _ => Ok(()),
        }
    }

    fn restore(
        &mut self,
        found: Found,
        manifest: &Manifest,
        findings: &mut Findings,
    ) -> Result<()> {
        let folder = self.snapshots.as_ref().map(|s| s.folder.clone()).unwrap_or_default();
        let restored = found.restore(self.model, self.optimizer, self.average.as_mut());
        self.place = restored.map_err(|source| {
            let (folder, source) = (folder.clone(), Box::new(source));
            Error::Resume { folder, source }
        })?;
        self.saved = Some(self.place);
        let budget = |of: &Settings| of.get(crate::settings::BUDGET).map(str::to_owned);
        if budget(&manifest.settings) != budget(&self.about.settings) {
            self.place.calibrated = None;
        }
        if self.place.best.is_some()
            && let Err(error) = best::read(&folder)
        {
            if !is_damage(&error) {
                return Err(error);
            }
            self.best_lost = true;
            findings.damaged.push((best::file(&folder), error));
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

/// The newest snapshot whose bytes can be taken; others turn out to be damaged.
fn newest(shelf: &Path, stock: &mut Stock) -> Result<Option<(Found, Manifest)>> {
    while let Some(manifest) = stock.whole.last().cloned() {
        match Found::read(shelf, &manifest) {
            Ok(found) => return Ok(Some((found, manifest))),
            Err(error) if is_damage(&error) => stock.withdraw(shelf, &manifest, error),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
