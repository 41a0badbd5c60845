//! L-BFGS: Newton's direction from the last few steps, and a line search.
//!
//! Liu & Nocedal 1989, "On the limited memory BFGS method for large scale optimization"; Nocedal &
//! Wright 2006, *Numerical Optimization*, Algorithms 7.4 and 7.5.
//!
//! ```text
//! s = θₖ₊₁ − θₖ,   y = ∇Lₖ₊₁ − ∇Lₖ                    the last h pairs with sᵀy > 10⁻¹⁰ ‖s‖ ‖y‖
//! p = −H ∇L                                           two loops over the pairs, H₀ = sᵀy/yᵀy
//! θ ← θ + t p                                         t by the strong Wolfe conditions, from α
//! ```
//! For batches that do not change from step to step, or are the whole data. Without a pair, H is
//! 1/‖∇L‖ (the book leaves it open). If the search finds nothing, pairs are forgotten and θ stays. With
//! gradients alone ([`Optimizer::step`]) t is α: no search.

use std::collections::VecDeque;

use engine::{Device, Gradients, Parameter, Parameters, Result};

use crate::coverage::Coverage;
use crate::flat::{self, dot, plus};
use crate::line_search::{Point, Wolfe};
use crate::moments::{check_gradients, demand, not_negative};
use crate::problem::{Problem, gradients};
use crate::saved::{Saved, refused};
use crate::{Optimizer, State};

/// Options of [`Lbfgs`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LbfgsConfig {
    /// α, the first length that is tried: 1, Newton's own.
    pub rate: f64,
    /// h, the pairs that are kept.
    pub history: usize,
    /// The line search.
    pub wolfe: Wolfe,
}

impl Default for LbfgsConfig {
    /// α 1, 10 pairs, c₁ 10⁻⁴, c₂ 0.9.
    fn default() -> Self {
        Self { rate: 1.0, history: 10, wolfe: Wolfe::default() }
    }
}

/// Limited-memory BFGS.
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
/// use alcyon_optim::{Batch, Lbfgs, LbfgsConfig, Optimizer};
/// let mut weight = Parameter::new(Tensor::full([1, 1], 4.0, DType::F64));
/// let forward = |weight: &Parameter, tape: &Tape| Ok(tape.bind(weight)); // the loss is ½ θ²
/// let mut optimizer = Lbfgs::new(LbfgsConfig::default())?;
/// for _ in 0..4 {
///     optimizer.minimize(&mut Batch::new(&mut weight, forward, &Half))?;
/// }
/// assert!(weight.value().item()?.abs() < 1e-12);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct Lbfgs {
    config: LbfgsConfig,
    /// s and y, the newest last.
    pairs: VecDeque<(Vec<f64>, Vec<f64>)>,
    /// θ and ∇L at the last step.
    last: Option<(Vec<f64>, Vec<f64>)>,
}

impl Lbfgs {
    /// An optimizer that has not taken a step.
    ///
    /// # Errors
    /// [`Error::Argument`](engine::Error::Argument) when an option is outside its range.
    pub fn new(config: LbfgsConfig) -> Result<Self> {
        let Wolfe { decrease, curvature, .. } = config.wolfe;
        not_negative("lbfgs", "rate", config.rate)?;
        let ordered = 0.0 < decrease && decrease < curvature && curvature < 1.0;
        demand("lbfgs", "wolfe", curvature, "0 < c₁ < c₂ < 1", ordered)?;
        Ok(Self { config, pairs: VecDeque::new(), last: None })
    }

    /// The constants.
    #[must_use]
    pub const fn config(&self) -> &LbfgsConfig {
        &self.config
    }

    /// H v, by the two loops.
    fn inverse_times(&self, v: &[f64]) -> Vec<f64> {
        let mut q = v.to_vec();
        let mut coefficients = Vec::with_capacity(self.pairs.len());
        for (s, y) in self.pairs.iter().rev() {
            let a = dot(s, &q) / dot(s, y);
            q = plus(&q, -a, y);
            coefficients.push(a);
        }
        let scale = match self.pairs.back() {
            Some((s, y)) => dot(s, y) / dot(y, y),
            None => 1.0 / dot(v, v).sqrt().max(f64::MIN_POSITIVE),
        };
        q.iter_mut().for_each(|q| *q *= scale);
        for ((s, y), a) in self.pairs.iter().zip(coefficients.into_iter().rev()) {
            let b = dot(y, &q) / dot(s, y);
            q = plus(&q, a - b, s);
        }
        q
    }

    /// Learns the pair from the last point to this one.
    fn learn(&mut self, theta: &[f64], gradient: &[f64]) {
        if let Some((old_theta, old_gradient)) = self.last.take() {
            let fits = old_theta.len() == theta.len();
            let (s, y) = (plus(theta, -1.0, &old_theta), plus(gradient, -1.0, &old_gradient));
            let curved = dot(&s, &y) > 1e-10 * (dot(&s, &s) * dot(&y, &y)).sqrt();
            if fits && curved && self.config.history > 0 {
                if self.pairs.len() == self.config.history {
                    self.pairs.pop_front();
                }
                self.pairs.push_back((s, y));
            }
        }
        if self.pairs.front().is_some_and(|(s, _)| s.len() != theta.len()) {
            self.pairs.clear();
        }
        self.last = Some((theta.to_vec(), gradient.to_vec()));
    }

    /// p, downhill for sure.
    fn direction(&mut self, gradient: &[f64]) -> Vec<f64> {
        let mut p: Vec<f64> = self.inverse_times(gradient).iter().map(|x| -x).collect();
        if dot(&p, gradient) >= 0.0 {
            self.pairs.clear();
            p = self.inverse_times(gradient).iter().map(|x| -x).collect();
        }
        p
    }
}

impl Optimizer for Lbfgs {
    fn name(&self) -> &'static str {
        "lbfgs"
    }

    fn runs_on(&self, device: Device) -> bool {
        device != Device::Meta
    }

    fn minimize(&mut self, problem: &mut dyn Problem) -> Result<f64> {
        let (loss, grads) = gradients(problem)?;
        check_gradients(problem.model(), &grads)?;
        let gradient = flat::gradients(problem.model(), &grads)?;
        let theta = flat::values(problem.model())?;
        self.learn(&theta, &gradient);
        let p = self.direction(&gradient);
        let start = Point { t: 0.0, value: loss, slope: dot(&p, &gradient) };
        if start.slope >= 0.0 || start.slope.is_nan() {
            return Ok(loss);
        }
        let found = self.config.wolfe.search(&start, self.config.rate, |t| {
            flat::set_values(problem.model_mut(), &plus(&theta, t, &p))?;
            let (value, grads) = gradients(problem)?;
            let slope = dot(&p, &flat::gradients(problem.model(), &grads)?);
            Ok(Point { t, value, slope })
        });
        let length = match &found {
            Ok(Some(point)) => point.t,
            Ok(None) | Err(_) => 0.0,
        };
        flat::set_values(problem.model_mut(), &plus(&theta, length, &p))?;
        if found?.is_none() {
            self.pairs.clear();
        }
        Ok(loss)
    }

    fn step(&mut self, model: &mut dyn Parameters, grads: &Gradients) -> Result<()> {
        check_gradients(model, grads)?;
        let gradient = flat::gradients(model, grads)?;
        let theta = flat::values(model)?;
        self.learn(&theta, &gradient);
        let p = self.direction(&gradient);
        flat::set_values(model, &plus(&theta, self.config.rate, &p))
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

    /// The bytes of all pairs, once there are so many, shared out by size.
    fn coverage(&self, model: &dyn Parameters) -> Coverage {
        let vectors = 2 * (self.config.history + 1);
        let words = |_: &Parameter| format!("{} pairs of steps and gradients", self.config.history);
        Coverage::of(model, words, |p| {
            if p.is_trainable() { vectors * p.value().numel() * size_of::<f64>() } else { 0 }
        })
    }

    fn state(&self, model: &dyn Parameters) -> Result<State> {
        let mut state = State { optimizer: self.name().into(), ..State::default() };
        state.numbers.insert("rate".into(), self.config.rate.to_string());
        state.numbers.insert("pairs".into(), self.pairs.len().to_string());
        for (at, (s, y)) in self.pairs.iter().enumerate() {
            flat::save(model, &format!("s.{at}"), s, &mut state)?;
            flat::save(model, &format!("y.{at}"), y, &mut state)?;
        }
        state.numbers.insert("last".into(), u8::from(self.last.is_some()).to_string());
        if let Some((theta, gradient)) = &self.last {
            flat::save(model, "theta", theta, &mut state)?;
            flat::save(model, "gradient", gradient, &mut state)?;
        }
        Ok(state)
    }

    fn load_state(&mut self, model: &dyn Parameters, state: &State) -> Result<()> {
        let mut saved = Saved::open(self.name(), state)?;
        let (rate, count): (f64, usize) = (saved.number("rate")?, saved.number("pairs")?);
        let mut pairs = VecDeque::with_capacity(count);
        for at in 0..count {
            let s = flat::load(model, &format!("s.{at}"), &mut saved)?;
            pairs.push_back((s, flat::load(model, &format!("y.{at}"), &mut saved)?));
        }
        let last = match saved.number::<u8>("last")? {
            0 => None,
            1 => {
                let theta = flat::load(model, "theta", &mut saved)?;
                Some((theta, flat::load(model, "gradient", &mut saved)?))
            }
            other => return Err(refused("`last` = 0 or 1", other.to_string())),
        };
        saved.close(model)?;
        (self.config.rate, self.pairs, self.last) = (rate, pairs, last);
        Ok(())
    }
}
