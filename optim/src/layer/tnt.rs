//! TNT: natural gradient as if gradients were tensor-normal.
//!
//! Ren & Goldfarb 2021, "Tensor Normal Training for Deep Learning Models", section 3. If the gradient
//! matrix D of an example has the covariance U ⊗ V, then E\[D Dᵀ\] = tr(V) U and E\[DᵀD\] = tr(U) V, hence
//!
//! ```text
//! U ⊗ V = E[D Dᵀ] ⊗ E[DᵀD] / E‖D‖²
//! P     = (U + √λ/π I)⁻¹ X (V + π √λ I)⁻¹                 λ shared out by the traces, as in K-FAC
//! ```
//! with labels drawn from the model. Unlike K-FAC's, these factors assume nothing of inputs and output
//! gradients being independent. Deviations: moments of examples, where the paper uses those of batch
//! means; λ by K-FAC's π rule.

use engine::Result;
use kernels::pool::Buffer;

use crate::Fisher;
use crate::algebra::axes::copy;
use crate::algebra::dense::average;
use crate::check::{below_one, positive};
use crate::curvature::block::precondition::of_side;
use crate::curvature::communicator::Communicator;
use crate::curvature::estimate::layer_rows::Seen;
use crate::frame::layerwise::{LayerRule, LayerState, LayerStep, Layerwise};

/// Options of [`Tnt`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TntConfig {
    /// Rate, momentum, clip, labels.
    pub step: LayerStep,
    /// λ
    pub damping: f64,
    /// β of the running averages.
    pub decay: f64,
    /// Looks between two inversions.
    pub inverse_every: u64,
}

impl Default for TntConfig {
    /// The paper's β 0.9, one sampled label, an inversion every 10 looks; λ 10⁻², α 0.1, KL clip 10⁻³.
    fn default() -> Self {
        let step = LayerStep { fisher: Fisher::Sampled { draws: 1 }, ..LayerStep::default() };
        Self { step, damping: 1e-2, decay: 0.9, inverse_every: 10 }
    }
}

/// Tensor normal training. Kept of each layer: the moments `dd` [m, m] and `ddt` [n, n], `square`, and
/// the inverses `u_inverse`, `v_inverse`.
///
/// # Example
/// ```
/// use alcyon_optim::TntConfig;
/// use alcyon_optim::LayerRule;
/// let config = TntConfig::default();
/// let mut kept = config.start(2, 1);
/// (kept[2].1, kept[3].1) = (vec![2.0].into(), vec![0.5, 0.0, 0.0, 0.25].into());
/// assert_eq!(*config.direction(&kept, &[2.0, 4.0], 2, 1)?, [2.0, 2.0]);
/// # Ok::<(), engine::Error>(())
/// ```
pub type Tnt = Layerwise<TntConfig>;

impl LayerRule for TntConfig {
    fn name(&self) -> &'static str {
        "tnt"
    }

    fn check(&self) -> Result<()> {
        positive("tnt", "damping", self.damping)?;
        below_one("tnt", "decay", self.decay)
    }

    fn common(&self) -> &LayerStep {
        &self.step
    }

    fn common_mut(&mut self) -> &mut LayerStep {
        &mut self.step
    }

    fn start(&self, n: usize, m: usize) -> LayerState {
        let [inputs, outputs] = self.step.patterns(n, m);
        vec![
            ("dd", outputs.zeros()),
            ("ddt", inputs.zeros()),
            ("u_inverse", outputs.zeros()),
            ("v_inverse", inputs.zeros()),
        ]
    }

    fn words(&self, n: usize, m: usize) -> String {
        format!("tensor-normal, {}", self.step.words(n, m))
    }

    fn learn(
        &self,
        t: u64,
        seen: &Seen,
        kept: &mut LayerState,
        workers: &mut dyn Communicator,
    ) -> Result<()> {
        let (n, m) = (seen.n, seen.m);
        let [(_, rows), (_, columns), (_, u), (_, v)] = kept.as_mut_slice() else { return Ok(()) };
        let [inputs, outputs] = self.step.patterns(n, m);
        let [left, right] = seen.gradient_moments(&inputs, &outputs);
        average(rows, &seen.mean_over_terms(left, workers)?, t, self.decay);
        average(columns, &seen.mean_over_terms(right, workers)?, t, self.decay);
        if (t - 1).is_multiple_of(self.inverse_every.max(1)) {
            // E‖D‖² is the trace of either; half of it goes to each side.
            let root = outputs.trace(rows).sqrt();
            let scaled = |x: &[f64]| -> Vec<f64> {
                x.iter().map(|x| if root > 0.0 { x / root } else { 0.0 }).collect()
            };
            let (mut du, mut dv) = (scaled(rows), scaled(columns));
            let pi = (inputs.trace(&dv) / n as f64 / (outputs.trace(&du) / m as f64)).sqrt();
            let pi = if pi.is_finite() && pi > 0.0 { pi } else { 1.0 };
            outputs.shift(&mut du, self.damping.sqrt() / pi);
            inputs.shift(&mut dv, self.damping.sqrt() * pi);
            *u = of_side("the outputs", outputs.inverse(&du))?;
            *v = of_side("the inputs", inputs.inverse(&dv))?;
        }
        Ok(())
    }

    fn direction(&self, kept: &LayerState, x: &[f64], n: usize, m: usize) -> Result<Buffer<f64>> {
        let [_, _, (_, u), (_, v)] = kept.as_slice() else { return copy(x) };
        let [inputs, outputs] = self.step.patterns(n, m);
        Ok(inputs.right(v, &outputs.left(u, x, n, false), m, false))
    }
}
