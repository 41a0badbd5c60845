//! mean and variance: sums divided by counts.

use crate::Result;
use crate::tensor::{History, Tensor};

impl<H: History> Tensor<H> {
    /// The mean over the given axes, which disappear. Over no elements it is NaN.
    ///
    /// # Errors
    /// As [`Tensor::sum`].
    pub fn mean(&self, axes: &[isize]) -> Result<Self> {
        let sum = self.sum(axes)?;
        let count = self.numel() as f64 / sum.numel() as f64;
        sum.scale(1.0 / count)
    }

    /// The mean of all elements: a scalar.
    ///
    /// # Errors
    /// As [`Tensor::sum`].
    pub fn mean_all(&self) -> Result<Self> {
        self.sum_all()?.scale(1.0 / self.numel() as f64)
    }

    /// The variance over the given axes, which disappear: the mean of (x − mean)², divided by the
    /// count (not by one less).
    ///
    /// # Errors
    /// As [`Tensor::sum`].
    pub fn variance(&self, axes: &[isize]) -> Result<Self> {
        let kept = self.sum_keep(axes)?;
        let count = self.numel() as f64 / kept.numel() as f64;
        let centred = self.sub(&kept.scale(1.0 / count)?)?;
        centred.mul(&centred)?.mean(axes)
    }
}
