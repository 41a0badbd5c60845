//! softmax: yᵢ = e^xᵢ / Σⱼ e^xⱼ along an axis.   dx = y ∘ (g − ⟨g, y⟩).   Bridle 1990.

#[cfg(feature = "cuda")]
use kernels::cuda::softmax as cuda;

use crate::op::{Keeps, Op, Saved, Site, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{OpSpec, Result, Sample, Shape, for_float};

/// Along the last axis; or its logarithm, which is `log_softmax.rs`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Softmax {
    pub(super) log: bool,
}

impl<H: History> Tensor<H> {
    /// Positive numbers that add up to one along `axis`, in proportion to eˣ. The maximum is
    /// subtracted first, so nothing overflows. Infinite numbers get what they have in the limit: numbers
    /// +∞ share 1, and −∞ beside others is 0; where all are −∞ (all masked), there is no weight: all is 0.
    ///
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) when there is no such axis,
    /// [`Error::DType`](crate::Error::DType) when the tensor is not floating point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[1000.0_f64, 1000.0 + 3.0_f64.ln()], [2])?;
    /// let y = x.softmax(-1)?.to_vec::<f64>()?; // in proportion 1 : 3
    /// assert!((y[0] - 0.25).abs() < 1e-13 && (y[1] - 0.75).abs() < 1e-13);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn softmax(&self, axis: isize) -> Result<Self> {
        let axis = self.shape().axis("softmax", axis)?;
        along_last(self, axis, |x| H::apply(Softmax { log: false }, &[x]))
    }
}

/// Applies `f`, which works along the last axis, along another one.
pub(super) fn along_last<H: History>(
    x: &Tensor<H>,
    axis: usize,
    f: impl Fn(&Tensor<H>) -> Result<Tensor<H>>,
) -> Result<Tensor<H>> {
    if axis + 1 == x.rank() {
        return f(x);
    }
    f(&x.transpose(axis as isize, -1)?)?.transpose(axis as isize, -1)
}

/// The size of the last axis.
pub(super) fn width(shape: &[usize]) -> usize {
    shape.last().copied().unwrap_or(1)
}

impl Op for Softmax {
    fn name(&self) -> &'static str {
        if self.log { "log_softmax" } else { "softmax" }
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(*inputs[0])
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        for_float!(inputs[0].dtype(), T => {
            let (x, width) = (inputs[0].slice::<T>(), width(inputs[0].shape()));
            match self.log {
                true => kernels::softmax::log_softmax(x, width, out.slice_mut()),
                false => kernels::softmax::softmax(x, width, out.slice_mut()),
            }
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (gpu, width) = (inputs[0].gpu(), width(inputs[0].shape()));
        cuda::forward(gpu, self.log, width, inputs[0].slice(), &out.slice_mut())?;
        Ok(Saved::new())
    }

    fn keeps(&self) -> Keeps {
        Keeps::OUTPUT
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let (y, g) = (at.output, at.grad);
        let d_x = match (at.is_recorded(), self.log) {
            (false, _) => Var::apply_op(Backward(*self), &[y, g])?,
            (true, true) => g.sub(&y.exp()?.mul(&g.sum_keep(&[-1])?)?)?,
            (true, false) => y.mul(&g.sub(&g.mul(y)?.sum_keep(&[-1])?)?)?,
        };
        Ok(vec![Some(d_x)])
    }
}

/// y ∘ (g − ⟨g, y⟩), or g − eʸ Σ g of the logarithm, in one pass over each row. Inputs y, g.
#[derive(Debug)]
struct Backward(Softmax);

impl Op for Backward {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(*inputs[0])
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        for_float!(inputs[0].dtype(), T => {
            let (y, g) = (inputs[0].slice::<T>(), inputs[1].slice::<T>());
            let width = width(inputs[0].shape());
            match self.0.log {
                true => kernels::softmax::log_softmax_backward(y, g, width, out.slice_mut()),
                false => kernels::softmax::softmax_backward(y, g, width, out.slice_mut()),
            }
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (gpu, width) = (inputs[0].gpu(), width(inputs[0].shape()));
        let (y, g) = (inputs[0].slice(), inputs[1].slice());
        cuda::backward(gpu, self.0.log, width, y, g, &out.slice_mut())?;
        Ok(Saved::new())
    }
}

/// Samples along the last, a middle and the only axis, over one element, and without any.
pub(super) fn samples(call: fn(&Var, isize) -> Result<Var>) -> Vec<Sample> {
    vec![
        Sample::new(vec![sample_input([3, 4])], move |x| call(&x[0], -1)),
        Sample::new(vec![sample_input([2, 3, 2])], move |x| call(&x[0], 1)),
        Sample::new(vec![sample_input([5])], move |x| call(&x[0], 0)),
        Sample::new(vec![sample_input([3, 1])], move |x| call(&x[0], -1)),
        Sample::new(vec![sample_input([0, 3])], move |x| call(&x[0], 1)),
    ]
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "softmax", samples: || samples(|x, axis| x.softmax(axis)) };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_inputs_give_the_same_as_small_ones_with_the_same_differences() {
        let of = |v: [f64; 2]| {
            Tensor::from_slice(&v, [2]).unwrap().softmax(0).unwrap().to_vec::<f64>().unwrap()
        };
        assert_eq!(of([1000.0, 1001.0]), of([0.0, 1.0]));
    }

    #[test]
    fn along_another_axis_the_columns_add_up_to_one() {
        let y = sample_input([2, 3, 4]).softmax(1).unwrap();
        let sums = y.sum(&[1]).unwrap().to_vec::<f64>().unwrap();
        assert!(sums.iter().all(|s| (s - 1.0).abs() < 1e-15), "{sums:?}");
    }

    #[test]
    fn a_nan_spoils_its_row_and_no_other() {
        let x = Tensor::from_slice(&[f64::NAN, 0.0, 1.0, 1.0], [2, 2]).unwrap();
        let y = x.softmax(-1).unwrap().to_vec::<f64>().unwrap();
        assert!(y[0].is_nan() && y[1].is_nan());
        assert_eq!(y[2..], [0.5, 0.5]);
    }
}
