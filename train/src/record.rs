//! A run on paper: everything that a report is made of, in a folder.
//!
//! | file | what |
//! |---|---|
//! | `run.json` | [`About`]: settings, history, references, coverage, how it ended |
//! | `metrics.jsonl`, `metrics.csv` | [`Row`]s |
//! | `factors.jsonl` | [`Factor`]s at each evaluation, of optimizers that have some |
//!
//! The [`Trainer`](crate::Trainer) writes `run.json`, in every folder that snapshots or observers write to, and
//! refuses a run whose settings are not the folder's ([`Settings`]). A [`Record`] writes the rest.

use std::fs;
use std::path::{Path, PathBuf};

use engine::{Error, Parameters, Result};
use optim::Optimizer;
use serde::{Deserialize, Serialize};

use crate::disk::sync;
use crate::factors::{Factor, of_state};
use crate::metrics::{append, keep_lines, read_jsonl, read_lines};
use crate::{Event, Metrics, Observer, Row, Score, Settings};

/// What is said about a run, beside its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// As in legends.
    pub name: String,
    /// Settings and their values, in the order of the table.
    pub settings: Settings,
    /// Its parts: from one start of a process to its end. Those that did nothing are left out.
    #[serde(default)]
    pub segments: Vec<Segment>,
    /// Scores to compare with: a bigram model's perplexity, a published accuracy.
    pub references: Vec<(String, f64)>,
    /// What evaluations are judged by.
    pub score: Score,
    /// Trainable numbers of the model.
    pub parameters: usize,
    /// Parameter, shape, rule and bytes of state of the optimizer's coverage.
    pub coverage: Vec<[String; 4]>,
    /// Bytes that the optimizer keeps.
    pub state_bytes: usize,
    /// Why it ended; empty while it runs.
    pub ended: String,
}

/// A part of a run: what one process did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Steps taken before it.
    pub from: u64,
    /// Steps taken at its end, or at the last snapshot if that was not told.
    pub to: u64,
    /// The step of its last snapshot.
    pub saved: Option<u64>,
    /// When it began, in UTC.
    pub began: String,
    /// Settings that were others before: name, value then, value now.
    pub changed: Vec<(String, String, String)>,
    /// Why it ended; empty while it runs.
    pub ended: String,
}

/// What is said of a segment whose process told nothing of its end.
pub(crate) const CUT_OFF: &str = "cut off";

impl About {
    /// Nothing is known yet.
    pub(crate) fn new(name: &str, score: Score) -> Self {
        Self {
            name: name.to_owned(),
            settings: Settings::default(),
            segments: Vec::new(),
            references: Vec::new(),
            score,
            parameters: 0,
            coverage: Vec::new(),
            state_bytes: 0,
            ended: String::new(),
        }
    }

    /// Notes what only a run shows.
    pub(crate) fn look(&mut self, model: &dyn Parameters, optimizer: &dyn Optimizer) {
        let coverage = optimizer.coverage(model);
        let line = |l: &optim::CoverageLine| {
            [l.param.clone(), l.shape.to_string(), l.rule.clone(), l.state_bytes.to_string()]
        };
        self.coverage = coverage.lines.iter().map(line).collect();
        self.state_bytes = coverage.state_bytes();
        self.parameters = model.parameter_count();
    }

    /// Takes over what an earlier process knew, and begins a segment.
    pub(crate) fn go_on(&mut self, before: &Self, step: u64, began: String) {
        self.coverage.clone_from(&before.coverage);
        (self.state_bytes, self.parameters) = (before.state_bytes, before.parameters);
        self.segments.clone_from(&before.segments);
        if let Some(last) = self.segments.last_mut().filter(|last| last.ended.is_empty()) {
            (last.to, last.ended) = (step, CUT_OFF.into());
        }
        self.begin(step, began, before.settings.differences(&self.settings));
    }

    /// Begins a segment.
    pub(crate) fn begin(
        &mut self,
        step: u64,
        began: String,
        changed: Vec<(String, String, String)>,
    ) {
        let (from, to, saved, ended) = (step, step, None, String::new());
        self.segments.push(Segment { from, to, saved, began, changed, ended });
    }

    /// Ends the segment; one that did nothing is no part of the history.
    pub(crate) fn end(&mut self, step: u64, why: String) {
        if let Some(last) = self.segments.last_mut() {
            (last.to, last.ended) = (step, why.clone());
        }
        let idle = |last: &Segment| last.from == last.to && last.changed.is_empty();
        if self.segments.len() > 1 && self.segments.last().is_some_and(idle) {
            self.segments.pop();
        }
        self.ended = why;
    }

    /// The last step that was announced as saved.
    pub(crate) fn saved(&self) -> Option<u64> {
        self.segments.iter().filter_map(|segment| segment.saved).max()
    }
}

/// The observer that writes a run down.
#[derive(Debug, Clone)]
pub struct Record {
    folder: PathBuf,
    metrics: Metrics,
    name: String,
    settings: Settings,
    references: Vec<(String, f64)>,
}

impl Record {
    /// For a run's folder. Its settings become the run's, before those that the trainer sees.
    pub fn new(folder: impl Into<PathBuf>, name: &str, settings: impl Into<Settings>) -> Self {
        let (folder, name) = (folder.into(), name.to_owned());
        let metrics = Metrics::new(&folder);
        Self { metrics, folder, name, settings: settings.into(), references: Vec::new() }
    }

    /// With a score to compare with.
    #[must_use]
    pub fn reference(mut self, name: &str, score: f64) -> Self {
        self.references.push((name.to_owned(), score));
        self
    }

    fn factors(&self) -> PathBuf {
        self.folder.join("factors.jsonl")
    }
}

impl Observer for Record {
    fn on(&mut self, event: &Event<'_>) -> Result<()> {
        self.metrics.on(event)?;
        match event {
            Event::Started { place, .. } => {
                keep_lines(&self.factors(), |f: &Factor| f.step <= place.step)
            }
            Event::Evaluated { evaluation, model, optimizer } => {
                let factors = of_state(&optimizer.state(*model)?, evaluation.step)?;
                factors.iter().try_for_each(|factor| append(&self.factors(), factor))
            }
            Event::Saving { .. } => sync(&self.factors()),
            _ => Ok(()),
        }
    }

    fn folder(&self) -> Option<&Path> {
        Some(&self.folder)
    }

    fn describe(&self, about: &mut About) {
        about.name.clone_from(&self.name);
        about.settings = self.settings.clone().and(&about.settings);
        about.references.extend(self.references.iter().cloned());
    }
}

/// A run that was read from its folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// What is said about it.
    pub about: About,
    /// Its numbers.
    pub rows: Vec<Row>,
    /// Its factors, in the order of steps.
    pub factors: Vec<Factor>,
}

impl Run {
    /// Reads what was written; also while the run goes on, and of older versions.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no run, [`Error::File`] when a file is not what it should be.
    pub fn read(folder: &Path) -> Result<Self> {
        let file = folder.join("run.json");
        let text = fs::read_to_string(&file).map_err(|e| Error::io(&file, e))?;
        let about = serde_json::from_str(&text).map_err(|e| Error::File {
            file,
            expected: "what is said about a run".into(),
            got: e.to_string(),
        })?;
        let rows = read_jsonl(&folder.join("metrics.jsonl"))?;
        Ok(Self { about, rows, factors: read_lines(&folder.join("factors.jsonl"))? })
    }
}
