//! The same numbers in another type.

use super::device::Gpu;
use super::error::Result;
use super::launch::Grid;
use super::operand::length;
use super::program::{Program, Text};
use super::slice::{Scalar, Slice, SliceMut};

const TEXT: Text = Text { name: "cast", source: include_str!("../../cuda/cast.cu") };

/// y = x in another type: rounded to the nearest, in integers towards zero.
///
/// # Errors
/// What the driver or the compiler refuses.
pub fn cast(gpu: &Gpu, x: Slice<'_>, y: &SliceMut<'_>) -> Result<()> {
    let n = y.len();
    length("cast", "x", x.len(), &[n])?;
    if n == 0 {
        return Ok(());
    }
    let wide = matches!(x.scalar(), Scalar::F64 | Scalar::I64);
    let (formula, kernel) = match y.scalar() {
        Scalar::F16 if wide => ("narrow(odd(x), 10, 15)", "cast_words"),
        Scalar::BF16 if wide => ("narrow(odd(x), 7, 127)", "cast_words"),
        Scalar::I64 => ("whole((double)x)", "cast"),
        Scalar::F64 => ("(double)x", "cast"),
        Scalar::F32 | Scalar::F16 | Scalar::BF16 => ("(float)x", "cast"),
    };
    let program = Program::new(TEXT, x.scalar()).with("cast", [formula, "", ""]);
    // The words of a number of 16 bits are written where it is.
    let program = program.writing(if kernel == "cast" { y.scalar() } else { x.scalar() });
    gpu.launch(&program, kernel, Grid::over(n), &[n.into(), x.into(), y.into()])
}
