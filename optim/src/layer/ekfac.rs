//! EKFAC: K-FAC's eigenvectors with eigenvalues that are right for them.
//!
//! George, Laurent, Bouthillier, Ballas & Vincent 2018, "Fast Approximate Natural Gradient Descent in a
//! Kronecker-factored Eigenbasis", Algorithm 1.
//!
//! ```text
//! A, G   running averages of E[a aᵀ], E[d dᵀ];   U, V their eigenvectors, every `basis_every` looks, or
//!        when they have gone stale
//! S      = E[(Vᵀ D U)²], entry by entry, D the gradient matrix of one example
//! P      = V ((Vᵀ X U) / (S + λ)) Uᵀ
//! ```
//! The intra-batch variant: S is measured on the batches that are seen, in a running average that starts
//! anew with each basis (an old S belongs to old axes). Its Frobenius distance from the exact block is
//! never above K-FAC's.

use engine::Result;
use kernels::elementwise;
use kernels::pool::Buffer;

use crate::Fisher;
use crate::algebra::axes::copy;
use crate::algebra::dense::average;
use crate::algebra::pattern::Pattern;
use crate::check::{below_one, positive};
use crate::curvature::block::precondition::of_side;
use crate::curvature::communicator::Communicator;
use crate::curvature::estimate::layer_rows::Seen;
use crate::curvature::spectrum::staleness::staleness;
use crate::frame::layerwise::{LayerRule, LayerState, LayerStep, Layerwise};

/// Options of [`Ekfac`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EkfacConfig {
    /// Rate, momentum, clip, labels.
    pub step: LayerStep,
    /// λ, in units of the curvature of the mean loss.
    pub damping: f64,
    /// β of the running averages.
    pub decay: f64,
    /// Looks between two eigendecompositions.
    pub basis_every: u64,
    /// If set, renews a layer's basis once its staleness exceeds this, in place of `basis_every`: the
    /// share of either factor that the old eigenvectors no longer diagonalise
    /// ([`staleness`]), in (0, 1).
    pub basis_stale: Option<f64>,
}

impl Default for EkfacConfig {
    /// λ 0.1, as in the authors' example (S may be far smaller than K-FAC's eigenvalues); α 0.1, μ 0.9,
    /// β 0.95, one sampled label, every tenth look.
    fn default() -> Self {
        let step = LayerStep { fisher: Fisher::Sampled { draws: 1 }, ..LayerStep::default() };
        Self { step, damping: 0.1, decay: 0.95, basis_every: 10, basis_stale: None }
    }
}

/// Eigenvalue-corrected K-FAC. Kept of each layer: `a`, `g`, their eigenvectors `u`, `v` as columns, and
/// `s` [outputs, inputs].
///
/// # Example
/// ```
/// use engine::{DType, Gradients, Parameter, Tensor};
/// use alcyon_optim::{Ekfac, EkfacConfig, Optimizer};
/// // A parameter that no layer has shown moves along its gradient, and coverage says so.
/// let mut weight = Parameter::new(Tensor::full([1], 1.0, DType::F64));
/// let mut grads = Gradients::default();
/// grads.set(&weight, Tensor::full([1], 0.5, DType::F64));
/// let mut config = EkfacConfig::default();
/// (config.step.rate, config.step.kl_clip) = (0.5, None);
/// let mut optimizer = Ekfac::new(config)?;
/// optimizer.step(&mut weight, &grads)?;
/// assert_eq!(weight.value().item()?, 0.75);
/// assert_eq!(optimizer.coverage(&weight).lines[0].rule, "gradient: no layer seen yet");
/// # Ok::<(), engine::Error>(())
/// ```
pub type Ekfac = Layerwise<EkfacConfig>;

impl LayerRule for EkfacConfig {
    fn name(&self) -> &'static str {
        "ekfac"
    }

    fn check(&self) -> Result<()> {
        positive("ekfac", "damping", self.damping)?;
        below_one("ekfac", "decay", self.decay)?;
        self.basis_stale.map_or(Ok(()), |limit| {
            positive("ekfac", "basis_stale", limit)?;
            below_one("ekfac", "basis_stale", limit)
        })
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
            ("a", inputs.zeros()),
            ("g", outputs.zeros()),
            ("u", inputs.zeros()),
            ("v", outputs.zeros()),
            ("s", Buffer::zeros(m * n)),
            ("age", Buffer::zeros(1)),
        ]
    }

    fn words(&self, n: usize, m: usize) -> String {
        format!("Kronecker eigenvectors, {}", self.step.words(n, m))
    }

    fn learn(
        &self,
        t: u64,
        seen: &Seen,
        kept: &mut LayerState,
        workers: &mut dyn Communicator,
    ) -> Result<()> {
        let [inputs, outputs] = self.step.patterns(seen.n, seen.m);
        let [(_, a), (_, g), (_, u), (_, v), (_, s), (_, age)] = kept.as_mut_slice() else {
            return Ok(());
        };
        average(a, &seen.input_moment(&inputs, workers)?, t, self.decay);
        average(g, &seen.output_moment(&outputs, workers)?, t, self.decay);
        let due = match self.basis_stale {
            // A layer without a basis has zeros for one.
            Some(limit) if age[0] > 0.0 => {
                staleness_of(a, u, &inputs)?.max(staleness_of(g, v, &outputs)?) > limit
            }
            Some(_) => true,
            None => (t - 1).is_multiple_of(self.basis_every.max(1)),
        };
        if due {
            *u = of_side("the inputs", inputs.eigenvectors(a))?;
            *v = of_side("the outputs", outputs.eigenvectors(g))?;
            age[0] = 0.0;
        }
        // Vᵀ D U of D = Σ d aᵀ: the rows are turned, and not the gradients.
        let rows = |x: &[f64], side: &Pattern| x.len() / side.size().max(1);
        let turned = seen.turned(
            |x| inputs.right(u, x, rows(x, &inputs), false),
            |d| outputs.right(v, d, rows(d, &outputs), false),
        );
        let squares = turned.squared_gradients();
        age[0] += 1.0;
        average(s, &seen.mean_over_terms(squares, workers)?, age[0] as u64, self.decay);
        Ok(())
    }

    fn direction(&self, kept: &LayerState, x: &[f64], n: usize, m: usize) -> Result<Buffer<f64>> {
        let [_, _, (_, u), (_, v), (_, s), _] = kept.as_slice() else { return copy(x) };
        let [inputs, outputs] = self.step.patterns(n, m);
        // The eigenvectors of a diagonal are the axes.
        let turn = |x: &[f64], back: bool| match outputs {
            Pattern::Diagonal(_) => inputs.right(u, x, m, back),
            Pattern::Blocks(_) => inputs.right(u, &outputs.left(v, x, n, !back), m, back),
        };
        let mut turned = turn(x, false);
        elementwise::update2(&mut turned, s, |x, s| x / (s + self.damping));
        Ok(turn(&turned, true))
    }
}

/// The staleness of the stalest block; a diagonal has no other eigenvectors than the axes.
fn staleness_of(matrix: &[f64], basis: &[f64], side: &Pattern) -> Result<f64> {
    let (mut at, mut worst) = (0, 0.0_f64);
    for range in side.ranges() {
        let numbers = at..at + range.len() * range.len();
        at = numbers.end;
        worst = worst.max(staleness(&matrix[numbers.clone()], &basis[numbers], range.len())?);
    }
    Ok(worst)
}
