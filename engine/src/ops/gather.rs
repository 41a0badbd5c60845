//! gather: entries of an axis, by index.   dx = g scattered and added.

use super::scatter_add::check_indices;
use crate::op::{Keeps, Op, Saved, Site, expect_dtype, same_float, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{DType, Error, OpSpec, Result, Sample, Shape, for_float};

#[derive(Debug)]
struct Gather(usize);

impl<H: History> Tensor<H> {
    /// Entry `i` of the result's `axis` is entry `index[i]` of this tensor's. (PyTorch's
    /// `index_select`.)
    ///
    /// # Shape
    /// x: `[.., n, ..]` · index: `[k]` (i64) · result: `[.., k, ..]`
    ///
    /// # Errors
    /// [`Error::Shape`] when the index is not one-dimensional, [`Error::Index`] when one is not in
    /// `0..n`.
    pub fn gather(&self, axis: isize, index: &Self) -> Result<Self> {
        let axis = self.shape().axis("gather", axis)?;
        H::apply(Gather(axis), &[self, index])
    }
}

impl Op for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        match inputs[1].len() {
            1 => Ok(inputs[0].with(self.0, inputs[1][0])),
            _ => Err(Error::shape("gather", "x and a one-dimensional index", inputs)),
        }
    }

    fn dtype(&self, inputs: &[DType]) -> Result<DType> {
        expect_dtype("gather", inputs[1], DType::I64)?;
        same_float("gather", &inputs[..1])
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let index = inputs[1].slice::<i64>();
        let (outer, n, inner) = Shape::new(inputs[0].shape())?.around(self.0);
        check_indices("gather", index, n)?;
        for_float!(inputs[0].dtype(), T => {
            let x = inputs[0].slice::<T>();
            kernels::index::gather_axis(x, outer, n, inner, index, index.len(), out.slice_mut());
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (gpu, index) = (inputs[0].gpu(), inputs[1].slice());
        let sizes = Shape::new(inputs[0].shape())?.around(self.0);
        kernels::cuda::index::check(gpu, "gather", index, sizes.1)?;
        kernels::cuda::index::gather(gpu, inputs[0].slice(), sizes, index, &out.slice_mut())?;
        Ok(Saved::new())
    }

    fn keeps(&self) -> Keeps {
        Keeps::INPUTS
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let (x, index) = (&at.inputs[0], &at.inputs[1]);
        let size = x.shape()[self.0];
        Ok(vec![at.want(0, || at.grad.scatter_add(self.0 as isize, index, size))?, None])
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "gather",
    samples: || {
        let index = |i: &[i64]| Tensor::from_slice(i, [i.len()]).unwrap_or_else(|_| Tensor::arange(0, DType::I64));
        vec![
            Sample::new(vec![sample_input([4, 2]), index(&[3, 0, 3])], |x| x[0].gather(0, &x[1])),
            Sample::new(vec![sample_input([2, 3, 2]), index(&[2, 1])], |x| x[0].gather(-2, &x[1])),
        ]
    },
};
