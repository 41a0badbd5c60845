//! Whether what a step writes is finite, which a sum tells in one pass.

use engine::{DType, Device, Error, Result, Tensor, for_float};
use kernels::reduce::sum_of;

/// Times this, 2⁶⁴ finite numbers have a finite sum, and few are below the least normal number: 2⁻¹⁰⁰.
const SO_SMALL: f64 = 7.888_609_052_210_118e-31;

/// Refuses what a step would write, if a number of it is not finite. One read of each.
pub(crate) fn all_finite<'a>(
    op: &'static str,
    written: impl IntoIterator<Item = &'a Tensor>,
) -> Result<()> {
    for tensor in written {
        let sum = if tensor.device() == Device::Cpu {
            let tensor = tensor.contiguous()?;
            for_float!(tensor.dtype(), T => {
                let x = tensor.as_slice::<T>()?;
                sum_of(x, x, |x, _| x * SO_SMALL)
            })
        } else {
            tensor.to_dtype(DType::F64)?.scale(SO_SMALL)?.sum_all()?.item()?
        };
        if !sum.is_finite() {
            let (name, got) = ("step", sum.to_string());
            return Err(Error::Argument { op, name, expected: "finite numbers to write", got });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_numbers_may_be_written_and_one_that_is_not_finite_may_not() {
        let count = 40_000;
        for (dtype, largest) in [(DType::F64, f64::MAX), (DType::F32, f32::MAX.into())] {
            for x in [largest, -largest, 0.0, 1e-30] {
                all_finite("step", [&Tensor::full([count], x, dtype)]).unwrap();
            }
            for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                for others in [0.0, largest] {
                    let mut numbers = vec![others; count];
                    (numbers[count - 1], numbers[7]) = (bad, -bad);
                    let x = Tensor::from_vec(numbers, [count]).unwrap().to_dtype(dtype).unwrap();
                    let refused = all_finite("step", [&x]);
                    assert!(matches!(refused, Err(Error::Argument { .. })), "{bad}, {dtype}");
                }
            }
        }
    }
}
