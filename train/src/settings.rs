//! Settings: what a run was made with. They belong to its folder; another one is refused there.

use std::path::Path;

use engine::{Device, Error, Parameters, Result};
use optim::Optimizer;
use serde::{Deserialize, Serialize};

use crate::seal::crc32;
use crate::{Every, Plan};

/// The settings that may change between one start of a run and the next, since no step depends on them but for
/// rounding. All others are fixed; so is the budget where the schedule is stretched over it.
pub const MAY_CHANGE: [&str; 7] =
    [BUDGET, "evaluation", "patience", "rows of metrics", "device", "captured passes", "workers"];

/// The one whose change is looked at more closely.
pub(crate) const BUDGET: &str = "budget";

/// Names and values, in the order of the report's table.
///
/// What is in a [`Plan`], the optimizer's name and constants, the model's shapes and the number of batches are
/// found by the [`Trainer`](crate::Trainer) itself. What it cannot see has to be added: the data, and changes of it.
///
/// # Example
/// ```
/// use alcyon_train::Settings;
/// let settings = Settings::default().with("data", "iris").with("batch size", 16);
/// let other = settings.clone().with("batch size", 32);
/// let difference = settings.differences(&other);
/// assert_eq!(difference, [("batch size".into(), "16".into(), "32".into())]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Settings(Vec<(String, String)>);

impl From<Vec<(String, String)>> for Settings {
    fn from(settings: Vec<(String, String)>) -> Self {
        settings.into_iter().fold(Self::default(), |all, (name, value)| all.with(&name, value))
    }
}

impl Settings {
    /// With one more, or another value of one that is there.
    #[must_use]
    #[allow(clippy::needless_pass_by_value, reason = "numbers and names are given as they are")]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        let value = value.to_string();
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
        self
    }

    /// With those of another list.
    #[must_use]
    pub fn and(self, others: &Self) -> Self {
        others.iter().fold(self, |all, (name, value)| all.with(name, value))
    }

    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value of one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Name, value here, value there: of all that are not the same in both.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<(String, String, String)> {
        let mut differences = Vec::new();
        let new = other.iter().filter(|(name, _)| self.get(name).is_none());
        for (name, _) in self.iter().chain(new) {
            let value = |of: &Self| of.get(name).unwrap_or("not said").to_owned();
            if self.get(name) != other.get(name) {
                differences.push((name.to_owned(), value(self), value(other)));
            }
        }
        differences
    }

    /// Refuses a run with the settings `asked` in a folder that was made with these; `stretches`: another budget
    /// too.
    ///
    /// # Errors
    /// [`Error::Settings`] with every difference that is not.
    pub(crate) fn accept(&self, folder: &Path, asked: &Self, stretches: bool) -> Result<()> {
        let all = self.differences(asked);
        let free = |name: &str| MAY_CHANGE.contains(&name) && !(name == BUDGET && stretches);
        let refused: Vec<_> = all.iter().filter(|(name, ..)| !free(name)).cloned().collect();
        if refused.is_empty() {
            return Ok(());
        }
        let stretched = refused.iter().all(|(name, ..)| name == BUDGET);
        Err(Error::Settings { folder: folder.to_owned(), differences: refused, stretched })
    }

    /// What the trainer itself can see.
    pub(crate) fn seen(
        plan: &Plan,
        model: &dyn Parameters,
        optimizer: &dyn Optimizer,
        batches: (usize, usize),
    ) -> Self {
        let or = |x: Option<f64>, no: &str| x.map_or_else(|| no.to_owned(), |x| x.to_string());
        let rate = match &plan.pace {
            Some(pace) => pace.to_string(),
            None => format!("constant {}", optimizer.rate()),
        };
        let evaluation = match plan.evaluate {
            Every::Epochs(n) => format!("every {n} epochs"),
            Every::Steps(n) => format!("every {n} steps"),
        };
        let patience = plan.patience.map_or_else(|| "endless".to_owned(), |n| n.to_string());
        Self::default()
            .with("optimizer", optimizer.name())
            .with("its constants", constants(&optimizer.options()))
            .with("course of the rate", rate)
            .with(BUDGET, plan.budget)
            .with("parameters", shapes(model))
            .with("batches", format!("{} an epoch, {} held out", batches.0, batches.1))
            .with("batches a step", plan.accumulate)
            .with("clipping", or(plan.clip_norm, "none"))
            .with("precision", plan.precision)
            .with("average of weights", or(plan.average, "none"))
            .with("seed", plan.seed)
            .with("evaluation", evaluation)
            .with("patience", patience)
            .with("rows of metrics", format!("every {} steps", plan.log_every))
            .with("device", device(model))
            .with("captured passes", if plan.graph { "yes" } else { "no" })
    }
}

/// An optimizer's constants without the numbers of parameters, which are given out anew by every process.
fn constants(options: &str) -> String {
    let mut pieces = options.split("ParamId(");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |all, rest| all + "ParamId" + rest.split_once(')').map_or(rest, |(_, r)| r))
}

/// A model's size, and a number that is another one for other paths, shapes or dtypes.
fn shapes(model: &dyn Parameters) -> String {
    let line = |(path, p): (String, &engine::Parameter)| {
        format!("{path} {} {}\n", p.value().shape(), p.value().dtype())
    };
    let all = model.parameters();
    let (tensors, numbers) = (all.len(), all.iter().map(|(_, p)| p.value().numel()).sum::<usize>());
    let lines: String = all.into_iter().map(line).collect();
    format!("{numbers} in {tensors} tensors ({})", crc32(lines.as_bytes()))
}

fn device(model: &dyn Parameters) -> Device {
    model.parameters().first().map_or(Device::Cpu, |(_, p)| p.value().device())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_setting_is_refused_by_name_and_a_free_one_is_let_pass() {
        let was = Settings::default().with("rate", 0.1).with("device", "cpu").with("data", "iris");
        let asked = was.clone().with("device", "cuda:0");
        was.accept(Path::new("a"), &asked, true).unwrap();
        let asked = asked.with("rate", 0.5).with("clipping", 1);
        let refused = was.accept(Path::new("a"), &asked, true).unwrap_err();
        let text = refused.to_string();
        assert!(text.contains("rate: 0.1 → 0.5; clipping: not said → 1"), "{text}");
        assert!(text.contains("--fresh") && text.contains("--out") && !text.contains("device"));
    }

    #[test]
    fn constants_are_the_same_in_another_process() {
        let options = |n: u32| format!("MuonConfig {{ rate: 0.1, auxiliary: {{ParamId({n})}} }}");
        assert_eq!(constants(&options(1)), constants(&options(22)));
        assert_eq!(constants("AdamConfig { rate: 0.1 }"), "AdamConfig { rate: 0.1 }");
    }

    #[test]
    fn another_budget_is_refused_where_the_schedule_is_stretched_over_it() {
        let (was, asked) =
            (Settings::default().with(BUDGET, 1), Settings::default().with(BUDGET, 2));
        assert!(was.accept(Path::new("a"), &asked, false).is_ok());
        let refused = was.accept(Path::new("a"), &asked, true).unwrap_err().to_string();
        assert!(refused.contains("--extend") && refused.contains("rates"), "{refused}");
    }
}
