//! clamp: y = min(max(x, low), high).   dy/dx = 1 for low ≤ x ≤ high, else 0.

use super::elementwise::{self, Elementwise};
use crate::op::Keeps;
use crate::tensor::{History, Tensor};
use crate::{Error, FloatElement, OpSpec, Result};

#[derive(Debug, Clone, Copy)]
struct Clamp {
    low: f64,
    high: f64,
}

impl<H: History> Tensor<H> {
    /// Every element, but at least `low` and at most `high` (either may be infinite). NaN stays
    /// NaN.   dy/dx = 1 for low ≤ x ≤ high, else 0.
    ///
    /// # Errors
    /// [`Error::Argument`] unless low ≤ high; [`Error::DType`] when the tensor is not floating
    /// point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[-3.0_f64, 0.5, 3.0], [3])?;
    /// assert_eq!(x.clamp(-1.0, 1.0)?.to_vec::<f64>()?, [-1.0, 0.5, 1.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn clamp(&self, low: f64, high: f64) -> Result<Self> {
        // Not `low > high`: a NaN is refused too.
        if low <= high {
            return elementwise::apply(Clamp { low, high }, self);
        }
        let got = format!("{low} and {high}");
        Err(Error::Argument { op: "clamp", name: "low, high", expected: "low ≤ high", got })
    }
}

impl Elementwise for Clamp {
    const NAME: &'static str = "clamp";
    const KEEPS: Keeps = Keeps::INPUTS;
    const CUDA: [&'static str; 3] = ["x < c0 ? c0 : x > c1 ? c1 : x", "x < c0 || x > c1 ? T(0) : T(1)", "T(0)"];

    fn constants(self) -> [f64; 2] {
        [self.low, self.high]
    }
    fn f<T: FloatElement>(self, x: T) -> T {
        // Not `max` and `min`: a NaN must stay one.
        let (low, high) = (T::of(self.low), T::of(self.high));
        if x < low {
            low
        } else if x > high {
            high
        } else {
            x
        }
    }
    fn df<T: FloatElement>(self, x: T, _y: T) -> T {
        if x < T::of(self.low) || x > T::of(self.high) { T::ZERO } else { T::ONE }
    }
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "clamp", samples: || elementwise::samples(|x| x.clamp(-0.75, 1.25)) };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_stays_nan_and_bounds_out_of_order_are_refused() {
        let x = Tensor::from_slice(&[f64::NAN, f64::INFINITY], [2]).unwrap();
        let y = x.clamp(f64::NEG_INFINITY, 2.0).unwrap().to_vec::<f64>().unwrap();
        assert!(y[0].is_nan() && y[1] == 2.0);
        for (low, high) in [(1.0, 0.0), (f64::NAN, 0.0), (0.0, f64::NAN)] {
            assert!(matches!(x.clamp(low, high), Err(Error::Argument { op: "clamp", .. })));
        }
    }
}
