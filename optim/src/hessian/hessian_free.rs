//! Hessian-free optimization: Newton's step with the Gauss–Newton matrix, by conjugate gradients.
//!
//! Martens 2010, "Deep learning via Hessian-free optimization", sections 3 and 4.
//!
//! ```text
//! (C + λ I) δ ≈ −∇L            conjugate gradients from η δ of the last step, stopped when progress is slow
//! θ ← θ + t δ                  t = 1, halved until the loss falls as promised
//! ρ = (L(θ + δ) − L(θ))/M(δ),  M(δ) = ½ δᵀCδ + ⟨∇L, δ⟩
//! λ ← 3/2 λ if ρ < 1/4,   2/3 λ if ρ > 3/4
//! ```
//! Deviations: the last iterate is taken (the paper goes back to the best), the preconditioner is the
//! identity, and gradient and products see the same batch.

use engine::{Gradients, Parameter, Parameters, Result};

use crate::algebra::flat;
use crate::algebra::flat::{dot, plus};
use crate::check::{demand, not_negative, positive};
use crate::curvature::exact::products::GaussNewton;
use crate::curvature::spectrum::conjugate_gradients::{Stop, solve};
use crate::frame::layout::Layout;
use crate::frame::moments::check_gradients;
use crate::frame::saved::Saved;
use crate::optimizer::backward::refuse_elsewhere;
use crate::optimizer::coverage::Coverage;
use crate::optimizer::problem::{Problem, evaluate, gradients_alone};
use crate::{Optimizer, State};

/// The largest part of the promised decrease that a step may miss: c of Armijo's rule.
const ARMIJO: f64 = 1e-2;

/// How often a step is halved.
const HALVINGS: usize = 60;

/// Options of [`HessianFree`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HessianFreeConfig {
    /// What the step is multiplied by: 1.
    pub rate: f64,
    /// λ at first, in units of the curvature of the mean loss.
    pub damping: f64,
    /// Whether λ follows ρ.
    pub adapt: bool,
    /// η: how much of the last step conjugate gradients start from.
    pub warm_start: f64,
    /// When conjugate gradients stop.
    pub stop: Stop,
}

impl Default for HessianFreeConfig {
    /// The paper's progress bound 5·10⁻⁴ and at most 250 products; λ 1, adapted; η 0.95.
    fn default() -> Self {
        let stop = Stop { iterations: 250, residual: 1e-12, progress: 5e-4 };
        Self { rate: 1.0, damping: 1.0, adapt: true, warm_start: 0.95, stop }
    }
}

/// Hessian-free optimization. It steps by [`Optimizer::minimize`] alone.
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
/// use alcyon_optim::{Batch, HessianFree, HessianFreeConfig, Optimizer};
/// let mut weight = Parameter::new(Tensor::full([1, 1], 4.0, DType::F64));
/// let forward = |weight: &Parameter, tape: &Tape| Ok(tape.bind(weight)); // the loss is ½ θ²
/// let mut optimizer = HessianFree::new(HessianFreeConfig { damping: 1.0, ..HessianFreeConfig::default() })?;
/// optimizer.minimize(&mut Batch::new(&mut weight, forward, &Half))?;
/// assert!((weight.value().item()? - 2.0).abs() < 1e-12); // 4 − 4/(1 + 1)
/// assert!(optimizer.damping() > 1.0 / 1.6); // the model was right: λ falls by a third
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct HessianFree {
    config: HessianFreeConfig,
    damping: f64,
    /// δ of the last step, and what that is of.
    last: Vec<f64>,
    layout: Layout,
    products: usize,
}

impl HessianFree {
    /// An optimizer that has not taken a step.
    ///
    /// # Errors
    /// [`Error::Argument`](engine::Error::Argument) when an option is outside its range.
    pub fn new(config: HessianFreeConfig) -> Result<Self> {
        not_negative("hessian-free", "rate", config.rate)?;
        positive("hessian-free", "damping", config.damping)?;
        let (eta, inside) = (config.warm_start, (0.0..=1.0).contains(&config.warm_start));
        demand("hessian-free", "warm_start", eta, "in [0, 1]", inside)?;
        Ok(Self {
            config,
            damping: config.damping,
            last: Vec::new(),
            layout: Layout::default(),
            products: 0,
        })
    }

    /// λ now.
    #[must_use]
    pub const fn damping(&self) -> f64 {
        self.damping
    }

    /// The products with C that the last step took.
    #[must_use]
    pub const fn products(&self) -> usize {
        self.products
    }

    fn take_step(&mut self, problem: &mut dyn Problem, theta: &[f64]) -> Result<f64> {
        let tape = problem.tape();
        let outputs = problem.outputs(&tape)?;
        refuse_elsewhere(self, &outputs)?;
        let nll = problem.loss().nll(&outputs)?;
        let (loss, mut grads) = (nll.item()?, tape.backward(&nll)?);
        grads.set_unused(problem.unused());
        let model = problem.model();
        check_gradients(model, &grads)?;
        let gradient = flat::gradients(model, &grads)?;
        // Solve.
        let curvature = GaussNewton::new(&tape, &outputs, problem.loss())?;
        let damped = |v: &[f64]| Ok(plus(&curvature.times(model, v)?, self.damping, v));
        let layout = Layout::of(model);
        let mut start = self.layout.moved(&self.last, &layout);
        start.iter_mut().for_each(|x| *x *= self.config.warm_start);
        flat::hold(model, &flat::unused(model, &grads), &mut start);
        let downhill: Vec<f64> = gradient.iter().map(|g| -g).collect();
        let ones = vec![1.0; gradient.len()];
        let solution = solve(damped, &downhill, start, &ones, self.config.stop)?;
        let mut delta: Vec<f64> = solution.x.iter().map(|x| self.config.rate * x).collect();
        flat::hold(model, &flat::unused(model, &grads), &mut delta);
        let roots = curvature.root_times(model, &delta)?;
        let slope = dot(&gradient, &delta);
        let promised = 0.5 * dot(&roots, &roots) + slope;
        let staged = tape.staged();
        drop((nll, curvature));
        drop((outputs, tape));
        // Step, and step back.
        let (mut t, mut whole) = (1.0, f64::NAN);
        for halving in 0..=HALVINGS {
            let now = match flat::set_values(problem.model_mut(), &plus(theta, t, &delta)) {
                Ok(()) => evaluate(problem)?,
                Err(_) => f64::INFINITY, // Not a number of the parameters' dtype: too far.
            };
            if halving == 0 {
                whole = now;
            }
            if now <= loss + ARMIJO * t * slope.min(0.0) {
                break;
            }
            t *= 0.5;
            if halving == HALVINGS {
                t = 0.0;
            }
        }
        flat::set_values(problem.model_mut(), &plus(theta, t, &delta))?;
        if self.config.adapt {
            let ratio = if promised < 0.0 { (whole - loss) / promised } else { 0.0 };
            if ratio.is_nan() || ratio < 0.25 {
                self.damping *= 1.5;
            } else if ratio > 0.75 {
                self.damping /= 1.5;
            }
        }
        (self.last, self.layout, self.products) = (solution.x, layout, solution.path.len());
        problem.model_mut().commit(staged)?;
        Ok(loss)
    }
}

impl Optimizer for HessianFree {
    fn name(&self) -> &'static str {
        "hessian-free"
    }

    fn needs_problem(&self) -> bool {
        true
    }

    /// Whatever fails, θ and λ are as before.
    fn minimize(&mut self, problem: &mut dyn Problem) -> Result<f64> {
        let (theta, damping) = (flat::values(problem.model())?, self.damping);
        let done = self.take_step(problem, &theta);
        if done.is_err() {
            flat::set_values(problem.model_mut(), &theta)?;
            self.damping = damping;
        }
        done
    }

    fn step(&mut self, model: &mut dyn Parameters, grads: &Gradients) -> Result<()> {
        check_gradients(model, grads)?;
        Err(gradients_alone(self.name()))
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
        let words = |_: &Parameter| "Gauss–Newton, by conjugate gradients".into();
        Coverage::of(model, words, |p| {
            if p.is_trainable() { p.value().numel() * size_of::<f64>() } else { 0 }
        })
    }

    fn state(&self, model: &dyn Parameters) -> Result<State> {
        let mut state = State { optimizer: self.name().into(), ..State::default() };
        state.numbers.insert("rate".into(), self.config.rate.to_string());
        state.numbers.insert("damping".into(), self.damping.to_string());
        state.numbers.insert("last".into(), u8::from(!self.last.is_empty()).to_string());
        if !self.last.is_empty() {
            self.layout.save(model, "last", &self.last, &mut state)?;
        }
        Ok(state)
    }

    fn load_state(&mut self, model: &dyn Parameters, state: &State) -> Result<()> {
        let mut saved = Saved::open(self.name(), state)?;
        let (rate, damping) = (saved.quantity("rate")?, saved.quantity("damping")?);
        let layout = Layout::saved(model, "last", &saved);
        let last = match saved.number::<u8>("last")? {
            0 => Vec::new(),
            _ => layout.load(model, "last", &mut saved)?,
        };
        saved.close(model)?;
        (self.config.rate, self.damping) = (rate, damping);
        (self.last, self.layout) = (last, layout);
        Ok(())
    }
}
