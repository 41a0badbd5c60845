//! The diagonal of the Hessian, estimated on the way back.
//!
//! ```text
//! Hutchinson         z ∘ (H z),  z = ±1            its mean is diag H: Hutchinson 1990, Bekas et al. 2007
//! Gauss–Newton–Bartlett   N ĝ ∘ ĝ,  ĝ = ∇ of the mean loss at labels drawn from the model: Liu et al. 2024
//! ```
//! Both are computed by [`backward`](crate::backward()), which has the tape; an optimizer that wants one
//! says so in [`Optimizer::hessian_diagonal`](crate::Optimizer::hessian_diagonal).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use engine::{DType, Likelihood, ParamId, Result, Rng, Tape, Tensor, Var};

use super::tentative::Tentative;

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

/// Of one batch, by parameter.
type Estimates = Vec<(ParamId, Vec<f64>)>;

/// The estimator: draws, and averages over the micro-batches of a step.
#[derive(Debug, Clone)]
pub struct HessianDiagonal {
    probe: Probe,
    every: u64,
    pub(crate) rng: Tentative<Rng>,
    pub(crate) steps: u64,
    terms: f64,
    sums: BTreeMap<ParamId, Vec<f64>>,
    /// Of the pass going on: the batch's terms, and its estimates.
    seen: Option<(usize, Estimates)>,
}

impl HessianDiagonal {
    /// An estimator that is due at the first step and at every `every`-th from then on.
    #[must_use]
    pub fn new(probe: Probe, every: u64, seed: u64) -> Self {
        let (rng, every) = (Tentative::new(Rng::new(seed)), every.max(1));
        Self { probe, every, rng, steps: 0, terms: 0.0, sums: BTreeMap::new(), seen: None }
    }

    /// Whether this step's backward pass should bring an estimate.
    #[must_use]
    pub const fn due(&self) -> bool {
        self.steps.is_multiple_of(self.every)
    }

    /// Takes in an estimate from a batch of so many terms.
    pub fn add(&mut self, param: ParamId, mut estimate: Vec<f64>, terms: usize) {
        estimate.iter_mut().for_each(|x| *x *= terms as f64);
        match self.sums.entry(param) {
            Entry::Vacant(place) => drop(place.insert(estimate)),
            Entry::Occupied(mut sum) => {
                sum.get_mut().iter_mut().zip(estimate).for_each(|(sum, x)| *sum += x);
            }
        }
    }

    /// A (micro-)batch of so many terms is complete.
    pub fn finish(&mut self, terms: usize) {
        self.terms += terms as f64;
    }

    /// The mean over the terms since the last step, by parameter; nothing if it was not due.
    pub(crate) fn take(&mut self) -> BTreeMap<ParamId, Vec<f64>> {
        let terms = std::mem::take(&mut self.terms).max(1.0);
        let mut means = std::mem::take(&mut self.sums);
        means.values_mut().flatten().for_each(|x| *x /= terms);
        means
    }

    /// A step is taken.
    pub(crate) fn commit(&mut self) {
        self.steps += 1;
        self.rng.commit();
    }

    /// The pass going on has failed: what it brought is forgotten.
    pub(crate) fn abandon(&mut self) {
        self.rng.abandon();
        self.seen = None;
    }

    /// A step is refused or skipped: what was seen for it is forgotten, and the draws with it.
    pub fn discard(&mut self) {
        self.rng.discard();
        self.sums.clear();
        (self.terms, self.seen) = (0.0, None);
    }

    /// The pass is complete: what [`HessianDiagonal::observe`] has seen counts.
    pub(crate) fn complete(&mut self) {
        let Some((terms, estimates)) = self.seen.take() else { return };
        for (param, estimate) in estimates {
            self.add(param, estimate, terms);
        }
        self.finish(terms);
        self.rng.finish();
    }

    /// Looks at a tape: one extra sweep.
    pub(crate) fn observe(
        &mut self,
        tape: &Tape,
        outputs: &Var,
        nll: &Var,
        loss: &dyn Likelihood,
    ) -> Result<()> {
        let estimates = match self.probe {
            Probe::Hutchinson => self.hutchinson(tape, nll)?,
            Probe::SampledLabels => {
                let seed = loss.sampled_seed(&outputs.value(), &mut self.rng)?;
                let seed = seed.to_device(outputs.device())?;
                let along = outputs.mul(&Var::constant(&seed))?.sum_all()?;
                let grads = tape.backward(&along)?;
                let terms = loss.terms() as f64;
                let mut estimates = Vec::new();
                for param in grads.params() {
                    let Some(grad) = grads.get(param) else { continue };
                    let mut square = grad.to_f64_vec()?;
                    square.iter_mut().for_each(|g| *g = terms * *g * *g);
                    estimates.push((param, square));
                }
                estimates
            }
        };
        self.seen = Some((loss.terms(), estimates));
        Ok(())
    }

    fn hutchinson(&mut self, tape: &Tape, nll: &Var) -> Result<Estimates> {
        let recorded = tape.backward_recorded(nll)?;
        let (mut inner, mut signs) = (None::<Var>, BTreeMap::new());
        for param in recorded.params() {
            let Some(grad) = recorded.get(param) else { continue };
            let draws = Tensor::uniform(*grad.shape(), -1.0, 1.0, DType::F64, &mut self.rng);
            let mut z = draws.to_f64_vec()?;
            z.iter_mut().for_each(|u| *u = if *u < 0.0 { -1.0 } else { 1.0 });
            let constant = Tensor::from_slice(&z, *grad.shape())?.to_dtype(grad.dtype())?;
            let constant = constant.to_device(grad.device())?;
            let term = grad.mul(&Var::constant(&constant))?.sum_all()?;
            inner = Some(match inner {
                Some(sum) => sum.add(&term)?,
                None => term,
            });
            signs.insert(param, z);
        }
        let Some(inner) = inner else { return Ok(Vec::new()) };
        let products =
            if inner.is_recorded() { tape.backward(&inner)? } else { Default::default() };
        let mut estimates = Vec::with_capacity(signs.len());
        for (param, z) in signs {
            let mut estimate = z;
            match products.get(param) {
                Some(hz) => estimate.iter_mut().zip(hz.to_f64_vec()?).for_each(|(z, h)| *z *= h),
                // Linear in this parameter: no curvature.
                None => estimate.fill(0.0),
            }
            estimates.push((param, estimate));
        }
        Ok(estimates)
    }
}
