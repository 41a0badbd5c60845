//! The same numbers in another type.

use super::device::Gpu;
use super::error::Result;
use super::launch::Grid;
use super::program::{Program, Text};
use super::slice::{Scalar, Slice, SliceMut};

const TEXT: Text = Text { name: "cast", source: include_str!("../../cuda/cast.cu") };

/// y = x in another type: rounded to the nearest, in integers towards zero.
///
/// # Errors
/// What the driver or the compiler refuses.
pub fn cast(gpu: &Gpu, x: Slice<'_>, y: &SliceMut<'_>) -> Result<()> {
    let n = y.len();
    assert_eq!(n, x.len(), "cuda cast: lengths");
    if n == 0 {
        return Ok(());
    }
    let formulas = [widened(x.scalar()), narrowed(y.scalar()), ""];
    let program = Program::new(TEXT, x.scalar()).with("cast", formulas).writing(y.scalar());
    gpu.launch(&program, "cast", Grid::over(n), &[n.into(), x.into(), y.into()])
}

/// A number as a double; of halves the bits of mantissa and the bias.
const fn widened(from: Scalar) -> &'static str {
    match from {
        Scalar::F16 => "widen(x, 10, 15)",
        Scalar::BF16 => "widen(x, 7, 127)",
        Scalar::F32 | Scalar::F64 | Scalar::I64 => "(double)x",
    }
}

/// A double as a number.
const fn narrowed(to: Scalar) -> &'static str {
    match to {
        Scalar::F16 => "narrow(x, 10, 15)",
        Scalar::BF16 => "narrow(x, 7, 127)",
        Scalar::I64 => "whole(x)",
        Scalar::F32 | Scalar::F64 => "(U)x",
    }
}
