//! `Shape`: the sizes of a tensor's axes, inline and `Copy`; broadcasting.

use std::fmt;
use std::ops::Deref;

use crate::{Error, Result};

/// The largest number of axes.
pub const MAX_RANK: usize = 6;

/// The largest number of elements, 2⁶⁰ − 1: so many f64 are as many bytes as memory can be asked for.
pub const MAX_NUMEL: usize = isize::MAX as usize / 8;

/// The sizes of up to six axes, outermost first. The empty shape `[]` is a scalar's.
///
/// # Size
/// Any six sizes can be written down, but no tensor has more than [`MAX_NUMEL`] elements, where axes of
/// size 0 count as 1: so no product of some of a tensor's sizes overflows. [`Shape::checked`] holds
/// the two doors to that: what an op returns, and what a tensor is made with.
///
/// # Example
/// ```
/// use alcyon_engine::Shape;
/// let s = Shape::from([2, 3]);
/// assert_eq!((s.rank(), s.numel(), s[1]), (2, 6, 3));
/// assert_eq!(s.broadcast(&Shape::from([4, 1, 3])), Some(Shape::from([4, 2, 3])));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: u8,
}

impl Shape {
    /// The shape of a scalar.
    pub const SCALAR: Self = Self { dims: [0; MAX_RANK], rank: 0 };

    /// A shape from a slice.
    ///
    /// # Errors
    /// [`Error::Argument`] for more than [`MAX_RANK`] axes or a product that overflows.
    pub fn new(dims: &[usize]) -> Result<Self> {
        if dims.len() > MAX_RANK {
            return Err(Error::Argument {
                op: "shape",
                name: "dims",
                expected: "at most 6 axes",
                got: format!("{dims:?}"),
            });
        }
        Self::from_slice(dims).checked("shape")
    }

    /// The shape, if a tensor can have it.
    ///
    /// # Errors
    /// [`Error::Argument`], in the name of an op, for more than [`MAX_NUMEL`] elements.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Shape;
    /// assert!(Shape::from([1 << 32, 1 << 27]).checked("zeros").is_ok());
    /// let error = Shape::from([1 << 32, 0, 1 << 32]).checked("zeros").unwrap_err().to_string();
    /// assert!(error.starts_with("zeros: shape must be sizes whose product is below 2^60"), "{error}");
    /// ```
    pub fn checked(self, op: &'static str) -> Result<Self> {
        if product(self.iter().map(|&size| size.max(1))) <= MAX_NUMEL {
            return Ok(self);
        }
        let expected = "sizes whose product is below 2^60 (0 counts as 1)";
        Err(Error::Argument { op, name: "shape", expected, got: self.to_string() })
    }

    fn from_slice(dims: &[usize]) -> Self {
        let mut all = [0; MAX_RANK];
        all[..dims.len()].copy_from_slice(dims);
        Self { dims: all, rank: dims.len() as u8 }
    }

    /// The number of axes.
    #[must_use]
    pub const fn rank(&self) -> usize {
        self.rank as usize
    }

    /// The number of elements: the product of the sizes. More than a tensor can have count as 2⁶⁰.
    #[must_use]
    pub fn numel(&self) -> usize {
        product(self.iter().copied())
    }

    /// The shape that both shapes broadcast to, by NumPy's rule: align at the last axis; sizes
    /// must be equal or one of them 1.
    #[must_use]
    pub fn broadcast(&self, other: &Self) -> Option<Self> {
        let rank = self.rank().max(other.rank());
        let mut dims = [0; MAX_RANK];
        for (i, dim) in dims[..rank].iter_mut().enumerate() {
            let size = |s: &Self| (i + s.rank()).checked_sub(rank).map_or(1, |j| s[j]);
            *dim = match (size(self), size(other)) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                _ => return None,
            };
        }
        Some(Self { dims, rank: rank as u8 })
    }

    /// The position of an axis given from the front (0, 1, …) or from the end (−1, −2, …).
    ///
    /// # Errors
    /// [`Error::Axis`] when there is no such axis.
    pub fn axis(&self, op: &'static str, axis: isize) -> Result<usize> {
        let rank = self.rank();
        let position = if axis < 0 { axis + rank as isize } else { axis };
        if position < 0 || position >= rank as isize {
            return Err(Error::Axis { op, axis, rank });
        }
        Ok(position as usize)
    }

    /// The same shape with one axis of another size.
    #[must_use]
    pub fn with(&self, axis: usize, size: usize) -> Self {
        let mut shape = *self;
        shape.dims[axis] = size;
        shape
    }

    /// The same shape without one axis.
    #[must_use]
    pub fn without(&self, axis: usize) -> Self {
        let kept: Vec<_> =
            self.iter().enumerate().filter(|&(i, _)| i != axis).map(|(_, &d)| d).collect();
        Self::from_slice(&kept)
    }

    /// Sizes before, at and after an axis: the tensor seen as `[outer, n, inner]`.
    #[must_use]
    pub fn around(&self, axis: usize) -> (usize, usize, usize) {
        let product = |sizes: &[usize]| product(sizes.iter().copied());
        (product(&self[..axis]), self[axis], product(&self[axis + 1..]))
    }
}

/// The product of sizes, at most [`MAX_NUMEL`] + 1.
fn product(sizes: impl Iterator<Item = usize>) -> usize {
    sizes.fold(1, usize::saturating_mul).min(MAX_NUMEL + 1)
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.dims[..self.rank as usize]
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        const { assert!(N <= MAX_RANK, "a shape has at most 6 axes") };
        Self::from_slice(&dims)
    }
}

impl From<()> for Shape {
    fn from((): ()) -> Self {
        Self::SCALAR
    }
}

impl From<&Self> for Shape {
    fn from(shape: &Self) -> Self {
        *shape
    }
}

impl PartialEq<[usize]> for Shape {
    fn eq(&self, other: &[usize]) -> bool {
        **self == *other
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes: Vec<_> = self.iter().map(ToString::to_string).collect();
        f.pad(&format!("[{}]", sizes.join(", ")))
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_follows_the_last_axis_and_refuses_unequal_sizes() {
        let b = |a: &[usize], b: &[usize]| Shape::from_slice(a).broadcast(&Shape::from_slice(b));
        assert_eq!(b(&[3], &[2, 1]), Some(Shape::from([2, 3])));
        assert_eq!(b(&[], &[2, 0]), Some(Shape::from([2, 0])));
        assert_eq!(b(&[1, 4], &[0, 1]), Some(Shape::from([0, 4])));
        assert_eq!(b(&[2], &[3]), None);
    }

    #[test]
    fn seven_axes_and_overflowing_products_are_refused() {
        assert!(Shape::new(&[1; 7]).is_err());
        assert!(Shape::new(&[usize::MAX, 2]).is_err());
        assert!(Shape::new(&[usize::MAX, 0, 2]).is_err());
        assert!(Shape::new(&[1 << 59]).is_ok() && Shape::new(&[1 << 60]).is_err());
        assert_eq!(Shape::from([1 << 32, 1 << 32]).numel(), 1 << 60);
        assert_eq!(Shape::from([usize::MAX, 2, usize::MAX]).around(1), (1 << 60, 2, 1 << 60));
    }

    #[test]
    fn negative_axes_count_from_the_end() {
        let s = Shape::from([5, 6, 7]);
        assert_eq!(s.axis("t", -1).unwrap(), 2);
        assert!(matches!(s.axis("t", 3), Err(Error::Axis { axis: 3, rank: 3, .. })));
        assert_eq!(s.around(1), (5, 6, 7));
        assert_eq!(s.without(1), Shape::from([5, 7]));
    }
}
