//! add: y = a + b, broadcasting.   da = g, db = g, summed over what was repeated.

use super::elementwise::binary_samples;
use crate::op::{Halves, Keeps, Op, Saved, Site};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{OpSpec, Result, Shape};

#[derive(Debug)]
struct Add;

impl<H: History> Tensor<H> {
    /// The sum, element by element; shapes broadcast.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when the shapes do not broadcast.
    pub fn add(&self, other: &Self) -> Result<Self> {
        H::apply(Add, &[self, other])
    }
}

impl Op for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        super::elementwise::broadcast(self.name(), inputs)
    }

    fn takes_strides(&self) -> bool {
        true
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        super::elementwise::binary(inputs, out, |a, b| a + b, |a, b| a + b);
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        super::elementwise::cuda_pairs("add", "a + b", inputs, out)
    }

    fn halves(&self) -> Halves {
        Halves::InCudaAndRule
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let [a, b] = at.inputs else { return Ok(Vec::new()) };
        let d_a = at.want(0, || at.grad.sum_to(a.shape()))?;
        let d_b = at.want(1, || at.grad.sum_to(b.shape()))?;
        Ok(vec![d_a, d_b])
    }
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "add", samples: || binary_samples(|a, b| a.add(b)) };
