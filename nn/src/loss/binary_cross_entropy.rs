//! L = (1/N) Σₙ (1/C) Σ_c [softplus(z) − t z].   ∂L/∂z = (σ(z) − t) / NC,  ∂²L/∂z² = σ(z) (1 − σ(z)) / NC.

use engine::{Likelihood, Result, Rng, Tensor, Var};
use rand_distr::{Distribution, StandardUniform};

use super::{one_component_each, rows, same_shape};

/// Yes or no, C times over: each target is 1 with probability σ(logit), independently. Targets may
/// be probabilities in between.
///
/// A term is softplus(z) − t z = −t ln σ(z) − (1 − t) ln (1 − σ(z)), computed from logits so that large ones
/// lose nothing: [`Tensor::binary_cross_entropy`], which refuses other targets.
///
/// # Shape
/// logits, targets: `[.., C]`; N is the number of rows.
///
/// # Units
/// The mean over all N·C entries, in nats: PyTorch's `binary_cross_entropy_with_logits`. Terms are
/// rows, each with its log-likelihood weighted by 1/C.
///
/// # Example
/// ```
/// use alcyon_nn::BinaryCrossEntropy;
/// use engine::{Likelihood, Tape, Tensor};
/// let loss = BinaryCrossEntropy::new(&Tensor::from_slice(&[1.0_f64, 0.0], [1, 2])?);
/// let logits = Tape::off().input(Tensor::from_slice(&[3.0_f64.ln(), 0.0], [1, 2])?);
/// let nll = loss.nll(&logits)?.item()?; // probabilities 3/4 and 1/2
/// assert!((nll - (0.75_f64.ln() + 0.5_f64.ln()) / -2.0).abs() < 1e-15);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct BinaryCrossEntropy {
    targets: Tensor,
}

impl BinaryCrossEntropy {
    /// The loss of given targets, each 0, 1 or in between.
    #[must_use]
    pub fn new(targets: &Tensor) -> Self {
        Self { targets: targets.clone() }
    }

    /// σ(logits) in f64 and the factor √(1/C) / N of a seed.
    fn model(&self, logits: &Tensor) -> Result<(Vec<f64>, f64)> {
        same_shape("binary_cross_entropy", logits.shape(), self.targets.shape())?;
        let (count, width) = rows(logits.shape());
        let p = logits.to_dtype(engine::DType::F64)?.sigmoid()?.to_vec::<f64>()?;
        Ok((p, (1.0 / width as f64).sqrt() / count as f64))
    }
}

impl Likelihood for BinaryCrossEntropy {
    fn terms(&self) -> usize {
        rows(self.targets.shape()).0
    }

    fn nll(&self, outputs: &Var) -> Result<Var> {
        same_shape("binary_cross_entropy", outputs.shape(), self.targets.shape())?;
        outputs.binary_cross_entropy(&Var::constant(&self.targets))
    }

    /// (p − y) √(1/C) / N with every y drawn from its p.
    fn sampled_seed(&self, outputs: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let (p, scale) = self.model(outputs)?;
        Tensor::from_fn(outputs.shape(), outputs.dtype(), |i| {
            let u: f64 = StandardUniform.sample(rng);
            scale * if u < p[i] { p[i] - 1.0 } else { p[i] }
        })
        .to_device(outputs.device())
    }

    /// √(p_c (1 − p_c) / C) e_c / N.
    fn exact_seeds(&self, outputs: &Tensor) -> Result<Vec<Tensor>> {
        let (p, scale) = self.model(outputs)?;
        one_component_each(outputs, |i| scale * (p[i] * (1.0 - p[i])).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use engine::{DType, Tape};

    use super::*;

    #[test]
    fn large_logits_lose_nothing() {
        let targets = Tensor::from_slice(&[1.0_f64, 0.0, 0.0], [3, 1]).unwrap();
        let z = Tensor::from_slice(&[1000.0_f64, 1000.0, -1000.0], [3, 1]).unwrap();
        let nll = BinaryCrossEntropy::new(&targets).nll(&Tape::new().input(z)).unwrap();
        assert!((nll.item().unwrap() - 1000.0 / 3.0).abs() < 1e-10);
    }

    #[test]
    fn the_gradient_is_the_residual_over_the_entries() {
        let loss = BinaryCrossEntropy::new(&Tensor::from_slice(&[1.0_f64, 0.25], [1, 2]).unwrap());
        let tape = Tape::new();
        let z = tape.watch(Tensor::zeros([1, 2], DType::F64));
        let grads = tape.backward(&loss.nll(&z).unwrap()).unwrap();
        let got = grads.of_var(&z).unwrap().to_vec::<f64>().unwrap();
        assert!((got[0] + 0.25).abs() < 1e-15 && (got[1] - 0.125).abs() < 1e-15, "{got:?}");
    }
}
