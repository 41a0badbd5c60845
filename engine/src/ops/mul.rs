//! mul: y = a b, broadcasting.   da = g b, db = g a, summed over what was repeated.

use super::elementwise::binary_samples;
use crate::op::{Halves, Keeps, Op, Saved, Site};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{OpSpec, Result, Shape};

#[derive(Debug)]
struct Mul;

impl<H: History> Tensor<H> {
    /// The product, element by element; shapes broadcast.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when the shapes do not broadcast.
    pub fn mul(&self, other: &Self) -> Result<Self> {
        H::apply(Mul, &[self, other])
    }
}

impl Op for Mul {
    fn name(&self) -> &'static str {
        "mul"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        super::elementwise::broadcast(self.name(), inputs)
    }

    fn takes_strides(&self) -> bool {
        true
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        super::elementwise::binary(inputs, out, |a, b| a * b, |a, b| a * b);
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        super::elementwise::cuda_pairs("mul", "a * b", inputs, out)
    }

    fn halves(&self) -> Halves {
        Halves::InCuda
    }

    fn keeps(&self) -> Keeps {
        Keeps::INPUTS
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let [a, b] = at.inputs else { return Ok(Vec::new()) };
        let d_a = at.want(0, || at.grad.mul(b)?.sum_to(a.shape()))?;
        let d_b = at.want(1, || at.grad.mul(a)?.sum_to(b.shape()))?;
        Ok(vec![d_a, d_b])
    }
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "mul", samples: || binary_samples(|a, b| a.mul(b)) };
