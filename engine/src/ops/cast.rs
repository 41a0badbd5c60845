//! cast: the same numbers in another dtype.   dx = g cast back.

use half::slice::HalfFloatSliceExt;

use crate::dtype::for_element;
use crate::op::{Halves, Keeps, Op, Saved, Site, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{DType, Element, OpSpec, Result, Sample, Shape};

#[derive(Debug)]
struct Cast(DType);

impl<H: History> Tensor<H> {
    /// The same numbers in another dtype, rounded (towards zero for integers); the tensor itself
    /// if it has that dtype. Gradients flow back in the dtype they had.
    ///
    /// # Errors
    /// [`Error::NoKernel`](crate::Error::NoKernel) on a device without the kernel.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        if self.dtype() == dtype { Ok(self.clone()) } else { H::apply(Cast(dtype), &[self]) }
    }
}

impl Op for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(*inputs[0])
    }

    fn dtype(&self, _inputs: &[DType]) -> Result<DType> {
        Ok(self.0)
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let x = &inputs[0];
        match (x.dtype(), out) {
            (DType::F16, CpuStorage::F32(y)) => widen::<half::f16>(x.slice(), y),
            (DType::BF16, CpuStorage::F32(y)) => widen::<half::bf16>(x.slice(), y),
            (DType::F32, CpuStorage::F16(y)) => narrow(x.slice(), y),
            (DType::F32, CpuStorage::BF16(y)) => narrow(x.slice(), y),
            (DType::I64, out) => for_element!(out.dtype(), U => {
                each(x.slice::<i64>(), out.slice_mut::<U>(), U::from_i64);
            }),
            (dtype, out) => for_element!(dtype, T => for_element!(out.dtype(), U => {
                each(x.slice::<T>(), out.slice_mut::<U>(), |x| <U as Element>::from_f64(x.to_f64()));
            })),
        }
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        kernels::cuda::cast::cast(inputs[0].gpu(), inputs[0].slice(), &out.slice_mut())?;
        Ok(Saved::new())
    }

    fn halves(&self) -> Halves {
        Halves::Moved
    }

    fn is_cast(&self) -> bool {
        true
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        Ok(vec![at.want(0, || at.grad.to_dtype(at.inputs[0].dtype()))?])
    }
}

fn each<T: Copy + Sync, U: Send>(x: &[T], y: &mut [U], cast: impl Fn(T) -> U + Sync) {
    kernels::parallel::pieces(y, 1, |start, y| {
        y.iter_mut().zip(&x[start..]).for_each(|(y, &x)| *y = cast(x));
    });
}

/// 16-bit numbers as f32, by the machine's own instructions where it has them.
fn widen<T: Element>(x: &[T], y: &mut [f32])
where
    [T]: HalfFloatSliceExt,
{
    kernels::parallel::pieces(y, 1, |start, y| x[start..start + y.len()].convert_to_f32_slice(y));
}

/// The nearest 16-bit numbers, of two the even one.
fn narrow<T: Element>(x: &[f32], y: &mut [T])
where
    [T]: HalfFloatSliceExt,
{
    kernels::parallel::pieces(y, 1, |start, y| {
        y.convert_from_f32_slice(&x[start..start + y.len()]);
    });
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "cast",
    samples: || {
        // Through f32 and back: f32 keeps 24 bits, so the check runs on numbers it can hold.
        vec![Sample::new(vec![sample_input([2, 3])], |x| {
            x[0].to_dtype(DType::F64)?.scale(2.0)
        })]
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_a_half_dtype_can_hold_come_back_and_others_are_rounded() {
        // 11 significant bits, the largest, the least normal, an infinity beyond; 8 bits.
        let exact = [0.0_f64, -1.0, 2047.0, 65504.0, 6.103_515_625e-5, f64::INFINITY];
        let x = Tensor::from_slice(&exact, [6]).unwrap();
        let there = x.to_dtype(DType::F16).unwrap();
        assert_eq!((there.dtype(), there.bytes()), (DType::F16, 12));
        assert_eq!(there.to_dtype(DType::F64).unwrap().to_vec::<f64>().unwrap(), exact);
        let rounded = |x: f64, dtype| {
            Tensor::scalar(x, DType::F32).to_dtype(dtype).unwrap().item().unwrap()
        };
        assert_eq!(rounded(1.0 + 1.0 / 4096.0, DType::F16), 1.0);
        assert_eq!(rounded(1e5, DType::F16), f64::INFINITY);
        assert_eq!(rounded(257.0, DType::BF16), 256.0);
        assert!((rounded(1e38, DType::BF16) / 1e38 - 1.0).abs() < 1.0 / 256.0);
    }
}
