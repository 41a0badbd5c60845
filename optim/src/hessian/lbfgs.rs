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
//!
//! A point is evaluated once: the gradient at θₖ₊₁ is that of the search. It is kept for the next call with the
//! same [`Batch`](crate::Batch) ([`Problem::number`]); a batch made anew is another batch, whose first point has to
//! be looked at. So call [`Optimizer::minimize`] with one batch again and again, or ask for more `iterations`.

use std::collections::VecDeque;

use engine::{DType, Device, Gradients, ParamId, Parameter, Parameters, Result};
use kernels::length::{largest, length};

use super::line_search::{Point, Wolfe};
use crate::algebra::flat;
use crate::algebra::flat::{dot, plus};
use crate::check::{demand, not_negative, positive};
use crate::frame::layout::Layout;
use crate::frame::moments::{check_gradients, check_gradients_read};
use crate::frame::saved::{Saved, refused};
use crate::optimizer::coverage::Coverage;
use crate::optimizer::problem::{Problem, gradients};
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
    /// The most steps of one call of [`Optimizer::minimize`].
    pub iterations: usize,
    /// θ is taken for a minimum where no entry of ∇L is larger: no step is made.
    pub tolerance_grad: f64,
    /// The search ends where the lengths left to try move no entry of θ by more; the steps of a call, where the last
    /// one moved none by more, or the loss by less.
    pub tolerance_change: f64,
}

impl Default for LbfgsConfig {
    /// α 1, 10 pairs, c₁ 10⁻⁴, c₂ 0.9; one step a call; PyTorch's tolerances, 10⁻⁷ and 10⁻⁹.
    fn default() -> Self {
        Self {
            rate: 1.0,
            history: 10,
            wolfe: Wolfe::default(),
            iterations: 1,
            tolerance_grad: 1e-7,
            tolerance_change: 1e-9,
        }
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
/// let mut batch = Batch::new(&mut weight, forward, &Half);
/// while !optimizer.is_done() {
///     optimizer.minimize(&mut batch)?;
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
    /// Where the last step of a batch with a number ended.
    known: Option<(u64, Here)>,
    done: bool,
    /// What all of these are of.
    layout: Layout,
}

/// A point, and the loss there.
#[derive(Debug, Clone)]
struct Here {
    theta: Vec<f64>,
    loss: f64,
    gradient: Vec<f64>,
    /// The parameters that the loss does not use: they stay.
    unused: Vec<ParamId>,
}

impl Here {
    /// The model's, evaluated.
    fn of(problem: &dyn Problem) -> Result<Self> {
        let (loss, grads) = gradients(problem)?;
        check_gradients_read(problem.model(), &grads)?;
        let gradient = flat::gradients(problem.model(), &grads)?;
        let unused = flat::unused(problem.model(), &grads);
        Ok(Self { theta: flat::values(problem.model())?, loss, gradient, unused })
    }
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
        positive("lbfgs", "iterations", config.iterations as f64)?;
        not_negative("lbfgs", "tolerance_grad", config.tolerance_grad)?;
        not_negative("lbfgs", "tolerance_change", config.tolerance_change)?;
        Ok(Self {
            config,
            pairs: VecDeque::new(),
            last: None,
            known: None,
            done: false,
            layout: Layout::default(),
        })
    }

    /// Whether the last call of [`Optimizer::minimize`] ended within a tolerance: another with the same batch does
    /// nothing.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.done
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
            None => 1.0 / length(v).max(f64::MIN_POSITIVE),
        };
        q.iter_mut().for_each(|q| *q *= scale);
        for ((s, y), a) in self.pairs.iter().zip(coefficients.into_iter().rev()) {
            let b = dot(y, &q) / dot(s, y);
            q = plus(&q, a - b, s);
        }
        q
    }

    /// Learns the pair from the last point to this one. Vectors of other parameters are forgotten.
    fn learn(&mut self, layout: Layout, theta: &[f64], gradient: &[f64]) {
        if self.layout != layout {
            (self.layout, self.last) = (layout, None);
            self.pairs.clear();
        }
        if let Some((old_theta, old_gradient)) = self.last.take() {
            let (s, y) = (plus(theta, -1.0, &old_theta), plus(gradient, -1.0, &old_gradient));
            // A square that has vanished has no inverse.
            let curved = dot(&s, &y) > 1e-10 * length(&s) * length(&y)
                && (dot(&y, &y) / dot(&s, &y)).is_normal();
            if curved && self.config.history > 0 {
                if self.pairs.len() == self.config.history {
                    self.pairs.pop_front();
                }
                self.pairs.push_back((s, y));
            }
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

impl Lbfgs {
    /// One step, and where it ends.
    fn iterate(&mut self, problem: &mut dyn Problem, here: Here) -> Result<Here> {
        if largest(&here.gradient) <= self.config.tolerance_grad {
            self.done = true;
            return Ok(here);
        }
        self.learn(Layout::of(problem.model()), &here.theta, &here.gradient);
        let mut p = self.direction(&here.gradient);
        flat::hold(problem.model(), &here.unused, &mut p);
        let slope = dot(&p, &here.gradient);
        if slope >= 0.0 || slope.is_nan() {
            return Ok(here);
        }
        let Here { theta, loss, gradient, unused } = here;
        let start = Point { t: 0.0, value: loss, slope, gradient };
        let change = self.config.tolerance_change;
        let least = change.max(grain(problem.model()) * largest(&theta)) / largest(&p);
        let downhill = self.pairs.is_empty();
        let found = self.config.wolfe.search(&start, self.config.rate, least, |t| {
            let at = Point { t, value: f64::INFINITY, ..Point::default() };
            if flat::set_values(problem.model_mut(), &plus(&theta, t, &p)).is_err() {
                return Ok(at); // Not a number of the parameters' dtype: too far.
            }
            let (value, grads) = gradients(problem)?;
            let gradient = flat::gradients(problem.model(), &grads)?;
            let stands = check_gradients_read(problem.model(), &grads).is_ok();
            Ok(if stands { Point { t, value, slope: dot(&p, &gradient), gradient } } else { at })
        });
        let (point, error) = match found {
            Ok(Some(point)) => (point, None),
            Ok(None) => {
                self.pairs.clear();
                self.done = downhill;
                (start, None)
            }
            Err(error) => (start, Some(error)),
        };
        flat::set_values(problem.model_mut(), &plus(&theta, point.t, &p))?;
        if let Some(error) = error {
            return Err(error);
        }
        if point.t > 0.0 {
            let still = point.t * largest(&p) <= change;
            self.done = still || (loss - point.value).abs() < change;
        }
        let theta = flat::values(problem.model())?;
        Ok(Here { theta, loss: point.value, gradient: point.gradient, unused })
    }
}

/// The distance between neighbouring numbers around 1, in the coarsest dtype of the parameters.
fn grain(model: &dyn Parameters) -> f64 {
    let double = model.parameters().iter().all(|(_, p)| p.value().dtype() == DType::F64);
    if double { f64::EPSILON } else { f32::EPSILON.into() }
}

impl Optimizer for Lbfgs {
    fn name(&self) -> &'static str {
        "lbfgs"
    }

    fn runs_on(&self, device: Device) -> bool {
        device != Device::Meta
    }

    fn minimize(&mut self, problem: &mut dyn Problem) -> Result<f64> {
        let (number, theta) = (problem.number(), flat::values(problem.model())?);
        let known =
            self.known.take().filter(|(of, known)| Some(*of) == number && known.theta == theta);
        let mut here = match known {
            Some((_, here)) => here,
            None => {
                self.done = false;
                Here::of(problem)?
            }
        };
        let loss = here.loss;
        for _ in 0..self.config.iterations {
            if self.done {
                break;
            }
            here = self.iterate(problem, here)?;
        }
        self.known = number.map(|number| (number, here));
        Ok(loss)
    }

    fn step(&mut self, model: &mut dyn Parameters, grads: &Gradients) -> Result<()> {
        check_gradients(model, grads)?;
        let gradient = flat::gradients(model, grads)?;
        let theta = flat::values(model)?;
        self.learn(Layout::of(model), &theta, &gradient);
        let mut p = self.direction(&gradient);
        flat::hold(model, &flat::unused(model, grads), &mut p);
        self.known = None;
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

    /// The bytes of all pairs and of two points, once there are so many, shared out by size.
    fn coverage(&self, model: &dyn Parameters) -> Coverage {
        let vectors = 2 * (self.config.history + 2);
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
            self.layout.save(model, &format!("s.{at}"), s, &mut state)?;
            self.layout.save(model, &format!("y.{at}"), y, &mut state)?;
        }
        state.numbers.insert("last".into(), u8::from(self.last.is_some()).to_string());
        if let Some((theta, gradient)) = &self.last {
            self.layout.save(model, "theta", theta, &mut state)?;
            self.layout.save(model, "gradient", gradient, &mut state)?;
        }
        Ok(state)
    }

    fn load_state(&mut self, model: &dyn Parameters, state: &State) -> Result<()> {
        let mut saved = Saved::open(self.name(), state)?;
        let (rate, count): (f64, usize) = (saved.quantity("rate")?, saved.number("pairs")?);
        let first = if count > 0 { "s.0" } else { "theta" };
        let layout = Layout::saved(model, first, &saved);
        // Each pair has tensors of its own: no more pairs than these are believed.
        if count > saved.tensors() {
            return Err(refused("no more pairs than there are tensors", count.to_string()));
        }
        let mut pairs = VecDeque::new();
        for at in 0..count {
            let s = layout.load(model, &format!("s.{at}"), &mut saved)?;
            pairs.push_back((s, layout.load(model, &format!("y.{at}"), &mut saved)?));
        }
        // Whoever keeps fewer now forgets the oldest.
        pairs.drain(..count.saturating_sub(self.config.history));
        let last = match saved.number::<u8>("last")? {
            0 => None,
            1 => {
                let theta = layout.load(model, "theta", &mut saved)?;
                Some((theta, layout.load(model, "gradient", &mut saved)?))
            }
            other => return Err(refused("`last` = 0 or 1", other.to_string())),
        };
        saved.close(model)?;
        (self.config.rate, self.pairs, self.last, self.known) = (rate, pairs, last, None);
        self.layout = layout;
        Ok(())
    }
}
