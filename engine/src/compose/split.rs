//! split and chunk: a tensor cut along an axis; views.

use crate::tensor::{History, Tensor};
use crate::{Error, Result, room};

impl<H: History> Tensor<H> {
    /// The tensor cut along an axis into parts of the given sizes, one after another.
    ///
    /// # Errors
    /// [`Error::Argument`] when the sizes do not add up to the axis's; [`Error::Axis`] when there
    /// is no such axis.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[1.0_f64, 2.0, 3.0], [3])?;
    /// let parts = x.split(&[1, 2], 0)?;
    /// assert_eq!(parts[1].to_vec::<f64>()?, [2.0, 3.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn split(&self, sizes: &[usize], axis: isize) -> Result<Vec<Self>> {
        let size = self.shape()[self.shape().axis("split", axis)?];
        let total = sizes.iter().try_fold(0_usize, |sum, &size| sum.checked_add(size));
        if total != Some(size) {
            let got = format!("{sizes:?} for an axis of size {size}");
            let expected = "sizes that add up to the axis's";
            return Err(Error::Argument { op: "split", name: "sizes", expected, got });
        }
        let mut start = 0;
        let next = |&len: &usize| {
            start += len;
            self.narrow(axis, start - len, len)
        };
        sizes.iter().map(next).collect()
    }

    /// The tensor cut along an axis into `count` parts of equal size.
    ///
    /// # Errors
    /// [`Error::Argument`] when the axis's size is not a multiple of `count`; [`Error::Axis`] when
    /// there is no such axis; [`Error::OutOfMemory`] for more parts of nothing than memory has room for.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[1.0_f64, 2.0, 3.0, 4.0], [2, 2])?;
    /// let columns = x.chunk(2, 1)?;
    /// assert_eq!(columns[1].to_vec::<f64>()?, [2.0, 4.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn chunk(&self, count: usize, axis: isize) -> Result<Vec<Self>> {
        let size = self.shape()[self.shape().axis("chunk", axis)?];
        if count == 0 || !size.is_multiple_of(count) {
            let got = format!("{count} for an axis of size {size}");
            let expected = "a divisor of the axis's size";
            return Err(Error::Argument { op: "chunk", name: "count", expected, got });
        }
        // Of no entries there can be any number of parts.
        room::expect("chunk", count.saturating_mul(size_of::<Self>()))?;
        let each = size / count;
        (0..count).map(|i| self.narrow(axis, i * each, each)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::sample_input;

    #[test]
    fn the_parts_joined_are_the_whole() {
        let x = sample_input([2, 6, 3]);
        let parts = [x.chunk(3, 1).unwrap(), x.split(&[0, 5, 1], 1).unwrap()];
        for parts in parts {
            let whole = Tensor::concat(&parts.iter().collect::<Vec<_>>(), 1).unwrap();
            assert_eq!(whole.to_vec::<f64>().unwrap(), x.to_vec::<f64>().unwrap());
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_a_typed_error() {
        let x = sample_input([5]);
        for wrong in [x.split(&[2, 2], 0), x.split(&[usize::MAX, 6], 0)] {
            assert!(matches!(wrong, Err(Error::Argument { op: "split", .. })));
        }
        for count in [0, 2] {
            assert!(matches!(x.chunk(count, 0), Err(Error::Argument { op: "chunk", .. })));
        }
    }

    #[test]
    fn an_axis_of_no_entries_is_cut_into_as_many_parts_as_memory_holds_and_no_more() {
        let x = sample_input([0, 2]);
        assert_eq!(x.chunk(3, 0).unwrap().len(), 3);
        for count in [1 << 45, usize::MAX] {
            assert!(matches!(x.chunk(count, 0), Err(Error::OutOfMemory { op: "chunk", .. })));
        }
    }
}
