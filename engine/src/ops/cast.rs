//! cast: the same numbers in another dtype.   dx = g cast back.

use crate::op::{Keeps, Op, Saved, Site, sample_input};
use crate::storage::{CpuStorage, CpuView};
use crate::tensor::{History, Tensor, Var};
use crate::{DType, Element, OpSpec, Result, Sample, Shape};

#[derive(Debug)]
struct Cast(DType);

impl<H: History> Tensor<H> {
    /// The same numbers in another dtype, rounded (towards zero for integers); the tensor itself
    /// if it has that dtype. Gradients flow between floating point dtypes.
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
        match inputs[0].dtype() {
            DType::F32 => from::<f32>(inputs[0].slice(), out),
            DType::F64 => from::<f64>(inputs[0].slice(), out),
            DType::I64 => from::<i64>(inputs[0].slice(), out),
        }
        Ok(Saved::new())
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        Ok(vec![at.want(0, || at.grad.to_dtype(at.inputs[0].dtype()))?])
    }
}

fn from<T: Element>(x: &[T], out: &mut CpuStorage) {
    fn into<T: Element, U: Element>(x: &[T], out: &mut [U]) {
        x.iter().zip(out).for_each(|(x, y)| *y = U::from_f64(x.to_f64()));
    }
    match out {
        CpuStorage::F32(out) => into(x, out),
        CpuStorage::F64(out) => into(x, out),
        CpuStorage::I64(out) => into(x, out),
    }
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
