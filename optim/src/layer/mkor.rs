//! MKOR: inverses of K-FAC's factors, kept up to date by rank-one updates alone.
//!
//! Mozaffari, Li, Zhang & Mehri Dehnavi 2023, "MKOR: Momentum-Enabled Kronecker-Factor-Based Optimizer
//! Using Rank-1 Updates", equations 5 to 9.
//!
//! ```text
//! J ← (γ J⁻¹ + (1 − γ) v vᵀ)⁻¹ = J/γ − ((1 − γ)/γ²) u uᵀ/(1 + ((1 − γ)/γ) vᵀu),   u = J v
//!     of both sides: v = the mean input, the mean output gradient; from the identity
//! J ← ζ J + (1 − ζ) I          where an entry of J is above the bound: the stabilizer
//! P = J_g X J_a
//! ```
//! Deviations: the update is the exact identity (Sherman & Morrison 1950); the authors' program drops γ
//! from its denominators. Second moments are of the terms' gradients, and nothing is in half precision.

use engine::Result;
use kernels::pool::Buffer;

use crate::algebra::axes::copy;
use crate::algebra::dense::apply;
use crate::algebra::flat::dot;
use crate::algebra::pattern::Pattern;
use crate::check::{demand, positive};
use crate::curvature::communicator::Communicator;
use crate::curvature::estimate::layer_rows::Seen;
use crate::frame::layerwise::{LayerRule, LayerState, LayerStep, Layerwise};

/// Options of [`Mkor`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MkorConfig {
    /// Rate, momentum, clip, labels; a look every 10 steps.
    pub step: LayerStep,
    /// γ in (0, 1)
    pub decay: f64,
    /// ζ in [0, 1]
    pub blend: f64,
    /// The largest entry of J that needs no stabilizer.
    pub bound: f64,
}

impl Default for MkorConfig {
    /// γ 0.95, ζ 0.9, bound 100, a look every 10 steps, KL clip 10⁻³.
    fn default() -> Self {
        let step = LayerStep { learn_every: 10, ..LayerStep::default() };
        Self { step, decay: 0.95, blend: 0.9, bound: 100.0 }
    }
}

/// Rank-one K-FAC. Kept of each layer: `a_inverse` and `g_inverse`.
///
/// # Example
/// ```
/// use alcyon_optim::MkorConfig;
/// use alcyon_optim::LayerRule;
/// let config = MkorConfig::default();
/// let kept = config.start(2, 1); // identities: the gradient itself
/// assert_eq!(*config.direction(&kept, &[2.0, 4.0], 2, 1)?, [2.0, 4.0]);
/// # Ok::<(), engine::Error>(())
/// ```
pub type Mkor = Layerwise<MkorConfig>;

impl LayerRule for MkorConfig {
    fn name(&self) -> &'static str {
        "mkor"
    }

    fn check(&self) -> Result<()> {
        let inside = self.decay > 0.0 && self.decay < 1.0;
        demand("mkor", "decay", self.decay, "in (0, 1)", inside)?;
        demand("mkor", "blend", self.blend, "in [0, 1]", (0.0..=1.0).contains(&self.blend))?;
        positive("mkor", "bound", self.bound)
    }

    fn common(&self) -> &LayerStep {
        &self.step
    }

    fn common_mut(&mut self) -> &mut LayerStep {
        &mut self.step
    }

    fn start(&self, n: usize, m: usize) -> LayerState {
        let [inputs, outputs] = self.step.patterns(n, m);
        vec![("a_inverse", inputs.identity()), ("g_inverse", outputs.identity())]
    }

    fn words(&self, n: usize, m: usize) -> String {
        format!("Kronecker inverses by rank-one updates, {}", self.step.words(n, m))
    }

    fn learn(
        &self,
        _: u64,
        seen: &Seen,
        kept: &mut LayerState,
        workers: &mut dyn Communicator,
    ) -> Result<()> {
        let means = [seen.mean_input(workers)?, seen.mean_output(workers)?];
        let sides = self.step.patterns(seen.n, seen.m);
        for (((_, inverse), v), side) in kept.iter_mut().zip(means).zip(sides) {
            update_kept(inverse, &v, &side, self.decay);
            let largest = inverse.iter().fold(0.0_f64, |max, x| max.max(x.abs()));
            if largest > self.bound {
                inverse.iter_mut().for_each(|x| *x *= self.blend);
                side.shift(inverse, 1.0 - self.blend);
            }
        }
        Ok(())
    }

    fn direction(&self, kept: &LayerState, x: &[f64], n: usize, m: usize) -> Result<Buffer<f64>> {
        let [(_, a), (_, g)] = kept.as_slice() else { return copy(x) };
        let [inputs, outputs] = self.step.patterns(n, m);
        Ok(inputs.right(a, &outputs.left(g, x, n, false), m, false))
    }
}

/// The update of what is kept of J: v vᵀ in blocks, or its diagonal.
fn update_kept(inverse: &mut [f64], v: &[f64], side: &Pattern, decay: f64) {
    if let Pattern::Diagonal(_) = side {
        inverse
            .iter_mut()
            .zip(v)
            .for_each(|(j, v)| *j = 1.0 / (decay / *j + (1.0 - decay) * v * v));
        return;
    }
    let mut rest = inverse;
    for range in side.ranges() {
        let (block, tail) = rest.split_at_mut(range.len() * range.len());
        update_inverse(block, &v[range], decay);
        rest = tail;
    }
}

/// J ← (γ J⁻¹ + (1 − γ) v vᵀ)⁻¹ for a symmetric positive definite J.
///
/// # Shape
/// inverse: `[n, n]` · v: `[n]`
///
/// # Example
/// ```
/// let mut inverse = [1.0, 0.0, 0.0, 1.0];
/// alcyon_optim::update_inverse(&mut inverse, &[1.0, 0.0], 0.5);
/// assert_eq!(inverse, [1.0, 0.0, 0.0, 2.0]); // of diag(0.5 + 0.5, 0.5)
/// ```
pub fn update_inverse(inverse: &mut [f64], v: &[f64], decay: f64) {
    let u = apply(inverse, v);
    let fresh = 1.0 - decay;
    let scale = fresh / (decay * decay) / (1.0 + fresh / decay * dot(v, &u));
    for (row, ui) in inverse.chunks_exact_mut(v.len().max(1)).zip(&u) {
        row.iter_mut().zip(&u).for_each(|(x, uj)| *x = *x / decay - scale * ui * uj);
    }
}
