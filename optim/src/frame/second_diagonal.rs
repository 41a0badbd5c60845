//! `SecondDiagonal`: the frame of optimizers that divide by an estimate of the Hessian's diagonal, like
//! AdaHessian (Yao et al. 2021) and Sophia (Liu et al. 2024).
//!
//! Such an optimizer is a [`Rule`] with one thing more: what it does with an estimate when there is
//! one. The estimate comes from [`backward`](crate::backward()), where the tape is.

use std::collections::BTreeMap;

use engine::{Device, Error, Gradients, ParamId, Parameter, Parameters, Result, Rng, Tensor};
use kernels::length::{largest, squares};

use super::moments::{check_gradients, most_squares};
use super::per_parameter::{PerParameter, Rule};
use super::saved::Saved;
use crate::curvature::estimate::hessian_diagonal::HessianDiagonal;
use crate::curvature::estimate::tentative::Tentative;
use crate::optimizer::coverage::Coverage;
use crate::{Optimizer, State};

/// A [`Rule`] that uses an estimate of the Hessian's diagonal.
pub trait DiagonalRule: Rule {
    /// The estimator that it wants.
    fn estimator(&self) -> HessianDiagonal;

    /// Takes an estimate of one parameter's diagonal into what is kept of it.
    ///
    /// # Errors
    /// The rule's own.
    fn absorb(&self, estimate: &[f64], kept: &mut [Tensor]) -> Result<()>;

    /// Whether a first step without any estimate is an error.
    const NEEDS_ESTIMATE: bool;
}

/// The optimizer of a [`DiagonalRule`].
#[derive(Debug)]
pub struct SecondDiagonal<R> {
    inner: PerParameter<R>,
    estimator: HessianDiagonal,
}

impl<R: DiagonalRule> SecondDiagonal<R> {
    /// An optimizer that has not taken a step.
    ///
    /// # Errors
    /// [`Error::Argument`] when a constant is outside its range.
    pub fn new(rule: R) -> Result<Self> {
        let estimator = rule.estimator();
        Ok(Self { inner: PerParameter::new(rule)?, estimator })
    }

    /// The constants.
    #[must_use]
    pub const fn config(&self) -> &R {
        self.inner.config()
    }

    /// What is kept for a parameter under a name, if it has taken a step.
    #[must_use]
    pub fn kept(&self, parameter: &Parameter, name: &str) -> Option<&Tensor> {
        self.inner.kept(parameter, name)
    }

    fn take_step(&mut self, model: &mut dyn Parameters, grads: &Gradients) -> Result<()> {
        check_gradients(model, grads)?;
        let first = self.estimator.steps == 0;
        let estimates = self.estimator.take();
        if R::NEEDS_ESTIMATE && first && estimates.is_empty() {
            return Err(Error::Argument {
                op: self.inner.config().name(),
                name: "estimate",
                expected: "there: gradients from `optim::backward`",
                got: "none of the Hessian's diagonal".into(),
            });
        }
        check_estimates(model, &estimates)?;
        for (_, parameter) in model.parameters() {
            if let Some(estimate) = estimates.get(&parameter.id()) {
                self.inner.keep(parameter, |rule, kept| rule.absorb(estimate, kept))?;
            }
        }
        self.inner.step_checked(model, grads)
    }
}

/// Refuses estimates whose squares do not fit the parameter's dtype, as gradients are
/// ([`check_gradients`]): an infinity would stay in what is kept of it.
fn check_estimates(model: &dyn Parameters, estimates: &BTreeMap<ParamId, Vec<f64>>) -> Result<()> {
    for (path, parameter) in model.parameters() {
        let Some(estimate) = estimates.get(&parameter.id()) else { continue };
        // No number is less than NaN.
        let fits = squares(estimate, 1.0) <= most_squares(parameter.value().dtype());
        if !fits {
            let (op, name) = ("step", "estimate");
            let expected = "numbers whose squares can be added, of the Hessian's diagonal";
            let got = format!("a number of size {:e}", largest(estimate));
            return Err(Error::Argument { op, name, expected, got }.in_layer(&path));
        }
    }
    Ok(())
}

impl<R: DiagonalRule> Optimizer for SecondDiagonal<R> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn runs_on(&self, device: Device) -> bool {
        self.inner.runs_on(device)
    }

    fn hessian_diagonal(&mut self) -> Option<&mut HessianDiagonal> {
        Some(&mut self.estimator)
    }

    fn step(&mut self, model: &mut dyn Parameters, grads: &Gradients) -> Result<()> {
        let done = self.take_step(model, grads);
        if done.is_ok() {
            self.estimator.commit();
        } else {
            self.estimator.discard();
        }
        done
    }

    fn options(&self) -> String {
        self.inner.options()
    }

    fn rate(&self) -> f64 {
        self.inner.rate()
    }

    fn set_rate(&mut self, rate: f64) {
        self.inner.set_rate(rate);
    }

    fn coverage(&self, model: &dyn Parameters) -> Coverage {
        self.inner.coverage(model)
    }

    fn state(&self, model: &dyn Parameters) -> Result<State> {
        let mut state = self.inner.state(model)?;
        state.numbers.insert("estimates".to_owned(), self.estimator.steps.to_string());
        for (at, word) in self.estimator.rng.committed().state().iter().enumerate() {
            state.numbers.insert(format!("generator.{at}"), word.to_string());
        }
        Ok(state)
    }

    fn load_state(&mut self, model: &dyn Parameters, state: &State) -> Result<()> {
        let mut saved = Saved::open(self.name(), state)?;
        let steps = saved.count("estimates")?;
        let mut word = |at: usize| saved.number(&format!("generator.{at}"));
        let generator = [word(0)?, word(1)?, word(2)?];
        // What is left is the inner optimizer's.
        let mut inner = state.clone();
        inner.numbers.retain(|key, _| key != "estimates" && !key.starts_with("generator."));
        self.inner.load_state(model, &inner)?;
        self.estimator.discard();
        (self.estimator.steps, self.estimator.rng) =
            (steps, Tentative::new(Rng::from_state(generator)));
        Ok(())
    }
}
