//! SKFAC: K-FAC of one batch, inverted on the side where the batch is smaller than the layer.
//!
//! Tang, Jiang, Gong, Zeng, Huang, Lin & Huang 2021, "SKFAC: Training Neural Networks with Faster
//! Kronecker-Factored Approximate Curvature", equations 9 to 11.
//!
//! ```text
//! (λ I + XᵀX/N)⁻¹ = (I − Xᵀ (N λ I + X Xᵀ)⁻¹ X)/λ            Woodbury 1950: N³ in place of n³
//! P = (G + λ I)⁻¹ X (A + λ I)⁻¹
//! ```
//! Deviations: positions of a convolution are rows of their own (the paper sums them first); a side that is cut
//! or diagonal ([`LongSides`](crate::LongSides)) is inverted as it is.

use engine::Result;
use kernels::linalg;
use kernels::pool::Buffer;

use crate::algebra::axes::copy;
use crate::algebra::dense::{failed, product, shift};
use crate::algebra::pattern::Pattern;
use crate::check::positive;
use crate::curvature::block::precondition::of_side;
use crate::curvature::communicator::Communicator;
use crate::curvature::estimate::layer_rows::Seen;
use crate::frame::layerwise::{LayerRule, LayerState, LayerStep, Layerwise};

/// Options of [`Skfac`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SkfacConfig {
    /// Rate, momentum, clip, labels.
    pub step: LayerStep,
    /// λ, added to each factor.
    pub damping: f64,
}

impl Default for SkfacConfig {
    /// α 0.1, μ 0.9, KL clip 10⁻³, λ 0.03, true labels.
    fn default() -> Self {
        Self { step: LayerStep::default(), damping: 0.03 }
    }
}

/// Swift K-FAC. Kept of each layer: `a_inverse` and `g_inverse`, damped.
///
/// # Example
/// ```
/// use alcyon_optim::SkfacConfig;
/// use alcyon_optim::LayerRule;
/// let config = SkfacConfig::default();
/// let inverses = [vec![0.5, 0.0, 0.0, 0.25].into(), vec![2.0].into()];
/// let kept = ["a_inverse", "g_inverse"].into_iter().zip(inverses).collect();
/// assert_eq!(*config.direction(&kept, &[2.0, 4.0], 2, 1)?, [2.0, 2.0]);
/// # Ok::<(), engine::Error>(())
/// ```
pub type Skfac = Layerwise<SkfacConfig>;

impl LayerRule for SkfacConfig {
    fn name(&self) -> &'static str {
        "skfac"
    }

    fn check(&self) -> Result<()> {
        positive("skfac", "damping", self.damping)
    }

    fn common(&self) -> &LayerStep {
        &self.step
    }

    fn common_mut(&mut self) -> &mut LayerStep {
        &mut self.step
    }

    fn start(&self, n: usize, m: usize) -> LayerState {
        let [inputs, outputs] = self.step.patterns(n, m);
        vec![("a_inverse", inputs.zeros()), ("g_inverse", outputs.zeros())]
    }

    fn words(&self, n: usize, m: usize) -> String {
        format!("Kronecker of the batch, {}", self.step.words(n, m))
    }

    fn learn(
        &self,
        _: u64,
        seen: &Seen,
        kept: &mut LayerState,
        workers: &mut dyn Communicator,
    ) -> Result<()> {
        let [(_, a), (_, g)] = kept.as_mut_slice() else { return Ok(()) };
        let [inputs, outputs] = self.step.patterns(seen.n, seen.m);
        // Several workers: none has all rows, and what they can add up is the larger side.
        let small = |side: &Pattern| *side == Pattern::whole(side.size()) && workers.workers() <= 1;
        let [small_a, small_g] = [small(&inputs), small(&outputs)];
        let found = match small_a {
            true => damped_inverse(&seen.inputs(), seen.n, seen.rows() as f64, self.damping),
            false => inverse_of(seen.input_moment(&inputs, workers)?, &inputs, self.damping),
        };
        *a = of_side("the inputs", found)?;
        let found = match small_g {
            true => damped_inverse(&seen.outputs(), seen.m, seen.terms, self.damping),
            false => inverse_of(seen.output_moment(&outputs, workers)?, &outputs, self.damping),
        };
        *g = of_side("the outputs", found)?;
        Ok(())
    }

    fn direction(&self, kept: &LayerState, x: &[f64], n: usize, m: usize) -> Result<Buffer<f64>> {
        let [(_, a), (_, g)] = kept.as_slice() else { return copy(x) };
        let [inputs, outputs] = self.step.patterns(n, m);
        Ok(inputs.right(a, &outputs.left(g, x, n, false), m, false))
    }
}

/// (λ I + XᵀX/count)⁻¹ by the smaller of its two sides.
///
/// # Shape
/// x: `[rows, n]` · result: `[n, n]`
///
/// # Errors
/// [`Error::Linalg`](engine::Error::Linalg) when x is not finite.
///
/// # Example
/// ```
/// use alcyon_optim::damped_inverse;
/// // One row (3, 4): I + xᵀx has the eigenvalues 26 and 1.
/// let inverse = damped_inverse(&[3.0, 4.0], 2, 1.0, 1.0)?;
/// assert!((inverse[0] - (1.0 - 9.0 / 26.0)).abs() < 1e-15);
/// # Ok::<(), engine::Error>(())
/// ```
pub fn damped_inverse(x: &[f64], n: usize, count: f64, damping: f64) -> Result<Buffer<f64>> {
    let (rows, count) = (x.len() / n.max(1), count.max(1.0));
    if rows >= n {
        let mut moment = product(x, (rows, n), true, x, (rows, n), false);
        moment.iter_mut().for_each(|v| *v /= count);
        return inverse_of(moment, &Pattern::whole(n), damping);
    }
    let mut gram = product(x, (rows, n), false, x, (rows, n), true);
    shift(&mut gram, rows, count * damping);
    let solved = linalg::solve(&gram, rows, x, n).map_err(|e| failed(&e))?;
    let mut inverse = product(x, (rows, n), true, &solved, (rows, n), false);
    inverse.iter_mut().for_each(|v| *v = -*v / damping);
    shift(&mut inverse, n, 1.0 / damping);
    Ok(inverse)
}

/// (λ I + M)⁻¹
fn inverse_of(mut moment: Buffer<f64>, side: &Pattern, damping: f64) -> Result<Buffer<f64>> {
    side.shift(&mut moment, damping);
    side.inverse(&moment)
}
