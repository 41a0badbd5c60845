//! `Layout`: how a shape lies in storage — strides and an offset. Views change only this.

use crate::Shape;
use crate::shape::MAX_RANK;

/// Shape, strides (in elements) and offset of a tensor in its storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    shape: Shape,
    strides: [usize; MAX_RANK],
    offset: usize,
}

impl Layout {
    /// Row-major, from the start of the storage.
    #[must_use]
    pub fn contiguous(shape: Shape) -> Self {
        let mut strides = [0; MAX_RANK];
        let mut step = 1_usize;
        for (stride, &size) in strides[..shape.rank()].iter_mut().zip(shape.iter()).rev() {
            *stride = step;
            step = step.saturating_mul(size);
        }
        Self { shape, strides, offset: 0 }
    }

    /// The sizes.
    #[must_use]
    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Elements between neighbours, per axis. An axis that was broadcast has stride 0.
    #[must_use]
    pub fn strides(&self) -> &[usize] {
        &self.strides[..self.shape.rank()]
    }

    /// Where the first element lies.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// Whether the elements lie row-major without gaps (from `offset` on).
    #[must_use]
    pub fn is_contiguous(&self) -> bool {
        let mut step = 1_usize;
        for (&stride, &size) in self.strides().iter().zip(self.shape.iter()).rev() {
            if size > 1 && stride != step {
                return false;
            }
            step = step.saturating_mul(size);
        }
        true
    }

    /// The same elements under another shape of equal size; `None` if they are not contiguous.
    #[must_use]
    pub fn reshape(&self, shape: Shape) -> Option<Self> {
        self.is_contiguous().then(|| Self { offset: self.offset, ..Self::contiguous(shape) })
    }

    /// Axis `i` of the result is axis `order[i]` of this one.
    #[must_use]
    pub fn permute(&self, order: &[usize]) -> Self {
        let mut out = *self;
        for (i, &from) in order.iter().enumerate() {
            out.shape = out.shape.with(i, self.shape[from]);
            out.strides[i] = self.strides[from];
        }
        out
    }

    /// `len` entries of an axis, from `start` on.
    #[must_use]
    pub fn narrow(&self, axis: usize, start: usize, len: usize) -> Self {
        let shape = self.shape.with(axis, len);
        // Without elements there is nothing to skip, and the storage may end here.
        let skipped = if shape.numel() == 0 { 0 } else { start * self.strides[axis] };
        Self { shape, strides: self.strides, offset: self.offset + skipped }
    }

    /// The same elements repeated (stride 0) to a shape that this one broadcasts to.
    #[must_use]
    pub fn broadcast_to(&self, shape: Shape) -> Self {
        let mut strides = [0; MAX_RANK];
        let new_axes = shape.rank() - self.shape.rank();
        for (i, &size) in self.shape.iter().enumerate() {
            strides[new_axes + i] = if size == shape[new_axes + i] { self.strides[i] } else { 0 };
        }
        Self { shape, strides, offset: self.offset }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transpose_is_not_contiguous_and_a_transpose_of_it_is() {
        let l = Layout::contiguous(Shape::from([2, 3]));
        assert_eq!(l.strides(), [3, 1]);
        let t = l.permute(&[1, 0]);
        assert!(!t.is_contiguous() && t.reshape(Shape::from([6])).is_none());
        assert_eq!(t.permute(&[1, 0]), l);
    }

    #[test]
    fn axes_of_size_one_do_not_break_contiguity() {
        let l = Layout::contiguous(Shape::from([4, 1, 3])).permute(&[1, 0, 2]);
        assert!(l.is_contiguous());
    }

    #[test]
    fn narrowing_the_first_axis_stays_contiguous_and_moves_the_offset() {
        let l = Layout::contiguous(Shape::from([4, 3])).narrow(0, 2, 2);
        assert!(l.is_contiguous());
        assert_eq!(l.offset(), 6);
    }

    #[test]
    fn the_offset_of_a_view_without_elements_stays_inside_the_storage() {
        let l = Layout::contiguous(Shape::from([0, 4]));
        assert_eq!(l.narrow(1, 3, 1).offset(), 0);
        assert_eq!(Layout::contiguous(Shape::from([4])).narrow(0, 4, 0).offset(), 0);
    }

    #[test]
    fn broadcasting_repeats_with_stride_zero() {
        let l = Layout::contiguous(Shape::from([3, 1])).broadcast_to(Shape::from([2, 3, 4]));
        assert_eq!(l.strides(), [0, 1, 0]);
    }
}
