//! The order of the elements along an axis.

use super::device::Gpu;
use super::error::Result;
use super::launch::{Arg, Grid};
use super::operand::lengths;
use super::program::{Program, Text};
use super::slice::{Scalar, Slice, SliceMut};

const TEXT: Text = Text { name: "sort", source: include_str!("../../cuda/sort.cu") };

/// out\[o, r, i\] is where in x\[o, ·, i\] the element of rank r is. Equal elements keep their order;
/// NaN counts as the largest.
///
/// A merge sort of ⌈log₂ n⌉ passes, each of O(log n) reads an element.
///
/// # Shape
/// x, out: \[outer, n, inner\]
///
/// # Errors
/// What the driver or the compiler refuses.
pub fn argsort(
    gpu: &Gpu,
    x: Slice<'_>,
    (outer, n, inner): (usize, usize, usize),
    descending: bool,
    out: &SliceMut<'_>,
) -> Result<()> {
    let length = out.len();
    lengths("argsort", &[outer, n, inner], [("x", x.len()), ("ranks", length)])?;
    if length == 0 {
        return Ok(());
    }
    let (program, grid) = (Program::new(TEXT, x.scalar()), Grid::over(length));
    let mut spare = gpu.memory().numbers(Scalar::I64, &[length])?;
    let spare = SliceMut::new(&mut spare, Scalar::I64, length);
    // The passes take turns; the last one writes `out`.
    let passes = n.next_power_of_two().trailing_zeros();
    let (mut from, mut to) = if passes % 2 == 0 { (out, &spare) } else { (&spare, out) };
    let sizes = [outer, n, inner].map(Arg::from);
    let [o, k, i] = sizes;
    gpu.launch(&program, "in_place", grid, &[o, k, i, from.into()])?;
    for pass in 0..passes {
        let (width, descending) = (1_usize << pass, Arg::Int(descending.into()));
        let arguments =
            [o, k, i, width.into(), descending, x.into(), from.read().into(), to.into()];
        gpu.launch(&program, "merge", grid, &arguments)?;
        (from, to) = (to, from);
    }
    Ok(())
}
