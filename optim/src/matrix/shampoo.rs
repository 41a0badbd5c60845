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
//! adds ε under the root; long axes are cut into blocks with preconditioners of their own, and very long ones
//! keep the diagonal of L ([`LongSides`]); roots are renewed every `root_every` steps, the first included. If an eigendecomposition fails, the
//! previous root stays in use; the third failure in a row, or one before there is any root, is an
//! error. A gradient that is not finite is refused before anything has changed. Vectors are tensors
//! of order 1: L^(−1/2), full-matrix AdaGrad in blocks. Second moments along axes are kept in
//! f64; roots are found from them, rounded once to the parameter's dtype, and multiplied there. On a device they
//! are kept there, and read when roots are renewed.

mod blocks;
mod state;
#[cfg(feature = "cuda")]
mod there;

use std::collections::BTreeMap;

use engine::{
    Device, Element, FloatElement, Gradients, ParamId, Parameter, Parameters, Result, Tensor,
    for_float, room,
};
use kernels::parallel;
use kernels::reduce::sum_of;

use crate::algebra::dense::correction;
use crate::check::demand;
use crate::frame::descent::{Directions, contiguous};
use crate::frame::moments::check_gradients;
use crate::optimizer::coverage::{Coverage, Line};
use crate::{LongSides, Optimizer, State};
use blocks::{Cut, Part, Preconditioner, add_all, apply_all, renew_all};

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
/// the length of Adam's step at α 10⁻³, blocks of 256 (an eigendecomposition costs n³) and diagonals beyond
/// 2,048, roots every tenth step. The paper's: [`ShampooConfig::paper`].
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
    /// How much of L is kept along each axis: whole, in blocks that are cut from the front, or the diagonal.
    pub sides: LongSides,
    /// Merges neighbouring axes first, as long as their product is at most a block: a small matrix
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
            sides: LongSides { block: 256, ..LongSides::default() },
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
            sides: LongSides::whole(),
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
/// computed, and with [`Error::Argument`](engine::Error::Argument) when a gradient is not finite.
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
    /// M; none without momentum.
    first: Option<Tensor>,
    /// The second moment of a grafted Adam; none for others.
    second: Option<Tensor>,
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

    /// The second moments of every block, then the roots that are due, at step t ≥ 1.
    fn estimate(&mut self, model: &dyn Parameters, gradients: &Directions, t: u64) -> Result<()> {
        let config = &self.config;
        let due = (t - 1).is_multiple_of(config.root_every.max(1));
        let mut paths = BTreeMap::new();
        for (path, param) in model.parameters() {
            if gradients.contains_key(&param.id()) {
                self.slots.entry(param.id()).or_insert_with(|| Slot::new(config, param));
                paths.insert(param.id(), path);
            }
        }
        let seen = self.slots.iter_mut().filter_map(|(id, slot)| Some((gradients.get(id)?, slot)));
        add_all(
            seen.flat_map(|(gradient, slot)| slot.parts(gradient)).collect(),
            config.statistics,
        )?;
        let slots = self.slots.iter_mut().filter(|(id, _)| gradients.contains_key(id));
        let blocks = slots.flat_map(|(id, slot)| slot.blocks.iter_mut().map(move |b| (id, b)));
        let stale = blocks.filter(|(_, block)| due || !block.has_roots());
        let (ids, stale): (Vec<_>, Vec<_>) = stale.unzip();
        let answers = renew_all(stale, config.statistics, config.exponent, t);
        for (id, answer) in ids.into_iter().zip(answers) {
            let path = paths.get(id).map_or("", String::as_str);
            answer.map_err(|error| error.in_layer(path))?;
        }
        Ok(())
    }

    fn take_step(
        &mut self,
        model: &mut dyn Parameters,
        gradients: &Directions,
        t: u64,
    ) -> Result<()> {
        #[cfg(feature = "cuda")]
        if gradients.values().any(|gradient| gradient.gpu().is_some()) {
            return self.step_there(model, gradients, t);
        }
        #[cfg(feature = "cuda")]
        self.slots.values_mut().try_for_each(|slot| slot.bring_to(Device::Cpu))?;
        // Each thread works in some matrices of a gradient's size and of its factors'.
        let numbers = gradients.values().map(|gradient| {
            let sides = |n: &usize| self.config.sides.of(*n).numbers();
            gradient.numel() + gradient.shape().iter().map(sides).sum::<usize>()
        });
        let bytes = 4 * size_of::<f64>() * parallel::threads();
        room::expect("shampoo", numbers.max().unwrap_or(0).saturating_mul(bytes))?;
        // Estimate.
        self.estimate(model, gradients, t)?;
        // Precondition and step.
        let ShampooConfig { rate, weight_decay: decay, .. } = self.config;
        for (_, param) in model.parameters_mut() {
            let id = param.id();
            let (Some(gradient), Some(slot)) = (gradients.get(&id), self.slots.get_mut(&id)) else {
                continue;
            };
            for_float!(gradient.dtype(), T => {
                let direction = slot.direction(&self.config, gradient.as_slice::<T>()?, t)?;
                let theta = param.value_mut().make_mut::<T>()?;
                parallel::pieces(theta, 1, |start, theta| {
                    let (rate, decay) = (rate, decay); // copies: a loop that writes cannot change them
                    for (theta, p) in theta.iter_mut().zip(&direction[start..]) {
                        let old = theta.to_f64();
                        *theta = T::from_f64(old - rate * (p.to_f64() + decay * old));
                    }
                });
            });
        }
        Ok(())
    }
}

impl Slot {
    fn new(config: &ShampooConfig, param: &Parameter) -> Self {
        let (shape, dtype) = (param.value().shape(), param.value().dtype());
        let cut = Cut::new(shape, config.sides, config.merge);
        let fresh = |range: &Vec<_>| Preconditioner::new(cut.patterns(range), dtype);
        let blocks = cut.ranges().iter().map(fresh).collect();
        let kept = |needed: bool| needed.then(|| Tensor::zeros(*shape, dtype));
        let adam = matches!(config.graft, Graft::Adam { .. });
        Self { cut, blocks, first: kept(config.beta1 > 0.0), second: kept(adam) }
    }

    fn has_roots(&self) -> bool {
        self.blocks.iter().all(Preconditioner::has_roots)
    }

    /// Its blocks, each with its part of the gradient.
    fn parts<'a>(&'a mut self, gradient: &'a Tensor) -> Vec<Part<'a>> {
        let Self { cut, blocks, .. } = self;
        let blocks = blocks.iter_mut().zip(cut.ranges());
        blocks.map(|(block, range)| Part { block, cut, range, gradient }).collect()
    }

    /// P
    fn direction<T: FloatElement>(
        &mut self,
        config: &ShampooConfig,
        gradient: &[T],
        t: u64,
    ) -> Result<Vec<T>> {
        // The first moment M, and what divides its bias out.
        let corrected = match config.statistics {
            Statistics::Ema { bias_correction: false, .. } => 1.0,
            Statistics::Ema { .. } | Statistics::Sum { .. } => correction(config.beta1, t),
        };
        let (moment, corrected) = match &mut self.first {
            None => (gradient, 1.0),
            Some(first) => {
                let first = first.make_mut::<T>()?;
                let (keep, gain) = (T::from_f64(config.beta1), T::from_f64(1.0 - config.beta1));
                parallel::pieces(first, 1, |start, first| {
                    let (keep, gain) = (keep, gain); // copies: a loop that writes cannot change them
                    let pairs = first.iter_mut().zip(&gradient[start..]);
                    pairs.for_each(|(m, g)| *m = keep * *m + gain * *g);
                });
                (&*first, corrected)
            }
        };
        // Precondition. The scale of M comes last.
        let mut direction = vec![T::default(); gradient.len()];
        let ranges = self.cut.ranges();
        let blocks = self.blocks.iter().zip(&ranges);
        for (part, range) in apply_all(blocks, &self.cut, moment)?.iter().zip(&ranges) {
            self.cut.write(part, range, &mut direction);
        }
        let scale = match (config.graft, &mut self.second) {
            (Graft::None, _) | (Graft::Adam { .. }, None) => 1.0 / corrected,
            (Graft::Sgd, _) => ratio(norm(moment) / corrected, norm(&direction)),
            (Graft::Adam { beta2, epsilon }, Some(second)) => {
                let second = second.make_mut::<T>()?;
                let (keep, gain) = (T::from_f64(beta2), T::from_f64(1.0 - beta2));
                parallel::pieces(second, 1, |start, second| {
                    let (keep, gain) = (keep, gain);
                    let pairs = second.iter_mut().zip(&gradient[start..]);
                    pairs.for_each(|(v, g)| *v = keep * *v + gain * (*g * *g));
                });
                let bias = correction(beta2, t);
                let adam = |m: f64, v: f64| m / corrected / ((v / bias).sqrt() + epsilon);
                let square = sum_of(moment, second, |m, v| adam(m, v) * adam(m, v));
                ratio(square.sqrt(), norm(&direction))
            }
        };
        let scale = T::from_f64(scale);
        parallel::pieces(&mut direction, 1, |_, part| part.iter_mut().for_each(|p| *p *= scale));
        Ok(direction)
    }
}

impl Optimizer for Shampoo {
    fn name(&self) -> &'static str {
        "shampoo"
    }

    fn runs_on(&self, device: Device) -> bool {
        device != Device::Meta
    }

    fn step(&mut self, model: &mut dyn Parameters, grads: &Gradients) -> Result<()> {
        check_gradients(model, grads)?;
        let (t, gradients) = (self.steps + 1, contiguous(model, grads)?);
        // Roots can fail; what was added to the moments before has not been then.
        let risky = (t - 1).is_multiple_of(self.config.root_every.max(1))
            || gradients.keys().any(|id| self.slots.get(id).is_none_or(|slot| !slot.has_roots()));
        let before = risky.then(|| self.slots.clone());
        let done = room::within("step", || self.take_step(model, &gradients, t));
        match (&done, before) {
            (Ok(()), _) => self.steps = t,
            (Err(_), Some(before)) => self.slots = before,
            (Err(_), None) => {}
        }
        done
    }

    fn options(&self) -> String {
        format!("{:?}", self.config)
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
            let cut = Cut::new(&shape, self.config.sides, self.config.merge);
            let rule = if param.is_trainable() { cut.to_string() } else { "frozen".into() };
            let state_bytes = match self.slots.get(&param.id()) {
                Some(slot) => slot.bytes(),
                None if param.is_trainable() => self.config.bytes(&cut, param.value()),
                None => 0,
            };
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
        let blocks: usize = self.blocks.iter().map(Preconditioner::bytes).sum();
        let moments = self.first.iter().chain(&self.second).map(Tensor::bytes);
        blocks + moments.sum::<usize>()
    }
}

impl ShampooConfig {
    /// What will be kept of a parameter, in bytes.
    fn bytes(&self, cut: &Cut, value: &Tensor) -> usize {
        let adam = matches!(self.graft, Graft::Adam { .. });
        let moments = usize::from(self.beta1 > 0.0) + usize::from(adam);
        let numbers: usize = cut
            .ranges()
            .iter()
            .flat_map(|range| cut.patterns(range))
            .map(|side| side.numbers())
            .sum();
        numbers * (size_of::<f64>() + value.dtype().bytes()) + moments * value.bytes()
    }

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
        self.sides.check("shampoo")?;
        if let Some(exponent) = self.exponent {
            let inside = exponent.is_finite() && exponent < 0.0;
            demand("shampoo", "exponent", exponent, "finite and below 0", inside)?;
        }
        // Merging without a bound makes one axis of everything: n² numbers for n.
        let bounded = !self.merge || self.sides.block < usize::MAX;
        demand("shampoo", "merge", 1.0, "a block to merge up to", bounded)
    }
}

/// ‖x‖, summed in f64.
fn norm<T: FloatElement>(x: &[T]) -> f64 {
    sum_of(x, x, |x, y| x * y).sqrt()
}

/// 0 of nothing.
fn ratio(length: f64, own: f64) -> f64 {
    if own > 0.0 { length / own } else { 0.0 }
}
