//! min and argmin: max and argmax of −x.

use crate::Result;
use crate::tensor::{History, Tensor};

impl<H: History> Tensor<H> {
    /// The smallest element along an axis, which disappears. A NaN is smaller than every number.
    /// The gradient goes to the first of equal minima.
    ///
    /// # Errors
    /// As [`Tensor::max`].
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[1.0_f64, 7.0, 5.0, 2.0], [2, 2])?;
    /// assert_eq!(x.min(1)?.to_vec::<f64>()?, [1.0, 2.0]);
    /// assert_eq!(x.argmin(1)?.to_vec::<i64>()?, [0, 1]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn min(&self, axis: isize) -> Result<Self> {
        self.neg()?.max(axis)?.neg()
    }

    /// The same, but the axis stays with size 1.
    ///
    /// # Errors
    /// As [`Tensor::max`].
    pub fn min_keep(&self, axis: isize) -> Result<Self> {
        self.neg()?.max_keep(axis)?.neg()
    }

    /// The position (i64) of the smallest element along an axis, which disappears; that of the
    /// first of equal ones, or of the first NaN.
    ///
    /// # Errors
    /// As [`Tensor::argmax`].
    pub fn argmin(&self, axis: isize) -> Result<Self> {
        self.neg()?.argmax(axis)
    }
}
