//! roll and flip: the entries of axes moved around, or in reverse.

use crate::tensor::{History, Tensor};
use crate::{DType, Error, Result};

impl<H: History> Tensor<H> {
    /// Entries moved along axes; what leaves at one end comes in at the other. Entry `i` of the result
    /// is entry `i − shift` of this tensor's. (Swin's shifted windows.)
    ///
    /// # Errors
    /// [`Error::Argument`] unless there is a shift for every axis; [`Error::Axis`] when there is no
    /// such axis.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[1.0_f64, 2.0, 3.0, 4.0], [4])?;
    /// assert_eq!(x.roll(&[1], &[0])?.to_vec::<f64>()?, [4.0, 1.0, 2.0, 3.0]);
    /// assert_eq!(x.roll(&[-6], &[0])?.to_vec::<f64>()?, [3.0, 4.0, 1.0, 2.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn roll(&self, shifts: &[isize], axes: &[isize]) -> Result<Self> {
        if shifts.len() != axes.len() {
            let got = format!("{} shifts for {} axes", shifts.len(), axes.len());
            let expected = "as many as axes";
            return Err(Error::Argument { op: "roll", name: "shifts", expected, got });
        }
        let mut rolled = self.clone();
        for (&shift, &axis) in shifts.iter().zip(axes) {
            let size = rolled.shape()[rolled.shape().axis("roll", axis)?];
            let shift = shift.rem_euclid(size.max(1) as isize) as usize;
            if shift > 0 {
                let last = rolled.narrow(axis, size - shift, shift)?;
                rolled = Self::concat(&[&last, &rolled.narrow(axis, 0, size - shift)?], axis)?;
            }
        }
        Ok(rolled)
    }

    /// The entries of axes in reverse.
    ///
    /// # Errors
    /// [`Error::Axis`] when there is no such axis; [`Error::DType`] when the tensor is not floating
    /// point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[1.0_f64, 2.0, 3.0], [3])?;
    /// assert_eq!(x.flip(&[0])?.to_vec::<f64>()?, [3.0, 2.0, 1.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn flip(&self, axes: &[isize]) -> Result<Self> {
        let mut flipped = self.clone();
        for &axis in axes {
            let size = flipped.shape()[flipped.shape().axis("flip", axis)?];
            let index = Tensor::from_fn([size], DType::I64, |i| (size - 1 - i) as f64);
            flipped = flipped.gather(axis, &self.beside(&index)?)?;
        }
        Ok(flipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck;
    use crate::op::sample_input;

    fn values(x: Result<Tensor>) -> Vec<f64> {
        x.unwrap().to_f64_vec().unwrap()
    }

    #[test]
    fn a_roll_and_its_opposite_and_two_flips_change_nothing() {
        let x = sample_input([2, 3, 4]);
        let (there, whole) = (x.roll(&[2, -5], &[-1, 1]).unwrap(), x.to_vec::<f64>().unwrap());
        assert_ne!(there.to_vec::<f64>().unwrap(), whole);
        assert_eq!(values(there.roll(&[-2, 5], &[2, 1])), whole);
        assert_eq!(values(x.flip(&[0, 2]).unwrap().flip(&[2, 0])), whole);
        let index = Tensor::arange(3, DType::I64);
        assert_eq!(values(index.roll(&[1], &[0])), [2.0, 0.0, 1.0]);
        assert_eq!(values(sample_input([0, 2]).roll(&[1], &[0])), []);
    }

    #[test]
    fn their_gradients_agree_with_finite_differences() {
        let check = gradcheck::second_order(&[sample_input([2, 3])], |x| {
            x[0].roll(&[1, 2], &[0, 1])?.mul(&x[0].flip(&[1])?)
        });
        assert!(check.unwrap().error < 1e-7);
    }

    #[test]
    fn what_does_not_fit_is_a_typed_error() {
        let x = sample_input([2, 3]);
        assert!(matches!(x.roll(&[1], &[0, 1]), Err(Error::Argument { op: "roll", .. })));
        assert!(matches!(x.roll(&[1], &[2]), Err(Error::Axis { op: "roll", .. })));
        assert!(matches!(x.flip(&[-3]), Err(Error::Axis { op: "flip", .. })));
    }
}
