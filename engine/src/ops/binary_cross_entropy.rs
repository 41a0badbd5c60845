//! binary_cross_entropy: y = mean over all entries of −t ln σ(z) − (1 − t) ln(1 − σ(z)).   dz = (σ(z) − t) g / count.

use super::elementwise;
use crate::op::halves::widened;
use crate::op::targets::Targets;
use crate::op::{Op, Saved, Site, expect_dtype};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{Error, FloatElement, OpSpec, Result, Sample, Shape, for_float, op::sample_input};

/// Of every entry, before the mean. Inputs z, t.
#[derive(Debug)]
struct Terms;

impl<H: History> Tensor<H> {
    /// The mean negative log-likelihood, in nats, of targets t that are 1 with probability σ(z); targets may
    /// lie between 0 and 1. Written as c z + ln(1 + e^−|z|) with c = 1 − t for z ≥ 0, else −t, and 0 for
    /// c = 0: large logits lose nothing, and infinite ones give 0 where the target agrees, else ∞. In 16 bits
    /// all is computed in f32 and rounded once.
    ///
    /// # Shape
    /// self (logits z), targets: any, the same, not empty · result: `[]`
    ///
    /// # Errors
    /// [`Error::Shape`] when they differ or are empty, [`Error::DType`] when their dtypes differ;
    /// [`Error::Target`] for a target that is not from 0 to 1 (from a GPU, at the next read).
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let logits = Tensor::from_slice(&[3.0_f64.ln(), 0.0], [2])?; // probabilities 3/4 and 1/2
    /// let loss = logits.binary_cross_entropy(&Tensor::from_slice(&[1.0, 0.0], [2])?)?.item()?;
    /// assert!((loss + (0.75_f64.ln() + 0.5_f64.ln()) / 2.0).abs() < 1e-15);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn binary_cross_entropy(&self, targets: &Self) -> Result<Self> {
        expect_dtype("binary_cross_entropy", targets.dtype(), self.dtype())?;
        let terms = H::apply(Terms, &[&widened(self)?, &widened(targets)?])?;
        terms.mean_all()?.to_dtype(self.dtype())
    }
}

fn term<T: FloatElement>(z: T, t: T) -> T {
    let c = if z >= T::ZERO { T::ONE - t } else { -t };
    let along = if c == T::ZERO { T::ZERO } else { c * z };
    along + (-z.abs()).exp().ln_1p()
}

impl Op for Terms {
    fn name(&self) -> &'static str {
        "binary_cross_entropy"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        if inputs[0] == inputs[1] && inputs[0].numel() > 0 {
            return Ok(*inputs[0]);
        }
        Err(Error::shape(self.name(), "logits and targets of the same shape, not empty", inputs))
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        for_float!(inputs[1].dtype(), T => Targets::Each.check::<T>(inputs[1].slice(), 1))?;
        elementwise::binary(inputs, out, term::<f32>, term::<f64>);
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        Targets::Each.check_there(&inputs[1], 1)?;
        let formula = "((a >= T(0) ? b == T(1) : b == T(0)) ? T(0) : (a >= T(0) ? T(1) - b : -b) * a) \
                       + log1p(exp(-fabs(a)))";
        elementwise::cuda_pairs("binary_cross_entropy", formula, inputs, out)
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let [z, t] = at.inputs else { return Ok(Vec::new()) };
        let d_z = at.want(0, || z.sigmoid()?.sub(t)?.mul(at.grad))?;
        let d_t = at.want(1, || z.neg()?.mul(at.grad))?;
        Ok(vec![d_z, d_t])
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "binary_cross_entropy",
    samples: || {
        let targets = |i: usize| (i % 5) as f64 / 8.0 + 0.25;
        let sample = |shape: Shape| {
            let inputs = vec![sample_input(shape), Tensor::from_fn(shape, crate::DType::F64, targets)];
            Sample::new(inputs, |x| x[0].binary_cross_entropy(&x[1]))
        };
        vec![sample([2, 3].into()), sample(().into())]
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Tape};

    /// The loss and its gradient for one logit and target.
    fn of(z: f64, t: f64, dtype: DType) -> (f64, f64) {
        let tape = Tape::new();
        let z = tape.watch(Tensor::full([1], z, dtype));
        let loss = z.binary_cross_entropy(&tape.input(Tensor::full([1], t, dtype))).unwrap();
        let grads = tape.backward(&loss).unwrap();
        (loss.item().unwrap(), grads.of_var(&z).unwrap().item().unwrap())
    }

    #[test]
    fn infinite_logits_cost_nothing_where_the_target_agrees_and_everything_where_not() {
        const INF: f64 = f64::INFINITY;
        for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
            assert_eq!(of(INF, 1.0, dtype), (0.0, 0.0), "{dtype}");
            assert_eq!(of(-INF, 0.0, dtype), (0.0, 0.0), "{dtype}");
            assert_eq!(of(INF, 0.0, dtype), (INF, 1.0), "{dtype}");
            assert_eq!(of(-INF, 1.0, dtype), (INF, -1.0), "{dtype}");
            assert_eq!(of(-INF, 0.25, dtype), (INF, -0.25), "{dtype}");
            assert!(of(f64::NAN, 0.0, dtype).0.is_nan() && of(f64::NAN, 1.0, dtype).0.is_nan());
        }
        assert_eq!(of(1000.0, 0.0, DType::F64), (1000.0, 1.0));
    }

    #[test]
    fn seventy_thousand_entries_of_sixteen_bits_have_a_finite_mean() {
        for dtype in [DType::F16, DType::BF16] {
            let (z, t) = (Tensor::full([70_000], 8.0, dtype), Tensor::zeros([70_000], dtype));
            // 8 + ln(1 + e⁻⁸), which 11 bits round to 8.
            assert_eq!(z.binary_cross_entropy(&t).unwrap().item().unwrap(), 8.0, "{dtype}");
        }
    }

    #[test]
    fn a_target_that_is_no_probability_is_refused_with_its_place() {
        for bad in [5.0, -0.1, f64::NAN, f64::INFINITY, 1.0 + 1e-6] {
            let targets = Tensor::from_slice(&[0.0, 1.0, bad], [3]).unwrap();
            for dtype in [DType::F64, DType::F32] {
                let got = Tensor::zeros([3], dtype).binary_cross_entropy(&targets.to_dtype(dtype).unwrap());
                assert!(matches!(got, Err(Error::Target { at: 2, .. })), "{bad}: {got:?}");
            }
        }
    }
}
