//! argsort: the order of the elements along an axis; an integer, without gradients.

use super::max::samples;
use crate::op::{Keeps, Op, Saved, Site, same_float};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{DType, OpSpec, Result, Shape, for_float};

#[derive(Debug)]
struct Argsort {
    axis: usize,
    descending: bool,
}

impl<H: History> Tensor<H> {
    /// Entry `r` of each row along an axis is the position (i64) of the row's element of rank `r`: the
    /// smallest first, or the largest. Equal ones keep their order; NaN counts as the largest.
    ///
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) when there is no such axis;
    /// [`Error::DType`](crate::Error::DType) when the tensor is not floating point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[2.0_f64, 3.0, 1.0], [3])?;
    /// assert_eq!(x.argsort(0, true)?.to_vec::<i64>()?, [1, 0, 2]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn argsort(&self, axis: isize, descending: bool) -> Result<Self> {
        let axis = self.shape().axis("argsort", axis)?;
        H::apply(Argsort { axis, descending }, &[self])
    }
}

impl Op for Argsort {
    fn name(&self) -> &'static str {
        "argsort"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(*inputs[0])
    }

    fn dtype(&self, inputs: &[DType]) -> Result<DType> {
        same_float("argsort", inputs).map(|_| DType::I64)
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let (outer, n, inner) = Shape::new(inputs[0].shape())?.around(self.axis);
        for_float!(inputs[0].dtype(), T => {
            let x = inputs[0].slice::<T>();
            kernels::sort::argsort(x, outer, n, inner, self.descending, out.slice_mut());
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let sizes = Shape::new(inputs[0].shape())?.around(self.axis);
        let (gpu, x) = (inputs[0].gpu(), inputs[0].slice());
        kernels::cuda::sort::argsort(gpu, x, sizes, self.descending, &out.slice_mut())?;
        Ok(Saved::new())
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    /// Never asked for: an integer output carries no gradient.
    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        Ok(vec![None; at.inputs.len()])
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "argsort",
    samples: || samples(|x, axis| x.argsort(axis, axis == 0)?.to_dtype(x.dtype())),
};
