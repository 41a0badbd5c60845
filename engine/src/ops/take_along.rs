//! take_along: elements along an axis, each by an index of its own.   dx = g added where they came
//! from; that is the adjoint op, whose own gradient is taking again.

use super::scatter_add::check_indices;
use crate::op::{Keeps, Op, Saved, Site, expect_dtype, same_float, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{DType, Error, OpSpec, Result, Sample, Shape, for_float};

#[derive(Debug)]
struct TakeAlong(usize);

impl<H: History> Tensor<H> {
    /// Element `(.., j, ..)` of the result is element `(.., index[.., j, ..], ..)` of this tensor.
    /// (PyTorch's `gather`; [`Tensor::gather`] takes whole entries.)
    ///
    /// # Shape
    /// x: `[.., n, ..]` · index: `[.., k, ..]` (i64), equal in all axes but this · result: the index's
    ///
    /// # Errors
    /// [`Error::Shape`] when the index differs in another axis, [`Error::Index`] when one is not in
    /// `0..n`.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[1.0_f64, 2.0, 3.0, 4.0], [2, 2])?;
    /// let column = Tensor::from_slice(&[1_i64, 0], [2, 1])?; // of each row
    /// assert_eq!(x.take_along(1, &column)?.to_vec::<f64>()?, [2.0, 3.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn take_along(&self, axis: isize, index: &Self) -> Result<Self> {
        let axis = self.shape().axis("take_along", axis)?;
        H::apply(TakeAlong(axis), &[self, index])
    }
}

impl Op for TakeAlong {
    fn name(&self) -> &'static str {
        "take_along"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let (x, index) = (inputs[0], inputs[1]);
        if x.rank() != index.rank() || x.with(self.0, 0) != index.with(self.0, 0) {
            let expected = format!("x and an index of equal shapes but for axis {}", self.0);
            return Err(Error::shape("take_along", expected, inputs));
        }
        Ok(*index)
    }

    fn dtype(&self, inputs: &[DType]) -> Result<DType> {
        expect_dtype("take_along", inputs[1], DType::I64)?;
        same_float("take_along", &inputs[..1])
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let (index, k) = (inputs[1].slice::<i64>(), inputs[1].shape()[self.0]);
        let (outer, n, inner) = Shape::new(inputs[0].shape())?.around(self.0);
        check_indices("take_along", index, n)?;
        for_float!(inputs[0].dtype(), T => {
            let x = inputs[0].slice::<T>();
            kernels::along::take(x, outer, n, inner, index, k, out.slice_mut());
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (gpu, index) = (inputs[0].gpu(), inputs[1].slice());
        let sizes = Shape::new(inputs[0].shape())?.around(self.0);
        kernels::cuda::index::check(gpu, "take_along", index, sizes.1)?;
        kernels::cuda::along::take(gpu, inputs[0].slice(), sizes, index, &out.slice_mut())?;
        Ok(Saved::new())
    }

    fn keeps(&self) -> Keeps {
        Keeps::INPUTS
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let (x, index) = (&at.inputs[0], &at.inputs[1]);
        let adjoint = AddAlong { axis: self.0, size: x.shape()[self.0] };
        Ok(vec![at.want(0, || Var::apply_op(adjoint, &[at.grad, index]))?, None])
    }
}

/// The adjoint: g added at the places that the index names, in an axis of `size` entries.
#[derive(Debug)]
struct AddAlong {
    axis: usize,
    size: usize,
}

impl Op for AddAlong {
    fn name(&self) -> &'static str {
        "take_along"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(inputs[0].with(self.axis, self.size))
    }

    fn dtype(&self, inputs: &[DType]) -> Result<DType> {
        same_float("take_along", &inputs[..1])
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let (outer, k, inner) = Shape::new(inputs[0].shape())?.around(self.axis);
        let index = inputs[1].slice::<i64>();
        for_float!(inputs[0].dtype(), T => {
            let g = inputs[0].slice::<T>();
            kernels::along::add(g, outer, self.size, inner, index, k, out.slice_mut());
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (gpu, index) = (inputs[0].gpu(), inputs[1].slice());
        let (outer, _, inner) = Shape::new(inputs[0].shape())?.around(self.axis);
        let sizes = (outer, self.size, inner);
        kernels::cuda::along::add(gpu, inputs[0].slice(), sizes, index, &out.slice_mut())?;
        Ok(Saved::new())
    }

    fn keeps(&self) -> Keeps {
        Keeps::INPUTS
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let d_g = at.want(0, || at.grad.take_along(self.axis as isize, &at.inputs[1]))?;
        Ok(vec![d_g, None])
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "take_along",
    samples: || {
        let sample = |x: Shape, axis: usize, k: usize| {
            let n = x[axis].max(1);
            let index = Tensor::from_fn(x.with(axis, k), DType::I64, |i| (3 * i % n) as f64);
            let call = move |x: &[Var]| x[0].take_along(axis as isize, &x[1])?.square();
            Sample::new(vec![sample_input(x), index], call)
        };
        vec![
            sample([3, 4].into(), 1, 6),
            sample([3, 2, 2].into(), 0, 2),
            sample([2, 3, 2].into(), 1, 1),
            sample([2, 3].into(), 1, 0),
        ]
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_the_same_index_everywhere_it_takes_whole_entries() {
        let x = sample_input([2, 4, 3]);
        let index = Tensor::from_slice(&[3_i64, 1], [2]).unwrap();
        let wide = Tensor::from_fn([2, 2, 3], DType::I64, |i| [3.0, 1.0][i / 3 % 2]);
        let (one, all) = (x.take_along(1, &wide).unwrap(), x.gather(1, &index).unwrap());
        assert_eq!(one.to_vec::<f64>().unwrap(), all.to_vec::<f64>().unwrap());
    }

    #[test]
    fn what_does_not_fit_is_a_typed_error() {
        let x = sample_input([2, 3]);
        let index = |shape: Shape, value: f64| Tensor::full(shape, value, DType::I64);
        let shape = x.take_along(1, &index([1, 3].into(), 0.0));
        assert!(matches!(shape, Err(Error::Shape { op: "take_along", .. })));
        let rank = x.take_along(1, &index([3].into(), 0.0));
        assert!(matches!(rank, Err(Error::Shape { op: "take_along", .. })));
        for wrong in [3.0, -1.0] {
            let got = x.take_along(1, &index([2, 1].into(), wrong));
            assert!(matches!(got, Err(Error::Index { op: "take_along", bound: 3, .. })));
        }
        assert!(matches!(x.take_along(1, &x), Err(Error::DType { op: "take_along", .. })));
    }
}
