//! `PerParameter`: the frame of all optimizers that treat each parameter by itself: Adam (Kingma & Ba
//! 2015) is one, SOAP (Vyas et al. 2025) another.
//!
//! An optimizer of this kind is a [`Rule`]: what it starts from, and one update from a gradient and
//! what is kept to new values. Steps, rates, coverage, saving and resuming are the same for all and
//! are written here once. The rule's type is the optimizer's configuration:
//! `type Lion = PerParameter<LionConfig>`.

use std::collections::HashMap;

use engine::{
    Device, Error, FloatElement, Gradients, ParamId, Parameter, Parameters, Result, Tensor, room,
};
use kernels::length::length;
use kernels::parallel;
use kernels::vector::vectorized;

#[cfg(feature = "cuda")]
use super::cuda;
use super::first::First;
use super::moments::{Moments, check_gradients, trainable};
use super::saved::Saved;
use crate::algebra::finite::all_finite;
use crate::algebra::on_tensors::Composed;
use crate::check::demand;
use crate::optimizer::coverage::Coverage;
use crate::{Optimizer, State};

/// What is kept for a parameter, by name, before its first step.
pub type Start = Vec<(&'static str, First)>;

/// The mathematics of an optimizer that treats each parameter by itself.
///
/// # Example
/// Descent along the sign of the gradient, complete:
/// ```
/// use engine::{Gradients, Parameter, Result, Tensor};
/// use alcyon_optim::{InitialState, PerParameter, Rule};
/// use alcyon_optim::Optimizer;
/// #[derive(Debug, Clone)]
/// struct SignDescent { rate: f64 }
/// impl Rule for SignDescent {
///     fn name(&self) -> &'static str { "sign" }
///     fn check(&self) -> Result<()> { Ok(()) }
///     fn rate(&self) -> f64 { self.rate }
///     fn set_rate(&mut self, rate: f64) { self.rate = rate; }
///     fn words(&self, _: &Parameter) -> String { "sign of the gradient".into() }
///     fn start(&self, _: &Parameter) -> InitialState { Vec::new() }
///     fn update(&self, _step: u64, value: &mut Tensor, grad: &Tensor, _: &mut [Tensor]) -> Result<()> {
///         let signs = grad.clamp(-1e-300, 1e-300)?.scale(1e300)?;
///         *value = value.sub(&signs.scale(self.rate)?)?;
///         Ok(())
///     }
/// }
/// let mut weight = Parameter::new(Tensor::from_slice(&[1.0, 1.0], [2])?);
/// let mut grads = Gradients::default();
/// grads.set(&weight, Tensor::from_slice(&[9.0, -3.0], [2])?);
/// PerParameter::new(SignDescent { rate: 0.5 })?.step(&mut weight, &grads)?;
/// assert_eq!(weight.value().to_vec::<f64>()?, [0.5, 1.5]);
/// # Ok::<(), engine::Error>(())
/// ```
pub trait Rule: std::fmt::Debug {
    /// The optimizer's name, as on the command line and in tables.
    fn name(&self) -> &'static str;

    /// Whether an update can fail for a gradient that has passed the checks (linear algebra can): then every
    /// update is tried on copies first, and a failure, or a number that is not finite, changes nothing.
    fn may_fail(&self) -> bool {
        false
    }

    /// Refuses constants out of their ranges.
    ///
    /// # Errors
    /// [`Error::Argument`].
    fn check(&self) -> Result<()>;

    /// α, the learning rate.
    fn rate(&self) -> f64;

    /// Sets α.
    fn set_rate(&mut self, rate: f64);

    /// The rule that a parameter gets, in a few words.
    fn words(&self, parameter: &Parameter) -> String;

    /// What is kept for a parameter, before its first step.
    fn start(&self, parameter: &Parameter) -> Start;

    /// The update number `step`, counted from 1 for each parameter by itself. The gradient is
    /// contiguous and has the value's shape and dtype.
    ///
    /// # Errors
    /// The rule's own.
    fn update(
        &self,
        step: u64,
        value: &mut Tensor,
        grad: &Tensor,
        kept: &mut [Tensor],
    ) -> Result<()>;

    /// Whether parameters on a device get [`Rule::compose`].
    fn has_composed(&self) -> bool {
        false
    }

    /// Whether this one does.
    fn composes(&self, _: &Parameter) -> bool {
        self.has_composed()
    }

    /// [`Rule::update`] once more, as operations on tensors, which run where the tensors are. It changes
    /// none of them, and reads no number back.
    ///
    /// # Errors
    /// [`Error::NoKernel`] without this part; what the operations refuse.
    fn compose(&self, _: u64, value: &Tensor, _: &Tensor, _: &[Tensor]) -> Result<Composed> {
        Err(Error::NoKernel { op: self.name(), device: value.device() })
    }

    /// All other updates of a step on a CUDA device, in one launch. Without this part, those parameters
    /// are refused there.
    ///
    /// # Errors
    /// [`Error::NoKernel`] without this part; [`Error::Cuda`].
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &kernels::cuda::Gpu, _: &[kernels::cuda::step::Moving<'_>]) -> Result<()> {
        let device = engine::Device::Cuda(gpu.info().ordinal);
        Err(Error::NoKernel { op: self.name(), device })
    }

    /// The value to evaluate a parameter with, where it is another than the one that is trained.
    ///
    /// # Errors
    /// The rule's own.
    fn average(&self, _step: u64, _value: &Tensor, _kept: &[Tensor]) -> Result<Option<Tensor>> {
        Ok(None)
    }
}

/// The optimizer of a [`Rule`].
#[derive(Debug)]
pub struct PerParameter<R> {
    rule: R,
    moments: Moments,
}

impl<R: Rule> PerParameter<R> {
    /// An optimizer that has not taken a step.
    ///
    /// # Errors
    /// [`Error::Argument`] when a constant is outside its range.
    pub fn new(rule: R) -> Result<Self> {
        let rate = rule.rate();
        let holds = rate.is_finite() && rate >= 0.0;
        demand(rule.name(), "rate", rate, "finite and not negative", holds)?;
        rule.check()?;
        Ok(Self { rule, moments: Moments::new(&[]) })
    }

    /// The constants.
    #[must_use]
    pub const fn config(&self) -> &R {
        &self.rule
    }

    /// What is kept for a parameter under a name, if it has taken a step.
    #[must_use]
    pub fn kept(&self, parameter: &Parameter, name: &str) -> Option<&Tensor> {
        let at = self.rule.start(parameter).iter().position(|(known, _)| *known == name)?;
        self.moments.get(parameter)?.tensors.get(at)
    }

    /// The constants, to be changed.
    pub(crate) const fn rule_mut(&mut self) -> &mut R {
        &mut self.rule
    }

    /// Changes what is kept of a parameter between two steps.
    pub(crate) fn keep(
        &mut self,
        parameter: &Parameter,
        change: impl FnOnce(&R, &mut [Tensor]) -> Result<()>,
    ) -> Result<()> {
        let mut kept = self.moments.kept_or(parameter, || self.rule.start(parameter))?;
        change(&self.rule, &mut kept.tensors)?;
        self.moments.set(parameter.id(), kept);
        Ok(())
    }

    /// A step with gradients that [`check_gradients`] has seen.
    pub(crate) fn step_checked(
        &mut self,
        model: &mut dyn Parameters,
        grads: &Gradients,
    ) -> Result<()> {
        step(&self.rule, &mut self.moments, model, grads)
    }
}

// What follows is compiled once for all rules.

fn step(
    rule: &dyn Rule,
    moments: &mut Moments,
    model: &mut dyn Parameters,
    grads: &Gradients,
) -> Result<()> {
    let paths = if rule.may_fail() { paths(model) } else { HashMap::new() };
    let all = trainable(model, grads)?;
    #[cfg(feature = "cuda")]
    let all = cuda::step(rule, moments, all)?;
    if rule.may_fail() {
        return room::within("step", || step_on_copies(rule, moments, all, &paths));
    }
    for (parameter, grad) in moments.ready_from(all, |parameter| rule.start(parameter))? {
        let kept = moments.next_from(parameter, || rule.start(parameter))?;
        rule.update(kept.steps, parameter.value_mut(), &grad, &mut kept.tensors)?;
    }
    Ok(())
}

/// All updates on copies; if all succeed, they count.
fn step_on_copies(
    rule: &dyn Rule,
    moments: &mut Moments,
    all: Vec<(&mut Parameter, Tensor)>,
    paths: &HashMap<ParamId, String>,
) -> Result<()> {
    let mut tried = Vec::new();
    for (parameter, grad) in &all {
        let mut kept = moments.kept_or(parameter, || rule.start(parameter))?;
        for tensor in &mut kept.tensors {
            *tensor = tensor.to_device(Device::Cpu)?;
        }
        let mut value = parameter.value().clone();
        // A rule works in a copy of what it keeps, and in some of the gradient.
        let bytes: usize = kept.tensors.iter().map(Tensor::bytes).sum();
        room::expect(rule.name(), bytes + 6 * size_of::<f64>() * grad.numel())?;
        kept.steps += 1;
        let done = rule.update(kept.steps, &mut value, grad, &mut kept.tensors);
        let path = paths.get(&parameter.id()).map_or("", String::as_str);
        let done = done.and_then(|()| {
            let written = kept.tensors.iter().chain([&value]);
            all_finite(rule.name(), written)
        });
        done.map_err(|error| error.in_layer(path))?;
        tried.push((value, kept));
    }
    for ((parameter, _), (value, kept)) in all.into_iter().zip(tried) {
        *parameter.value_mut() = value;
        moments.set(parameter.id(), kept);
    }
    Ok(())
}

fn coverage(rule: &dyn Rule, moments: &Moments, model: &dyn Parameters) -> Coverage {
    Coverage::of(
        model,
        |p| rule.words(p),
        |p| match moments.get(p) {
            Some(kept) => kept.tensors.iter().map(Tensor::bytes).sum(),
            None if p.is_trainable() => rule.start(p).iter().map(|(_, first)| first.bytes()).sum(),
            None => 0,
        },
    )
}

fn save(rule: &dyn Rule, moments: &Moments, model: &dyn Parameters) -> State {
    let mut state = State { optimizer: rule.name().to_owned(), ..State::default() };
    state.numbers.insert("rate".to_owned(), rule.rate().to_string());
    moments.save_from(model, &mut state, |p| rule.start(p));
    state
}

/// A saved rate, and what was kept.
fn load(
    rule: &dyn Rule,
    moments: &Moments,
    model: &dyn Parameters,
    state: &State,
) -> Result<(f64, Moments)> {
    let mut saved = Saved::open(rule.name(), state)?;
    let rate = saved.quantity("rate")?;
    let moments = moments.load_from(model, &mut saved, |p| rule.start(p))?;
    saved.close(model)?;
    Ok((rate, moments))
}

impl<R: Rule> Optimizer for PerParameter<R> {
    fn name(&self) -> &'static str {
        self.rule.name()
    }

    fn runs_on(&self, device: Device) -> bool {
        match device {
            #[cfg(feature = "cuda")]
            Device::Cuda(ordinal) => cuda::has_kernel(&self.rule, ordinal),
            device => device == Device::Cpu,
        }
    }

    fn step(&mut self, model: &mut dyn Parameters, grads: &Gradients) -> Result<()> {
        check_gradients(model, grads)?;
        self.step_checked(model, grads)
    }

    fn options(&self) -> String {
        format!("{:?}", self.rule)
    }

    fn rate(&self) -> f64 {
        self.rule.rate()
    }

    fn set_rate(&mut self, rate: f64) {
        self.rule.set_rate(rate);
    }

    fn average(&self, parameter: &Parameter) -> Result<Option<Tensor>> {
        let Some(kept) = self.moments.get(parameter) else { return Ok(None) };
        self.rule.average(kept.steps, parameter.value(), &kept.tensors)
    }

    fn coverage(&self, model: &dyn Parameters) -> Coverage {
        coverage(&self.rule, &self.moments, model)
    }

    fn state(&self, model: &dyn Parameters) -> Result<State> {
        Ok(save(&self.rule, &self.moments, model))
    }

    fn load_state(&mut self, model: &dyn Parameters, state: &State) -> Result<()> {
        let (rate, moments) = load(&self.rule, &self.moments, model, state)?;
        self.rule.set_rate(rate);
        self.moments = moments;
        Ok(())
    }
}

fn paths(model: &dyn Parameters) -> HashMap<ParamId, String> {
    model.parameters().into_iter().map(|(path, parameter)| (parameter.id(), path)).collect()
}

/// Zeros of a parameter's shape and dtype under each name.
#[must_use]
pub fn zeros(parameter: &Parameter, names: &[&'static str]) -> Start {
    let (shape, dtype) = (*parameter.value().shape(), parameter.value().dtype());
    names.iter().map(|name| (*name, First::zeros(shape, dtype))).collect()
}

/// An update of entries by themselves, in one pass over memory: `update(g, [θ, m, …])` is called
/// with each entry of the gradient, the value and the first N − 1 tensors that are kept.
///
/// # Errors
/// [`Error::DType`] when `T` is not the dtype of all of them.
pub fn each_entry<T: FloatElement, const N: usize>(
    value: &mut Tensor,
    grad: &Tensor,
    kept: &mut [Tensor],
    update: impl Fn(T, [&mut T; N]) + Sync,
) -> Result<()> {
    let grad = grad.as_slice::<T>()?;
    let mut slices = std::iter::once(value).chain(kept).map(Tensor::make_mut::<T>);
    let mut arrays: [&mut [T]; N] = std::array::from_fn(|_| Default::default());
    for array in &mut arrays {
        *array = slices.next().transpose()?.unwrap_or_default();
    }
    let piece = |start: usize, arrays: [&mut [T]; N]| {
        let count = arrays[0].len();
        // Of one length, for the compiler to see: no check is left in the loop.
        let mut arrays = arrays.map(|array| &mut array[..count]);
        let grad = &grad[start..start + count];
        vectorized(|| {
            for (i, &g) in grad.iter().enumerate() {
                update(g, arrays.each_mut().map(|array| &mut array[i]));
            }
        });
    };
    // By reference: how work is handed out is compiled once, and only the loop for each rule.
    let piece: &(dyn Fn(usize, [&mut [T]; N]) + Sync) = &piece;
    parallel::pieces_of(arrays, 1, piece);
    Ok(())
}

/// √Σ x², summed in f64 from the first entry to the last, whatever the squares do.
///
/// # Errors
/// [`engine::Error::NoKernel`] for a tensor without numbers.
pub fn norm(x: &Tensor) -> Result<f64> {
    Ok(length(&x.to_f64_vec()?))
}
