//! soft_cross_entropy: y = −(1/R) Σᵣ Σ_c t[r, c] ln softmax(x)[r, c].   dx = (softmax(x) − t) g / R.

use super::elementwise;
use super::softmax::width;
use crate::op::halves::widened;
use crate::op::targets::Targets;
use crate::op::{Op, Saved, Site, expect_dtype};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{DType, Error, FloatElement, OpSpec, Result, Sample, Shape, for_float, op::sample_input};

/// −t log p of every entry, 0 where t is. Inputs log p, t, whose dtype was that of `targets`.
#[derive(Debug)]
struct Terms {
    targets: Targets,
}

impl<H: History> Tensor<H> {
    /// The mean over the rows of the cross-entropy of targets, which are probabilities of all classes:
    /// mixup and label smoothing give such. An impossible class (−∞) that has no target costs nothing. In
    /// 16 bits all is computed in f32 and rounded once.
    ///
    /// # Shape
    /// self (logits), targets: `[.., C]` of the same dtype · result: `[]`
    ///
    /// # Units
    /// A mean over the R rows, in nats.
    ///
    /// # Errors
    /// [`Error::Shape`] and [`Error::DType`] when they differ; [`Error::Target`] for a target that is no
    /// probability, or a row that does not sum to 1: by more than 1.5·10⁻³ (probabilities of three decimals
    /// may), in f16 2·10⁻³, in bf16 1.6·10⁻² (from a GPU, at the next read).
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let logits = Tensor::from_slice(&[0.0_f64, 3.0_f64.ln()], [1, 2])?; // probabilities 1/4 and 3/4
    /// let targets = Tensor::from_slice(&[0.5_f64, 0.5], [1, 2])?;
    /// let loss = logits.soft_cross_entropy(&targets)?.item()?;
    /// assert!((loss + 0.5 * (0.25_f64 * 0.75).ln()).abs() < 1e-15);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn soft_cross_entropy(&self, targets: &Self) -> Result<Self> {
        expect_dtype("soft_cross_entropy", targets.dtype(), self.dtype())?;
        let terms = Terms { targets: Targets::Rows(targets.dtype()) };
        let log_p = widened(self)?.log_softmax(-1)?;
        let terms = H::apply(terms, &[&log_p, &widened(targets)?])?;
        let rows = self.numel() / width(self.shape()).max(1);
        terms.sum_all()?.scale(1.0 / rows as f64)?.to_dtype(self.dtype())
    }
}

fn term<T: FloatElement>(log_p: T, t: T) -> T {
    if t == T::ZERO { T::ZERO } else { -t * log_p }
}

impl Op for Terms {
    fn name(&self) -> &'static str {
        "soft_cross_entropy"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        if inputs[0] == inputs[1] && inputs[0].rank() > 0 && inputs[0].numel() > 0 {
            return Ok(*inputs[0]);
        }
        Err(Error::shape(self.name(), "logits and targets [.., C] of at least one row", inputs))
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let width = width(inputs[1].shape());
        for_float!(inputs[1].dtype(), T => self.targets.check::<T>(inputs[1].slice(), width))?;
        elementwise::binary(inputs, out, term::<f32>, term::<f64>);
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        self.targets.check_there(&inputs[1], width(inputs[1].shape()))?;
        elementwise::cuda_pairs(self.name(), "b == T(0) ? T(0) : -b * a", inputs, out)
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let [log_p, t] = at.inputs else { return Ok(Vec::new()) };
        let d_log_p = at.want(0, || t.neg()?.mul(at.grad))?;
        let d_t = at.want(1, || log_p.neg()?.mul(at.grad))?;
        Ok(vec![d_log_p, d_t])
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "soft_cross_entropy",
    samples: || {
        let targets = |i: usize| [0.4, 0.3, 0.1, 0.2][i % 4];
        let sample = |shape: Shape| {
            let inputs = vec![sample_input(shape), Tensor::from_fn(shape, DType::F64, targets)];
            Sample::new(inputs, |x| x[0].soft_cross_entropy(&x[1]))
        };
        vec![sample([3, 4].into()), sample([2, 1, 4].into()), sample([4].into())]
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;

    #[test]
    fn a_label_as_a_distribution_is_the_cross_entropy_of_the_label() {
        let x = sample_input([3, 4]);
        let labels = Tensor::from_slice(&[2_i64, 0, 3], [3]).unwrap();
        let soft = Tensor::from_fn([3, 4], DType::F64, |i| f64::from(u8::from([2, 4, 11].contains(&i))));
        let (a, b) = (x.cross_entropy(&labels).unwrap(), x.soft_cross_entropy(&soft).unwrap());
        assert!((a.item().unwrap() - b.item().unwrap()).abs() < 1e-15);
    }

    #[test]
    fn an_impossible_class_without_a_target_costs_nothing() {
        let tape = Tape::new();
        let x = tape.watch(Tensor::from_slice(&[f64::NEG_INFINITY, 0.0, 0.0], [1, 3]).unwrap());
        let t = tape.input(Tensor::from_slice(&[0.0, 0.5, 0.5], [1, 3]).unwrap());
        let loss = x.soft_cross_entropy(&t).unwrap();
        assert!((loss.item().unwrap() - 2.0_f64.ln()).abs() < 1e-15);
        let grads = tape.backward(&loss).unwrap();
        assert_eq!(grads.of_var(&x).unwrap().to_vec::<f64>().unwrap(), [0.0; 3]);
    }

    #[test]
    fn many_rows_of_sixteen_bits_have_a_finite_mean() {
        for dtype in [DType::F16, DType::BF16] {
            let (x, t) = (Tensor::zeros([70_000, 4], dtype), Tensor::full([70_000, 4], 0.25, dtype));
            let want = Tensor::scalar(4.0_f64.ln(), dtype).item().unwrap();
            assert_eq!(x.soft_cross_entropy(&t).unwrap().item().unwrap(), want, "{dtype}");
        }
    }

    #[test]
    fn rows_that_do_not_sum_to_one_are_refused_and_rounded_ones_are_not() {
        let of = |t: [f64; 6], dtype| {
            let t = Tensor::from_slice(&t, [2, 3]).unwrap().to_dtype(dtype).unwrap();
            Tensor::zeros([2, 3], dtype).soft_cross_entropy(&t)
        };
        for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
            for good in [[1.0, 0.0, 0.0, 0.333, 0.333, 0.333], [0.1, 0.2, 0.7, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0]] {
                assert!(of(good, dtype).is_ok(), "{dtype} {good:?}");
            }
            let sum = of([1.0, 0.0, 0.0, 0.5, 0.5, 0.25], dtype);
            assert!(matches!(sum, Err(Error::Target { at: 1, got: 1.25, .. })), "{dtype}: {sum:?}");
            for bad in [-0.5, f64::NAN, f64::INFINITY, 2.0] {
                let entry = of([1.0, 0.0, 0.0, 0.5, bad, 1.0], dtype);
                assert!(matches!(entry, Err(Error::Target { at: 4, .. })), "{dtype}: {entry:?}");
            }
        }
    }
}
