//! Comparing numbers, and the table of verdicts.

use std::fmt;

use crate::document::{Array, Failure, Result, wrong};

/// How far a number may be from the golden one: `absolute + relative · |golden|`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tolerance {
    /// In units of the golden number.
    pub(crate) relative: f64,
    /// In units of the quantity.
    pub(crate) absolute: f64,
}

/// The comparison of many numbers with golden ones.
#[derive(Debug, Clone)]
pub(crate) struct Comparison {
    tolerance: Tolerance,
    values: usize,
    largest: f64,
    /// The largest difference in units of its tolerance; above 1 it is a mismatch.
    share: f64,
    /// Where that was, and the tolerance there.
    place: String,
    remark: Option<String>,
}

/// What became of one run of one file.
#[derive(Debug)]
pub(crate) struct Line {
    file: String,
    run: String,
    outcome: Result<Comparison>,
}

/// All lines.
#[derive(Debug, Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
}

impl Tolerance {
    /// The same bound for numbers of any size.
    pub(crate) const fn absolute(absolute: f64) -> Self {
        Self { relative: 0.0, absolute }
    }

    fn at(self, golden: f64) -> f64 {
        self.absolute + self.relative * golden.abs()
    }
}

impl Comparison {
    /// Nothing compared yet.
    pub(crate) const fn new(tolerance: Tolerance) -> Self {
        let place = String::new();
        Self { tolerance, values: 0, largest: 0.0, share: 0.0, place, remark: None }
    }

    /// Changes the tolerance for what follows.
    pub(crate) const fn within(&mut self, tolerance: Tolerance) -> &mut Self {
        self.tolerance = tolerance;
        self
    }

    /// Compares a list of numbers. `what` is only asked for a name where the worst one is.
    pub(crate) fn numbers(&mut self, what: &str, got: &[f64], golden: &[f64]) -> Result<()> {
        if got.len() != golden.len() {
            return wrong(format!("{what}: {} numbers instead of {}", got.len(), golden.len()));
        }
        for (i, (&got, &golden)) in got.iter().zip(golden).enumerate() {
            let difference = (got - golden).abs();
            let difference = if difference.is_nan() { f64::INFINITY } else { difference };
            let share = difference / self.tolerance.at(golden).max(f64::MIN_POSITIVE);
            self.largest = self.largest.max(difference);
            if share > self.share {
                self.share = share;
                self.place = format!("{what}[{i}]: {got:e}, golden {golden:e}");
            }
        }
        self.values += got.len();
        Ok(())
    }

    /// Compares one number.
    pub(crate) fn number(&mut self, what: &str, got: f64, golden: f64) -> Result<()> {
        self.numbers(what, &[got], &[golden])
    }

    /// Compares a tensor, its shape included.
    pub(crate) fn tensor(
        &mut self,
        what: &str,
        got: &engine::Tensor,
        golden: &Array,
    ) -> Result<()> {
        if got.shape().to_vec() != golden.shape {
            return wrong(format!("{what}: {} instead of {:?}", got.shape(), golden.shape));
        }
        self.numbers(what, &got.to_f64_vec()?, &golden.data)
    }

    /// Says something beside the verdict.
    pub(crate) fn remark(&mut self, remark: impl Into<String>) {
        self.remark = Some(remark.into());
    }

    /// Whether everything was within its tolerance, and there was something.
    pub(crate) fn agrees(&self) -> bool {
        self.share <= 1.0 && self.values > 0
    }
}

impl Line {
    /// A line of the report.
    pub(crate) fn new(file: &str, run: &str, outcome: Result<Comparison>) -> Self {
        Self { file: file.into(), run: run.into(), outcome }
    }

    /// Whether the test may pass: a part that is not implemented yet is no mismatch.
    pub(crate) fn passes(&self) -> bool {
        match &self.outcome {
            Ok(comparison) => comparison.agrees(),
            Err(Failure::NotYet(_)) => true,
            Err(Failure::Wrong(_)) => false,
        }
    }

    /// Whether numbers were compared, and agree.
    pub(crate) fn agrees(&self) -> bool {
        self.outcome.as_ref().is_ok_and(Comparison::agrees)
    }
}

impl Report {
    /// Adds the lines of a file.
    pub(crate) fn extend(&mut self, lines: Vec<Line>) {
        self.lines.extend(lines);
    }

    /// The lines that a person has to look at.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.lines.iter().filter(|line| !line.passes()).map(ToString::to_string).collect()
    }

    /// The number of lines on which numbers were compared and agree.
    pub(crate) fn agreeing(&self) -> usize {
        self.lines.iter().filter(|line| line.agrees()).count()
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<24} {:<32} ", self.file, self.run)?;
        let comparison = match &self.outcome {
            Ok(comparison) => comparison,
            Err(Failure::NotYet(name)) => return write!(f, "not implemented yet: {name}"),
            Err(Failure::Wrong(reason)) => return write!(f, "FAILED: {reason}"),
        };
        let Comparison { tolerance, values, largest, share, place, remark } = comparison;
        let bound = match tolerance {
            Tolerance { relative: 0.0, absolute } => format!("{absolute:.0e}"),
            Tolerance { relative, absolute: 0.0 } => format!("{relative:.0e} rel"),
            Tolerance { relative, absolute } => format!("{absolute:.0e} + {relative:.0e} rel"),
        };
        write!(f, "{values:>7} {largest:>9.1e}  {bound:<17} {:>8.4} %  ", 100.0 * share)?;
        match (comparison.agrees(), remark) {
            (true, None) => write!(f, "ok"),
            (true, Some(remark)) => write!(f, "ok ({remark})"),
            (false, _) if *values == 0 => write!(f, "MISMATCH: nothing was compared"),
            (false, _) => write!(f, "MISMATCH at {place}"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (values, largest, tolerance) = ("numbers", "largest Δ", "tolerance");
        let head = format!("{values:>7} {largest:>9}  {tolerance:<17} {:>10}", "used");
        writeln!(f, "{:<24} {:<32} {head}  verdict", "file", "run")?;
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        let (agreeing, all) = (self.agreeing(), self.lines.len());
        let failed = self.lines.iter().filter(|line| !line.passes()).count();
        let missing = all - agreeing - failed;
        write!(f, "{agreeing} agree, {failed} fail, {missing} not implemented yet")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(got: f64, golden: f64, tolerance: Tolerance) -> Line {
        let mut comparison = Comparison::new(tolerance);
        comparison.number("x", got, golden).unwrap();
        Line::new("file", "run", Ok(comparison))
    }

    #[test]
    fn a_difference_above_the_tolerance_fails_and_one_below_passes() {
        let tolerance = Tolerance { relative: 1e-3, absolute: 1e-6 };
        assert!(compared(1000.9, 1000.0, tolerance).passes());
        assert!(!compared(1001.1, 1000.0, tolerance).passes());
        assert!(!compared(2e-6, 0.0, tolerance).passes());
        assert!(compared(0.0, 0.0, Tolerance::absolute(0.0)).passes());
    }

    #[test]
    fn what_is_not_a_number_or_not_compared_never_agrees() {
        let tolerance = Tolerance::absolute(1.0);
        assert!(!compared(f64::NAN, 0.0, tolerance).passes());
        assert!(!Line::new("file", "run", Ok(Comparison::new(tolerance))).passes());
        assert!(Comparison::new(tolerance).numbers("x", &[1.0], &[]).is_err());
    }

    #[test]
    fn a_missing_part_is_not_a_failure_and_not_an_agreement() {
        let line = Line::new("file", "run", Err(Failure::NotYet("soap".into())));
        assert!(line.passes() && !line.agrees());
        assert!(line.to_string().contains("not implemented yet: soap"));
    }
}
