//! scatter_add: entries of an axis added into the places that an index names.   dx = g gathered.

use crate::op::{Keeps, Op, Saved, Site, expect_dtype, same_float, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{DType, Error, OpSpec, Result, Sample, Shape, for_float};

#[derive(Debug)]
struct ScatterAdd {
    axis: usize,
    size: usize,
}

impl<H: History> Tensor<H> {
    /// A tensor whose `axis` has `size` entries: entry `v` is the sum of this tensor's entries `i`
    /// with `index[i] = v`. The adjoint of [`Tensor::gather`].
    ///
    /// # Shape
    /// x: `[.., k, ..]` · index: `[k]` (i64) · result: `[.., size, ..]`
    ///
    /// # Errors
    /// [`Error::Shape`] when the index does not have k entries, [`Error::Index`] when one is not
    /// in `0..size`.
    pub fn scatter_add(&self, axis: isize, index: &Self, size: usize) -> Result<Self> {
        let axis = self.shape().axis("scatter_add", axis)?;
        H::apply(ScatterAdd { axis, size }, &[self, index])
    }
}

impl Op for ScatterAdd {
    fn name(&self) -> &'static str {
        "scatter_add"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        if **inputs[1] != [inputs[0][self.axis]] {
            return Err(Error::shape("scatter_add", "an index for every entry of the axis", inputs));
        }
        Ok(inputs[0].with(self.axis, self.size))
    }

    fn dtype(&self, inputs: &[DType]) -> Result<DType> {
        expect_dtype("scatter_add", inputs[1], DType::I64)?;
        same_float("scatter_add", &inputs[..1])
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let index = inputs[1].slice::<i64>();
        check_indices("scatter_add", index, self.size)?;
        let (outer, k, inner) = Shape::new(inputs[0].shape())?.around(self.axis);
        for_float!(inputs[0].dtype(), T => {
            let x = inputs[0].slice::<T>();
            kernels::index::scatter_add_axis(x, outer, self.size, inner, index, k, out.slice_mut());
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (gpu, index) = (inputs[0].gpu(), inputs[1].slice());
        let (outer, _, inner) = Shape::new(inputs[0].shape())?.around(self.axis);
        let (sizes, y) = ((outer, self.size, inner), out.slice_mut());
        kernels::cuda::index::check(gpu, "scatter_add", index, self.size)?;
        kernels::cuda::index::scatter_add(gpu, inputs[0].slice(), sizes, index, &y)?;
        Ok(Saved::new())
    }

    fn keeps(&self) -> Keeps {
        Keeps::INPUTS
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let index = &at.inputs[1];
        Ok(vec![at.want(0, || at.grad.gather(self.axis as isize, index))?, None])
    }
}

/// Every index is in `0..bound`.
pub(super) fn check_indices(op: &'static str, index: &[i64], bound: usize) -> Result<()> {
    match index.iter().position(|&i| i < 0 || i as usize >= bound) {
        Some(at) => Err(Error::Index { op, index: index[at], at, bound }),
        None => Ok(()),
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "scatter_add",
    samples: || {
        let index = |i: &[i64]| Tensor::from_slice(i, [i.len()]).unwrap_or_else(|_| Tensor::arange(0, DType::I64));
        vec![
            Sample::new(vec![sample_input([3, 2]), index(&[1, 4, 1])], |x| x[0].scatter_add(0, &x[1], 5)),
            Sample::new(vec![sample_input([2, 3, 2]), index(&[0, 0, 2])], |x| x[0].scatter_add(1, &x[1], 3)),
        ]
    },
};
