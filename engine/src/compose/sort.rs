//! sort and topk: the elements at the places that argsort names.

use crate::tensor::{History, Tensor};
use crate::{Error, Result};

impl<H: History> Tensor<H> {
    /// The elements of each row along an axis in order, and where they came from (i64): the smallest
    /// first, or the largest. Equal ones keep their order; NaN counts as the largest.
    ///
    /// # Errors
    /// As [`Tensor::argsort`].
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[2.0_f64, 3.0, 1.0], [3])?;
    /// let (sorted, from) = x.sort(0, false)?;
    /// assert_eq!(sorted.to_vec::<f64>()?, [1.0, 2.0, 3.0]);
    /// assert_eq!(from.to_vec::<i64>()?, [2, 0, 1]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn sort(&self, axis: isize, descending: bool) -> Result<(Self, Self)> {
        let order = self.argsort(axis, descending)?;
        Ok((self.take_along(axis, &order)?, order))
    }

    /// The `k` largest elements of each row along an axis, the largest first, and where they came from
    /// (i64).
    ///
    /// # Errors
    /// [`Error::Argument`] when the axis has fewer than k; else as [`Tensor::argsort`].
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[2.0_f64, 3.0, 1.0], [3])?;
    /// let (largest, from) = x.topk(2, 0)?;
    /// assert_eq!(largest.to_vec::<f64>()?, [3.0, 2.0]);
    /// assert_eq!(from.to_vec::<i64>()?, [1, 0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn topk(&self, k: usize, axis: isize) -> Result<(Self, Self)> {
        let size = self.shape()[self.shape().axis("topk", axis)?];
        if k > size {
            let got = format!("{k} for an axis of size {size}");
            let expected = "at most the axis's size";
            return Err(Error::Argument { op: "topk", name: "k", expected, got });
        }
        let first = self.argsort(axis, true)?.narrow(axis, 0, k)?;
        Ok((self.take_along(axis, &first)?, first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::sample_input;
    use crate::{Tape, gradcheck};

    #[test]
    fn sorted_rows_ascend_and_hold_the_same_numbers() {
        let x = sample_input([3, 5, 2]);
        for (axis, size) in [(0, 3), (1, 5), (-1, 2)] {
            let (sorted, _) = x.sort(axis, false).unwrap();
            for i in 1..size {
                let [a, b] = [i - 1, i].map(|i| sorted.narrow(axis, i, 1).unwrap());
                let gaps = b.sub(&a).unwrap().to_f64_vec().unwrap();
                assert!(gaps.iter().all(|gap| *gap >= 0.0));
            }
            let total = |x: &Tensor| x.sum(&[axis]).unwrap().to_f64_vec().unwrap();
            for (a, b) in total(&sorted).iter().zip(total(&x)) {
                assert!((a - b).abs() < 1e-14);
            }
        }
    }

    #[test]
    fn the_gradient_goes_back_to_where_an_element_came_from() {
        let tape = Tape::new();
        let x = tape.watch(Tensor::from_slice(&[1.0_f64, 9.0, 5.0], [3]).unwrap());
        let (largest, _) = x.topk(2, 0).unwrap();
        let grads = tape.backward(&largest.narrow(0, 1, 1).unwrap().sum_all().unwrap()).unwrap();
        assert_eq!(grads.of_var(&x).unwrap().to_vec::<f64>().unwrap(), [0.0, 0.0, 1.0]);
        let check = gradcheck::second_order(&[sample_input([2, 4])], |x| {
            x[0].sort(1, true)?.0.square()?.mul(&x[0].topk(1, 1)?.0)
        });
        assert!(check.unwrap().error < 1e-7);
    }

    #[test]
    fn more_than_there_are_is_a_typed_error() {
        let x = sample_input([2, 3]);
        assert!(matches!(x.topk(4, 1), Err(Error::Argument { op: "topk", name: "k", .. })));
        assert!(matches!(x.topk(1, 2), Err(Error::Axis { op: "topk", .. })));
        assert!(matches!(x.sort(2, true), Err(Error::Axis { op: "argsort", .. })));
        assert_eq!(x.topk(0, 1).unwrap().0.numel(), 0);
    }
}
