//! The diagonal of the Hessian, estimated on the way back.
//!
//! ```text
//! Hutchinson         z ∘ (H z),  z = ±1            its mean is diag H: Hutchinson 1990, Bekas et al. 2007
//! Gauss–Newton–Bartlett   N ĝ ∘ ĝ,  ĝ = ∇ of the mean loss at labels drawn from the model: Liu et al. 2024
//! ```
//! Both are computed by [`backward`](crate::backward()), which has the tape; an optimizer that wants one
//! says so in [`Optimizer::hessian_diagonal`](crate::Optimizer::hessian_diagonal).

use std::collections::BTreeMap;

use engine::{DType, Likelihood, ParamId, Result, Rng, Tape, Tensor, Var};

/// Which estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// One product of the Hessian of the loss with random signs. Needs ops that can be differentiated
    /// twice.
    Hutchinson,
    /// The squared gradient at sampled labels, times the number of terms: the diagonal of the Gauss–
    /// Newton matrix on average. Never negative.
    SampledLabels,
}

/// The estimator: draws, and averages over the micro-batches of a step.
#[derive(Debug, Clone)]
pub struct HessianDiagonal {
    probe: Probe,
    every: u64,
    pub(crate) rng: Rng,
    pub(crate) steps: u64,
    terms: f64,
    sums: BTreeMap<ParamId, Vec<f64>>,
}

impl HessianDiagonal {
    /// An estimator that is due at the first step and at every `every`-th from then on.
    #[must_use]
    pub fn new(probe: Probe, every: u64, seed: u64) -> Self {
        let rng = Rng::new(seed);
        Self { probe, every: every.max(1), rng, steps: 0, terms: 0.0, sums: BTreeMap::new() }
    }

    /// Whether this step's backward pass should bring an estimate.
    #[must_use]
    pub const fn due(&self) -> bool {
        self.steps.is_multiple_of(self.every)
    }

    /// Takes in an estimate from a batch of so many terms.
    pub fn add(&mut self, param: ParamId, estimate: &[f64], terms: usize) {
        let sum = self.sums.entry(param).or_insert_with(|| vec![0.0; estimate.len()]);
        sum.iter_mut().zip(estimate).for_each(|(sum, x)| *sum += terms as f64 * x);
    }

    /// A (micro-)batch of so many terms is complete.
    pub fn finish(&mut self, terms: usize) {
        self.terms += terms as f64;
    }

    /// A step is taken: the mean over its terms, by parameter; nothing if it was not due.
    pub(crate) fn take(&mut self) -> BTreeMap<ParamId, Vec<f64>> {
        self.steps += 1;
        let terms = std::mem::take(&mut self.terms).max(1.0);
        let mut means = std::mem::take(&mut self.sums);
        means.values_mut().flatten().for_each(|x| *x /= terms);
        means
    }

    /// A step is refused: what was seen for it counts for no other.
    pub(crate) fn discard(&mut self) {
        self.terms = 0.0;
        self.sums.clear();
    }

    /// Looks at a tape: one extra sweep.
    pub(crate) fn observe(
        &mut self,
        tape: &Tape,
        outputs: &Var,
        nll: &Var,
        loss: &dyn Likelihood,
    ) -> Result<()> {
        match self.probe {
            Probe::Hutchinson => self.hutchinson(tape, nll, loss.terms())?,
            Probe::SampledLabels => {
                let seed = loss.sampled_seed(&outputs.value(), &mut self.rng)?;
                let seed = seed.to_device(outputs.device())?;
                let along = outputs.mul(&Var::constant(&seed))?.sum_all()?;
                let grads = tape.backward(&along)?;
                for param in grads.params() {
                    let Some(grad) = grads.get(param) else { continue };
                    let terms = loss.terms() as f64;
                    let square: Vec<f64> =
                        grad.to_f64_vec()?.iter().map(|g| terms * g * g).collect();
                    self.add(param, &square, loss.terms());
                }
            }
        }
        self.finish(loss.terms());
        Ok(())
    }

    fn hutchinson(&mut self, tape: &Tape, nll: &Var, terms: usize) -> Result<()> {
        let recorded = tape.backward_recorded(nll)?;
        let (mut inner, mut signs) = (None::<Var>, BTreeMap::new());
        for param in recorded.params() {
            let Some(grad) = recorded.get(param) else { continue };
            let draws = Tensor::uniform(*grad.shape(), -1.0, 1.0, DType::F64, &mut self.rng);
            let z: Vec<f64> =
                draws.to_f64_vec()?.iter().map(|&u| if u < 0.0 { -1.0 } else { 1.0 }).collect();
            let constant = Tensor::from_slice(&z, *grad.shape())?.to_dtype(grad.dtype())?;
            let constant = constant.to_device(grad.device())?;
            let term = grad.mul(&Var::constant(&constant))?.sum_all()?;
            inner = Some(match inner {
                Some(sum) => sum.add(&term)?,
                None => term,
            });
            signs.insert(param, z);
        }
        let Some(inner) = inner else { return Ok(()) };
        let products =
            if inner.is_recorded() { tape.backward(&inner)? } else { Default::default() };
        for (param, z) in signs {
            let estimate = match products.get(param) {
                Some(hz) => hz.to_f64_vec()?.iter().zip(&z).map(|(h, z)| h * z).collect(),
                // Linear in this parameter: no curvature.
                None => vec![0.0; z.len()],
            };
            self.add(param, &estimate, terms);
        }
        Ok(())
    }
}
