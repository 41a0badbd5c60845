//! pad: an axis made longer at both ends.

use crate::tensor::{History, Tensor};
use crate::{DType, Error, Result};

/// What stands where there was nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Padding {
    /// This number.
    Constant(f64),
    /// The mirror image of what is inside, without the edge itself: c b | a b c | b a.
    Reflect,
    /// The edge, repeated: a a | a b c | c c.
    Edge,
}

impl<H: History> Tensor<H> {
    /// An axis with `before` and `after` more entries at its ends. To pad several, chain the calls.
    ///
    /// # Shape
    /// `[.., n, ..]` → `[.., before + n + after, ..]`
    ///
    /// # Errors
    /// [`Error::Axis`] when there is no such axis; [`Error::Argument`] when reflection asks for more
    /// than n − 1 entries, an edge for any of an empty axis; [`Error::DType`] for [`Padding::Reflect`]
    /// and [`Padding::Edge`] of integers.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{Tensor, compose::Padding};
    /// let x = Tensor::from_slice(&[1.0_f64, 2.0, 3.0], [3])?;
    /// let padded = |with| x.pad(0, 2, 1, with)?.to_vec::<f64>();
    /// assert_eq!(padded(Padding::Constant(0.0))?, [0.0, 0.0, 1.0, 2.0, 3.0, 0.0]);
    /// assert_eq!(padded(Padding::Reflect)?, [3.0, 2.0, 1.0, 2.0, 3.0, 2.0]);
    /// assert_eq!(padded(Padding::Edge)?, [1.0, 1.0, 1.0, 2.0, 3.0, 3.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn pad(&self, axis: isize, before: usize, after: usize, with: Padding) -> Result<Self> {
        let position = self.shape().axis("pad", axis)?;
        let size = self.shape()[position];
        let most = match with {
            Padding::Constant(_) => usize::MAX,
            Padding::Reflect => size.saturating_sub(1),
            Padding::Edge => {
                if size > 0 {
                    usize::MAX
                } else {
                    0
                }
            }
        };
        let length = before.checked_add(size).and_then(|n| n.checked_add(after));
        let (Some(length), true) = (length, before.max(after) <= most) else {
            let got = format!("{before} and {after} for an axis of size {size}");
            let expected = "less than the axis if reflected, and addable";
            return Err(Error::Argument { op: "pad", name: "before, after", expected, got });
        };
        if let Padding::Constant(value) = with {
            let full = |n| {
                let mut dims = self.shape().to_vec();
                dims[position] = n;
                let shape = crate::Shape::new(&dims)?;
                Tensor::full_on(self.device(), shape, value, self.dtype()).map(H::constant)
            };
            return Self::concat(&[&full(before)?, self, &full(after)?], axis);
        }
        let source = |i: usize| {
            let i = i as isize - before as isize;
            let last = size as isize - 1;
            let inside = i.clamp(0, last);
            // Beyond an edge: as far inside, or the edge itself.
            if with == Padding::Reflect { 2 * inside - i } else { inside }
        };
        let index = Tensor::from_fn([length], DType::I64, |i| source(i) as f64);
        self.gather(axis, &self.beside(&index)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck;
    use crate::op::sample_input;

    #[test]
    fn the_middle_is_the_tensor_whatever_stands_around_it() {
        let x = sample_input([2, 4, 3]);
        for with in [Padding::Constant(-1.5), Padding::Reflect, Padding::Edge] {
            for (before, after) in [(0, 0), (3, 0), (1, 2)] {
                let padded = x.pad(-2, before, after, with).unwrap();
                assert_eq!(padded.shape()[1], 4 + before + after);
                let middle = padded.narrow(1, before, 4).unwrap();
                assert_eq!(middle.to_vec::<f64>().unwrap(), x.to_vec::<f64>().unwrap());
            }
        }
        let labels = Tensor::arange(2, DType::I64).pad(0, 0, 1, Padding::Constant(-100.0)).unwrap();
        assert_eq!(labels.to_vec::<i64>().unwrap(), [0, 1, -100]);
    }

    #[test]
    fn its_gradients_agree_with_finite_differences() {
        for with in [Padding::Constant(2.0), Padding::Reflect, Padding::Edge] {
            let check = gradcheck::second_order(&[sample_input([2, 3])], |x| {
                x[0].pad(1, 2, 1, with)?.pad(0, 1, 0, with)?.square()
            });
            assert!(check.unwrap().error < 1e-7, "{with:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_a_typed_error() {
        let x = sample_input([3, 0]);
        let refused = |axis, before, after, with| {
            let got = x.pad(axis, before, after, with);
            assert!(matches!(got, Err(Error::Argument { op: "pad", .. })), "{got:?}");
        };
        refused(0, 3, 0, Padding::Reflect);
        refused(0, 0, 3, Padding::Reflect);
        refused(1, 1, 0, Padding::Edge);
        refused(0, usize::MAX, 1, Padding::Constant(0.0));
        assert!(x.pad(0, usize::MAX / 2, 0, Padding::Constant(0.0)).is_err());
        assert!(matches!(x.pad(2, 1, 1, Padding::Edge), Err(Error::Axis { op: "pad", .. })));
    }
}
