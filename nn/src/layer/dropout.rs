//! Some activations left out, at random, while training.

use engine::{Result, Var, parameters};

use crate::Module;

/// On a training tape, sets each entry to 0 with probability p and divides the others by 1 − p, so
/// that the expectation stays; elsewhere, the identity. Masks come from the tape's seed.
///
/// Srivastava et al. 2014, in the "inverted" form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// The probability of leaving an entry out, in 0 .. 1. One outside is refused by `forward`.
    pub p: f64,
}
parameters!(Dropout {});

impl Dropout {
    /// Dropout with probability `p`.
    #[must_use]
    pub const fn new(p: f64) -> Self {
        Self { p }
    }
}

impl Module for Dropout {
    fn forward(&self, x: &Var) -> Result<Var> {
        x.dropout(self.p)
    }
}

#[cfg(test)]
mod tests {
    use engine::{DType, Error, Tape, Tensor};

    use super::*;

    fn drop_ones(tape: &Tape, p: f64) -> Vec<f64> {
        let x = tape.input(Tensor::ones([10_000], DType::F64));
        Dropout::new(p).forward(&x).unwrap().to_f64_vec().unwrap()
    }

    #[test]
    fn a_quarter_is_dropped_and_the_rest_is_four_thirds() {
        let y = drop_ones(&Tape::training(3), 0.25);
        assert!(y.iter().all(|&y| y == 0.0 || (y - 4.0 / 3.0).abs() < 1e-12));
        let dropped = y.iter().filter(|&&y| y == 0.0).count() as f64 / 10_000.0;
        // Five standard errors of a share of 1/4 among 10,000.
        assert!((dropped - 0.25).abs() < 5.0 * (0.1875_f64 / 10_000.0).sqrt(), "{dropped}");
    }

    #[test]
    fn the_same_seed_drops_the_same_entries_and_evaluation_drops_none() {
        assert_eq!(drop_ones(&Tape::training(3), 0.5), drop_ones(&Tape::training(3), 0.5));
        assert_ne!(drop_ones(&Tape::training(3), 0.5), drop_ones(&Tape::training(4), 0.5));
        for tape in [Tape::new(), Tape::off()] {
            assert!(drop_ones(&tape, 0.5).iter().all(|&y| y == 1.0));
        }
        let refused = Dropout::new(1.0).predict(&Tensor::ones([1], DType::F32));
        assert!(matches!(refused, Err(Error::Argument { .. })));
    }
}
