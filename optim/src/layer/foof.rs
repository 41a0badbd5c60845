//! FOOF: K-FAC with the inputs alone.
//!
//! Benzing 2022, "Gradient Descent on Neurons and its Link to Approximate Second-Order Optimization",
//! section 4: what is left of K-FAC when G is the identity, a least-squares step on each layer's output.
//!
//! ```text
//! A ← running average of E[a aᵀ]
//! P = X (A + λ I)⁻¹
//! ```
//! Deviation: the running average begins without bias.

use engine::Result;
use kernels::pool::Buffer;

use crate::algebra::axes::copy;
use crate::algebra::dense::average;
use crate::check::{below_one, positive};
use crate::curvature::block::precondition::of_side;
use crate::curvature::communicator::Communicator;
use crate::curvature::estimate::layer_rows::Seen;
use crate::frame::layerwise::{LayerRule, LayerState, LayerStep, Layerwise};

/// Options of [`Foof`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FoofConfig {
    /// Rate and momentum; no clip: P is in units of the output gradient, not of the Fisher metric.
    pub step: LayerStep,
    /// λ, in units of the squared inputs.
    pub damping: f64,
    /// β of the running average.
    pub decay: f64,
    /// Looks between two inversions.
    pub inverse_every: u64,
}

impl Default for FoofConfig {
    /// α 0.01, μ 0.9, λ 1, β 0.95, an inversion at every look.
    fn default() -> Self {
        let step = LayerStep { rate: 0.01, kl_clip: None, ..LayerStep::default() };
        Self { step, damping: 1.0, decay: 0.95, inverse_every: 1 }
    }
}

/// Fast first-order optimizer. Kept of each layer: `a` and its damped `inverse`.
///
/// # Example
/// ```
/// use alcyon_optim::FoofConfig;
/// use alcyon_optim::LayerRule;
/// let config = FoofConfig::default();
/// let mut kept = config.start(2, 1);
/// kept[1].1 = vec![0.5, 0.0, 0.0, 0.25].into(); // (A + λ I)⁻¹
/// assert_eq!(*config.direction(&kept, &[2.0, 4.0], 2, 1)?, [1.0, 1.0]);
/// # Ok::<(), engine::Error>(())
/// ```
pub type Foof = Layerwise<FoofConfig>;

impl LayerRule for FoofConfig {
    fn name(&self) -> &'static str {
        "foof"
    }

    fn check(&self) -> Result<()> {
        positive("foof", "damping", self.damping)?;
        below_one("foof", "decay", self.decay)
    }

    fn common(&self) -> &LayerStep {
        &self.step
    }

    fn common_mut(&mut self) -> &mut LayerStep {
        &mut self.step
    }

    fn start(&self, n: usize, _: usize) -> LayerState {
        let side = self.step.sides.of(n);
        vec![("a", side.zeros()), ("inverse", side.zeros())]
    }

    fn words(&self, n: usize, _: usize) -> String {
        format!("inputs' second moment, {}", self.step.sides.of(n).words())
    }

    fn learn(
        &self,
        t: u64,
        seen: &Seen,
        kept: &mut LayerState,
        workers: &mut dyn Communicator,
    ) -> Result<()> {
        let [(_, a), (_, inverse)] = kept.as_mut_slice() else { return Ok(()) };
        let side = self.step.sides.of(seen.n);
        average(a, &seen.input_moment(&side, workers)?, t, self.decay);
        if (t - 1).is_multiple_of(self.inverse_every.max(1)) {
            let mut damped = a.clone();
            side.shift(&mut damped, self.damping);
            *inverse = of_side("the inputs", side.inverse(&damped))?;
        }
        Ok(())
    }

    fn direction(&self, kept: &LayerState, x: &[f64], n: usize, m: usize) -> Result<Buffer<f64>> {
        let [_, (_, inverse)] = kept.as_slice() else { return copy(x) };
        Ok(self.step.sides.of(n).right(inverse, x, m, false))
    }
}
