//! What the operands of a kernel must be, asked before anything is queued: so long, of such a type, and on its
//! device. Products of sizes that wrap are no length at all.
//!
//! The types of what a kernel of ours is launched with are compared with its text, for all kernels in one place
//! ([`launch`](super::launch)). What is asked here is what no text says.

use super::device::Gpu;
use super::error::{CudaError, Result};
use super::slice::Scalar;
use crate::sizes;

/// Asks that an operand has as many elements as sizes say.
pub(super) fn length(
    kernel: &'static str,
    operand: &'static str,
    got: usize,
    expected: &[usize],
) -> Result<()> {
    if sizes::product(expected) == Some(got) {
        return Ok(());
    }
    Err(CudaError::Length { kernel, operand, expected: expected.to_vec(), got })
}

/// The same of several operands, each with its name.
pub(super) fn lengths<const N: usize>(
    kernel: &'static str,
    expected: &[usize],
    operands: [(&'static str, usize); N],
) -> Result<()> {
    operands.into_iter().try_for_each(|(operand, got)| length(kernel, operand, got, expected))
}

/// Asks that an operand is of a type.
pub(super) fn scalar(
    kernel: &'static str,
    operand: &'static str,
    got: Scalar,
    expected: Scalar,
) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(CudaError::Scalar { kernel, operand, expected, got })
}

/// Asks that memory is that of the device where it is used: there, an address of another means nothing.
pub(super) fn on_device(gpu: &Gpu, kernel: &'static str, got: usize) -> Result<()> {
    let expected = gpu.info().ordinal;
    if got == expected { Ok(()) } else { Err(CudaError::Device { kernel, expected, got }) }
}

/// Asks that a strided view lies in an operand of `got` elements.
pub(super) fn view(
    kernel: &'static str,
    operand: &'static str,
    got: usize,
    shape: &[usize],
    strides: &[usize],
) -> Result<()> {
    let fits = || sizes::extent(shape, strides).is_some_and(|end| end <= got);
    if shape.len() == strides.len() && fits() {
        return Ok(());
    }
    let (shape, strides) = (shape.to_vec(), strides.to_vec());
    Err(CudaError::View { kernel, operand, shape, strides, got })
}

/// The number of whole rows of `width` in so many elements.
pub(super) fn rows(
    kernel: &'static str,
    operand: &'static str,
    got: usize,
    width: usize,
) -> Result<usize> {
    let rows = got.checked_div(width).unwrap_or(0);
    length(kernel, operand, got, &[rows, width])?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_the_product_of_the_sizes_and_one_that_wraps_is_none() {
        assert_eq!(length("k", "x", 6, &[2, 3]), Ok(()));
        assert!(length("k", "x", 0, &[1 << 32, 1 << 32]).is_err());
        let error = length("k", "x", 5, &[2, 3]).unwrap_err();
        assert_eq!(error.to_string(), "cuda k: expected x of [2, 3] elements, got 5");
        assert_eq!(rows("k", "x", 6, 2), Ok(3));
        assert!(rows("k", "x", 6, 0).is_err() && rows("k", "x", 6, 4).is_err());
        assert!(view("k", "x", 4, &[2, 2], &[2, 1]).is_ok());
        assert!(view("k", "x", 4, &[2, 2], &[usize::MAX, 2]).is_err());
        assert!(view("k", "x", 4, &[2, 2], &[1]).is_err());
    }
}
