//! cross_entropy: y = −(1/R) Σᵣ ln softmax(x)[r, label(r)].   dx = (softmax(x) − one-hot) g / R.

use super::scatter_add::check_indices;
use super::softmax::width;
use crate::op::{Keeps, Op, Saved, Site, expect_dtype, same_float, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{DType, Error, OpSpec, Result, Sample, Shape, for_float};

/// Softmax, logarithm, choice and mean in one op. It joins two passes over the logits and never
/// writes probabilities; its unfused twin is `log_softmax` followed by a choice.
#[derive(Debug)]
struct CrossEntropy;

impl<H: History> Tensor<H> {
    /// The mean negative log-probability of the labels, where the last axis holds unnormalised
    /// log-probabilities (logits).
    ///
    /// # Shape
    /// logits: `[.., C]` · labels: `[..]` (i64, each in 0..C) · result: `[]`
    ///
    /// # Units
    /// A mean over the rows, in nats.
    ///
    /// # Errors
    /// [`Error::Shape`] when they do not fit or there is no row; [`Error::Index`] for a label
    /// outside `0..C`.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let logits = Tensor::from_slice(&[0.0_f64, 0.0, 3.0_f64.ln(), 0.0], [2, 2])?;
    /// let labels = Tensor::from_slice(&[0_i64, 1], [2])?;
    /// let loss = logits.cross_entropy(&labels)?.item()?; // probabilities 1/2 and 1/4
    /// assert!((loss - 1.5 * 2.0_f64.ln()).abs() < 1e-15);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn cross_entropy(&self, labels: &Self) -> Result<Self> {
        H::apply(CrossEntropy, &[self, labels])
    }
}

impl Op for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let (logits, labels) = (inputs[0], inputs[1]);
        let fits = logits.rank() > 0 && *labels == logits.without(logits.rank() - 1);
        if !fits || labels.numel() == 0 {
            let expected = "logits [.., C] and labels [..] of at least one row";
            return Err(Error::shape("cross_entropy", expected, inputs));
        }
        Ok(Shape::SCALAR)
    }

    fn dtype(&self, inputs: &[DType]) -> Result<DType> {
        expect_dtype("cross_entropy", inputs[1], DType::I64)?;
        same_float("cross_entropy", &inputs[..1])
    }

    /// Saves the log-probabilities.
    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let shape = Shape::new(inputs[0].shape())?;
        let (width, labels) = (width(&shape), inputs[1].slice::<i64>());
        check_indices("cross_entropy", labels, width)?;
        let mut log_p = CpuStorage::unspecified(inputs[0].dtype(), shape.numel());
        for_float!(inputs[0].dtype(), T => {
            let (x, log_p) = (inputs[0].slice::<T>(), log_p.slice_mut());
            out.slice_mut::<T>()[0] = kernels::softmax::cross_entropy(x, labels, width, log_p);
        });
        Ok(vec![Tensor::from_cpu(log_p, shape)])
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (gpu, shape) = (inputs[0].gpu(), Shape::new(inputs[0].shape())?);
        let (width, labels) = (width(&shape), inputs[1].slice());
        kernels::cuda::index::check(gpu, "cross_entropy", labels, width)?;
        let mut log_p = CudaStorage::unspecified(gpu, inputs[0].dtype(), shape.numel())?;
        let (x, y) = (inputs[0].slice(), out.slice_mut());
        kernels::cuda::softmax::cross_entropy(gpu, width, x, labels, &log_p.slice_mut(), &y)?;
        Ok(vec![Tensor::from_cuda(log_p, shape)])
    }

    fn keeps(&self) -> Keeps {
        Keeps::INPUTS
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let (logits, labels) = (&at.inputs[0], &at.inputs[1]);
        let d_logits = at.want(0, || match at.saved {
            [log_p] if !at.is_recorded() => {
                Var::apply_op(Backward, &[&Var::constant(log_p), labels, at.grad])
            }
            _ => {
                let one_hot = Var::constant(&one_hot(&labels.value(), logits.shape(), logits.dtype())?);
                let share = at.grad.scale(1.0 / labels.numel() as f64)?;
                logits.softmax(-1)?.sub(&one_hot)?.mul(&share)
            }
        })?;
        Ok(vec![d_logits, None])
    }
}

/// 1 at each row's label, else 0; by comparing labels with class numbers.
fn one_hot(labels: &Tensor, shape: &Shape, dtype: DType) -> Result<Tensor> {
    let classes = Tensor::arange(width(shape), DType::I64).to_device(labels.device())?;
    let column = Shape::new(&[&**labels.shape(), &[1]].concat())?;
    labels.reshape(column)?.equal(&classes)?.to_dtype(dtype)
}

/// (eˡᵒᵍ ᵖ − one-hot) g / R in one pass. Inputs log p, labels, g.
#[derive(Debug)]
struct Backward;

impl Op for Backward {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(*inputs[0])
    }

    fn dtype(&self, inputs: &[DType]) -> Result<DType> {
        same_float("cross_entropy", &[inputs[0], inputs[2]])
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let (width, labels) = (width(inputs[0].shape()), inputs[1].slice::<i64>());
        for_float!(inputs[0].dtype(), T => {
            let share = inputs[2].slice::<T>()[0] / <T as kernels::Float>::of(labels.len() as f64);
            let log_p = inputs[0].slice::<T>();
            kernels::softmax::cross_entropy_backward(log_p, labels, width, share, out.slice_mut());
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (gpu, width) = (inputs[0].gpu(), width(inputs[0].shape()));
        let [log_p, labels, g] = [0, 1, 2].map(|i| inputs[i].slice());
        let d_x = out.slice_mut();
        kernels::cuda::softmax::cross_entropy_backward(gpu, width, log_p, labels, g, &d_x)?;
        Ok(Saved::new())
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "cross_entropy",
    samples: || {
        let labels = |bound: usize, shape: Shape| {
            Tensor::from_fn(shape, DType::I64, |i| ((2 * i + 1) % bound) as f64)
        };
        vec![
            Sample::new(vec![sample_input([3, 4]), labels(4, [3].into())], |x| {
                x[0].cross_entropy(&x[1])
            }),
            Sample::new(vec![sample_input([2, 2, 3]), labels(3, [2, 2].into())], |x| {
                x[0].cross_entropy(&x[1])
            }),
            Sample::new(vec![sample_input([3]), labels(3, ().into())], |x| {
                x[0].cross_entropy(&x[1])
            }),
        ]
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;

    fn labels(l: &[i64]) -> Tensor {
        Tensor::from_slice(l, [l.len()]).unwrap()
    }

    #[test]
    fn it_is_the_mean_of_the_chosen_negative_log_probabilities() {
        let x = sample_input([3, 4]);
        let log_p = x.log_softmax(-1).unwrap().to_vec::<f64>().unwrap();
        let want = -(log_p[2] + log_p[4] + log_p[8 + 3]) / 3.0;
        let got = x.cross_entropy(&labels(&[2, 0, 3])).unwrap().item().unwrap();
        assert!((got - want).abs() < 1e-15);
    }

    #[test]
    fn the_gradient_of_a_row_adds_up_to_zero() {
        let tape = Tape::new();
        let x = tape.watch(sample_input([2, 3]));
        let loss = x.cross_entropy(&tape.input(labels(&[1, 2]))).unwrap();
        let grads = tape.backward(&loss).unwrap();
        let sums = grads.of_var(&x).unwrap().sum(&[1]).unwrap().to_vec::<f64>().unwrap();
        assert!(sums.iter().all(|s| s.abs() < 1e-16), "{sums:?}");
    }

    #[test]
    fn a_label_out_of_range_and_an_empty_batch_are_typed_errors() {
        let x = sample_input([2, 3]);
        let outside = x.cross_entropy(&labels(&[0, 3]));
        assert!(matches!(outside, Err(Error::Index { index: 3, at: 1, bound: 3, .. })));
        assert!(matches!(x.cross_entropy(&labels(&[-1, 0])), Err(Error::Index { index: -1, .. })));
        let empty = sample_input([0, 3]).cross_entropy(&labels(&[]));
        assert!(matches!(empty, Err(Error::Shape { op: "cross_entropy", .. })));
    }
}
