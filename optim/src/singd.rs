//! SINGD: K-FAC whose inverse roots are learned by products alone.
//!
//! Lin, Dangel, Eschenhagen, Neklyudov, Kristiadi, Turner & Makhzani 2024, "Structured Inverse-Free
//! Natural Gradient: Memory-Efficient & Numerically-Stable KFAC", Figure 4; dense structure, and IKFAC.
//!
//! ```text
//! A⁻¹ ≈ K Kᵀ,  G⁻¹ ≈ C Cᵀ,   H_K = Kᵀ A K,  H_C = Cᵀ G C
//! m_K ← γ m_K + (1/2m)(tr(H_C) H_K + λ tr(CᵀC) KᵀK − m I)            IKFAC: ½ (H_K + λ KᵀK − I)
//! m_C ← γ m_C + (1/2n)(tr(H_K) H_C + λ tr(KᵀK) CᵀC − n I)            IKFAC: ½ (H_C + λ CᵀC − I)
//! K ← K (I − β m_K),   C ← C (I − β m_C)                             the exponential, cut after one term
//! P = C Cᵀ X K Kᵀ
//! ```
//! Deviation: β is divided by max(1, ‖m‖), so that a first look at large inputs cannot turn K around.

use engine::Result;

use crate::curvature::communicator::Communicator;
use crate::curvature::layer_rows::Seen;
use crate::flat::dot;
use crate::layerwise::{LayerRule, LayerState, LayerStep, Layerwise};
use crate::matrix::{identity, product, shift, trace};
use crate::moments::{below_one, demand, positive};

/// Options of [`Singd`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SingdConfig {
    /// Rate, momentum, clip, labels; a look every 10 steps.
    pub step: LayerStep,
    /// λ
    pub damping: f64,
    /// β: the rate of K and C.
    pub root_rate: f64,
    /// γ in [0, 1): the momentum of K and C.
    pub root_momentum: f64,
    /// IKFAC: K-FAC's own factors, without the traces that tie one side to the other.
    pub untied: bool,
}

impl Default for SingdConfig {
    /// λ 10⁻³, β 0.01, γ 0.9, a look every 10 steps, α 0.1 with KL clip 10⁻³.
    fn default() -> Self {
        let step = LayerStep { learn_every: 10, ..LayerStep::default() };
        Self { step, damping: 1e-3, root_rate: 1e-2, root_momentum: 0.9, untied: false }
    }
}

/// Inverse-free K-FAC. Kept of each layer: `k`, `c` and their momenta.
///
/// # Example
/// ```
/// use alcyon_optim::SingdConfig;
/// use alcyon_optim::layerwise::LayerRule;
/// let config = SingdConfig::default();
/// let mut kept = config.start(2, 1);
/// kept[0].1 = vec![1.0, 0.0, 1.0, 2.0]; // K Kᵀ = (1 1; 1 5)
/// assert_eq!(config.direction(&kept, &[1.0, 1.0], 2, 1)?, [2.0, 6.0]);
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
        vec![
            ("k", identity(n)),
            ("c", identity(m)),
            ("k_momentum", vec![0.0; n * n]),
            ("c_momentum", vec![0.0; m * m]),
        ]
    }

    fn words(&self, n: usize, m: usize) -> String {
        format!("Kronecker inverse roots by products, {m} ⊗ {n}")
    }

    fn learn(
        &self,
        _: u64,
        seen: &Seen,
        kept: &mut LayerState,
        workers: &mut dyn Communicator,
    ) -> Result<()> {
        let (n, m) = (seen.n, seen.m);
        let [(_, k), (_, c), (_, mk), (_, mc)] = kept.as_mut_slice() else { return Ok(()) };
        let (hk, kk) = seen_through(k, &seen.input_moment(workers)?, n);
        let (hc, cc) = seen_through(c, &seen.output_moment(workers)?, m);
        // What one side says to the other: trace and trace of the square, over its size.
        let size = |h: &[f64], s: usize| if self.untied { 1.0 } else { trace(h, s) / s as f64 };
        let (to_k, to_c) = ([size(&hc, m), size(&cc, m)], [size(&hk, n), size(&kk, n)]);
        let forces = [(k, mk, hk, kk, to_k, n), (c, mc, hc, cc, to_c, m)];
        for (root, momentum, h, square, [of_h, of_square], s) in forces {
            let terms = momentum.iter_mut().zip(h.iter().zip(&square));
            terms.for_each(|(x, (h, q))| {
                *x = self.root_momentum * *x + 0.5 * (of_h * h + self.damping * of_square * q);
            });
            shift(momentum, s, -0.5);
            let length = dot(momentum, momentum).sqrt();
            let rate = self.root_rate / length.max(1.0);
            let turn = product(root, (s, s), false, momentum, (s, s), false);
            root.iter_mut().zip(turn).for_each(|(x, t)| *x -= rate * t);
        }
        Ok(())
    }

    fn direction(&self, kept: &LayerState, x: &[f64], n: usize, m: usize) -> Result<Vec<f64>> {
        let [(_, k), (_, c), _, _] = kept.as_slice() else { return Ok(x.to_vec()) };
        let left = product(c, (m, m), true, x, (m, n), false);
        let left = product(c, (m, m), false, &left, (m, n), false);
        let right = product(&left, (m, n), false, k, (n, n), false);
        Ok(product(&right, (m, n), false, k, (n, n), true))
    }
}

/// KᵀMK and KᵀK.
fn seen_through(root: &[f64], moment: &[f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    let right = product(moment, (n, n), false, root, (n, n), false);
    let h = product(root, (n, n), true, &right, (n, n), false);
    (h, product(root, (n, n), true, root, (n, n), false))
}
