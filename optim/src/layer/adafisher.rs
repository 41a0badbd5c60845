//! AdaFisher and AdaFisherW.  Martins Gomes 2025, Algorithm 1, Eqs. 19 to 21 (thesis, Concordia
//! University); the earlier paper: arXiv 2405.16397.
//!
//! ```text
//! H, S   diagonals of the layer's input and output-gradient second moments   (curvature/diagonal)
//! H', S' their running averages, brought to [0, 1]                           (curvature/running)
//! F = H' ⊗ S' + λ          for weight (o, p) of a layer: S'[o] H'[p] + λ
//! m ← β m + (1 − β) g
//! θ ← θ − α (m / (1 − βᵗ)) / F             AdaFisherW:  θ ← θ − α (m / (1 − βᵗ) / F + κ θ)
//! ```
//! t counts from 1, and is the parameter's own. No square root; no average of F. State is m and two
//! short vectors per layer. (The preset [`root`](AdaFisherConfig::root) is ours: the same factors, without
//! the [0, 1], scaled to the gradient and under a square root.)
//!
//! Deviations, and why:
//! - Algorithm 1 prints m with its bias correction fed back; the ordinary first moment is meant (the
//!   thesis' own Table 4.1 has it), and the literal formula grows without bound.
//! - A factor whose entries are all equal is 0/0 in Eq. 20; it becomes 1, the identity factor.
//! - Parameters are tied to factors by identity. The authors' program walks two lists and compares
//!   shapes, and so leaves layers untrained in models with tables or bare parameters; the preset
//!   `official` reproduces its numbers, not that walk.

mod config;
#[cfg(feature = "cuda")]
mod cuda;
mod factor;
mod factors;

use std::collections::HashMap;

use engine::{
    Device, Element, Gradients, ParamId, Parameter, Parameters, Result, Tensor, for_float, room,
};
use kernels::Float;
use kernels::step::{self, Curvature};

pub use config::{AdaFisherConfig, Damping, Decay, Fallback, Magnitude};
use factor::Factor;
pub use factor::FactorTrace;
use factors::Factors;

use crate::curvature::CurvatureSource;
use crate::curvature::estimate::diagonals::Diagonals;
use crate::frame::moments::{Moments, check_gradients, refused_gradient, trainable};
use crate::frame::saved::{Saved, refused};
use crate::optimizer::coverage::{Coverage, Line};
use crate::{Optimizer, State};

/// Adam's update with the diagonal of a Kronecker-factored Fisher matrix in place of √v.
///
/// # Example
/// ```
/// use alcyon_optim::{AdaFisher, AdaFisherConfig, Optimizer};
/// let mut optimizer = AdaFisher::new(AdaFisherConfig { rate: 0.01, ..AdaFisherConfig::thesis() })?;
/// assert_eq!(optimizer.name(), "adafisher");
/// assert!(optimizer.curvature().is_some_and(|source| source.due()));
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct AdaFisher {
    config: AdaFisherConfig,
    /// α now: the configuration's, or what a schedule has set.
    rate: f64,
    steps: u64,
    skipped: u64,
    moments: Moments,
    /// Steps and second moment of parameters that fall back to Adam.
    second: HashMap<ParamId, (u64, Tensor)>,
    diagonals: Diagonals,
    factors: Factors,
    /// Factors on a CUDA device, since they last changed; none where Adam takes over.
    #[cfg(feature = "cuda")]
    placed: HashMap<ParamId, Option<cuda::Placed>>,
}

impl Default for AdaFisher {
    /// The thesis' preset.
    fn default() -> Self {
        Self::of(AdaFisherConfig::thesis())
    }
}

impl AdaFisher {
    /// An optimizer that has not taken a step.
    ///
    /// # Errors
    /// [`Error::Argument`](engine::Error::Argument) when an option is outside its range.
    pub fn new(config: AdaFisherConfig) -> Result<Self> {
        config.check()?;
        Ok(Self::of(config))
    }

    fn of(config: AdaFisherConfig) -> Self {
        Self {
            config,
            rate: config.rate,
            steps: 0,
            skipped: 0,
            moments: Moments::new(&["m"]),
            second: HashMap::new(),
            diagonals: Diagonals::new(config.diagonal()),
            factors: Factors::default(),
            #[cfg(feature = "cuda")]
            placed: HashMap::new(),
        }
    }

    /// Its options.
    #[must_use]
    pub const fn config(&self) -> &AdaFisherConfig {
        &self.config
    }

    /// What became of a weight's factors at the last refresh.
    #[must_use]
    pub fn trace(&self, weight: &Parameter) -> Option<&FactorTrace> {
        self.factors.get(weight.id()).map(|factor| &factor.trace)
    }

    /// F of a parameter, λ included, written out in f64: for people; the update never builds it.
    /// `None` where Adam takes over.
    ///
    /// # Errors
    /// None in practice; making a tensor can fail.
    pub fn fisher(&self, parameter: &Parameter) -> Result<Option<Tensor>> {
        let shape = *parameter.value().shape();
        let values = match (self.factors.cover(parameter.id()), self.config.constant()) {
            (Some(cover), _) => cover.materialise(self.config.damping_of(cover.mean)),
            (None, Some(f)) => vec![f; shape.numel()],
            (None, None) => return Ok(None),
        };
        Tensor::from_vec(values, shape).map(Some)
    }

    /// F of a parameter without λ, and its λ: how much of what AdaFisher divides by is curvature.
    /// `None` for a parameter that no factor covers.
    #[must_use]
    pub fn curvature_and_damping(&self, parameter: &Parameter) -> Option<(Vec<f64>, f64)> {
        let cover = self.factors.cover(parameter.id())?;
        Some((cover.materialise(0.0), self.config.damping_of(cover.mean)))
    }

    /// Algorithm 1, lines 3 to 5, alone: takes what has been observed into the factors. A step does
    /// this first; without one, it is for looking at them. Whether anything was taken in.
    pub fn refresh(&mut self) -> bool {
        let new = self.refresh_for_now();
        self.diagonals.notes.commit();
        new
    }

    /// The same for a step that may yet be refused.
    fn refresh_for_now(&mut self) -> bool {
        let Some(observed) = self.diagonals.take() else {
            self.skipped += 1;
            return false;
        };
        let new = !observed.is_empty();
        #[cfg(feature = "cuda")]
        if new {
            self.placed.clear();
        }
        self.factors.refresh(observed, &self.config.averaging());
        new
    }

    /// The first moment of a parameter, before its bias correction.
    #[must_use]
    pub fn moment(&self, parameter: &Parameter) -> Option<&Tensor> {
        self.moments.get(parameter)?.tensors.first()
    }

    /// The number of refreshes left out because an activation or an output gradient was not finite.
    #[must_use]
    pub const fn skipped_refreshes(&self) -> u64 {
        self.skipped
    }

    fn take_step(&mut self, model: &mut dyn Parameters, grads: &Gradients) -> Result<()> {
        check_gradients(model, grads)?;
        let refreshed = self.refresh_for_now(); // lines 3–5
        let all = trainable(model, grads)?;
        if refreshed
            && self.config.magnitude == Magnitude::Gradient
            && let Some(parameter) = self.factors.measure(&all, self.config.ema)?
        {
            return Err(refused_gradient(model, grads, parameter)?);
        }
        #[cfg(feature = "cuda")]
        let all = self.step_on_cuda(all)?;
        for (parameter, grad) in self.moments.ready(all)? {
            self.update(parameter, &grad)?; // lines 6–8
        }
        Ok(())
    }

    /// Algorithm 1, lines 6 to 8, for one parameter.
    fn update(&mut self, parameter: &mut Parameter, grad: &Tensor) -> Result<()> {
        let cover = self.factors.cover(parameter.id());
        let kept = self.moments.next(parameter)?;
        let Some(m) = kept.tensors.first_mut() else { return Ok(()) };
        let damping = cover.map_or(0.0, |cover| self.config.damping_of(cover.mean));
        let rule = self.config.update(self.rate, kept.steps, damping);
        for_float!(grad.dtype(), T => {
            let (grad, m) = (grad.as_slice::<T>()?, m.make_mut::<T>()?);
            match (cover, self.config.constant()) {
                (Some(cover), _) => {
                    let theta = parameter.value_mut().make_mut::<T>()?;
                    cover.part.update(cover.scale, theta, grad, m, &rule);
                }
                (None, Some(f)) => {
                    let theta = parameter.value_mut().make_mut::<T>()?;
                    let f = <T as Float>::of(f);
                    step::adafisher(theta, grad, m, Curvature::Constant(f), &rule);
                }
                (None, None) => {
                    let zero = || (0, Tensor::zeros(*parameter.value().shape(), T::DTYPE));
                    let (steps, v) = self.second.entry(parameter.id()).or_insert_with(zero);
                    *steps += 1;
                    let rule = self.config.adam(self.rate, *steps);
                    let theta = parameter.value_mut().make_mut::<T>()?;
                    step::adam(theta, grad, m, v.make_mut::<T>()?, None, &rule);
                }
            }
        });
        Ok(())
    }

    fn line(&self, param: String, parameter: &Parameter) -> Line {
        let id = parameter.id();
        let elsewhere = self.diagonals.notes.elsewhere.get(&id);
        let rule = match (self.factors.cover(id), elsewhere) {
            _ if !parameter.is_trainable() => "frozen".to_owned(),
            (Some(cover), None) => cover.describe().to_owned(),
            (Some(cover), Some(op)) => {
                let what = cover.describe();
                format!(
                    "{what}; also used outside layers by `{op}`: that use is not in its factors"
                )
            }
            (None, Some(op)) => {
                format!("{} (fallback): used by `{op}`", self.config.fallback_name())
            }
            (None, None) if self.factors.is_shared(id) => {
                format!("{} (fallback): bias of several weights", self.config.fallback_name())
            }
            (None, None) => format!("{} (fallback): seen in no layer", self.config.fallback_name()),
        };
        let factor = self.factors.get(id).map_or(0, Factor::bytes);
        let second = self.second.get(&id).map_or(0, |(_, v)| v.bytes());
        let state_bytes = self.moments.bytes(parameter) + factor + second;
        Line { param, shape: *parameter.value().shape(), rule, state_bytes }
    }
}

impl Optimizer for AdaFisher {
    fn name(&self) -> &'static str {
        if matches!(self.config.decay, Decay::Decoupled(_)) { "adafisherw" } else { "adafisher" }
    }

    fn curvature(&mut self) -> Option<&mut dyn CurvatureSource> {
        Some(&mut self.diagonals)
    }

    fn runs_on(&self, device: Device) -> bool {
        device != Device::Meta
    }

    fn step(&mut self, model: &mut dyn Parameters, grads: &Gradients) -> Result<()> {
        let before = (self.factors.clone(), self.skipped);
        let done = room::within("step", || self.take_step(model, grads));
        if done.is_ok() {
            self.steps += 1;
            self.diagonals.due = self.steps.is_multiple_of(self.config.every);
            self.diagonals.notes.commit();
        } else {
            (self.factors, self.skipped) = before;
            self.diagonals.discard();
            #[cfg(feature = "cuda")]
            self.placed.clear();
        }
        done
    }

    fn options(&self) -> String {
        format!("{:?}", self.config)
    }

    fn rate(&self) -> f64 {
        self.rate
    }

    fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    fn coverage(&self, model: &dyn Parameters) -> Coverage {
        let parameters = model.parameters().into_iter();
        Coverage { lines: parameters.map(|(path, p)| self.line(path, p)).collect() }
    }

    fn state(&self, model: &dyn Parameters) -> Result<State> {
        let mut state = State { optimizer: self.name().to_owned(), ..State::default() };
        state.numbers.insert("rate".to_owned(), self.rate.to_string());
        state.numbers.insert("steps".to_owned(), self.steps.to_string());
        state.numbers.insert("skipped".to_owned(), self.skipped.to_string());
        state.numbers.insert("rule".to_owned(), self.config.rule());
        self.moments.save(model, &mut state);
        self.factors.save(model, &mut state)?;
        for (path, parameter) in model.parameters() {
            if let Some((steps, v)) = self.second.get(&parameter.id()) {
                state.numbers.insert(format!("{path}/adam"), steps.to_string());
                state.tensors.insert(format!("{path}/v"), v.clone());
            }
        }
        Ok(state)
    }

    fn load_state(&mut self, model: &dyn Parameters, state: &State) -> Result<()> {
        let mut saved = Saved::open(self.name(), state)?;
        let (rate, steps, skipped) =
            (saved.quantity("rate")?, saved.count("steps")?, saved.count("skipped")?);
        let rule: String = saved.number("rule")?;
        if rule != self.config.rule() {
            return Err(refused("factors made by the rule configured", rule));
        }
        let moments = self.moments.load(model, &mut saved)?;
        let factors = Factors::load(model, &mut saved, &self.config.averaging())?;
        let mut second = HashMap::new();
        for (path, parameter) in model.parameters() {
            if let Some(steps) = saved.count_if_any(&format!("{path}/adam"))? {
                let value = parameter.value();
                let v = saved.tensor(&format!("{path}/v"), value.shape(), value.dtype())?;
                second.insert(parameter.id(), (steps, v));
            }
        }
        saved.close(model)?;
        (self.rate, self.steps, self.skipped) = (rate, steps, skipped);
        (self.moments, self.factors, self.second) = (moments, factors, second);
        #[cfg(feature = "cuda")]
        self.placed.clear();
        self.diagonals = Diagonals::new(self.config.diagonal());
        self.diagonals.due = self.steps.is_multiple_of(self.config.every);
        Ok(())
    }
}
