//! y = f(a, b) for every pair of elements of two arrays that broadcast to one shape.

use super::device::Gpu;
use super::error::Result;
use super::formula::Names;
use super::launch::{Dims, Grid};
use super::operand::{length, lengths, view};
use super::program::{Program, Text};
use super::slice::{Slice, SliceMut};

const TEXT: Text = Text { name: "pairs", source: include_str!("../../cuda/pairs.cu") };

const NAMES: Names = Names { variables: &["a", "b"], functions: &[] };

/// A name, and a formula of `a` and `b` in CUDA C++ that says no more than one of
/// [`elementwise`](super::elementwise::Formulas).
#[derive(Debug, Clone, Copy)]
pub struct Formula(pub &'static str, pub &'static str);

/// y = f(a, b), all three of the same shape and contiguous.
///
/// # Errors
/// As [`elementwise::forward`](super::elementwise::forward).
pub fn alike(gpu: &Gpu, f: Formula, a: Slice<'_>, b: Slice<'_>, y: &SliceMut<'_>) -> Result<()> {
    let n = y.len();
    lengths("pairs", &[n], [("a", a.len()), ("b", b.len())])?;
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
    length("pairs", "y", n, shape)?;
    view("pairs", "a", a.len(), shape, a_strides)?;
    view("pairs", "b", b.len(), shape, b_strides)?;
    if n == 0 {
        return Ok(());
    }
    let dims = Dims::new(shape, &[a_strides, b_strides])?;
    let arguments = [dims.into(), n.into(), a.into(), b.into(), y.into()];
    gpu.launch(&program(f, a, y), "broadcast", Grid::over(n), &arguments)
}

const fn program(f: Formula, a: Slice<'_>, y: &SliceMut<'_>) -> Program {
    Program::new(TEXT, a.scalar()).given(f.0, [f.1, "", ""], &NAMES).writing(y.scalar())
}
