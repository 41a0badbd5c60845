//! SINGD: K-FAC whose inverse roots are learned by products alone.
//!
//! Lin, Dangel, Eschenhagen, Neklyudov, Kristiadi, Turner & Makhzani 2024, "Structured Inverse-Free
//! Natural Gradient: Memory-Efficient & Numerically-Stable KFAC", Figure 4; dense structure, and IKFAC.
//!
//! ```text
//! A⁻¹ ≈ K Kᵀ,  G⁻¹ ≈ C Cᵀ,   H_K = Kᵀ A K,  H_C = Cᵀ G C
//! m_K ← γ m_K + (1 − γ)(1/2m)(tr(H_C) H_K + λ tr(CᵀC) KᵀK − m I)     IKFAC: ½ (H_K + λ KᵀK − I)
//! m_C ← γ m_C + (1 − γ)(1/2n)(tr(H_K) H_C + λ tr(KᵀK) CᵀC − n I)     IKFAC: ½ (H_C + λ CᵀC − I)
//! K ← K (I − β m_K),   C ← C (I − β m_C)                             the exponential, cut after one term
//! P = C Cᵀ X K Kᵀ
//! ```
//! As in the authors' program with `normalize_lr_cov`, β is divided by max(1, max |m|), the largest entry, so that
//! a first look at large inputs cannot turn K around, and new forces are weighed by 1 − γ; IKFAC has no momentum
//! ([`SingdConfig::ikfac`]; `untied` with a γ above 0 is an option of ours). Deviation: that normaliser is always
//! on, where theirs is an option.
//!
//! Of the paper's structures of K and C there are the dense, the block-diagonal and the diagonal, as
//! [`LayerStep::sides`] says: `LongSides::blocks(30)` and `LongSides::diagonal()` are the program's
//! `block30diagonal` and `diagonal`. H, KᵀK and products are then those blocks of the dense ones. Its hierarchical
//! and Toeplitz structures are not offered.

use engine::Result;
use kernels::pool::Buffer;

use crate::algebra::axes::copy;
use crate::algebra::pattern::Pattern;
use crate::check::{below_one, demand, positive};
use crate::curvature::communicator::Communicator;
use crate::curvature::estimate::layer_rows::Seen;
use crate::frame::layerwise::{LayerRule, LayerState, LayerStep, Layerwise};

/// Options of [`Singd`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SingdConfig {
    /// Rate, momentum, clip, labels; a look every 10 steps.
    pub step: LayerStep,
    /// λ
    pub damping: f64,
    /// β: the rate of K and C.
    pub root_rate: f64,
    /// γ in [0, 1): the momentum of K and C. The authors' IKFAC has none.
    pub root_momentum: f64,
    /// IKFAC: K-FAC's own factors, without the traces that tie one side to the other.
    pub untied: bool,
}

impl Default for SingdConfig {
    /// The authors': λ 10⁻³, β 0.01, γ 0.5, a look every 10 steps; α 0.1 with KL clip 10⁻³.
    fn default() -> Self {
        let step = LayerStep { learn_every: 10, ..LayerStep::default() };
        Self { step, damping: 1e-3, root_rate: 1e-2, root_momentum: 0.5, untied: false }
    }
}

impl SingdConfig {
    /// IKFAC, without momentum of K and C.
    #[must_use]
    pub fn ikfac() -> Self {
        Self { untied: true, root_momentum: 0.0, ..Self::default() }
    }
}

/// Inverse-free K-FAC. Kept of each layer: `k`, `c` and their momenta.
///
/// # Example
/// ```
/// use alcyon_optim::SingdConfig;
/// use alcyon_optim::LayerRule;
/// let config = SingdConfig::default();
/// let mut kept = config.start(2, 1);
/// kept[0].1 = vec![1.0, 0.0, 1.0, 2.0].into(); // K Kᵀ = (1 1; 1 5)
/// assert_eq!(*config.direction(&kept, &[1.0, 1.0], 2, 1)?, [2.0, 6.0]);
/// # Ok::<(), engine::Error>(())
/// ```
pub type Singd = Layerwise<SingdConfig>;

impl LayerRule for SingdConfig {
    fn name(&self) -> &'static str {
        if self.untied { "ikfac" } else { "singd" }
    }

    fn check(&self) -> Result<()> {
        let rate = self.root_rate;
        demand("singd", "root_rate", rate, "in (0, 1)", rate > 0.0 && rate < 1.0)?;
        positive("singd", "damping", self.damping)?;
        below_one("singd", "root_momentum", self.root_momentum)
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
            ("k", inputs.identity()),
            ("c", outputs.identity()),
            ("k_momentum", inputs.zeros()),
            ("c_momentum", outputs.zeros()),
        ]
    }

    fn words(&self, n: usize, m: usize) -> String {
        let sides = self.step.words(n, m);
        match self.untied && self.root_momentum > 0.0 {
            true => format!("Kronecker inverse roots by products with momentum, {sides}"),
            false => format!("Kronecker inverse roots by products, {sides}"),
        }
    }

    fn learn(
        &self,
        _: u64,
        seen: &Seen,
        kept: &mut LayerState,
        workers: &mut dyn Communicator,
    ) -> Result<()> {
        let [(_, k), (_, c), (_, mk), (_, mc)] = kept.as_mut_slice() else { return Ok(()) };
        let [inputs, outputs] = self.step.patterns(seen.n, seen.m);
        // The rows are turned, A and G are not formed.
        let through = |x: Buffer<f64>, root: &[f64], side: &Pattern| {
            let mut h = side.zeros();
            let rows = x.len() / side.size().max(1);
            side.gram(&side.right(root, &x, rows, false), rows, (1.0, 1.0), &mut h);
            h
        };
        let hk = seen.mean_over_rows(through(seen.inputs(), k, &inputs), workers)?;
        let hc = seen.mean_over_terms(through(seen.outputs(), c, &outputs), workers)?;
        let [kk, cc] = [(&*k, &inputs), (&*c, &outputs)].map(|(x, side)| square(x, side));
        // What one side says to the other: trace and trace of the square, over its size.
        let size = |h: &[f64], side: &Pattern| match self.untied {
            true => 1.0,
            false => side.trace(h) / side.size() as f64,
        };
        let to_k = [size(&hc, &outputs), size(&cc, &outputs)];
        let to_c = [size(&hk, &inputs), size(&kk, &inputs)];
        let forces = [(k, mk, hk, kk, to_k, inputs), (c, mc, hc, cc, to_c, outputs)];
        let fresh = 0.5 * (1.0 - self.root_momentum);
        for (root, momentum, h, square, [of_h, of_square], side) in forces {
            let terms = momentum.iter_mut().zip(h.iter().zip(&*square));
            terms.for_each(|(x, (h, q))| {
                *x = self.root_momentum * *x + fresh * (of_h * h + self.damping * of_square * q);
            });
            side.shift(momentum, -fresh);
            let largest = momentum.iter().fold(0.0_f64, |max, x| max.max(x.abs()));
            let rate = self.root_rate / largest.max(1.0);
            let turn = side.times((root, false), (momentum, false));
            root.iter_mut().zip(&*turn).for_each(|(x, t)| *x -= rate * t);
        }
        Ok(())
    }

    fn direction(&self, kept: &LayerState, x: &[f64], n: usize, m: usize) -> Result<Buffer<f64>> {
        let [(_, k), (_, c), _, _] = kept.as_slice() else { return copy(x) };
        let [inputs, outputs] = self.step.patterns(n, m);
        let left = outputs.left(c, &outputs.left(c, x, n, true), n, false);
        Ok(inputs.right(k, &inputs.right(k, &left, m, false), m, true))
    }
}

/// KᵀK
fn square(root: &[f64], side: &Pattern) -> Buffer<f64> {
    side.times((root, true), (root, false))
}
