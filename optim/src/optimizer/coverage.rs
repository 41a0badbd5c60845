//! `Coverage`: what each parameter gets, and what it costs. Nothing is ignored in silence.

use std::fmt;

use engine::{Parameter, Parameters, Shape};

/// One parameter's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its path in the model.
    pub param: String,
    /// Its shape.
    pub shape: Shape,
    /// The rule it gets, in a few words: "diagonal Kronecker, dense", "identity (fallback)".
    pub rule: String,
    /// Bytes of optimizer state kept for it.
    pub state_bytes: usize,
}

/// A table of every parameter of a model: the rule it gets and the bytes of state it costs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// In the order of the model's parameters.
    pub lines: Vec<Line>,
}

impl Coverage {
    /// A table from the rule of each trainable parameter and the bytes kept for each.
    pub(crate) fn of(
        model: &dyn Parameters,
        rule: impl Fn(&Parameter) -> String,
        bytes: impl Fn(&Parameter) -> usize,
    ) -> Self {
        let line = |(param, p): (String, &Parameter)| Line {
            param,
            shape: *p.value().shape(),
            rule: if p.is_trainable() { rule(p) } else { "frozen".into() },
            state_bytes: bytes(p),
        };
        Self { lines: model.parameters().into_iter().map(line).collect() }
    }

    /// Bytes of state over all parameters.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        self.lines.iter().map(|line| line.state_bytes).sum()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["parameter", "shape", "rule", "state bytes"].map(str::to_owned);
        let mut rows = vec![head];
        for line in &self.lines {
            rows.push([
                line.param.clone(),
                line.shape.to_string(),
                line.rule.clone(),
                line.state_bytes.to_string(),
            ]);
        }
        let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
        let [a, b, c, d] = [width(0), width(1), width(2), width(3)];
        for [param, shape, rule, bytes] in &rows {
            writeln!(f, "{param:<a$}  {shape:<b$}  {rule:<c$}  {bytes:>d$}")?;
        }
        write!(f, "{} bytes of state", self.state_bytes())
    }
}
