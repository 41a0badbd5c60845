//! Newton's method and the exact natural gradient, with the whole matrix: for small models.
//!
//! Nocedal & Wright 2006, *Numerical Optimization*, chapter 3; natural gradient: Amari 1998; |H|:
//! Dauphin, Pascanu, Gulcehre, Cho, Ganguli & Bengio 2014 ("saddle-free Newton").
//!
//! ```text
//! natural gradient     δ = −(C + λ I)⁻¹ ∇L          C: the Gauss–Newton matrix, the Fisher matrix here
//! saddle-free Newton   δ = −(|H| + λ I)⁻¹ ∇L        |H|: the Hessian with the sizes of its eigenvalues
//! θ ← θ + α δ          if the loss falls; else λ ← 10 λ, and again        Marquardt 1963
//! λ ← λ/3              after a step that fell at the first try
//! ```
//! The matrix is formed column by column, one product each, at every step: n products and n³ operations
//! for n parameters. A λ that is grown 20 times in vain leaves θ where it is.

use engine::{Error, Gradients, Parameter, Parameters, Result, Tape, Var, room};
use kernels::linalg;

use crate::algebra::dense::{failed, product, shift};
use crate::algebra::flat;
use crate::algebra::flat::plus;
use crate::check::{not_negative, positive};
use crate::curvature::exact::products::{GaussNewton, Hessian};
use crate::frame::moments::check_gradients;
use crate::frame::saved::Saved;
use crate::optimizer::backward::refuse_elsewhere;
use crate::optimizer::coverage::Coverage;
use crate::optimizer::problem::{Problem, evaluate, gradients_alone};
use crate::{Optimizer, State};

/// The matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// The generalized Gauss–Newton matrix.
    GaussNewton,
    /// The Hessian with the sizes of its eigenvalues.
    Hessian,
}

/// Options of [`Newton`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NewtonConfig {
    /// α: 1.
    pub rate: f64,
    /// λ, in units of the curvature of the mean loss.
    pub damping: f64,
    /// The matrix.
    pub metric: Metric,
    /// Whether λ follows the loss. Otherwise every step is taken, with λ as given.
    pub adapt: bool,
    /// The bytes that the matrices of a step may take: a model whose whole matrix takes more is refused before
    /// anything is evaluated. 2 GiB are the matrices of some ten thousand numbers.
    pub most_bytes: usize,
}

/// How often λ is grown for one step.
const TRIES: usize = 20;

/// The smallest λ that adapting comes to.
const LEAST_DAMPING: f64 = 1e-12;

impl Default for NewtonConfig {
    /// The exact natural gradient: α 1, λ 10⁻³ at first, adapted; at most 2 GiB.
    fn default() -> Self {
        Self {
            rate: 1.0,
            damping: 1e-3,
            metric: Metric::GaussNewton,
            adapt: true,
            most_bytes: 1 << 31,
        }
    }
}

impl NewtonConfig {
    /// Saddle-free Newton: the Hessian.
    #[must_use]
    pub fn saddle_free() -> Self {
        Self { metric: Metric::Hessian, ..Self::default() }
    }
}

/// The exact natural gradient, or Newton's method. It steps by [`Optimizer::minimize`] alone.
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
/// use alcyon_optim::{Batch, Newton, NewtonConfig, Optimizer};
/// let mut weight = Parameter::new(Tensor::full([1, 1], 4.0, DType::F64));
/// let forward = |weight: &Parameter, tape: &Tape| Ok(tape.bind(weight)); // the loss is ½ θ²
/// let mut optimizer = Newton::new(NewtonConfig { damping: 1.0, ..NewtonConfig::default() })?;
/// optimizer.minimize(&mut Batch::new(&mut weight, forward, &Half))?;
/// assert!((weight.value().item()? - 2.0).abs() < 1e-12); // 4 − 4/(1 + 1)
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct Newton {
    config: NewtonConfig,
    /// λ
    damping: f64,
}

/// M, ready to be solved with under any λ.
enum Solver {
    /// The matrix itself.
    Definite(Vec<f64>),
    /// Eigenvectors as columns, and eigenvalues.
    Eigen(linalg::Eigen),
}

impl Newton {
    /// With these constants.
    ///
    /// # Errors
    /// [`Error::Argument`] when an option is outside its range.
    pub fn new(config: NewtonConfig) -> Result<Self> {
        not_negative("newton", "rate", config.rate)?;
        positive("newton", "damping", config.damping)?;
        Ok(Self { config, damping: config.damping })
    }

    /// λ now.
    #[must_use]
    pub const fn damping(&self) -> f64 {
        self.damping
    }

    /// Bytes of the matrices of a step: M and its damped copy, or M, its eigenvectors and what finds them.
    fn bytes(&self, model: &dyn Parameters) -> usize {
        let trained = model.parameters().into_iter().filter(|(_, p)| p.is_trainable());
        let n: usize = trained.map(|(_, p)| p.value().numel()).sum();
        let matrices = match self.config.metric {
            Metric::GaussNewton => 2,
            Metric::Hessian => 3,
        };
        n.saturating_mul(n).saturating_mul(matrices * size_of::<f64>())
    }

    /// Before anything is evaluated.
    fn refuse_too_many(&self, model: &dyn Parameters) -> Result<()> {
        let (needed, most) = (self.bytes(model), self.config.most_bytes);
        if needed <= most {
            return room::expect(self.name(), needed);
        }
        let (name, expected) =
            ("most_bytes", "what the whole matrix takes, or an optimizer that keeps parts of it");
        let got = format!("{most} bytes, and {needed} bytes are needed");
        Err(Error::Argument { op: self.name(), name, expected, got })
    }

    /// M, column by column.
    fn matrix(
        &self,
        problem: &dyn Problem,
        tape: &Tape,
        (outputs, nll): (&Var, &Var),
        n: usize,
    ) -> Result<Solver> {
        let model = problem.model();
        let unit = |i: usize| (0..n).map(|j| f64::from(u8::from(i == j))).collect::<Vec<f64>>();
        let mut matrix = Vec::with_capacity(n * n);
        match self.config.metric {
            Metric::GaussNewton => {
                let products = GaussNewton::new(tape, outputs, problem.loss())?;
                for i in 0..n {
                    matrix.extend(products.times(model, &unit(i))?);
                }
                Ok(Solver::Definite(matrix))
            }
            Metric::Hessian => {
                let products = Hessian::new(tape, nll)?;
                for i in 0..n {
                    matrix.extend(products.times(model, &unit(i))?);
                }
                let eigen = linalg::symmetric_eigen(&matrix, n).map_err(|e| failed(&e))?;
                Ok(Solver::Eigen(eigen))
            }
        }
    }

    fn take_step(&mut self, problem: &mut dyn Problem, theta: &[f64]) -> Result<f64> {
        let tape = problem.tape();
        let outputs = problem.outputs(&tape)?;
        refuse_elsewhere(self, &outputs)?;
        let nll = problem.loss().nll(&outputs)?;
        let (loss, mut grads) = (nll.item()?, tape.backward(&nll)?);
        grads.set_unused(problem.unused());
        check_gradients(problem.model(), &grads)?;
        let gradient = flat::gradients(problem.model(), &grads)?;
        let solver = self.matrix(problem, &tape, (&outputs, &nll), gradient.len())?;
        let staged = tape.staged();
        drop((outputs, nll, tape));
        let loss = self.search(problem, &solver, (theta, loss), (&gradient, &grads))?;
        problem.model_mut().commit(staged)?;
        Ok(loss)
    }

    /// Grows λ until the loss falls.
    fn search(
        &mut self,
        problem: &mut dyn Problem,
        solver: &Solver,
        (theta, loss): (&[f64], f64),
        (gradient, grads): (&[f64], &Gradients),
    ) -> Result<f64> {
        for tried in 0..TRIES {
            let step = match solver.solve(gradient, self.damping) {
                Ok(mut step) => {
                    flat::hold(problem.model(), &flat::unused(problem.model(), grads), &mut step);
                    step
                }
                // Not definite but for rounding: more λ makes it so.
                Err(Error::Linalg { .. }) if self.config.adapt && tried + 1 < TRIES => {
                    self.damping *= 10.0;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let there = plus(theta, -self.config.rate, &step);
            if !self.config.adapt {
                flat::set_values(problem.model_mut(), &there)?;
                return Ok(loss);
            }
            let now = match flat::set_values(problem.model_mut(), &there) {
                Ok(()) => evaluate(problem)?,
                Err(_) => f64::INFINITY, // Not a number of the parameters' dtype: too far.
            };
            if now <= loss {
                if tried == 0 {
                    self.damping = (self.damping / 3.0).max(LEAST_DAMPING);
                }
                return Ok(loss);
            }
            self.damping *= 10.0;
        }
        flat::set_values(problem.model_mut(), theta)?;
        Ok(loss)
    }
}

impl Solver {
    /// (M + λ I)⁻¹ v
    fn solve(&self, v: &[f64], damping: f64) -> Result<Vec<f64>> {
        let n = v.len();
        match self {
            Self::Definite(matrix) => {
                let mut damped = matrix.clone();
                shift(&mut damped, n, damping);
                linalg::solve(&damped, n, v, 1).map_err(|e| failed(&e))
            }
            Self::Eigen(eigen) => {
                let turned = product(&eigen.vectors, (n, n), true, v, (n, 1), false);
                let scaled: Vec<f64> = turned
                    .iter()
                    .zip(&eigen.values)
                    .map(|(x, w)| x / (w.abs() + damping))
                    .collect();
                Ok(product(&eigen.vectors, (n, n), false, &scaled, (n, 1), false).to_vec())
            }
        }
    }
}

impl Optimizer for Newton {
    fn name(&self) -> &'static str {
        match self.config.metric {
            Metric::GaussNewton => "natural-gradient",
            Metric::Hessian => "newton",
        }
    }

    fn needs_problem(&self) -> bool {
        true
    }

    /// Whatever fails, θ and λ are as before.
    fn minimize(&mut self, problem: &mut dyn Problem) -> Result<f64> {
        self.refuse_too_many(problem.model())?;
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
        let word = match self.config.metric {
            Metric::GaussNewton => "the whole Gauss–Newton matrix",
            Metric::Hessian => "the whole Hessian, sizes of eigenvalues",
        };
        let bytes = self.bytes(model);
        Coverage::of(
            model,
            |_: &Parameter| format!("{word}: {bytes} bytes in a step, none kept"),
            |_| 0,
        )
    }

    fn state(&self, _: &dyn Parameters) -> Result<State> {
        let mut state = State { optimizer: self.name().into(), ..State::default() };
        state.numbers.insert("rate".into(), self.config.rate.to_string());
        state.numbers.insert("damping".into(), self.damping.to_string());
        Ok(state)
    }

    fn load_state(&mut self, model: &dyn Parameters, state: &State) -> Result<()> {
        let mut saved = Saved::open(self.name(), state)?;
        let (rate, damping) = (saved.quantity("rate")?, saved.quantity("damping")?);
        saved.close(model)?;
        (self.config.rate, self.damping) = (rate, damping);
        Ok(())
    }
}
