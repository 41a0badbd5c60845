//! minimum: y = min(a, b), broadcasting.   The smaller one gets g; at a tie each gets g/2.

use super::elementwise::{self, binary_samples};
use super::maximum::share;
use crate::op::{Keeps, Op, Saved, Site};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{FloatElement, OpSpec, Result, Shape};

#[derive(Debug)]
struct Minimum;

impl<H: History> Tensor<H> {
    /// The smaller one, element by element; shapes broadcast. NaN if either is NaN.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when the shapes do not broadcast.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let a = Tensor::from_slice(&[1.0_f64, 5.0], [2])?;
    /// let b = Tensor::from_slice(&[3.0_f64], [1])?;
    /// assert_eq!(a.minimum(&b)?.to_vec::<f64>()?, [1.0, 3.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn minimum(&self, other: &Self) -> Result<Self> {
        H::apply(Minimum, &[self, other])
    }
}

fn smaller<T: FloatElement>(a: T, b: T) -> T {
    if a < b || a.is_nan() { a } else { b }
}

impl Op for Minimum {
    fn name(&self) -> &'static str {
        "minimum"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        elementwise::broadcast(self.name(), inputs)
    }

    fn takes_strides(&self) -> bool {
        true
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        elementwise::binary(inputs, out, smaller::<f32>, smaller::<f64>);
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        elementwise::cuda_pairs("minimum", "a < b || a != a ? a : b", inputs, out)
    }

    fn keeps(&self) -> Keeps {
        Keeps::INPUTS
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let [a, b] = at.inputs else { return Ok(Vec::new()) };
        // Whoever loses the maximum wins the minimum.
        let d_a = at.want(0, || at.grad.mul(&share(b, a)?)?.sum_to(a.shape()))?;
        let d_b = at.want(1, || at.grad.mul(&share(a, b)?)?.sum_to(b.shape()))?;
        Ok(vec![d_a, d_b])
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "minimum",
    samples: || binary_samples(|a, b| a.minimum(&b.scale(-0.9)?)),
};
