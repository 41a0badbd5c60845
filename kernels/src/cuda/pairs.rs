//! y = f(a, b) for every pair of elements of two arrays that broadcast to one shape.

use super::device::Gpu;
use super::error::Result;
use super::launch::{Dims, Grid};
use super::program::{Program, Text};
use super::slice::{Slice, SliceMut};

const TEXT: Text = Text { name: "pairs", source: include_str!("../../cuda/pairs.cu") };

/// A formula of `a` and `b` in CUDA C++, and its name.
#[derive(Debug, Clone, Copy)]
pub struct Formula(pub &'static str, pub &'static str);

/// y = f(a, b), all three of the same shape and contiguous.
///
/// # Errors
/// What the driver or the compiler refuses.
pub fn alike(gpu: &Gpu, f: Formula, a: Slice<'_>, b: Slice<'_>, y: &SliceMut<'_>) -> Result<()> {
    let n = y.len();
    assert_eq!([a.len(), b.len()], [n; 2], "cuda pairs: lengths");
    if n == 0 {
        return Ok(());
    }
    gpu.launch(&program(f, a, y), "alike", Grid::over(n), &[n.into(), a.into(), b.into(), y.into()])
}

/// y = f(a, b) over a shape, in which a and b have the given strides.
///
/// # Errors
/// As [`alike`].
pub fn broadcast(
    gpu: &Gpu,
    f: Formula,
    shape: &[usize],
    (a, a_strides): (Slice<'_>, &[usize]),
    (b, b_strides): (Slice<'_>, &[usize]),
    y: &SliceMut<'_>,
) -> Result<()> {
    let n = y.len();
    assert_eq!(n, shape.iter().product(), "cuda pairs: output length");
    assert!(extent(shape, a_strides) <= a.len(), "cuda pairs: a");
    assert!(extent(shape, b_strides) <= b.len(), "cuda pairs: b");
    if n == 0 {
        return Ok(());
    }
    let dims = Dims::new(shape, &[a_strides, b_strides]);
    let arguments = [dims.into(), n.into(), a.into(), b.into(), y.into()];
    gpu.launch(&program(f, a, y), "broadcast", Grid::over(n), &arguments)
}

const fn program(f: Formula, a: Slice<'_>, y: &SliceMut<'_>) -> Program {
    Program::new(TEXT, a.scalar()).with(f.0, [f.1, "", ""]).writing(y.scalar())
}

/// Where the last element of a strided array lies, plus one.
pub(super) fn extent(shape: &[usize], strides: &[usize]) -> usize {
    if shape.contains(&0) {
        return 0;
    }
    shape.iter().zip(strides).map(|(&size, &stride)| (size - 1) * stride).sum::<usize>() + 1
}

#[cfg(test)]
mod tests {
    use super::extent;

    #[test]
    fn the_extent_is_one_more_than_the_last_place_and_nothing_has_none() {
        assert_eq!(extent(&[2, 3], &[3, 1]), 6);
        assert_eq!(extent(&[2, 3], &[0, 2]), 5);
        assert_eq!(extent(&[2, 0], &[3, 1]), 0);
        assert_eq!(extent(&[], &[]), 1);
    }
}
