//! What an optimizer keeps for each parameter: a count of its steps, and tensors of its shape.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use engine::{
    DType, Device, Error, Gradients, ParamId, Parameter, Parameters, Result, Tensor, Unused,
    for_float,
};
use kernels::Float;
use kernels::length::largest;
use kernels::reduce::dot;

use super::per_parameter::{Start, zeros};
use super::saved::{Saved, refused};
use crate::State;
use crate::frame::first::First;

/// Tensors of each parameter's shape and dtype under fixed names (`m`, `v`), and a count of steps.
/// Keyed by identity; saved by path, like `layers.1.weight/m`.
#[derive(Debug, Clone)]
pub(crate) struct Moments {
    names: Vec<&'static str>,
    of: HashMap<ParamId, Kept>,
}

/// What is kept for one parameter.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    /// The steps this parameter has taken: what its bias corrections count.
    pub(crate) steps: u64,
    /// In the order of the names.
    pub(crate) tensors: Vec<Tensor>,
}

impl Moments {
    /// None yet; they are made when a parameter takes its first step.
    pub(crate) fn new(names: &[&'static str]) -> Self {
        Self { names: names.to_vec(), of: HashMap::new() }
    }

    /// A parameter's, if it has taken a step.
    pub(crate) fn get(&self, parameter: &Parameter) -> Option<&Kept> {
        self.of.get(&parameter.id())
    }

    /// A parameter's, to be changed within a step.
    pub(crate) fn get_mut(&mut self, parameter: &Parameter) -> Option<&mut Kept> {
        self.of.get_mut(&parameter.id())
    }

    /// All the memory that a step writes to, before it writes anything: what is kept of each parameter, and the
    /// value, which nobody else holds from then on.
    pub(crate) fn ready_from<'a>(
        &mut self,
        mut all: Vec<(&'a mut Parameter, Tensor)>,
        start: impl Fn(&Parameter) -> Start,
    ) -> Result<Vec<(&'a mut Parameter, Tensor)>> {
        for (parameter, _) in &mut all {
            let kept = self.entry(parameter, || start(parameter))?;
            for tensor in kept.tensors.iter_mut().filter(|tensor| tensor.device() == Device::Cpu) {
                tensor.unshare()?;
            }
            parameter.value_mut().unshare()?;
        }
        Ok(all)
    }

    /// [`Moments::ready_from`] of zeros.
    pub(crate) fn ready<'a>(
        &mut self,
        all: Vec<(&'a mut Parameter, Tensor)>,
    ) -> Result<Vec<(&'a mut Parameter, Tensor)>> {
        let names = self.names.clone();
        self.ready_from(all, |parameter| zeros(parameter, &names))
    }

    /// A parameter's, with its next step counted, in main memory.
    pub(crate) fn next(&mut self, parameter: &Parameter) -> Result<&mut Kept> {
        let names = self.names.clone();
        self.next_from(parameter, || zeros(parameter, &names))
    }

    /// The same, where `start` says what there is before the first step.
    pub(crate) fn next_from(
        &mut self,
        parameter: &Parameter,
        start: impl FnOnce() -> Start,
    ) -> Result<&mut Kept> {
        let kept = self.entry(parameter, start)?;
        for tensor in kept.tensors.iter_mut().filter(|tensor| tensor.device() != Device::Cpu) {
            *tensor = tensor.to_device(Device::Cpu)?;
        }
        kept.steps += 1;
        Ok(kept)
    }

    /// The same, with no step counted.
    pub(crate) fn entry(
        &mut self,
        parameter: &Parameter,
        start: impl FnOnce() -> Start,
    ) -> Result<&mut Kept> {
        Ok(match self.of.entry(parameter.id()) {
            Entry::Occupied(kept) => kept.into_mut(),
            Entry::Vacant(none) => none.insert(Kept::begin(&start())?),
        })
    }

    /// All of them, to be changed together.
    #[cfg(feature = "cuda")]
    pub(crate) fn all_mut(&mut self) -> HashMap<ParamId, &mut Kept> {
        self.of.iter_mut().map(|(id, kept)| (*id, kept)).collect()
    }

    /// A copy of a parameter's, or what it starts from.
    pub(crate) fn kept_or(
        &self,
        parameter: &Parameter,
        start: impl FnOnce() -> Start,
    ) -> Result<Kept> {
        self.get(parameter).cloned().map_or_else(|| Kept::begin(&start()), Ok)
    }

    /// Replaces a parameter's.
    pub(crate) fn set(&mut self, id: ParamId, kept: Kept) {
        self.of.insert(id, kept);
    }

    /// Bytes kept for a parameter, now or (if it is trained) after its first step.
    pub(crate) fn bytes(&self, parameter: &Parameter) -> usize {
        if !parameter.is_trainable() && self.get(parameter).is_none() {
            return 0;
        }
        self.names.len() * parameter.value().bytes()
    }

    /// Writes everything down.
    pub(crate) fn save(&self, model: &dyn Parameters, state: &mut State) {
        self.save_from(model, state, |parameter| zeros(parameter, &self.names));
    }

    /// The same, with the names that `start` gives.
    pub(crate) fn save_from(
        &self,
        model: &dyn Parameters,
        state: &mut State,
        start: impl Fn(&Parameter) -> Start,
    ) {
        for (path, parameter) in model.parameters() {
            // One that has not taken a step is said to have taken none, unless nobody has taken one.
            let steps = self.get(parameter).map_or(0, |kept| kept.steps);
            if self.of.is_empty() {
                continue;
            }
            state.numbers.insert(format!("{path}/steps"), steps.to_string());
            let Some(kept) = self.get(parameter) else { continue };
            for ((name, _), tensor) in start(parameter).iter().zip(&kept.tensors) {
                state.tensors.insert(format!("{path}/{name}"), tensor.clone());
            }
        }
    }

    /// Reads what [`Moments::save`] wrote.
    pub(crate) fn load(&self, model: &dyn Parameters, saved: &mut Saved) -> Result<Self> {
        self.load_from(model, saved, |parameter| zeros(parameter, &self.names))
    }

    /// Reads what [`Moments::save_from`] wrote.
    pub(crate) fn load_from(
        &self,
        model: &dyn Parameters,
        saved: &mut Saved,
        start: impl Fn(&Parameter) -> Start,
    ) -> Result<Self> {
        let mut of = HashMap::new();
        let mut without = None;
        for (path, parameter) in model.parameters() {
            let Some(steps) = saved.count_if_any(&format!("{path}/steps"))? else {
                if parameter.is_trainable() {
                    without = without.or(Some(path));
                }
                continue;
            };
            // Nothing is kept of a parameter that has not taken a step.
            let names = start(parameter).into_iter().map(|(name, _)| format!("{path}/{name}"));
            if steps == 0 && !names.clone().all(|key| saved.has_tensor(&key)) {
                continue;
            }
            let named = |(name, like): (&str, First)| {
                saved.tensor(&format!("{path}/{name}"), like.shape(), like.dtype())
            };
            let tensors = start(parameter).into_iter().map(named).collect::<Result<_>>()?;
            of.insert(parameter.id(), Kept { steps, tensors });
        }
        match without {
            // A state from before the first step has no parameter at all.
            Some(path) if !of.is_empty() => {
                Err(refused("an entry for every trainable parameter", format!("none of `{path}`")))
            }
            _ => Ok(Self { names: self.names.clone(), of }),
        }
    }
}

impl Kept {
    fn begin(start: &Start) -> Result<Self> {
        let tensors = start.iter().map(|(_, first)| first.tensor()).collect::<Result<_>>()?;
        Ok(Self { steps: 0, tensors })
    }
}

/// The largest sum of squares that a step takes, in f64. Rules that work on matrices square the squares, and
/// multiply them by preconditioners.
const MOST_SQUARES: f64 = 1e100;

/// What a rule may add to a gradient before it squares the sum: AdaBelief subtracts a mean of others.
const ROOM: f64 = 16.0;

/// What every optimizer asks before it changes anything: that each gradient is of a parameter of the model
/// ([`Gradients::check_owned`]), that each trainable parameter has one (or may be skipped), of its shape and dtype, of finite numbers whose squares, all of them added, are finite in that dtype. One bad
/// number would spread over a layer (K-FAC), over all parameters (clips and norms), or stay in a moment for good;
/// and most rules keep squares: an entry with an infinite one never moves again.
///
/// The sum of squares is one read of each gradient, in its own dtype: a sum below the bound has no NaN, no infinity
/// and no square that has overflowed in it. What fails is then looked at number by number. What is on a CUDA
/// device stays there unread, since a step would have to wait for it: there a verdict that the host does not see
/// keeps the step from being taken (`cuda.rs`).
///
/// # Errors
/// [`Error::MissingGradient`], [`Error::Shape`], [`Error::DType`], [`Error::Argument`] for a number that is
/// not finite, or for squares that are not: with the parameter's path.
pub(crate) fn check_gradients(model: &dyn Parameters, grads: &Gradients) -> Result<()> {
    check(model, grads, |grad| Ok(grad.device() != Device::Cpu || squares_fit(grad)?))
}

/// The same for who reads the gradients anyway, wherever they are: waits for those on a device.
///
/// # Errors
/// As [`check_gradients`].
pub(crate) fn check_gradients_read(model: &dyn Parameters, grads: &Gradients) -> Result<()> {
    check(model, grads, |grad| squares_fit(&grad.to_device(Device::Cpu)?))
}

fn check(
    model: &dyn Parameters,
    grads: &Gradients,
    fits: impl Fn(&Tensor) -> Result<bool>,
) -> Result<()> {
    grads.check_owned(model)?;
    let mut suspects = Vec::new();
    for (path, parameter) in model.parameters() {
        if !parameter.is_trainable() {
            continue;
        }
        let value = parameter.value();
        let Some(grad) = grads.of(parameter) else {
            match grads.unused() {
                Unused::Skip => continue,
                Unused::Refuse => return Err(Error::MissingGradient { param: path }),
            }
        };
        if grad.shape() != value.shape() {
            let expected = format!("a gradient of shape {}", value.shape());
            return Err(Error::shape("step", expected, &[grad.shape()]).in_layer(&path));
        }
        let dtype = value.dtype();
        // An update would be lost in the rounding of 16 bits.
        if !matches!(dtype, DType::F32 | DType::F64) || grad.dtype() != dtype {
            let expected = if dtype.is_half() { "f32 or f64".into() } else { dtype.to_string() };
            return Err(Error::DType { op: "step", expected, got: grad.dtype() }.in_layer(&path));
        }
        if !fits(grad)? {
            suspects.push((path, grad));
        }
    }
    match suspects.into_iter().next() {
        Some((path, grad)) => Err(refusal(grad)?.in_layer(&path)),
        None => Ok(()),
    }
}

/// The largest sum of squares that a step takes, of gradients or estimates in this dtype.
pub(crate) fn most_squares(dtype: DType) -> f64 {
    if dtype == DType::F64 { MOST_SQUARES } else { f64::from(f32::MAX) / ROOM }
}

/// Whether a step takes gradients or estimates whose squares have this sum.
pub(crate) fn fits(sum: f64, dtype: DType) -> bool {
    sum <= most_squares(dtype) // No number is less than NaN.
}

/// Why a parameter's gradient is refused.
pub(crate) fn refused_gradient(
    model: &dyn Parameters,
    grads: &Gradients,
    of: ParamId,
) -> Result<Error> {
    let found = model.parameters().into_iter().find(|(_, parameter)| parameter.id() == of);
    match found.and_then(|(path, parameter)| Some((path, grads.of(parameter)?))) {
        Some((path, grad)) => Ok(refusal(grad)?.in_layer(&path)),
        None => Ok(Error::MissingGradient { param: format!("{of:?}") }),
    }
}

fn squares_fit(x: &Tensor) -> Result<bool> {
    let x = x.contiguous()?;
    let sum = for_float!(x.dtype(), T => {
        let x = x.as_slice::<T>()?;
        Float::to_f64(dot(x, x))
    });
    Ok(fits(sum, x.dtype()))
}

/// Why a gradient is refused: its first number that is not finite, or its largest.
fn refusal(grad: &Tensor) -> Result<Error> {
    let numbers = grad.to_f64_vec()?;
    let (op, name) = ("step", "gradient");
    if let Some(got) = numbers.iter().find(|x| !x.is_finite()) {
        return Ok(Error::Argument { op, name, expected: "finite numbers", got: got.to_string() });
    }
    let expected =
        "numbers whose squares can be added: clip it (`Gradients::clip_norm`) or scale the loss";
    let got = format!("a number of size {:e} in {}", largest(&numbers), grad.dtype());
    Ok(Error::Argument { op, name, expected, got })
}

/// The trainable parameters that have gradients, with these, made contiguous. Call [`check_gradients`] first.
pub(crate) fn trainable<'a>(
    model: &'a mut dyn Parameters,
    grads: &Gradients,
) -> Result<Vec<(&'a mut Parameter, Tensor)>> {
    let all = model.parameters_mut().into_iter().filter(|(_, p)| p.is_trainable());
    let with_gradient = |(_, parameter): (String, &'a mut Parameter)| {
        let grad = grads.of(parameter)?.contiguous();
        Some(grad.map(|grad| (parameter, grad)))
    };
    all.filter_map(with_gradient).collect()
}
