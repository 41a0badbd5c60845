//! Copies and binary formulas over views: out\[i\] = f(a\[…\], b\[…\]) with any strides, 0 included.
//!
//! A view is first *collapsed*: axes of size 1 go, and neighbouring axes that are evenly spaced in
//! every operand become one. A contiguous array of any shape is then one row, a broadcast bias two
//! axes, and the inner loops only have to be good at few patterns.

use bytemuck::NoUninit;

use crate::parallel;
use crate::sizes::{extent, product};
use crate::transpose::{BAND, band};

/// The most axes a view may have after collapsing.
pub const MAX_RANK: usize = 8;

/// out = the elements of the view (`shape`, `strides`, `offset`) of `src`, in row-major order.
///
/// # Shape
/// shape, strides: \[rank\] · out: the product of `shape`. Strides are in elements and may be 0.
///
/// # Panics
/// If a length does not match, the view leaves `src`, or it has more than [`MAX_RANK`] axes.
///
/// # Example
/// ```
/// let mut transposed = [0; 6];
/// alcyon_kernels::elementwise::copy_strided(&[1, 2, 3, 4, 5, 6], &[3, 2], &[1, 3], 0, &mut transposed);
/// assert_eq!(transposed, [1, 4, 2, 5, 3, 6]);
/// ```
pub fn copy_strided<T: NoUninit + Send + Sync>(
    src: &[T],
    shape: &[usize],
    strides: &[usize],
    offset: usize,
    out: &mut [T],
) {
    let view = View::collapse("copy_strided", shape, [strides], [offset], [src.len()]);
    assert_eq!(out.len(), view.len(), "copy_strided: output length");
    if view.rank >= 2 && view.strides[view.rank - 2][0] == 1 && view.strides[view.rank - 1][0] > 1 {
        return copy_transposed(src, &view, out);
    }
    let (width, [stride]) = view.row();
    parallel::pieces(
        out,
        1,
        #[inline(always)]
        |start, out| {
            view.for_each_row(
                start,
                out,
                #[inline(always)]
                |[at], row| match stride {
                    0 => row.fill(src[at]),
                    1 => row.copy_from_slice(&src[at..at + row.len()]),
                    _ => {
                        for (out, &x) in row.iter_mut().zip(src[at..].iter().step_by(stride)) {
                            *out = x;
                        }
                    }
                },
            );
        },
    );
    debug_assert!(width > 0 || view.len() == 0);
}

/// out = f(a, b), element by element, over two views of the same shape.
///
/// Broadcasting is a stride of 0. The inner loop is specialised for both rows contiguous, and for
/// one of them a constant.
///
/// # Panics
/// As [`copy_strided`], for both operands.
///
/// # Example
/// ```
/// // A column plus a row: [[10], [20]] + [[1, 2, 3]].
/// let mut sum = [0.0; 6];
/// alcyon_kernels::elementwise::map2_strided(
///     &[2, 3], &[10.0, 20.0], &[1, 0], 0, &[1.0, 2.0, 3.0], &[0, 1], 0, &mut sum, |a, b| a + b);
/// assert_eq!(sum, [11.0, 12.0, 13.0, 21.0, 22.0, 23.0]);
/// ```
#[expect(clippy::too_many_arguments, reason = "two views are six arguments")]
pub fn map2_strided<A: Copy + Sync, T: Send>(
    shape: &[usize],
    a: &[A],
    a_strides: &[usize],
    a_offset: usize,
    b: &[A],
    b_strides: &[usize],
    b_offset: usize,
    out: &mut [T],
    f: impl Fn(A, A) -> T + Sync,
) {
    let view = View::collapse(
        "map2_strided",
        shape,
        [a_strides, b_strides],
        [a_offset, b_offset],
        [a.len(), b.len()],
    );
    assert_eq!(out.len(), view.len(), "map2_strided: output length");
    let (_, strides) = view.row();
    parallel::pieces(
        out,
        1,
        #[inline(always)]
        |start, out| {
            view.for_each_row(
                start,
                out,
                #[inline(always)]
                |[i, j], row| {
                    let n = row.len();
                    match strides {
                        [1, 1] => {
                            for ((out, &a), &b) in
                                row.iter_mut().zip(&a[i..i + n]).zip(&b[j..j + n])
                            {
                                *out = f(a, b);
                            }
                        }
                        [1, 0] => {
                            let b = b[j];
                            for (out, &a) in row.iter_mut().zip(&a[i..i + n]) {
                                *out = f(a, b);
                            }
                        }
                        [0, 1] => {
                            let a = a[i];
                            for (out, &b) in row.iter_mut().zip(&b[j..j + n]) {
                                *out = f(a, b);
                            }
                        }
                        [s, t] => {
                            for (k, out) in row.iter_mut().enumerate() {
                                *out = f(a[i + k * s], b[j + k * t]);
                            }
                        }
                    }
                },
            );
        },
    );
}

/// A collapsed view of `N` operands that share a shape.
struct View<const N: usize> {
    rank: usize,
    shape: [usize; MAX_RANK],
    strides: [[usize; N]; MAX_RANK],
    offset: [usize; N],
}

impl<const N: usize> View<N> {
    fn collapse(
        kernel: &str,
        shape: &[usize],
        strides: [&[usize]; N],
        offset: [usize; N],
        lens: [usize; N],
    ) -> Self {
        assert!(product(shape).is_some(), "{kernel}: {shape:?} are more elements than memory has");
        for ((strides, &offset), &available) in strides.iter().zip(&offset).zip(&lens) {
            assert_eq!(strides.len(), shape.len(), "{kernel}: one stride per axis");
            let end = match extent(shape, strides) {
                Some(0) => Some(0),
                end => end.and_then(|end| end.checked_add(offset)),
            };
            assert!(
                end.is_some_and(|end| end <= available),
                "{kernel}: the view ends at {} of {available} elements",
                end.map_or(usize::MAX, |end| end.saturating_sub(1))
            );
        }
        let mut view = Self { rank: 0, shape: [1; MAX_RANK], strides: [[0; N]; MAX_RANK], offset };
        for (axis, &size) in shape.iter().enumerate() {
            if size == 1 {
                continue;
            }
            let step: [usize; N] = std::array::from_fn(|operand| strides[operand][axis]);
            let even = |before: &[usize; N]| {
                before.iter().zip(&step).all(|(b, s)| Some(*b) == s.checked_mul(size))
            };
            if view.rank > 0 && even(&view.strides[view.rank - 1]) {
                view.shape[view.rank - 1] *= size;
                view.strides[view.rank - 1] = step;
            } else {
                assert!(view.rank < MAX_RANK, "{kernel}: more than {MAX_RANK} axes");
                view.shape[view.rank] = size;
                view.strides[view.rank] = step;
                view.rank += 1;
            }
        }
        view
    }

    fn len(&self) -> usize {
        self.shape[..self.rank].iter().product()
    }

    /// The size and strides of the innermost axis.
    fn row(&self) -> (usize, [usize; N]) {
        match self.rank {
            0 => (1, [0; N]),
            rank => (self.shape[rank - 1], self.strides[rank - 1]),
        }
    }

    /// Where the operands are at a row-major index over the first `axes` axes, and that index
    /// taken apart.
    fn locate(&self, axes: usize, mut index: usize) -> ([usize; N], [usize; MAX_RANK]) {
        let (mut at, mut parts) = (self.offset, [0; MAX_RANK]);
        for axis in (0..axes).rev() {
            parts[axis] = index % self.shape[axis];
            index /= self.shape[axis];
            for (at, stride) in at.iter_mut().zip(&self.strides[axis]) {
                *at += parts[axis] * stride;
            }
        }
        (at, parts)
    }

    /// Splits `out`, which begins at output element `start`, at the ends of rows and calls
    /// `f(where the operands are, the part)`.
    fn for_each_row<T>(&self, start: usize, out: &mut [T], f: impl Fn([usize; N], &mut [T])) {
        let (width, strides) = self.row();
        let outer = self.rank.saturating_sub(1);
        let (mut at, mut parts) = self.locate(outer, start / width);
        let skipped = start % width;
        let (head, rest) = out.split_at_mut((width - skipped).min(out.len()));
        f(std::array::from_fn(|i| at[i] + skipped * strides[i]), head);
        for row in rest.chunks_mut(width) {
            // The index of the row counts up like an odometer.
            for axis in (0..outer).rev() {
                parts[axis] += 1;
                let wrapped = parts[axis] == self.shape[axis];
                for (at, stride) in at.iter_mut().zip(&self.strides[axis]) {
                    *at += stride;
                    if wrapped {
                        *at -= self.shape[axis] * stride;
                    }
                }
                if !wrapped {
                    break;
                }
                parts[axis] = 0;
            }
            f(at, row);
        }
    }
}

/// The last two axes are exchanged in memory: every band of rows is a [`transpose`].
///
/// [`transpose`]: crate::transpose
fn copy_transposed<T: NoUninit + Send + Sync>(src: &[T], view: &View<1>, out: &mut [T]) {
    let (width, [stride]) = view.row();
    let height = view.shape[view.rank - 2];
    parallel::pieces(
        out,
        width,
        #[inline(always)]
        |start, out| {
            let (mut row, mut rest) = (start / width, out);
            while !rest.is_empty() {
                // A band of rows that does not cross into the next plane.
                let rows = BAND.min(height - row % height).min(rest.len() / width);
                let (lines, after) = rest.split_at_mut(rows * width);
                let ([at], _) = view.locate(view.rank - 1, row);
                band(&src[at..], stride, lines, width);
                (row, rest) = (row + rows, after);
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::noise;
    use proptest::prelude::*;

    /// The element of a view at each row-major index, by the definition.
    fn naive<T: Copy>(src: &[T], shape: &[usize], strides: &[usize], offset: usize) -> Vec<T> {
        let len = shape.iter().product();
        let at = |mut i: usize| {
            let mut at = offset;
            for (n, s) in shape.iter().zip(strides).rev() {
                at += i % n * s;
                i /= n;
            }
            src[at]
        };
        (0..len).map(at).collect()
    }

    fn extent(shape: &[usize], strides: &[usize]) -> usize {
        shape.iter().zip(strides).map(|(n, s)| n.saturating_sub(1) * s).sum::<usize>() + 1
    }

    proptest! {
        #[test]
        fn any_view_is_copied_in_row_major_order(
            axes in prop::collection::vec((0_usize..7, 0_usize..9), 0..5), offset in 0_usize..4,
        ) {
            let (shape, strides): (Vec<_>, Vec<_>) = axes.into_iter().unzip();
            let src = noise::<f32>(extent(&shape, &strides) + offset, 1);
            let want = naive(&src, &shape, &strides, offset);
            let mut out = vec![f32::NAN; want.len()];
            copy_strided(&src, &shape, &strides, offset, &mut out);
            prop_assert_eq!(out, want);
        }

        #[test]
        fn a_binary_formula_sees_the_same_index_of_both_views(
            axes in prop::collection::vec((1_usize..6, 0_usize..4, 0_usize..4), 0..5),
        ) {
            let shape: Vec<_> = axes.iter().map(|a| a.0).collect();
            let (s, t): (Vec<_>, Vec<_>) = axes.iter().map(|a| (a.1, a.2)).unzip();
            let (a, b) = (noise::<f64>(extent(&shape, &s), 1), noise::<f64>(extent(&shape, &t), 2));
            let (x, y) = (naive(&a, &shape, &s, 0), naive(&b, &shape, &t, 0));
            let want: Vec<_> = x.iter().zip(&y).map(|(x, y)| x - 3.0 * y).collect();
            let mut out = vec![f64::NAN; want.len()];
            map2_strided(&shape, &a, &s, 0, &b, &t, 0, &mut out, |x, y| x - 3.0 * y);
            prop_assert_eq!(out, want);
        }
    }

    #[test]
    fn large_views_are_the_same_in_parallel() {
        // Two planes, each transposed; rows and planes end inside the pieces.
        let (shape, strides) = ([2, 301, 259], [301 * 259, 1, 301]);
        let src = noise::<f32>(2 * 301 * 259, 5);
        let want = naive(&src, &shape, &strides, 0);
        let mut out = vec![f32::NAN; want.len()];
        copy_strided(&src, &shape, &strides, 0, &mut out);
        assert_eq!(out, want);

        // x[400, 7, 61] + bias[7] broadcast over the other two axes.
        let (shape, plain, along) = ([400, 7, 61], [427, 61, 1], [0, 1, 0]);
        let (x, bias) = (noise::<f32>(400 * 427, 6), noise::<f32>(7, 7));
        let mut out = vec![f32::NAN; x.len()];
        map2_strided(&shape, &x, &plain, 0, &bias, &along, 0, &mut out, |x, b| x + b);
        assert!((0..x.len()).all(|i| out[i] == x[i] + bias[i / 61 % 7]));
    }

    #[test]
    fn a_contiguous_shape_collapses_to_one_row() {
        let view = View::collapse("test", &[2, 1, 3, 4], [&[12, 99, 4, 1]], [0], [24]);
        assert_eq!((view.rank, view.shape[0], view.strides[0]), (1, 24, [1]));
    }

    #[test]
    #[should_panic(expected = "the view ends at 3 of 3 elements")]
    fn a_view_outside_its_memory_is_refused() {
        copy_strided(&[1, 2, 3], &[2], &[3], 0, &mut [0; 2]);
    }
}
