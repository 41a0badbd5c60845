//! A factor: a second moment, or what is kept of it.

use std::borrow::Cow;
use std::ops::Range;

use engine::{Error, Result};

use crate::algebra::pattern::Pattern;

/// A symmetric positive semi-definite matrix of which some entries are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Factor<'a> {
    pattern: Pattern,
    values: Cow<'a, [f64]>,
}

impl<'a> Factor<'a> {
    /// A matrix from what is kept of it: its blocks one after another, each row-major, or its diagonal.
    ///
    /// # Errors
    /// [`Error::Argument`] when there are not as many numbers.
    pub fn new(pattern: Pattern, values: impl Into<Cow<'a, [f64]>>) -> Result<Self> {
        let values = values.into();
        if values.len() != pattern.numbers() {
            return Err(Error::Argument {
                op: "factor",
                name: "values",
                expected: "as many numbers as are kept: n² of a whole matrix",
                got: format!("{} for {pattern}", values.len()),
            });
        }
        Ok(Self { pattern, values })
    }

    /// A full matrix of n² numbers.
    ///
    /// # Errors
    /// As [`Factor::new`].
    pub fn full(n: usize, values: impl Into<Cow<'a, [f64]>>) -> Result<Self> {
        Self::new(Pattern::whole(n), values)
    }

    /// A diagonal matrix.
    #[must_use]
    pub fn diagonal(values: impl Into<Cow<'a, [f64]>>) -> Self {
        let values = values.into();
        Self { pattern: Pattern::Diagonal(values.len()), values }
    }

    /// What is kept of it.
    #[must_use]
    pub const fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// The numbers that are kept.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// n
    #[must_use]
    pub fn dim(&self) -> usize {
        self.pattern.size()
    }

    /// tr / n, the mean eigenvalue; 0 for an empty matrix.
    #[must_use]
    pub fn mean_eigenvalue(&self) -> f64 {
        let trace: f64 = match &self.pattern {
            Pattern::Diagonal(_) => self.values.iter().sum(),
            Pattern::Blocks(_) => {
                self.blocks().flat_map(|(n, block)| block.iter().step_by(n + 1)).sum()
            }
        };
        trace / self.dim().max(1) as f64
    }

    /// All n² numbers, with the zeros.
    #[must_use]
    pub fn to_matrix(&self) -> Vec<f64> {
        let n = self.dim();
        let mut matrix = vec![0.0; n * n];
        if let Pattern::Diagonal(_) = self.pattern {
            matrix.iter_mut().step_by(n + 1).zip(&*self.values).for_each(|(to, x)| *to = *x);
        }
        for (range, (size, block)) in self.pattern.ranges().iter().zip(self.blocks()) {
            for (i, row) in range.clone().zip(block.chunks_exact(size.max(1))) {
                matrix[i * n..][range.clone()].copy_from_slice(row);
            }
        }
        matrix
    }

    /// The rows and columns that are in a range.
    #[must_use]
    pub fn within(&self, columns: &Range<usize>) -> Factor<'static> {
        let pattern = self.pattern.within(columns);
        let values = match self.pattern {
            Pattern::Diagonal(_) => self.values[columns.clone()].to_vec(),
            Pattern::Blocks(_) => {
                let block = |(range, (size, block)): (Range<usize>, (usize, &[f64]))| {
                    let (start, end) = (range.start.max(columns.start), range.end.min(columns.end));
                    let kept = start.saturating_sub(range.start)..end.saturating_sub(range.start);
                    let kept = kept.start..kept.end.max(kept.start);
                    let row = |i: usize| block[i * size..][kept.clone()].to_vec();
                    kept.clone().flat_map(row).collect::<Vec<f64>>()
                };
                self.pattern.ranges().into_iter().zip(self.blocks()).flat_map(block).collect()
            }
        };
        Factor { pattern, values: Cow::Owned(values) }
    }

    /// Each block with its size; of a diagonal, none.
    pub(in crate::curvature) fn blocks(&self) -> impl Iterator<Item = (usize, &[f64])> {
        let mut rest = &*self.values;
        self.pattern.ranges().into_iter().map(move |range| {
            let (block, tail) = rest.split_at(range.len() * range.len());
            rest = tail;
            (range.len(), block)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_blocks_are_parts_of_the_matrix_written_out() {
        // [3 1; 1 2] and [1.5]
        let cut = Factor::new(Pattern::Blocks(vec![2, 1]), vec![3.0, 1.0, 1.0, 2.0, 1.5]).unwrap();
        let full = Factor::full(3, cut.to_matrix()).unwrap();
        assert_eq!(full.to_matrix(), [3.0, 1.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 1.5]);
        for columns in [0..3, 1..3, 0..1, 2..3, 1..2, 1..1] {
            let (cut, full) = (cut.within(&columns), full.within(&columns));
            assert_eq!(cut.to_matrix(), full.to_matrix(), "{columns:?}");
        }
        let diagonal = Factor::diagonal(vec![1.0, 2.0, 3.0]);
        assert_eq!(diagonal.within(&(1..3)).to_matrix(), [2.0, 0.0, 0.0, 3.0]);
    }
}
