//! `LongSides`: how much of a matrix by a side is kept. One rule for every optimizer that keeps such a matrix.
//!
//! ```text
//! n ≤ block              n²      the whole matrix
//! block < n ≤ longest    Σ b²    square blocks of at most `block` along the diagonal
//! longest < n            n       the diagonal
//! ```
//! A preconditioner of a side of n costs n² numbers and n³ operations; a table of 50,257 words has such a side.
//! What becomes of a long one is the literature's: blocks (Anil et al. 2020 for Shampoo, Chen et al. 2021 for
//! K-FAC), a diagonal (the programs of PSGD and SINGD), or no rotation (SOAP, SPlus), which is a diagonal
//! matrix of eigenvectors. An optimizer asks [`LongSides::of`], keeps that [`Pattern`], and says it in its
//! coverage.

use engine::{Error, Result};

use super::pattern::Pattern;

/// The rule. `Default` keeps sides of at most 2,048 whole, and of longer ones the diagonal.
///
/// # Example
/// ```
/// use alcyon_optim::LongSides;
/// use alcyon_optim::curvature::Pattern;
/// assert_eq!(LongSides::default().of(2048), Pattern::whole(2048));
/// assert_eq!(LongSides::default().of(50_257), Pattern::Diagonal(50_257));
/// assert_eq!(LongSides::blocks(4).of(10), Pattern::Blocks(vec![4, 3, 3]));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongSides {
    /// The longest side that is one matrix, and the longest block of a longer side.
    pub block: usize,
    /// The longest side that is kept in blocks; longer ones keep their diagonal.
    pub longest: usize,
}

impl Default for LongSides {
    fn default() -> Self {
        Self::diagonal_beyond(Self::LONGEST)
    }
}

impl LongSides {
    /// The longest side that is kept by default: 32 MiB of f64, and an eigendecomposition of seconds.
    pub const LONGEST: usize = 2048;

    /// Every side whole, however long.
    #[must_use]
    pub const fn whole() -> Self {
        Self { block: usize::MAX, longest: usize::MAX }
    }

    /// Blocks of at most so many entries, however long the side.
    #[must_use]
    pub const fn blocks(block: usize) -> Self {
        Self { block, longest: usize::MAX }
    }

    /// The diagonal of sides longer than this, all of others.
    #[must_use]
    pub const fn diagonal_beyond(longest: usize) -> Self {
        Self { block: longest, longest }
    }

    /// The diagonal of every side.
    #[must_use]
    pub const fn diagonal() -> Self {
        Self::diagonal_beyond(0)
    }

    /// What is kept along a side of n.
    #[must_use]
    pub fn of(self, n: usize) -> Pattern {
        self.of_runs(n, 1)
    }

    /// The same where runs of `unit` entries (the taps of a channel) are not cut ([`Pattern::cut`]).
    #[must_use]
    pub fn of_runs(self, n: usize, unit: usize) -> Pattern {
        if n > self.longest {
            return Pattern::Diagonal(n);
        }
        Pattern::cut(n, unit, (n > self.block).then_some(self.block))
    }

    /// Refuses blocks of nothing.
    pub(crate) fn check(self, op: &'static str) -> Result<()> {
        if self.block > 0 || self.longest == 0 {
            return Ok(());
        }
        let (name, expected) = ("sides.block", "positive, or `longest` 0 for diagonals");
        Err(Error::Argument { op, name, expected, got: self.block.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_whole_up_to_a_block_in_blocks_up_to_the_longest_and_then_a_diagonal() {
        let sides = LongSides { block: 4, longest: 8 };
        assert_eq!(sides.of(4), Pattern::whole(4));
        assert_eq!(sides.of(5), Pattern::Blocks(vec![3, 2]));
        assert_eq!(sides.of(8), Pattern::Blocks(vec![4, 4]));
        assert_eq!(sides.of(9), Pattern::Diagonal(9));
        assert_eq!(sides.of_runs(6, 6), Pattern::whole(6), "one channel's taps stay together");
        assert_eq!(LongSides::whole().of(1 << 40), Pattern::whole(1 << 40));
        assert_eq!(LongSides::diagonal().of(1), Pattern::Diagonal(1));
    }

    #[test]
    fn blocks_of_nothing_are_refused_and_diagonals_are_not() {
        let refused = LongSides::blocks(0).check("kfac");
        assert!(matches!(refused, Err(Error::Argument { name: "sides.block", .. })));
        assert!(LongSides::diagonal().check("kfac").is_ok());
    }
}
