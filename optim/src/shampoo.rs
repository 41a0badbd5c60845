//! Shampoo: a preconditioner for each axis of each parameter, from gradients alone.
//!
//! Gupta, Koren & Singer 2018, "Shampoo: Preconditioned Stochastic Tensor Optimization", Algorithm 2;
//! blocks and grafting: Anil et al. 2020; moving averages: Shi et al. 2023. For a tensor of order k
//!
//! ```text
//! L_i ← L_i + G₍ᵢ₎ G₍ᵢ₎ᵀ                      G₍ᵢ₎: G unfolded along axis i; L_i starts from εI
//! M   ← β₁ M + (1 − β₁) G                      divided by 1 − β₁ᵗ
//! P   = M ×₁ L₁^(−1/2k) ×₂ … ×ₖ Lₖ^(−1/2k)     of a matrix: L^(−1/4) M R^(−1/4)
//! P   ← P ‖grafted‖ / ‖P‖                      if grafting is on
//! θ   ← θ − α (P + κ θ)                        κ is decoupled
//! ```
//!
//! Where it differs from the paper: `Statistics::Ema` averages in place of summing, starts from 0 and
//! adds ε under the root; long axes are cut into blocks with preconditioners of their own; roots are
//! renewed every `root_every` steps, the first included. If an eigendecomposition fails, the
//! previous root stays in use; the third failure in a row, or one before there is any root, is an
//! error. Vectors are tensors of order 1: L^(−1/2), full-matrix AdaGrad in blocks.

mod blocks;
mod state;

use std::collections::BTreeMap;

use engine::{Element as _, Gradients, ParamId, Parameter, Parameters, Result, for_float};

use crate::coverage::{Coverage, Line};
use crate::moments::{check_gradients, correction, demand};
use crate::{Optimizer, State};
use blocks::{Cut, Preconditioner};

/// How the second moments of the gradients are kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Statistics {
    /// Sums from εI, as in the paper: steps shrink like 1/√t.
    Sum {
        /// ε, the start.
        epsilon: f64,
    },
    /// Moving averages from 0.
    Ema {
        /// β₂
        beta2: f64,
        /// Divides by 1 − β₂ᵗ (and the first moment by 1 − β₁ᵗ).
        bias_correction: bool,
        /// ε, added to the eigenvalues.
        epsilon: f64,
    },
}

/// Whose step length to take: that of the whole parameter's direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Graft {
    /// Shampoo's own.
    None,
    /// The (first moment of the) gradient's.
    Sgd,
    /// Adam's.
    Adam {
        /// Decay of its second moment.
        beta2: f64,
        /// Added to its root.
        epsilon: f64,
    },
}

/// The constants of Shampoo. `Default` is for training networks: averages (β₂ 0.99, ε 10⁻¹²), β₁ 0.9,
/// the length of Adam's step at α 10⁻³, blocks of 256 (an eigendecomposition costs n³), roots every
/// tenth step. The paper's: [`ShampooConfig::paper`].
#[derive(Debug, Clone, PartialEq)]
pub struct ShampooConfig {
    /// α, the learning rate.
    pub rate: f64,
    /// β₁ of the first moment; 0 for none.
    pub beta1: f64,
    /// Sums or averages.
    pub statistics: Statistics,
    /// Steps between two computations of the roots.
    pub root_every: u64,
    /// The longest axis that gets one preconditioner; longer ones are cut.
    pub block: Option<usize>,
    /// Merges neighbouring axes first, as long as their product is at most `block`: a small matrix
    /// becomes a vector then.
    pub merge: bool,
    /// The step length.
    pub graft: Graft,
    /// κ, decoupled.
    pub weight_decay: f64,
    /// The exponent of every root in place of −1/2k.
    pub exponent: Option<f64>,
}

impl Default for ShampooConfig {
    fn default() -> Self {
        Self {
            rate: 1e-3,
            beta1: 0.9,
            statistics: Statistics::Ema { beta2: 0.99, bias_correction: true, epsilon: 1e-12 },
            root_every: 10,
            block: Some(256),
            merge: false,
            graft: Graft::Adam { beta2: 0.999, epsilon: 1e-8 },
            weight_decay: 0.0,
            exponent: None,
        }
    }
}

impl ShampooConfig {
    /// Algorithm 2 of the paper: sums from 10⁻⁶ I, roots at every step, no grafting, no momentum.
    #[must_use]
    pub const fn paper() -> Self {
        Self {
            rate: 0.1,
            beta1: 0.0,
            statistics: Statistics::Sum { epsilon: 1e-6 },
            root_every: 1,
            block: None,
            merge: false,
            graft: Graft::None,
            weight_decay: 0.0,
            exponent: None,
        }
    }
}

/// The optimizer. The recipe is at the top of this module.
///
/// # Errors
/// A step fails with [`Error::Linalg`](engine::Error::Linalg) when the roots of a parameter cannot be
/// computed (a gradient that is not finite).
#[derive(Debug)]
pub struct Shampoo {
    config: ShampooConfig,
    steps: u64,
    slots: BTreeMap<ParamId, Slot>,
}

/// What is kept for one parameter.
#[derive(Debug, Clone)]
struct Slot {
    cut: Cut,
    blocks: Vec<Preconditioner>,
    /// M; empty without momentum.
    first: Vec<f64>,
    /// The second moment of a grafted Adam; empty for others.
    second: Vec<f64>,
}

impl Shampoo {
    /// Shampoo with these constants.
    ///
    /// # Errors
    /// [`Error::Argument`](engine::Error::Argument) when one is outside its range.
    pub fn new(config: ShampooConfig) -> Result<Self> {
        config.check()?;
        Ok(Self { config, steps: 0, slots: BTreeMap::new() })
    }

    /// The constants.
    #[must_use]
    pub const fn config(&self) -> &ShampooConfig {
        &self.config
    }

    /// P, for one parameter at step t ≥ 1.
    fn direction(&mut self, param: &Parameter, gradient: &[f64], t: u64) -> Result<Vec<f64>> {
        let config = &self.config;
        let fresh = || Slot::new(config, param);
        let slot = self.slots.entry(param.id()).or_insert_with(fresh);
        // Estimate.
        let due = (t - 1).is_multiple_of(config.root_every.max(1));
        for (block, range) in slot.blocks.iter_mut().zip(slot.cut.ranges()) {
            block.add(&slot.cut.read(gradient, &range), config.statistics);
            if due || !block.has_roots() {
                block.renew(config.statistics, config.exponent, t)?;
            }
        }
        // Precondition.
        let moment = slot.first_moment(config, gradient, t);
        let mut direction = vec![0.0; gradient.len()];
        for (block, range) in slot.blocks.iter().zip(slot.cut.ranges()) {
            let part = block.apply(slot.cut.read(&moment, &range));
            slot.cut.write(&part, &range, &mut direction);
        }
        if let Some(length) = slot.graft(config, gradient, &moment, t) {
            let own = norm(&direction);
            let scale = if own > 0.0 { length / own } else { 0.0 };
            direction.iter_mut().for_each(|x| *x *= scale);
        }
        Ok(direction)
    }
}

impl Slot {
    fn new(config: &ShampooConfig, param: &Parameter) -> Self {
        let shape = param.value().shape();
        let cut = Cut::new(shape, config.block, config.merge);
        let blocks = cut.ranges().iter().map(|range| Preconditioner::new(range)).collect();
        let sized = |needed: bool| if needed { vec![0.0; shape.numel()] } else { Vec::new() };
        let adam = matches!(config.graft, Graft::Adam { .. });
        Self { cut, blocks, first: sized(config.beta1 > 0.0), second: sized(adam) }
    }

    /// M̂
    fn first_moment(&mut self, config: &ShampooConfig, gradient: &[f64], t: u64) -> Vec<f64> {
        let beta = config.beta1;
        if self.first.is_empty() {
            return gradient.to_vec();
        }
        self.first.iter_mut().zip(gradient).for_each(|(m, g)| *m = beta * *m + (1.0 - beta) * g);
        let corrected = match config.statistics {
            Statistics::Ema { bias_correction: false, .. } => 1.0,
            Statistics::Ema { .. } | Statistics::Sum { .. } => correction(beta, t),
        };
        self.first.iter().map(|m| m / corrected).collect()
    }

    /// The length of the grafted method's direction.
    fn graft(
        &mut self,
        config: &ShampooConfig,
        gradient: &[f64],
        moment: &[f64],
        t: u64,
    ) -> Option<f64> {
        match config.graft {
            Graft::None => None,
            Graft::Sgd => Some(norm(moment)),
            Graft::Adam { beta2, epsilon } => {
                let square = |(v, g): (&mut f64, &f64)| *v = beta2 * *v + (1.0 - beta2) * g * g;
                self.second.iter_mut().zip(gradient).for_each(square);
                let corrected = correction(beta2, t);
                let adam = moment.iter().zip(&self.second);
                let adam: Vec<f64> =
                    adam.map(|(m, v)| m / ((v / corrected).sqrt() + epsilon)).collect();
                Some(norm(&adam))
            }
        }
    }
}

impl Optimizer for Shampoo {
    fn name(&self) -> &'static str {
        "shampoo"
    }

    fn step(&mut self, model: &mut dyn Parameters, grads: &Gradients) -> Result<()> {
        check_gradients(model, grads)?;
        let t = self.steps + 1;
        let mut directions = BTreeMap::new();
        for (path, param) in model.parameters() {
            if let (true, Some(gradient)) = (param.is_trainable(), grads.of(param)) {
                let direction = self.direction(param, &gradient.to_f64_vec()?, t);
                directions.insert(param.id(), direction.map_err(|error| error.in_layer(&path))?);
            }
        }
        let (rate, decay) = (self.config.rate, self.config.weight_decay);
        for (_, param) in model.parameters_mut() {
            let Some(direction) = directions.get(&param.id()) else { continue };
            for_float!(param.value().dtype(), T => {
                let theta = param.value_mut().make_mut::<T>()?;
                for (theta, p) in theta.iter_mut().zip(direction) {
                    let old = theta.to_f64();
                    *theta = T::from_f64(old - rate * (p + decay * old));
                }
            });
        }
        self.steps = t;
        Ok(())
    }

    fn rate(&self) -> f64 {
        self.config.rate
    }

    fn set_rate(&mut self, rate: f64) {
        self.config.rate = rate;
    }

    fn coverage(&self, model: &dyn Parameters) -> Coverage {
        let line = |(path, param): (String, &Parameter)| {
            let shape = *param.value().shape();
            let cut = Cut::new(&shape, self.config.block, self.config.merge);
            let rule = if param.is_trainable() { cut.to_string() } else { "frozen".into() };
            let state_bytes = self.slots.get(&param.id()).map_or(0, Slot::bytes);
            Line { param: path, shape, rule, state_bytes }
        };
        Coverage { lines: model.parameters().into_iter().map(line).collect() }
    }

    fn state(&self, model: &dyn Parameters) -> Result<State> {
        self.save(model)
    }

    fn load_state(&mut self, model: &dyn Parameters, state: &State) -> Result<()> {
        self.load(model, state)
    }
}

impl Slot {
    fn bytes(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(Preconditioner::numbers).sum();
        (blocks + self.first.len() + self.second.len()) * size_of::<f64>()
    }
}

impl ShampooConfig {
    fn check(&self) -> Result<()> {
        let (epsilon, beta2) = match self.statistics {
            Statistics::Sum { epsilon } => (epsilon, 0.0),
            Statistics::Ema { beta2, epsilon, .. } => (epsilon, beta2),
        };
        let (graft_beta2, graft_epsilon) = match self.graft {
            Graft::Adam { beta2, epsilon } => (beta2, epsilon),
            Graft::None | Graft::Sgd => (0.0, 1.0),
        };
        let at_least_zero = |name, x: f64| {
            demand("shampoo", name, x, "finite and not negative", x.is_finite() && x >= 0.0)
        };
        let below_one = |name, x: f64| {
            demand("shampoo", name, x, "at least 0 and below 1", (0.0..1.0).contains(&x))
        };
        let positive =
            |name, x: f64| demand("shampoo", name, x, "positive", x.is_finite() && x > 0.0);
        at_least_zero("rate", self.rate)?;
        at_least_zero("weight_decay", self.weight_decay)?;
        below_one("beta1", self.beta1)?;
        below_one("beta2", beta2)?;
        below_one("graft.beta2", graft_beta2)?;
        positive("epsilon", epsilon)?;
        positive("graft.epsilon", graft_epsilon)?;
        positive("block", self.block.unwrap_or(1) as f64)
    }
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}
