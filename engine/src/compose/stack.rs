//! stack: tensors of one shape along a new axis.

use crate::tensor::{History, Tensor};
use crate::{Error, Result, Shape};

impl<H: History> Tensor<H> {
    /// The tensors side by side along a new axis, which will be number `axis` of the result
    /// (negative: from its end).
    ///
    /// # Shape
    /// k tensors `[a, b]`, axis 1 · result: `[a, k, b]`
    ///
    /// # Errors
    /// [`Error::Shape`] when there are none, or their shapes differ; [`Error::Axis`] when the
    /// result has no such axis.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let a = Tensor::from_slice(&[1.0_f64, 2.0], [2])?;
    /// let b = Tensor::from_slice(&[3.0_f64, 4.0], [2])?;
    /// assert_eq!(Tensor::stack(&[&a, &b], 0)?.to_vec::<f64>()?, [1.0, 2.0, 3.0, 4.0]);
    /// assert_eq!(Tensor::stack(&[&a, &b], 1)?.to_vec::<f64>()?, [1.0, 3.0, 2.0, 4.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn stack(tensors: &[&Self], axis: isize) -> Result<Self> {
        let shapes: Vec<&Shape> = tensors.iter().map(|t| t.shape()).collect();
        let Some(&&first) = shapes.first() else {
            return Err(Error::shape("stack", "at least one tensor", &[]));
        };
        if shapes.iter().any(|&&s| s != first) {
            return Err(Error::shape("stack", "equal shapes", &shapes));
        }
        let mut dims = first.to_vec();
        dims.push(1);
        let position = Shape::new(&dims)?.axis("stack", axis)?;
        dims.rotate_right(1);
        dims[..=position].rotate_left(1);
        let shape = Shape::new(&dims)?;
        let parts: Vec<Self> = tensors.iter().map(|t| t.reshape(shape)).collect::<Result<_>>()?;
        Self::concat(&parts.iter().collect::<Vec<_>>(), position as isize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::sample_input;

    #[test]
    fn the_new_axis_is_where_it_was_asked_for_and_narrowing_it_gives_the_parts_back() {
        let (a, b) = (sample_input([2, 3]), sample_input([2, 3]).neg().unwrap());
        for (axis, want) in [(0, [2, 2, 3]), (1, [2, 2, 3]), (2, [2, 3, 2]), (-1, [2, 3, 2])] {
            let both = Tensor::stack(&[&a, &b], axis).unwrap();
            assert_eq!(*both.shape(), Shape::from(want));
            for (i, part) in [&a, &b].into_iter().enumerate() {
                let got = both.narrow(axis, i, 1).unwrap().to_vec::<f64>().unwrap();
                assert_eq!(got, part.to_vec::<f64>().unwrap());
            }
        }
    }

    #[test]
    fn what_cannot_be_stacked_is_a_typed_error() {
        let (a, b) = (sample_input([2]), sample_input([3]));
        assert!(matches!(Tensor::stack(&[&a, &b], 0), Err(Error::Shape { op: "stack", .. })));
        assert!(matches!(Tensor::stack(&[&a, &a], 2), Err(Error::Axis { axis: 2, rank: 2, .. })));
        assert!(matches!(<Tensor>::stack(&[], 0), Err(Error::Shape { op: "stack", .. })));
    }
}
