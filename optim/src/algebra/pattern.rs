//! The pattern of a factor: which of its n² entries are kept, the others being taken to be 0.
//!
//! ```text
//! whole      n²                        K-FAC
//! blocks     Σ b², with Σ b = n        inputs (or outputs) of one block are correlated, others are not
//! diagonal   n                         no two are
//! ```
//! A direction costs 2 m n (m + n) operations for a layer of m outputs and n inputs, an inverse n³. With
//! blocks of b they are 2 m n · 2b and n b², memory n b. Blocks of the factors: Chen et al. 2021, "THOR,
//! Trace-based Hardware-driven Layer-Oriented Natural Gradient Descent Computation"; for Shampoo: Anil et
//! al. 2020.

mod algebra;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use engine::Error;

/// The entries of a symmetric matrix that are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// Those of square blocks of these sizes along the diagonal.
    Blocks(Vec<usize>),
    /// The diagonal, so long.
    Diagonal(usize),
}

impl Pattern {
    /// All of an `[n, n]`.
    #[must_use]
    pub fn whole(n: usize) -> Self {
        Self::Blocks(vec![n])
    }

    /// Blocks of at most `longest` entries, as few as possible and nearly of one size. Runs of `unit`
    /// entries (the taps of a channel) are not cut, however long.
    ///
    /// # Example
    /// ```
    /// use alcyon_optim::curvature::Pattern;
    /// assert_eq!(Pattern::cut(10, 1, Some(4)), Pattern::Blocks(vec![4, 3, 3]));
    /// assert_eq!(Pattern::cut(18, 9, Some(4)), Pattern::Blocks(vec![9, 9]));
    /// assert_eq!(Pattern::cut(10, 1, None), Pattern::whole(10));
    /// ```
    #[must_use]
    pub fn cut(n: usize, unit: usize, longest: Option<usize>) -> Self {
        let units = n / unit.max(1);
        let most = longest.map_or(units, |longest| longest / unit.max(1)).max(1);
        let count = units.div_ceil(most).max(1);
        let size = |at: usize| unit * (units / count + usize::from(at < units % count));
        Self::Blocks((0..count).map(size).collect())
    }

    /// The same with one more entry, which goes with the last ones: the constant input of a bias.
    #[must_use]
    pub fn and_one(mut self) -> Self {
        match &mut self {
            Self::Blocks(sizes) => sizes.iter_mut().next_back().into_iter().for_each(|n| *n += 1),
            Self::Diagonal(n) => *n += 1,
        }
        self
    }

    /// n
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Blocks(sizes) => sizes.iter().sum(),
            Self::Diagonal(n) => *n,
        }
    }

    /// The numbers that are kept.
    #[must_use]
    pub fn numbers(&self) -> usize {
        match self {
            Self::Blocks(sizes) => sizes.iter().map(|n| n * n).sum(),
            Self::Diagonal(n) => *n,
        }
    }

    /// The entries of the longest block; 1 for a diagonal.
    #[must_use]
    pub fn longest(&self) -> usize {
        match self {
            Self::Blocks(sizes) => sizes.iter().copied().max().unwrap_or(0),
            Self::Diagonal(_) => 1,
        }
    }

    /// What coverage says of a side: `64`, `300 in 2 blocks`, `diagonal 50257`.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Diagonal(n) => format!("diagonal {n}"),
            Self::Blocks(sizes) if sizes.len() > 1 => {
                format!("{} in {} blocks", self.size(), sizes.len())
            }
            Self::Blocks(_) => self.size().to_string(),
        }
    }

    /// The rows and columns of each block; of a diagonal, none.
    #[must_use]
    pub fn ranges(&self) -> Vec<Range<usize>> {
        let Self::Blocks(sizes) = self else { return Vec::new() };
        let mut start = 0;
        let next = |&size: &usize| {
            start += size;
            start - size..start
        };
        sizes.iter().map(next).collect()
    }

    /// The pattern of some of the rows and columns.
    #[must_use]
    pub fn within(&self, columns: &Range<usize>) -> Self {
        match self {
            Self::Diagonal(_) => Self::Diagonal(columns.len()),
            Self::Blocks(_) => {
                let inside = |block: Range<usize>| {
                    block.end.min(columns.end).saturating_sub(block.start.max(columns.start))
                };
                let sizes = self.ranges().into_iter().map(inside).filter(|&size| size > 0);
                Self::Blocks(sizes.collect())
            }
        }
    }
}

/// In words and numbers that read back: `blocks 4 3 3`, `diagonal 10`.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Diagonal(n) => write!(f, "diagonal {n}"),
            Self::Blocks(sizes) => {
                f.write_str("blocks")?;
                sizes.iter().try_for_each(|size| write!(f, " {size}"))
            }
        }
    }
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (kind, sizes) = text.split_once(' ').unwrap_or((text, ""));
        let sizes: Result<Vec<usize>, _> = sizes.split_whitespace().map(str::parse).collect();
        match (kind, sizes.as_deref()) {
            ("diagonal", Ok([n])) => Ok(Self::Diagonal(*n)),
            ("blocks", Ok(sizes)) => Ok(Self::Blocks(sizes.to_vec())),
            _ => Err(Error::Unknown {
                what: "pattern of a factor",
                got: text.to_owned(),
                known: vec!["blocks 4 3 3".into(), "diagonal 10".into()],
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_every_entry_once_are_no_longer_than_asked_and_keep_runs_whole() {
        for n in 0..40 {
            for unit in [1, 3, 9] {
                let n = n * unit;
                for longest in 1..30 {
                    let cut = Pattern::cut(n, unit, Some(longest));
                    assert_eq!(cut.size(), n);
                    let ranges = cut.ranges();
                    assert_eq!(ranges.iter().map(Range::len).sum::<usize>(), n);
                    for range in ranges {
                        assert!(range.start.is_multiple_of(unit), "{range:?}");
                        assert!(range.len() <= longest.max(unit), "{range:?} for {longest}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_pattern_reads_back_and_a_part_of_it_is_a_pattern() {
        for pattern in [Pattern::Blocks(vec![4, 3, 3]), Pattern::Diagonal(10), Pattern::whole(0)] {
            assert_eq!(pattern.to_string().parse::<Pattern>().unwrap(), pattern);
        }
        let cut = Pattern::Blocks(vec![4, 3, 3]);
        assert_eq!(cut.within(&(0..9)), Pattern::Blocks(vec![4, 3, 2]));
        assert_eq!(cut.within(&(7..10)), Pattern::whole(3));
        assert_eq!(cut.clone().and_one(), Pattern::Blocks(vec![4, 3, 4]));
        assert_eq!((cut.numbers(), cut.size()), (16 + 9 + 9, 10));
        assert!("rows 3".parse::<Pattern>().is_err() && "diagonal x".parse::<Pattern>().is_err());
    }
}
