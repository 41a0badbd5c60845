//! Eva: K-FAC from mean vectors, so that a factor is a vector and its inverse a dot product.
//!
//! Zhang, Shi & Li 2023, "Eva: Practical Second-order Optimization with Kronecker-vectorized
//! Approximation", equations 12 to 16.
//!
//! ```text
//! ā, d̄  running averages of the batch's mean input and mean output gradient
//! P = (d̄ d̄ᵀ ⊗ ā āᵀ + λ I)⁻¹ vec(X) = (X − d̄ āᵀ (d̄ᵀ X ā)/(‖ā‖² ‖d̄‖² + λ))/λ        Sherman & Morrison 1950
//! ```
//! Deviations: d̄ is the mean of the *terms'* gradients (the authors' program has those of the mean loss,
//! N times smaller); all examples count (theirs: the first sixteen); averages begin without bias.

use engine::Result;
use kernels::elementwise;
use kernels::pool::Buffer;

use crate::algebra::axes::copy;
use crate::algebra::dense::{apply, average};
use crate::algebra::flat::dot;
use crate::check::{below_one, positive};
use crate::curvature::communicator::Communicator;
use crate::curvature::estimate::layer_rows::Seen;
use crate::frame::layerwise::{LayerRule, LayerState, LayerStep, Layerwise};

/// Options of [`Eva`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EvaConfig {
    /// Rate, momentum, clip, labels.
    pub step: LayerStep,
    /// λ
    pub damping: f64,
    /// The weight of the old averages (the paper's 1 − ξ).
    pub decay: f64,
}

impl Default for EvaConfig {
    /// The paper's: α 0.1, λ 0.03, KL clip 10⁻³, ξ 0.95.
    fn default() -> Self {
        Self { step: LayerStep::default(), damping: 0.03, decay: 0.05 }
    }
}

/// Kronecker-vectorized curvature. Kept of each layer: `mean_a` and `mean_d`.
///
/// # Example
/// ```
/// use alcyon_optim::EvaConfig;
/// use alcyon_optim::LayerRule;
/// let config = EvaConfig { damping: 0.5, ..EvaConfig::default() };
/// // d̄ āᵀ = (1, 0): the block is diag(1, 0), and 0.5 on its diagonal.
/// let kept = vec![("mean_a", vec![1.0, 0.0].into()), ("mean_d", vec![1.0].into())];
/// let p = config.direction(&kept, &[3.0, 3.0], 2, 1)?;
/// assert!((p[0] - 2.0).abs() < 1e-15 && (p[1] - 6.0).abs() < 1e-15);
/// # Ok::<(), engine::Error>(())
/// ```
pub type Eva = Layerwise<EvaConfig>;

impl LayerRule for EvaConfig {
    fn name(&self) -> &'static str {
        "eva"
    }

    fn check(&self) -> Result<()> {
        positive("eva", "damping", self.damping)?;
        below_one("eva", "decay", self.decay)
    }

    fn common(&self) -> &LayerStep {
        &self.step
    }

    fn common_mut(&mut self) -> &mut LayerStep {
        &mut self.step
    }

    fn start(&self, n: usize, m: usize) -> LayerState {
        vec![("mean_a", Buffer::zeros(n)), ("mean_d", Buffer::zeros(m))]
    }

    fn words(&self, n: usize, m: usize) -> String {
        format!("Kronecker of mean vectors, {m} ⊗ {n}")
    }

    fn learn(
        &self,
        t: u64,
        seen: &Seen,
        kept: &mut LayerState,
        workers: &mut dyn Communicator,
    ) -> Result<()> {
        let [(_, a), (_, d)] = kept.as_mut_slice() else { return Ok(()) };
        average(a, &seen.mean_input(workers)?, t, self.decay);
        average(d, &seen.mean_output(workers)?, t, self.decay);
        Ok(())
    }

    fn direction(&self, kept: &LayerState, x: &[f64], _: usize, _: usize) -> Result<Buffer<f64>> {
        let [(_, a), (_, d)] = kept.as_slice() else { return copy(x) };
        let along = dot(d, &apply(x, a)) / (dot(a, a) * dot(d, d) + self.damping);
        let mut out = copy(x)?;
        for (row, d) in out.chunks_exact_mut(a.len().max(1)).zip(d.iter()) {
            elementwise::update2(row, a, |x, a| (x - along * (d * a)) / self.damping);
        }
        Ok(out)
    }
}
