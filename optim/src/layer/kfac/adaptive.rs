//! Adaptive K-FAC: rate, momentum and damping follow from a quadratic model of the loss.
//!
//! Martens & Grosse 2015, sections 6.4 to 7: the algorithm as published, of which [`Kfac`] is the
//! customary simplification.
//!
//! ```text
//! P       = (G ⊗ A + λ I)⁻¹ ∇L, layer by layer                       as in K-FAC, by the π rule
//! M(δ)    = ½ δᵀ C δ + ⟨∇L, δ⟩                                        C: the exact Gauss–Newton matrix
//! (−α, μ) = argmin of M(δ) + ½ λ ‖δ‖² over δ = −α P + μ Δ             two products with C
//! Δ       ← −α P + μ Δ,   θ ← θ + Δ
//! ρ       = (L(θ + Δ) − L(θ)) / M(Δ)                                  every `adapt_every` steps
//! λ       ← λ/ω if ρ < 1/4,   λ ω if ρ > 3/4                          Levenberg–Marquardt
//! ```
//! Where it differs from the paper: λ is one number for P and for M (the paper tunes γ besides), M has
//! no ℓ₂ penalty, inverses are made at every step (λ is in them), the block-tridiagonal form is not
//! offered. A step after which the loss is not finite is taken back and counts as ρ = 0. ρ is judged on the batch of
//! the step; the paper's batches are large and grow. So that small ones do not lead astray, λ also grows where the
//! loss of new batches has risen since the last look, and a loss far above the first one is [`Diverged`](engine::Error::Diverged)
//! (`adaptive/trend.rs`).

mod ahead;
mod trend;

use engine::{Gradients, Parameters, Result, Tensor};

use super::{Kfac, KfacConfig, Uncovered};
use crate::algebra::flat;
use crate::check::{demand, not_negative, positive};
use crate::curvature::block::precondition::DampingRule;
use crate::curvature::estimate::kronecker_factors::Start;
use crate::curvature::exact::products::GaussNewton;
use crate::curvature::form::Share;
use crate::frame::descent::contiguous;
use crate::frame::moments::check_gradients;
use crate::optimizer::backward::backward_keeping;
use crate::optimizer::coverage::Coverage;
use crate::optimizer::problem::{Evaluation, Problem};
use crate::{CurvatureSource, Fisher, LongSides, Optimizer, State};
use ahead::Ahead;
use trend::Trend;

/// The constants of adaptive K-FAC.
#[derive(Debug, Clone, PartialEq)]
pub struct AdaptiveKfacConfig {
    /// What the step that the model proposes is multiplied by: 1.
    pub rate: f64,
    /// λ at first, in units of the curvature of the mean loss.
    pub damping: f64,
    /// The smallest λ.
    pub least_damping: f64,
    /// ω, in (0, 1).
    pub factor: f64,
    /// Steps between two looks at ρ; 0 for a λ that stays.
    pub adapt_every: u64,
    /// β of the factors' running average.
    pub decay: f64,
    /// How that average begins.
    pub start: Start,
    /// Whose labels the factors come from.
    pub fisher: Fisher,
    /// What becomes of positions that share a weight.
    pub share: Share,
    /// How much of a factor is kept.
    pub sides: LongSides,
    /// What becomes of parameters without factors.
    pub uncovered: Uncovered,
    /// The seed of sampled labels.
    pub seed: u64,
}

impl Default for AdaptiveKfacConfig {
    /// The paper's: λ 150, ω (19/20)⁵ every 5 steps, averages min(1 − 1/k, 0.95), one sampled label.
    fn default() -> Self {
        Self {
            rate: 1.0,
            damping: 150.0,
            least_damping: 1e-8,
            factor: 0.95_f64.powi(5),
            adapt_every: 5,
            decay: 0.95,
            start: Start::Mean,
            fisher: Fisher::Sampled { draws: 1 },
            share: Share::Expand,
            sides: LongSides::default(),
            uncovered: Uncovered::FirstOrder,
            seed: 0,
        }
    }
}

/// What the quadratic model said of the last step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Proposal {
    /// α
    pub rate: f64,
    /// μ
    pub momentum: f64,
    /// λ of this step.
    pub damping: f64,
    /// M(Δ), what the loss was to change by.
    pub change: f64,
    /// ρ, if it was looked at.
    pub ratio: Option<f64>,
    /// Whether the loss of new batches has not risen since the look before.
    pub steady: bool,
}

/// The optimizer. The recipe is at the top of this module. It steps by [`Optimizer::minimize`] alone.
///
/// # Example
/// ```
/// # use engine::{DType, Likelihood, Parameter, Result, Rng, Tape, Tensor, Var};
/// # struct Half;
/// # impl Likelihood for Half {
/// #     fn terms(&self) -> usize { 1 }
/// #     fn nll(&self, y: &Var) -> Result<Var> { y.mul(y)?.sum_all()?.scale(0.5) }
/// #     fn sampled_seed(&self, y: &Tensor, rng: &mut Rng) -> Result<Tensor> {
/// #         Ok(Tensor::normal(*y.shape(), 0.0, 1.0, y.dtype(), rng))
/// #     }
/// #     fn exact_seeds(&self, y: &Tensor) -> Result<Vec<Tensor>> {
/// #         Ok(vec![Tensor::ones(*y.shape(), y.dtype())])
/// #     }
/// # }
/// use alcyon_optim::{AdaptiveKfac, AdaptiveKfacConfig, Batch, Optimizer};
/// let mut weight = Parameter::new(Tensor::full([1, 1], 4.0, DType::F64));
/// let forward = |weight: &Parameter, tape: &Tape| Ok(tape.bind(weight)); // the loss is ½ θ²
/// let mut optimizer = AdaptiveKfac::new(AdaptiveKfacConfig { damping: 1.0, ..AdaptiveKfacConfig::default() })?;
/// optimizer.minimize(&mut Batch::new(&mut weight, forward, &Half))?;
/// // P = ∇L without a layer; the exact curvature says how far: 4 − 4/(1 + 1).
/// assert!((weight.value().item()? - 2.0).abs() < 1e-12);
/// assert!(optimizer.last().is_some_and(|step| (step.rate - 0.5).abs() < 1e-12));
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct AdaptiveKfac {
    config: AdaptiveKfacConfig,
    /// Factors, inverses, Δ; its `damping` is λ.
    inner: Kfac,
    trend: Trend,
    last: Option<Proposal>,
    ahead: Ahead,
}

impl AdaptiveKfac {
    /// Adaptive K-FAC with these constants.
    ///
    /// # Errors
    /// [`Error::Argument`](engine::Error::Argument) when a constant is out of its range.
    pub fn new(config: AdaptiveKfacConfig) -> Result<Self> {
        not_negative("kfac-adaptive", "rate", config.rate)?;
        positive("kfac-adaptive", "least_damping", config.least_damping)?;
        let inside = config.factor > 0.0 && config.factor < 1.0;
        demand("kfac-adaptive", "factor", config.factor, "in (0, 1)", inside)?;
        let inner = Kfac::new(KfacConfig {
            damping: config.damping,
            damping_rule: DampingRule::Pi,
            decay: config.decay,
            start: config.start,
            fisher: config.fisher,
            inverse_every: 1,
            share: config.share,
            sides: config.sides,
            uncovered: config.uncovered,
            seed: config.seed,
            ..KfacConfig::default()
        })?;
        Ok(Self { config, inner, trend: Trend::default(), last: None, ahead: Ahead::default() })
    }

    /// The constants.
    #[must_use]
    pub const fn config(&self) -> &AdaptiveKfacConfig {
        &self.config
    }

    /// The last step as the model saw it.
    #[must_use]
    pub const fn last(&self) -> Option<&Proposal> {
        self.last.as_ref()
    }

    /// λ now.
    #[must_use]
    pub const fn damping(&self) -> f64 {
        self.inner.config.damping
    }

    /// P and the last Δ, as vectors of all trainable parameters.
    fn along(&mut self, model: &dyn Parameters, grads: &Gradients) -> Result<[Vec<f64>; 2]> {
        check_gradients(model, grads)?;
        let gradients = contiguous(model, grads)?;
        let directions = self.inner.precondition(model, &gradients)?;
        let (mut p, mut delta) = (Vec::new(), Vec::new());
        for (_, param) in model.parameters().into_iter().filter(|(_, p)| p.is_trainable()) {
            // One that is skipped stays.
            let nothing = || vec![0.0; param.value().numel()];
            let direction = directions.get(&param.id());
            let last = self.inner.updates.get(param).filter(|_| direction.is_some());
            p.extend(direction.map_or_else(|| Ok(nothing()), Tensor::to_f64_vec)?);
            delta.extend(last.map_or_else(|| Ok(nothing()), |kept| kept.tensors[0].to_f64_vec())?);
        }
        Ok([p, delta])
    }

    /// Writes Δ down, of the parameters that are not skipped.
    fn keep(&mut self, model: &dyn Parameters, grads: &Gradients, delta: &[f64]) -> Result<()> {
        let mut rest = delta;
        for (_, param) in model.parameters().into_iter().filter(|(_, p)| p.is_trainable()) {
            let (part, tail) = rest.split_at(param.value().numel().min(rest.len()));
            rest = tail;
            if grads.of(param).is_none() {
                continue;
            }
            let kept = Tensor::from_slice(part, *param.value().shape())?;
            self.inner.updates.next(param)?.tensors[0] = kept.to_dtype(param.value().dtype())?;
        }
        Ok(())
    }

    /// A step that fails leaves θ as it is.
    fn take_step(&mut self, problem: &mut dyn Problem) -> Result<f64> {
        let Evaluation { tape, outputs } = self.ahead.begin(problem)?;
        GaussNewton::check(&outputs, problem.loss())?;
        let mut pass = backward_keeping(&tape, &outputs, problem.loss(), self)?;
        pass.gradients.set_unused(problem.unused());
        let loss = pass.loss.item()?;
        self.trend.refuse_divergence(loss)?;
        // Precondition.
        let along = self.along(problem.model(), &pass.gradients)?;
        let gradient = flat::gradients(problem.model(), &pass.gradients)?;
        // The model along both directions.
        let curvature = GaussNewton::new(&tape, &outputs, problem.loss())?;
        let [rp, rd] = [0, 1].map(|i| curvature.root_times(problem.model(), &along[i]));
        let roots = [rp?, rd?];
        let products = |x: &[Vec<f64>; 2]| {
            [0, 1].map(|i: usize| [0, 1].map(|j: usize| flat::dot(&x[i], &x[j])))
        };
        let (m, v) = (products(&roots), products(&along));
        let b = [0, 1].map(|i: usize| flat::dot(&along[i], &gradient));
        let damping = self.damping();
        let c = coefficients(m, v, b, damping).map(|c| c * self.config.rate);
        let quadratic = 0.5 * (0..4).map(|k| c[k / 2] * m[k / 2][k % 2] * c[k % 2]).sum::<f64>();
        let change = quadratic + c[0] * b[0] + c[1] * b[1];
        // Step.
        let staged = tape.staged();
        drop(curvature);
        drop((outputs, tape));
        let delta: Vec<f64> =
            along[0].iter().zip(&along[1]).map(|(p, d)| c[0] * p + c[1] * d).collect();
        let before = flat::values(problem.model())?;
        let done = self.advance(problem, &pass.gradients, (&before, &delta), (loss, change));
        let (ratio, steady) = match done {
            Ok(found) => found,
            Err(error) => {
                flat::set_values(problem.model_mut(), &before)?;
                return Err(error);
            }
        };
        problem.model_mut().commit(staged)?;
        self.last = Some(Proposal { rate: -c[0], momentum: c[1], damping, change, ratio, steady });
        Ok(loss)
    }

    /// θ ← θ + Δ, and λ after ρ if that is due; ρ, and whether fresh batches agree.
    fn advance(
        &mut self,
        problem: &mut dyn Problem,
        grads: &Gradients,
        (before, delta): (&[f64], &[f64]),
        (loss, change): (f64, f64),
    ) -> Result<(Option<f64>, bool)> {
        flat::set_values(problem.model_mut(), &flat::plus(before, 1.0, delta))?;
        self.keep(problem.model(), grads, delta)?;
        self.trend.add(loss);
        let every = self.config.adapt_every;
        if every == 0 || !self.inner.factors.steps.is_multiple_of(every) {
            return Ok((None, true));
        }
        // Look back.
        let evaluation = Evaluation::of(problem)?;
        let after = evaluation.loss(problem)?;
        let seen = if after.is_finite() { (after - loss) / change } else { 0.0 };
        if !after.is_finite() {
            flat::set_values(problem.model_mut(), before)?;
            self.keep(problem.model(), grads, &vec![0.0; delta.len()])?;
        } else {
            self.ahead.keep(problem, evaluation)?;
        }
        let steady = self.trend.look();
        self.adapt(if steady { seen } else { seen.min(0.0) });
        Ok((Some(seen), steady))
    }

    /// λ after ρ.
    fn adapt(&mut self, ratio: f64) {
        let damping = &mut self.inner.config.damping;
        if ratio.is_nan() || ratio < 0.25 {
            *damping /= self.config.factor;
        } else if ratio > 0.75 {
            *damping *= self.config.factor;
        }
        *damping = damping.max(self.config.least_damping);
    }
}

/// The minimum of ½ cᵀ(M + λ V)c + bᵀc over two coefficients, or over the first alone where the second
/// direction adds nothing.
fn coefficients(m: [[f64; 2]; 2], v: [[f64; 2]; 2], b: [f64; 2], damping: f64) -> [f64; 2] {
    let d = |i: usize, j: usize| m[i][j] + damping * v[i][j];
    let determinant = d(0, 0) * d(1, 1) - d(0, 1) * d(1, 0);
    // Below this, the two directions are one but for rounding.
    if determinant > 1e-12 * d(0, 0) * d(1, 1) {
        let first = (b[0] * d(1, 1) - b[1] * d(0, 1)) / determinant;
        return [-first, -(b[1] * d(0, 0) - b[0] * d(1, 0)) / determinant];
    }
    [if d(0, 0) > 0.0 { -b[0] / d(0, 0) } else { 0.0 }, 0.0]
}

impl Optimizer for AdaptiveKfac {
    fn name(&self) -> &'static str {
        "kfac-adaptive"
    }

    fn curvature(&mut self) -> Option<&mut dyn CurvatureSource> {
        self.inner.curvature()
    }

    fn needs_problem(&self) -> bool {
        true
    }

    fn minimize(&mut self, problem: &mut dyn Problem) -> Result<f64> {
        let (before, updates) = (self.inner.before(), self.inner.updates.clone());
        let (damping, trend, last) = (self.damping(), self.trend, self.last);
        let done = self.take_step(problem);
        if done.is_err() {
            (self.inner.updates, self.inner.config.damping) = (updates, damping);
            (self.trend, self.last) = (trend, last);
            self.ahead.clear();
        }
        self.inner.settle(before, done)
    }

    fn step(&mut self, model: &mut dyn Parameters, grads: &Gradients) -> Result<()> {
        check_gradients(model, grads)?;
        Err(crate::optimizer::problem::gradients_alone(self.name()))
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
        self.inner.coverage(model)
    }

    fn state(&self, model: &dyn Parameters) -> Result<State> {
        let mut state = self.inner.save(model)?;
        state.optimizer = self.name().into();
        state.numbers.insert("rate".into(), self.config.rate.to_string());
        state.numbers.insert("damping".into(), self.damping().to_string());
        self.trend.save(&mut state);
        Ok(state)
    }

    fn load_state(&mut self, model: &dyn Parameters, state: &State) -> Result<()> {
        let mut saved = crate::frame::saved::Saved::open(self.name(), state)?;
        let (rate, damping): (f64, f64) = (saved.quantity("rate")?, saved.quantity("damping")?);
        let trend = Trend::load(&mut saved)?;
        let mut inner = State { optimizer: self.inner.name().into(), ..state.clone() };
        inner.numbers.retain(|key, _| key != "damping" && !key.starts_with(trend::KEY));
        self.inner.load(model, &inner)?;
        (self.config.rate, self.inner.config.damping) = (rate, damping);
        (self.trend, self.last, self.ahead) = (trend, None, Ahead::default());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coefficients_are_where_the_damped_model_has_no_slope() {
        let (m, v, b) = ([[3.0, 0.5], [0.5, 1.0]], [[2.0, 0.1], [0.1, 0.7]], [-1.0, 0.3]);
        let c = coefficients(m, v, b, 0.2);
        for i in 0..2 {
            let slope: f64 = (0..2).map(|j| (m[i][j] + 0.2 * v[i][j]) * c[j]).sum::<f64>() + b[i];
            assert!(slope.abs() < 1e-14, "{slope}");
        }
        let alone = coefficients([[4.0, 0.0], [0.0, 0.0]], [[0.0; 2]; 2], [2.0, 0.0], 0.1);
        assert_eq!(alone, [-0.5, 0.0]);
    }
}
