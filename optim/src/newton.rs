//! Newton's method and the exact natural gradient, with the whole matrix: for small models.
//!
//! Nocedal & Wright 2006, *Numerical Optimization*, chapter 3; natural gradient: Amari 1998; |H|:
//! Dauphin, Pascanu, Gulcehre, Cho, Ganguli & Bengio 2014 ("saddle-free Newton").
//!
//! ```text
//! natural gradient     δ = −(C + λ I)⁻¹ ∇L          C: the Gauss–Newton matrix, the Fisher matrix here
//! saddle-free Newton   δ = −(|H| + λ I)⁻¹ ∇L        |H|: the Hessian with the sizes of its eigenvalues
//! θ ← θ + α δ
//! ```
//! The matrix is formed column by column, one product each, at every step: n products and n³ operations
//! for n parameters. λ stays as given.

use engine::{Gradients, Parameter, Parameters, Result, Tape, Var};
use kernels::linalg;

use crate::coverage::Coverage;
use crate::curvature::precondition::failed;
use crate::curvature::products::{GaussNewton, Hessian};
use crate::flat::{self, dot, plus};
use crate::matrix::shift;
use crate::moments::{check_gradients, not_negative, positive};
use crate::problem::{Problem, gradients_alone};
use crate::saved::Saved;
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
}

impl Default for NewtonConfig {
    /// The exact natural gradient: α 1, λ 10⁻³.
    fn default() -> Self {
        Self { rate: 1.0, damping: 1e-3, metric: Metric::GaussNewton }
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
}

impl Newton {
    /// With these constants.
    ///
    /// # Errors
    /// [`Error::Argument`](engine::Error::Argument) when an option is outside its range.
    pub fn new(config: NewtonConfig) -> Result<Self> {
        not_negative("newton", "rate", config.rate)?;
        positive("newton", "damping", config.damping)?;
        Ok(Self { config })
    }

    /// (M + λ I)⁻¹ v
    fn solve(
        &self,
        problem: &dyn Problem,
        tape: &Tape,
        outputs: &Var,
        nll: &Var,
        v: &[f64],
    ) -> Result<Vec<f64>> {
        let (model, n) = (problem.model(), v.len());
        let unit = |i: usize| (0..n).map(|j| f64::from(u8::from(i == j))).collect::<Vec<f64>>();
        let mut matrix = Vec::with_capacity(n * n);
        match self.config.metric {
            Metric::GaussNewton => {
                let products = GaussNewton::new(tape, outputs, problem.loss())?;
                for i in 0..n {
                    matrix.extend(products.times(model, &unit(i))?);
                }
                shift(&mut matrix, n, self.config.damping);
                linalg::solve(&matrix, n, v, 1).map_err(|e| failed(&e))
            }
            Metric::Hessian => {
                let products = Hessian::new(tape, nll)?;
                for i in 0..n {
                    matrix.extend(products.times(model, &unit(i))?);
                }
                let eigen = linalg::symmetric_eigen(&matrix, n).map_err(|e| failed(&e))?;
                let mut out = vec![0.0; n];
                for (j, value) in eigen.values.iter().enumerate() {
                    let vector: Vec<f64> = (0..n).map(|i| eigen.vectors[i * n + j]).collect();
                    let along = dot(&vector, v) / (value.abs() + self.config.damping);
                    out = plus(&out, along, &vector);
                }
                Ok(out)
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

    fn minimize(&mut self, problem: &mut dyn Problem) -> Result<f64> {
        let tape = problem.tape();
        let outputs = problem.outputs(&tape)?;
        let nll = problem.loss().nll(&outputs)?;
        let (loss, grads) = (nll.item()?, tape.backward(&nll)?);
        check_gradients(problem.model(), &grads)?;
        let gradient = flat::gradients(problem.model(), &grads)?;
        let step = self.solve(problem, &tape, &outputs, &nll, &gradient)?;
        let staged = tape.staged();
        drop((outputs, nll, tape));
        problem.model_mut().commit(staged)?;
        let theta = flat::values(problem.model())?;
        flat::set_values(problem.model_mut(), &plus(&theta, -self.config.rate, &step))?;
        Ok(loss)
    }

    fn step(&mut self, model: &mut dyn Parameters, grads: &Gradients) -> Result<()> {
        check_gradients(model, grads)?;
        Err(gradients_alone(self.name()))
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
        Coverage::of(model, |_: &Parameter| word.into(), |_| 0)
    }

    fn state(&self, _: &dyn Parameters) -> Result<State> {
        let mut state = State { optimizer: self.name().into(), ..State::default() };
        state.numbers.insert("rate".into(), self.config.rate.to_string());
        Ok(state)
    }

    fn load_state(&mut self, model: &dyn Parameters, state: &State) -> Result<()> {
        let mut saved = Saved::open(self.name(), state)?;
        let rate = saved.number("rate")?;
        saved.close(model)?;
        self.config.rate = rate;
        Ok(())
    }
}
