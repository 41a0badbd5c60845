//! logsumexp: y = ln Σᵢ e^xᵢ along an axis.   dx = g softmax(x).

use super::max::reduced;
use super::softmax::samples;
use crate::op::{Keeps, Op, Saved, Site};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{OpSpec, Result, Shape, for_float};

/// Along the last axis, which disappears.
#[derive(Debug)]
struct LogSumExp;

impl<H: History> Tensor<H> {
    /// ln Σ eˣ along an axis, which disappears; without overflow. It is ∞ if a number is, and −∞ if all
    /// are. Its gradient is [`Tensor::softmax`], also there: numbers ∞ share 1, and of numbers −∞ alone all
    /// is 0.
    ///
    /// # Errors
    /// As [`Tensor::max`].
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[1000.0_f64, 1000.0], [2])?;
    /// assert_eq!(x.logsumexp(0)?.item()?, 1000.0 + 2.0_f64.ln());
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn logsumexp(&self, axis: isize) -> Result<Self> {
        let axis = self.shape().axis("logsumexp", axis)?;
        if axis + 1 == self.rank() {
            return H::apply(LogSumExp, &[self]);
        }
        let others = (0..self.rank()).filter(|&other| other != axis);
        let order: Vec<isize> = others.chain([axis]).map(|axis| axis as isize).collect();
        H::apply(LogSumExp, &[&self.permute(&order)?])
    }
}

impl Op for LogSumExp {
    fn name(&self) -> &'static str {
        "logsumexp"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let last = inputs[0].rank() - 1;
        // It begins with the largest: without one it is refused as that.
        reduced("max", inputs[0], last).map(|_| inputs[0].without(last))
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let width = super::softmax::width(inputs[0].shape());
        for_float!(inputs[0].dtype(), T => {
            kernels::softmax::log_sum_exp(inputs[0].slice::<T>(), width, out.slice_mut());
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (gpu, width) = (inputs[0].gpu(), super::softmax::width(inputs[0].shape()));
        kernels::cuda::softmax::log_sum_exp(gpu, width, inputs[0].slice(), &out.slice_mut())?;
        Ok(Saved::new())
    }

    fn keeps(&self) -> Keeps {
        Keeps::INPUTS
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let x = &at.inputs[0];
        let column = at.grad.reshape(x.shape().with(x.rank() - 1, 1))?;
        Ok(vec![Some(x.softmax(-1)?.mul(&column)?)])
    }
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "logsumexp", samples: || samples(|x, axis| x.logsumexp(axis)) };

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::sample_input;
    use crate::{DType, Tape};

    fn value_and_gradient(x: &Tensor) -> (Vec<f64>, Vec<f64>) {
        let tape = Tape::new();
        let x = tape.watch(x.clone());
        let y = x.logsumexp(-1).unwrap();
        let grads = tape.backward(&y.sum_all().unwrap()).unwrap();
        (y.to_f64_vec().unwrap(), grads.of_var(&x).unwrap().to_f64_vec().unwrap())
    }

    #[test]
    fn its_gradient_is_softmax() {
        let x = sample_input([3, 4]);
        let want = x.softmax(1).unwrap().to_vec::<f64>().unwrap();
        assert_eq!(value_and_gradient(&x).1, want);
    }

    #[test]
    fn of_infinite_numbers_it_is_the_limit_and_its_gradient_is_finite() {
        const INF: f64 = f64::INFINITY;
        for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
            let rows = [-INF, -INF, INF, 0.0, INF, INF, -INF, 1.0];
            let x = Tensor::from_slice(&rows, [4, 2]).unwrap().to_dtype(dtype).unwrap();
            let (y, dx) = value_and_gradient(&x);
            assert_eq!(y, [-INF, INF, INF, 1.0], "{dtype}");
            assert_eq!(dx, [0.0, 0.0, 1.0, 0.0, 0.5, 0.5, 0.0, 1.0], "{dtype}");
        }
    }

    #[test]
    fn along_an_outer_axis_the_others_stay_in_order() {
        let x = sample_input([2, 3, 4]);
        let y = x.logsumexp(0).unwrap();
        assert_eq!(*y.shape(), Shape::from([3, 4]));
        let want = x.exp().unwrap().sum(&[0]).unwrap().log().unwrap().to_vec::<f64>().unwrap();
        let got = y.to_vec::<f64>().unwrap();
        assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-14), "{got:?} {want:?}");
        let empty = sample_input([2, 0]).logsumexp(1);
        assert!(matches!(empty, Err(crate::Error::Shape { op: "max", .. })));
    }
}
