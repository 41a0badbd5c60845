//! log_softmax: yᵢ = xᵢ − ln Σⱼ e^xⱼ along an axis.   dx = g − eʸ Σ g.

#[cfg(feature = "cuda")]
use kernels::cuda::softmax as cuda;

use super::softmax::{along_last, samples, width};
use crate::op::{Keeps, Op, Saved, Site};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{OpSpec, Result, Shape, for_float};

/// Along the last axis.
#[derive(Debug)]
struct LogSoftmax;

impl<H: History> Tensor<H> {
    /// The logarithm of [`Tensor::softmax`], which stays finite where the probability itself
    /// would be rounded to 0.
    ///
    /// # Errors
    /// As [`Tensor::softmax`].
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[1000.0_f64, 0.0], [2])?;
    /// assert_eq!(x.log_softmax(-1)?.to_vec::<f64>()?, [0.0, -1000.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn log_softmax(&self, axis: isize) -> Result<Self> {
        let axis = self.shape().axis("log_softmax", axis)?;
        along_last(self, axis, |x| H::apply(LogSoftmax, &[x]))
    }
}

impl Op for LogSoftmax {
    fn name(&self) -> &'static str {
        "log_softmax"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(*inputs[0])
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        for_float!(inputs[0].dtype(), T => {
            let width = width(inputs[0].shape());
            kernels::softmax::log_softmax(inputs[0].slice::<T>(), width, out.slice_mut::<T>());
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (gpu, width) = (inputs[0].gpu(), width(inputs[0].shape()));
        cuda::forward(gpu, true, width, inputs[0].slice(), &out.slice_mut())?;
        Ok(Saved::new())
    }

    fn keeps(&self) -> Keeps {
        Keeps::OUTPUT
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let (y, g) = (at.output, at.grad);
        let d_x = if at.is_recorded() {
            g.sub(&y.exp()?.mul(&g.sum_keep(&[-1])?)?)?
        } else {
            Var::apply_op(Backward, &[y, g])?
        };
        Ok(vec![Some(d_x)])
    }
}

/// g − eʸ Σ g in one pass over each row. Inputs y, g.
#[derive(Debug)]
struct Backward;

impl Op for Backward {
    fn name(&self) -> &'static str {
        "log_softmax"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(*inputs[0])
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        for_float!(inputs[0].dtype(), T => {
            let (y, g) = (inputs[0].slice::<T>(), inputs[1].slice::<T>());
            let width = width(inputs[0].shape());
            kernels::softmax::log_softmax_backward(y, g, width, out.slice_mut());
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (gpu, width) = (inputs[0].gpu(), width(inputs[0].shape()));
        let (y, g) = (inputs[0].slice(), inputs[1].slice());
        cuda::backward(gpu, true, width, y, g, &out.slice_mut())?;
        Ok(Saved::new())
    }
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "log_softmax", samples: || samples(|x, axis| x.log_softmax(axis)) };

#[cfg(test)]
mod tests {
    use crate::op::sample_input;

    #[test]
    fn its_exponential_is_softmax() {
        let x = sample_input([2, 3, 4]);
        for axis in 0..3 {
            let p = x.softmax(axis).unwrap().to_vec::<f64>().unwrap();
            let q = x.log_softmax(axis).unwrap().exp().unwrap().to_vec::<f64>().unwrap();
            assert!(p.iter().zip(&q).all(|(p, q)| (p - q).abs() < 1e-15), "{p:?} {q:?}");
        }
    }
}
