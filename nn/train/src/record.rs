//! A run on paper: everything that a report is made of, in a folder.
//!
//! | file | what |
//! |---|---|
//! | `run.json` | [`About`]: settings, references, coverage, how it ended |
//! | `metrics.jsonl`, `metrics.csv` | [`Row`]s |
//! | `factors.jsonl` | [`Factor`]s at each evaluation, of optimizers that have some |

use std::fs;
use std::path::{Path, PathBuf};

use engine::{Error, Parameters, Result};
use optim::Optimizer;
use serde::{Deserialize, Serialize};

use crate::factors::{Factor, of_state};
use crate::metrics::{append, keep_lines, read_jsonl, read_lines, replace};
use crate::{Event, Metrics, Observer, Row, Score, Stop};

/// What is said about a run, beside its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// As in legends.
    pub name: String,
    /// Settings and their values, in the order of the table.
    pub settings: Vec<(String, String)>,
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

/// The observer that writes a run down.
#[derive(Debug, Clone)]
pub struct Record {
    folder: PathBuf,
    metrics: Metrics,
    about: About,
}

impl Record {
    /// For a run's folder; it is made if it is not there.
    pub fn new(folder: impl Into<PathBuf>, name: &str, settings: Vec<(String, String)>) -> Self {
        let folder = folder.into();
        let about = About {
            name: name.to_owned(),
            settings,
            references: Vec::new(),
            score: Score::Loss,
            parameters: 0,
            coverage: Vec::new(),
            state_bytes: 0,
            ended: String::new(),
        };
        Self { metrics: Metrics::new(&folder), folder, about }
    }

    /// With a score to compare with.
    #[must_use]
    pub fn reference(mut self, name: &str, score: f64) -> Self {
        self.about.references.push((name.to_owned(), score));
        self
    }

    /// Notes what only a run shows, and the factors of this step.
    fn look(&mut self, step: u64, model: &dyn Parameters, optimizer: &dyn Optimizer) -> Result<()> {
        let coverage = optimizer.coverage(model);
        let line = |l: &optim::coverage::Line| {
            [l.param.clone(), l.shape.to_string(), l.rule.clone(), l.state_bytes.to_string()]
        };
        self.about.coverage = coverage.lines.iter().map(line).collect();
        self.about.state_bytes = coverage.state_bytes();
        self.about.parameters = model.parameter_count();
        self.write()?;
        let factors = of_state(&optimizer.state(model)?, step)?;
        let file = self.folder.join("factors.jsonl");
        factors.iter().try_for_each(|factor| append(&file, factor))
    }

    fn write(&self) -> Result<()> {
        let file = self.folder.join("run.json");
        let text = serde_json::to_string_pretty(&self.about);
        replace(&file, &text.map_err(|e| Error::io(&file, e.into()))?)
    }
}

impl Observer for Record {
    fn on(&mut self, event: &Event<'_>) -> Result<()> {
        self.metrics.on(event)?;
        match event {
            Event::Started { place, score, .. } => {
                self.about.score = *score;
                keep_lines(&self.folder.join("factors.jsonl"), |f: &Factor| f.step <= place.step)?;
                // A run that is already over keeps what was found out about it.
                if let Ok(before) = read_about(&self.folder) {
                    let About { coverage, state_bytes, parameters, .. } = before;
                    (self.about.coverage, self.about.state_bytes) = (coverage, state_bytes);
                    self.about.parameters = parameters;
                }
                self.write()
            }
            Event::Evaluated { evaluation, model, optimizer } => {
                self.look(evaluation.step, *model, *optimizer)
            }
            Event::Failed { error, .. } => {
                self.about.ended = error.to_string();
                self.write()
            }
            Event::Finished { outcome, .. } => {
                self.about.ended = match outcome.stop {
                    Stop::Budget => "the budget was used up".into(),
                    Stop::Patience => "nothing better came for too long".into(),
                };
                self.write()
            }
            _ => Ok(()),
        }
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
    /// Reads what [`Record`] wrote; also while the run goes on.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no run, [`Error::File`] when a file is not what it should be.
    pub fn read(folder: &Path) -> Result<Self> {
        let about = read_about(folder)?;
        let rows = read_jsonl(&folder.join("metrics.jsonl"))?;
        Ok(Self { about, rows, factors: read_lines(&folder.join("factors.jsonl"))? })
    }
}

fn read_about(folder: &Path) -> Result<About> {
    let file = folder.join("run.json");
    let text = fs::read_to_string(&file).map_err(|e| Error::io(&file, e))?;
    serde_json::from_str(&text).map_err(|e| Error::File {
        file,
        expected: "what is said about a run".into(),
        got: e.to_string(),
    })
}
