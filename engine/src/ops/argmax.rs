//! argmax: where along an axis the largest element is; an integer, without gradients.

use super::max::{reduced, samples};
use crate::op::{Keeps, Op, Saved, Site, same_float};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{DType, FloatElement, OpSpec, Result, Shape, for_float};

/// The axis stays, with size 1.
#[derive(Debug)]
struct Argmax(usize);

impl<H: History> Tensor<H> {
    /// The position (i64) of the largest element along an axis, which disappears; that of the
    /// first of equal ones, or of the first NaN.
    ///
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) when there is no such axis;
    /// [`Error::Shape`](crate::Error::Shape) when it has size 0.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[1.0_f64, 7.0, 5.0, 2.0], [2, 2])?;
    /// assert_eq!(x.argmax(1)?.to_vec::<i64>()?, [1, 0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn argmax(&self, axis: isize) -> Result<Self> {
        let axis = self.shape().axis("argmax", axis)?;
        H::apply(Argmax(axis), &[self])?.reshape(self.shape().without(axis))
    }
}

impl Op for Argmax {
    fn name(&self) -> &'static str {
        "argmax"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        reduced("argmax", inputs[0], self.0)
    }

    fn dtype(&self, inputs: &[DType]) -> Result<DType> {
        same_float("argmax", inputs).map(|_| DType::I64)
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let (outer, n, inner) = Shape::new(inputs[0].shape())?.around(self.0);
        let at = out.slice_mut::<i64>();
        for_float!(inputs[0].dtype(), T => {
            positions::<T>(inputs[0].slice(), outer, n, inner, at);
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let sizes = Shape::new(inputs[0].shape())?.around(self.0);
        let (gpu, len) = (inputs[0].gpu(), out.len());
        let mut maxima = CudaStorage::unspecified(gpu, inputs[0].dtype(), len)?;
        let (y, at) = (maxima.slice_mut(), out.slice_mut());
        kernels::cuda::reduce::max(gpu, inputs[0].slice(), sizes, false, &y, &at)?;
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

fn positions<T: FloatElement>(x: &[T], outer: usize, n: usize, inner: usize, at: &mut [i64]) {
    let mut maxima = kernels::Buffer::<T>::unspecified(at.len());
    kernels::reduce::max_axis(x, outer, n, inner, &mut maxima, at);
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "argmax",
    samples: || samples(|x, axis| x.argmax(axis)?.to_dtype(x.dtype())),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_ones_and_a_nan_above_all() {
        let of = |v: [f64; 3]| Tensor::from_slice(&v, [3]).unwrap();
        let at = |x: Result<Tensor>| x.unwrap().item().unwrap();
        assert_eq!(at(of([2.0, 5.0, 5.0]).argmax(0)), 1.0);
        assert_eq!(at(of([2.0, 1.0, 1.0]).argmin(0)), 1.0);
        assert_eq!(at(of([9.0, f64::NAN, 1.0]).argmax(-1)), 1.0);
        assert_eq!(at(of([9.0, f64::NAN, 1.0]).argmin(-1)), 1.0);
    }
}
