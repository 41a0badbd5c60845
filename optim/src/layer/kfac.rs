//! K-FAC: natural gradient with one Kronecker product for each layer.
//!
//! Martens & Grosse 2015, "Optimizing Neural Networks with Kronecker-factored Approximate
//! Curvature"; convolutions: Grosse & Martens 2016; shared weights: Eschenhagen et al. 2023.
//!
//! ```text
//! A, G   running averages of E[a aᵀ], E[d dᵀ]                  curvature/factors.rs
//! P      = (G ⊗ A + λ I)⁻¹ ∇L, layer by layer                  curvature/precondition.rs
//! ν      = min(1, √(c / (α² Σ ⟨P, ∇L⟩)))                       the KL clip: Ba et al. 2017
//! Δ      ← μ Δ − α ν P
//! θ      ← θ + Δ − α κ θ                                       κ is decoupled
//! ```
//!
//! Where it differs from the paper: α and μ are given, not found from a quadratic model; λ is given,
//! not adapted; the average is a running weight, in place of min(1 − 1/k, 0.95); inverses are made
//! at the first step and every `inverse_every` from then on. Parameters that no factor covers get
//! P = ∇L, or are refused: see [`Uncovered`]. ν counts them too.
//!
//! What goes wrong is borne or said: a batch whose factors are not finite is left out of the averages
//! (and counted, `KroneckerFactors::skipped`); a block that cannot be inverted keeps its previous
//! inverse twice in a row, the third time is an error; a gradient that is not finite is refused.
//!
//! On a device all of it happens there: factors, averages in f64, inverses, directions, ν and the step (decision
//! 0044). The host reads whether batches were finite and inverses found, at an inversion; and eigenvectors,
//! partly frozen blocks and λ = 0 are its own work.
//!
//! Cost of a step between refreshes: 2 m n (m + n) operations for a layer of m outputs and n inputs, in
//! the parameters' dtype; with factors cut into blocks of b ([`KfacConfig::sides`]) 4 m n b. Sides longer than
//! 2,048 have diagonal factors by default. A [`KfacConfig::budget`] of bytes chooses for each layer what is kept
//! of its curvature.

pub(crate) mod adaptive;
mod state;

use std::collections::BTreeMap;

use engine::{Device, Error, Gradients, ParamId, Parameter, Parameters, Result, Rng, Tensor, room};
use kernels::parallel;

use crate::algebra::pattern::Pattern;
use crate::check::demand;
use crate::curvature::block::block_inverse;
use crate::curvature::block::block_inverse::BlockInverse;
use crate::curvature::block::kronecker::Kronecker;
use crate::curvature::block::precondition::DampingRule;
use crate::curvature::estimate::kronecker_factors::{KroneckerFactors, Start};
use crate::curvature::form::Form;
use crate::curvature::form::Share;
use crate::frame::descent::{Descent, Directions, contiguous, fill_in};
use crate::frame::moments::{Moments, check_gradients};
use crate::optimizer::coverage::{Coverage, Line};
use crate::{CurvatureSource, Fisher, LongSides, Optimizer, State};

/// So many failures in a row are borne with the previous inverse.
const FAILURES_BORNE: u32 = 2;

/// What becomes of a trainable parameter that no factor covers: it is used outside layers, or by
/// layers that disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Uncovered {
    /// It moves along its gradient, and [`Optimizer::coverage`] says so.
    #[default]
    FirstOrder,
    /// The step is refused with [`Error::Uncovered`].
    Error,
}

/// The constants of K-FAC. `Default` has the customary ones: α 0.1, μ 0.9, λ 10⁻³ by the π rule,
/// decay 0.95, one sampled label, KL clip 10⁻³; inverses every tenth step.
#[derive(Debug, Clone, PartialEq)]
pub struct KfacConfig {
    /// α, the learning rate.
    pub rate: f64,
    /// μ, applied to the previous update.
    pub momentum: f64,
    /// λ, in units of the curvature of the mean loss.
    pub damping: f64,
    /// How λ is shared out.
    pub damping_rule: DampingRule,
    /// β of the factors' running average, per refresh.
    pub decay: f64,
    /// What that average starts from.
    pub start: Start,
    /// Whose labels the output gradients come from.
    pub fisher: Fisher,
    /// Steps between two looks at the factors.
    pub factor_every: u64,
    /// Steps between two inversions; at least `factor_every`.
    pub inverse_every: u64,
    /// c, the bound on α² ⟨P, ∇L⟩: about twice the KL divergence that one step may make.
    pub kl_clip: Option<f64>,
    /// κ, decoupled.
    pub weight_decay: f64,
    /// What becomes of positions that share a weight.
    pub share: Share,
    /// How much of a factor is kept: whole, in diagonal blocks (Chen et al. 2021), a convolution's cut between
    /// channels, or its diagonal.
    pub sides: LongSides,
    /// Bytes for all factors and inverses together (Δ, as large as the parameters, not among them): each
    /// layer gets its diagonal, its Kronecker factors or its whole block, what the budget affords
    /// ([`Ledger::plan`](crate::curvature::Ledger::plan)), and [`Optimizer::coverage`] says which.
    /// `None` for Kronecker factors everywhere. What a factor is, `sides` says with a budget as without.
    pub budget: Option<usize>,
    /// What becomes of parameters without factors.
    pub uncovered: Uncovered,
    /// The seed of sampled labels.
    pub seed: u64,
}

impl Default for KfacConfig {
    fn default() -> Self {
        Self {
            rate: 0.1,
            momentum: 0.9,
            damping: 1e-3,
            damping_rule: DampingRule::Pi,
            decay: 0.95,
            start: Start::Zero,
            fisher: Fisher::Sampled { draws: 1 },
            factor_every: 1,
            inverse_every: 10,
            kl_clip: Some(1e-3),
            weight_decay: 0.0,
            share: Share::Expand,
            sides: LongSides::default(),
            budget: None,
            uncovered: Uncovered::FirstOrder,
            seed: 0,
        }
    }
}

/// The optimizer. The recipe is at the top of this module.
///
/// # Errors
/// A step fails with [`Error::Uncovered`] if that was asked for, with [`Error::Linalg`] when a damped
/// block cannot be inverted (λ too small) and there is no previous inverse or the third time in a row,
/// and with [`Error::Argument`] when a gradient or the step is not finite. Parameters, factors and inverses are as
/// before then.
#[derive(Debug)]
pub struct Kfac {
    config: KfacConfig,
    factors: KroneckerFactors,
    /// By the weight's identity.
    inverses: BTreeMap<ParamId, BlockInverse>,
    /// How often in a row a block could not be inverted.
    failures: BTreeMap<ParamId, u32>,
    /// Δ
    updates: Moments,
}

impl Kfac {
    /// K-FAC with these constants.
    ///
    /// # Errors
    /// [`Error::Argument`] when one is outside its range.
    pub fn new(config: KfacConfig) -> Result<Self> {
        config.check()?;
        let factors = KroneckerFactors::new(config.fisher, config.share)
            .every(config.factor_every)
            .decay(config.decay)
            .start(config.start)
            .sides(config.sides)
            .budget(config.budget)
            .generator(Rng::new(config.seed));
        let updates = Moments::new(&["update"]);
        let (inverses, failures) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { config, factors, inverses, failures, updates })
    }

    /// The factors, for people and tests.
    #[must_use]
    pub const fn factors(&self) -> &KroneckerFactors {
        &self.factors
    }

    /// The constants.
    #[must_use]
    pub const fn config(&self) -> &KfacConfig {
        &self.config
    }

    /// What a step changes before it is sure to be taken; the factors remember theirs.
    fn before(&self) -> (BTreeMap<ParamId, BlockInverse>, BTreeMap<ParamId, u32>) {
        (self.inverses.clone(), self.failures.clone())
    }

    /// A step is taken, or else everything is as before it and what was observed for it is forgotten.
    fn settle<T>(
        &mut self,
        before: (BTreeMap<ParamId, BlockInverse>, BTreeMap<ParamId, u32>),
        done: Result<T>,
    ) -> Result<T> {
        if done.is_ok() {
            self.factors.commit();
        } else {
            self.factors.discard();
            (self.inverses, self.failures) = before;
        }
        done
    }

    /// P of a checked gradient, after what was observed has been averaged in.
    fn precondition(
        &mut self,
        model: &dyn Parameters,
        gradients: &Directions,
    ) -> Result<Directions> {
        // Estimate.
        self.factors.fold_for_now()?;
        if self.config.uncovered == Uncovered::Error {
            refuse_uncovered(model, &self.factors)?;
        }
        // Precondition.
        self.refresh(model, gradients)?;
        self.directions(gradients)
    }

    fn take_step(&mut self, model: &mut dyn Parameters, grads: &Gradients) -> Result<()> {
        check_gradients(model, grads)?;
        let gradients = contiguous(model, grads)?;
        let directions = self.precondition(model, &gradients)?;
        // Step.
        let KfacConfig { rate, momentum, weight_decay, kl_clip: bound, .. } = self.config;
        let descent = Descent { momentum, decay: rate * weight_decay, rate, bound };
        descent.step(model, &directions, &gradients, &mut self.updates)
    }

    /// Inverts the blocks that are due: all at every `inverse_every`-th step, the first included; at
    /// once those that are new or whose trainable part has changed. On a device, or by threads that take
    /// blocks.
    fn refresh(&mut self, model: &dyn Parameters, gradients: &Directions) -> Result<()> {
        let parameters = model.parameters();
        let is_trained =
            |id: ParamId| parameters.iter().any(|(_, p)| p.id() == id && p.is_trainable());
        let due = (self.factors.steps - 1).is_multiple_of(self.config.inverse_every.max(1));
        let mut stale = Vec::new();
        for (&weight, entry) in self.factors.entries.iter().filter(|(_, e)| e.updates > 0) {
            let trained = |param: ParamId| {
                gradients.get(&param).filter(|_| self.factors.covering(param) == Some(weight))
            };
            let average = &entry.average;
            let (w, b) = (trained(weight), average.bias.and_then(trained));
            let columns = block_inverse::columns(average, w.is_some(), b.is_some());
            let Some(gradient) = w.or(b).filter(|_| !columns.is_empty()) else {
                // One that this step skips keeps what it has.
                if !is_trained(weight) && !average.bias.is_some_and(is_trained) {
                    self.inverses.remove(&weight);
                }
                continue;
            };
            match self.inverses.get_mut(&weight).filter(|old| !due && old.columns == columns) {
                None => stale.push((weight, columns, gradient)),
                Some(old) if !old.is_on(gradient.device()) => {
                    *old = old.to_device(gradient.device())?;
                }
                Some(_) => {}
            }
        }
        let (damping, rule) = (self.config.damping, self.config.damping_rule);
        if !stale.is_empty() {
            self.factors.settle()?;
        }
        stale
            .retain(|(weight, ..)| self.factors.entries.get(weight).is_some_and(|e| e.updates > 0));
        let (mut renewed, mut left, mut bad) = (Vec::new(), Vec::new(), Vec::new());
        for (weight, columns, gradient) in stale {
            let Some(entry) = self.factors.entries.get(&weight) else { continue };
            match entry.inverse_there(&columns, (damping, rule), gradient.dtype())? {
                Some((inverse, flag)) => {
                    renewed.push((weight, columns, Ok(inverse), gradient.device()));
                    bad.push(flag);
                }
                None => left.push((weight, columns, gradient)),
            }
        }
        // One number for each inverse found on a device.
        let bad = bad.iter().collect::<Vec<_>>();
        let bad =
            if bad.is_empty() { Vec::new() } else { Tensor::concat(&bad, 0)?.to_vec::<i64>()? };
        for ((.., inverse, _), _) in renewed.iter_mut().zip(bad).filter(|(_, bad)| *bad != 0) {
            let reason =
                "a damped factor is not positive definite, or its inverse too large; raise λ";
            *inverse = Err(Error::Linalg { routine: "inverse", reason: reason.into() });
        }
        if left.iter().any(|(w, ..)| self.factors.entries.get(w).is_some_and(|e| e.is_there())) {
            self.factors.fetch()?;
        }
        let averages = left.into_iter().filter_map(|(weight, columns, gradient)| {
            Some((weight, &self.factors.entries.get(&weight)?.average, columns, gradient))
        });
        let averages: Vec<_> = averages.collect();
        // Each thread works in some matrices of a block's size.
        let numbers = averages.iter().map(|(_, block, ..)| block.a.len() + block.g.len()).max();
        let bytes = numbers.unwrap_or(0).saturating_mul(6 * size_of::<f64>() * parallel::threads());
        room::expect("kfac", bytes)?;
        let work = averages.iter().map(|(_, block, ..)| block.a.len() * block.inputs.longest());
        let work = work.sum::<usize>() / averages.len().max(1);
        renewed.extend(parallel::map(averages, work, |(weight, block, columns, gradient)| {
            let inverse = BlockInverse::new(block, columns.clone(), damping, rule);
            let inverse = inverse.and_then(|inverse| inverse.to_dtype(gradient.dtype()));
            (weight, columns, inverse, gradient.device())
        }));
        for (weight, columns, renewed, device) in renewed {
            let usable = self.inverses.get(&weight).is_some_and(|old| old.columns == columns);
            let failures = self.failures.entry(weight).or_default();
            match renewed {
                Ok(inverse) => {
                    self.inverses.insert(weight, inverse.to_device(device)?);
                    *failures = 0;
                }
                Err(_) if usable && *failures < FAILURES_BORNE => *failures += 1,
                Err(error) => {
                    let path = parameters.iter().find(|(_, p)| p.id() == weight);
                    return Err(error.in_layer(path.map_or("", |(path, _)| path)));
                }
            }
        }
        Ok(())
    }

    /// P for every parameter with a gradient.
    fn directions(&self, gradients: &Directions) -> Result<Directions> {
        let mut all = BTreeMap::new();
        for (&weight, inverse) in &self.inverses {
            let Some(entry) = self.factors.entries.get(&weight) else { continue };
            let covered = |param: ParamId| {
                gradients.get(&param).filter(|_| self.factors.covering(param) == Some(weight))
            };
            let bias = entry.average.bias;
            let (w, b) = (covered(weight), bias.and_then(covered));
            let (of_weight, of_bias) = inverse.direction(entry.average.form, w, b)?;
            all.extend(of_weight.map(|direction| (weight, direction)));
            all.extend(bias.zip(of_bias));
        }
        fill_in(&mut all, gradients);
        Ok(all)
    }
}

impl Optimizer for Kfac {
    fn name(&self) -> &'static str {
        "kfac"
    }

    fn curvature(&mut self) -> Option<&mut dyn CurvatureSource> {
        Some(&mut self.factors)
    }

    fn runs_on(&self, device: Device) -> bool {
        device != Device::Meta
    }

    fn step(&mut self, model: &mut dyn Parameters, grads: &Gradients) -> Result<()> {
        let before = self.before();
        let done = room::within("step", || self.take_step(model, grads));
        self.settle(before, done)
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
        let line = |(path, param): (String, &Parameter)| Line {
            param: path,
            shape: *param.value().shape(),
            rule: self.rule(param),
            state_bytes: self.bytes(param),
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

impl Kfac {
    fn rule(&self, param: &Parameter) -> String {
        if !param.is_trainable() {
            return "frozen".into();
        }
        if let Some(op) = self.factors.uncovered(param.id()) {
            return format!("gradient: also used by {op}");
        }
        let covering = self.factors.covering(param.id());
        let Some(entry) = covering.and_then(|weight| self.factors.entries.get(&weight)) else {
            return "gradient: no layer seen yet".into();
        };
        words(&entry.average)
    }

    /// Factors and inverses are counted with the weight.
    fn bytes(&self, param: &Parameter) -> usize {
        let factors = self.factors.entries.get(&param.id());
        let factors = factors.map_or(0, |e| e.average.a.len() + e.average.g.len());
        let inverses = self.inverses.get(&param.id()).map_or(0, BlockInverse::bytes);
        factors * size_of::<f64>() + inverses + self.updates.bytes(param)
    }
}

impl KfacConfig {
    fn check(&self) -> Result<()> {
        let at_least_zero = |name, x: f64| {
            demand("kfac", name, x, "finite and not negative", x.is_finite() && x >= 0.0)
        };
        let below_one = |name, x: f64| {
            demand("kfac", name, x, "at least 0 and below 1", (0.0..1.0).contains(&x))
        };
        at_least_zero("rate", self.rate)?;
        at_least_zero("damping", self.damping)?;
        at_least_zero("weight_decay", self.weight_decay)?;
        below_one("momentum", self.momentum)?;
        below_one("decay", self.decay)?;
        self.fisher.check("kfac")?;
        let useful = self.inverse_every >= self.factor_every;
        let (every, expected) =
            (self.inverse_every as f64, "factor_every or more: else nothing is new");
        demand("kfac", "inverse_every", every, expected, useful)?;
        self.sides.check("kfac")?;
        // What a budget affords is planned for inverses, and eigenvectors take more.
        let planned = self.budget.is_none() || self.damping_rule != DampingRule::Exact;
        demand("kfac", "budget", 1.0, "a damping rule that keeps inverses", planned)?;
        self.kl_clip.map_or(Ok(()), |c| demand("kfac", "kl_clip", c, "positive", c > 0.0))
    }
}

/// What a block is, for people.
fn words(block: &Kronecker) -> String {
    let (n, m) = (block.inputs(), block.outputs());
    let both_diagonal =
        matches!((&block.inputs, &block.outputs), (Pattern::Diagonal(_), Pattern::Diagonal(_)));
    let side = |side: &Pattern, n: usize| match side {
        // A diagonal Kronecker product says so itself, and a table's frequencies are one.
        Pattern::Diagonal(_) if !both_diagonal => side.words(),
        _ => n.to_string(),
    };
    let (inputs, outputs) = (side(&block.inputs, n), side(&block.outputs, m));
    let product = match block.form {
        Form::Dense => format!("{outputs} ⊗ {inputs}"),
        Form::Transposed => format!("{inputs} ⊗ {outputs}"),
        Form::Lookup => format!("frequencies of {n} ⊗ {m}"),
        Form::ScaleShift => return "diagonal".into(),
        Form::Joint { .. } => return format!("whole block of {m}"),
    };
    let groups = match block.groups {
        1 => product,
        groups => format!("{groups} groups of {product}"),
    };
    if both_diagonal {
        return format!("diagonal Kronecker, {groups}");
    }
    let longest = block.inputs.longest().max(block.outputs.longest());
    let pieces = block.inputs.ranges().len().max(block.outputs.ranges().len());
    let cut = if pieces > 1 { format!(", in blocks of {longest}") } else { String::new() };
    format!("Kronecker, {groups}{cut}")
}

fn refuse_uncovered(model: &dyn Parameters, factors: &KroneckerFactors) -> Result<()> {
    for (param, p) in model.parameters() {
        if p.is_trainable() && factors.covering(p.id()).is_none() {
            let op = factors.uncovered(p.id()).unwrap_or("no layer of an observed backward pass");
            return Err(Error::Uncovered { param, op });
        }
    }
    Ok(())
}
