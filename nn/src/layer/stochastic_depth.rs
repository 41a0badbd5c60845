//! A branch left out, at random, for whole examples while training.

use engine::{Result, Tensor, Var, parameters};

use crate::Module;

/// On a training tape, sets all of an example to 0 with probability p and divides the others by 1 − p;
/// elsewhere, the identity. It stands at the end of a residual branch, x + depth(f(x)), and is also
/// called drop path.
///
/// # Shape
/// x: `[N, ..]` · result: as x
///
/// # Source
/// Huang et al. 2016, "Deep Networks with Stochastic Depth", in the inverted form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StochasticDepth {
    /// The probability of leaving an example out, in 0 .. 1. One outside is refused by `forward`.
    pub p: f64,
}
parameters!(StochasticDepth {});

impl StochasticDepth {
    /// Stochastic depth with probability `p`.
    #[must_use]
    pub const fn new(p: f64) -> Self {
        Self { p }
    }

    /// The probability for block `i` of `blocks`: from 0 at the first to `last` at the last, in equal
    /// steps.
    #[must_use]
    pub fn growing(last: f64, i: usize, blocks: usize) -> Self {
        Self::new(last * i as f64 / (blocks.max(2) - 1) as f64)
    }
}

impl Module for StochasticDepth {
    fn forward(&self, x: &Var) -> Result<Var> {
        let tape = x.tape()?;
        if !tape.is_training() || self.p == 0.0 || x.rank() == 0 {
            return x.dropout(self.p);
        }
        let mut one_each = *x.shape();
        for axis in 1..x.rank() {
            one_each = one_each.with(axis, 1);
        }
        let ones = Tensor::full_on(x.device(), one_each, 1.0, x.dtype())?;
        x.mul(&tape.input(ones).dropout(self.p)?)
    }
}

#[cfg(test)]
mod tests {
    use engine::{DType, Error, Tape};

    use super::*;

    #[test]
    fn an_example_is_left_out_whole_or_scaled_whole_and_the_mean_stays() {
        let x = Tensor::ones([4000, 3], DType::F64);
        let layer = StochasticDepth::new(0.2);
        let y =
            layer.forward(&Tape::training(5).input(x.clone())).unwrap().to_vec::<f64>().unwrap();
        assert!(y.chunks(3).all(|row| row == [0.0; 3] || row == [1.25; 3]));
        let kept = y.iter().filter(|&&v| v > 0.0).count() as f64 / y.len() as f64;
        // Five standard errors of a share of 0.8 among 4,000.
        assert!((kept - 0.8).abs() < 5.0 * (0.8 * 0.2 / 4000.0_f64).sqrt(), "{kept}");
        assert_eq!(layer.predict(&x).unwrap().to_vec::<f64>().unwrap(), x.to_vec::<f64>().unwrap());
    }

    #[test]
    fn probabilities_grow_evenly_and_those_outside_are_refused() {
        let p: Vec<f64> = (0..3).map(|i| StochasticDepth::growing(0.2, i, 3).p).collect();
        assert_eq!(p, [0.0, 0.1, 0.2]);
        assert_eq!(StochasticDepth::growing(0.2, 0, 1).p, 0.0);
        let tape = Tape::training(0);
        let x = tape.input(Tensor::ones([2, 1], DType::F32));
        let refused = StochasticDepth::new(1.5).forward(&x);
        assert!(matches!(refused, Err(Error::Argument { .. })));
    }
}
