//! Steps of parameters that are on a CUDA device: one launch for all of a device and dtype, or operations
//! on tensors for each ([`Rule::compose`]). Nothing is read back: whether gradients are finite, and their squares can
//! be added, is a number there ([`Verdict`]), and where it says no, nothing changes but the count of steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{DType, Error, Parameter, Result, Tensor};
use kernels::cuda::step::Moving;
use kernels::cuda::verdict::{self, Verdict};
use kernels::cuda::{Gpu, SliceMut, strided};

use super::moments::{Moments, most_squares};
use super::per_parameter::{Rule, Start};
use crate::algebra::on_tensors::Composed;

/// Trainable parameters with their gradients.
pub(crate) type Gradient<'a> = (&'a mut Parameter, Tensor);

/// Those on one device, of one dtype, and whether the step is taken.
pub(crate) type Group<'a> = (Arc<Gpu>, Verdict, Vec<Gradient<'a>>);

/// The parameters on CUDA devices in groups, and those that are not.
///
/// # Errors
/// [`Error::NoKernel`] for a dtype without kernels, [`Error::Device`] for a gradient elsewhere.
pub(crate) fn groups<'a>(
    optimizer: &'static str,
    all: Vec<Gradient<'a>>,
) -> Result<(Vec<Group<'a>>, Vec<Gradient<'a>>)> {
    let mut here = Vec::new();
    let mut there: BTreeMap<_, (Arc<Gpu>, Vec<Gradient<'a>>)> = BTreeMap::new();
    for (parameter, grad) in all {
        let Some(gpu) = parameter.value().gpu().map(Arc::clone) else {
            here.push((parameter, grad));
            continue;
        };
        let (dtype, device) = (parameter.value().dtype(), parameter.value().device());
        if !matches!(dtype, DType::F32 | DType::F64) {
            return Err(Error::NoKernel { op: optimizer, device });
        }
        if grad.device() != device {
            return Err(Error::Device { op: optimizer, left: device, right: grad.device() });
        }
        let key = (gpu.info().ordinal, dtype.bytes());
        there.entry(key).or_insert_with(|| (gpu, Vec::new())).1.push((parameter, grad));
    }
    let judged = |(gpu, parameters): (Arc<Gpu>, Vec<Gradient<'a>>)| {
        let verdict = judge(&gpu, parameters.iter().map(|(_, grad)| grad))?;
        Ok((gpu, verdict, parameters))
    };
    Ok((there.into_values().map(judged).collect::<Result<_>>()?, here))
}

/// Whether a step with these gradients is taken: they are on one device, of one dtype.
pub(crate) fn judge<'a>(
    gpu: &Gpu,
    gradients: impl IntoIterator<Item = &'a Tensor>,
) -> Result<Verdict> {
    let gradients: Vec<&Tensor> = gradients.into_iter().collect();
    let most = gradients.first().map_or(0.0, |grad| most_squares(grad.dtype()));
    let slices = gradients.iter().map(|grad| {
        grad.cuda_slice().ok_or_else(|| Error::NoKernel { op: "step", device: grad.device() })
    });
    Ok(Verdict::of(gpu, &slices.collect::<Result<Vec<_>>>()?, most)?)
}

/// Makes what a step has made of a tensor that tensor again, where the step is not taken.
pub(crate) fn settle(
    gpu: &Gpu,
    verdict: &Verdict,
    rule: &'static str,
    old: &Tensor,
    new: &mut Tensor,
) -> Result<()> {
    let elsewhere = Error::NoKernel { op: rule, device: new.device() };
    let (old, made) = (old.contiguous()?, new.contiguous()?);
    let (from, is) = old.cuda_slice().zip(made.cuda_slice()).ok_or(elsewhere)?;
    if from.pointer() != is.pointer() {
        *new = made;
        verdict::settle(gpu, verdict, rule, from, &new.make_cuda_mut()?)?;
    }
    Ok(())
}

/// Moves the parameters that are on a CUDA device by a rule's kernel or its operations; returns the others.
///
/// # Errors
/// As [`groups`]; [`Error::NoKernel`] for a rule without either: before anything has changed.
pub(crate) fn step<'a>(
    rule: &dyn Rule,
    moments: &mut Moments,
    all: Vec<Gradient<'a>>,
) -> Result<Vec<Gradient<'a>>> {
    let (groups, here) = groups(rule.name(), all)?;
    for (gpu, verdict, parameters) in groups {
        let (mut composed, mut fused): (Vec<_>, Vec<_>) =
            parameters.into_iter().partition(|(parameter, _)| rule.composes(parameter));
        if !fused.is_empty() {
            rule.cuda(&gpu, &[])?; // Moves nothing, and fails where there is no kernel.
        }
        // Everything is made before anything counts: memory may run out on the way.
        let made = compose((&gpu, &verdict), rule, moments, &mut composed)?;
        if !fused.is_empty() {
            let start = |p: &Parameter| rule.start(p);
            launch(&verdict, moments, start, &mut fused, |moving| rule.cuda(&gpu, moving))?;
        }
        for ((parameter, _), (value, kept)) in composed.iter_mut().zip(made) {
            overwrite(parameter, &value)?;
            moments.entry(parameter, Start::new)?.tensors = kept;
        }
        count(moments, &composed);
    }
    Ok(here)
}

/// What [`Rule::compose`] makes of each parameter, which gets memory of its own if it shares it.
fn compose(
    (gpu, verdict): (&Gpu, &Verdict),
    rule: &dyn Rule,
    moments: &mut Moments,
    parameters: &mut [Gradient<'_>],
) -> Result<Vec<Composed>> {
    place(moments, |p| rule.start(p), parameters)?;
    let made = |(parameter, grad): &mut Gradient<'_>| {
        let kept = moments.entry(parameter, || rule.start(parameter))?;
        let old = [parameter.value()].into_iter().chain(&kept.tensors);
        let (mut value, mut new) =
            rule.compose(kept.steps + 1, parameter.value(), grad, &kept.tensors)?;
        for (old, new) in old.zip([&mut value].into_iter().chain(&mut new)) {
            settle(gpu, verdict, rule.name(), old, new)?;
        }
        parameter.value_mut().make_cuda_mut()?;
        Ok((value.contiguous()?, new))
    };
    parameters.iter_mut().map(made).collect()
}

/// A new value in the old one's memory: a captured pass reads it there.
pub(crate) fn overwrite(parameter: &mut Parameter, value: &Tensor) -> Result<()> {
    let elsewhere = Error::NoKernel { op: "step", device: value.device() };
    let (gpu, from) = value.gpu().zip(value.cuda_slice()).ok_or(elsewhere)?;
    let to = parameter.value_mut().make_cuda_mut()?;
    Ok(strided::copy(gpu, &[value.numel()], &[1], from, &to)?)
}

/// Whether a rule has operations or a kernel.
pub(crate) fn has_kernel(rule: &dyn Rule, ordinal: usize) -> bool {
    // Moving nothing fails where there is none.
    let launches = |gpu: Arc<Gpu>| rule.has_composed() || rule.cuda(&gpu, &[]).is_ok();
    Gpu::open(ordinal).is_ok_and(launches)
}

/// A parameter's own arrays, borrowed for the length of a launch.
pub(crate) struct Arrays<'a> {
    pub(crate) theta: SliceMut<'a>,
    pub(crate) state: Vec<SliceMut<'a>>,
    pub(crate) grad: &'a Tensor,
    pub(crate) step: u64,
}

impl<'a> Arrays<'a> {
    /// A parameter, its gradient and what is kept of it, all on its device, for step number `step`.
    pub(crate) fn new(
        parameter: &'a mut Parameter,
        grad: &'a Tensor,
        kept: impl IntoIterator<Item = &'a mut Tensor>,
        step: u64,
    ) -> Result<Self> {
        let state = kept.into_iter().map(Tensor::make_cuda_mut).collect::<Result<_>>()?;
        Ok(Self { theta: parameter.value_mut().make_cuda_mut()?, state, grad, step })
    }
}

/// Brings what is kept of each parameter to its device, launches, and counts the step: when memory runs
/// out on the way, nothing has moved and nothing is counted.
pub(crate) fn launch(
    verdict: &Verdict,
    moments: &mut Moments,
    start: impl Fn(&Parameter) -> Start,
    parameters: &mut [Gradient<'_>],
    run: impl FnOnce(&[Moving<'_>]) -> Result<()>,
) -> Result<()> {
    place(moments, start, parameters)?;
    let mut kept = moments.all_mut();
    let arrays = parameters.iter_mut().filter_map(|(parameter, grad)| {
        let kept = kept.remove(&parameter.id())?;
        Some(Arrays::new(parameter, grad, &mut kept.tensors, kept.steps + 1))
    });
    move_all(verdict, &arrays.collect::<Result<Vec<_>>>()?, run)?;
    count(moments, parameters);
    Ok(())
}

/// What is kept starts, and is loaded, in main memory: brings it to the parameters' device.
pub(crate) fn place(
    moments: &mut Moments,
    start: impl Fn(&Parameter) -> Start,
    parameters: &[Gradient<'_>],
) -> Result<()> {
    for (parameter, _) in parameters {
        let kept = moments.entry(parameter, || start(parameter))?;
        for tensor in &mut kept.tensors {
            *tensor = tensor.to_device(parameter.value().device())?;
        }
    }
    Ok(())
}

/// The step of each parameter is taken.
pub(crate) fn count(moments: &mut Moments, parameters: &[Gradient<'_>]) {
    for (parameter, _) in parameters {
        if let Some(kept) = moments.get_mut(parameter) {
            kept.steps += 1;
        }
    }
}

/// Calls a launch with all arrays.
pub(crate) fn move_all(
    verdict: &Verdict,
    arrays: &[Arrays<'_>],
    run: impl FnOnce(&[Moving<'_>]) -> Result<()>,
) -> Result<()> {
    let moving = arrays.iter().map(|of| {
        let elsewhere = || Error::NoKernel { op: "step", device: of.grad.device() };
        let grad = of.grad.cuda_slice().ok_or_else(elsewhere)?;
        let (state, verdict) = (of.state.iter().collect(), Some(verdict));
        Ok(Moving { theta: &of.theta, grad, state, step: of.step, verdict })
    });
    run(&moving.collect::<Result<Vec<_>>>()?)
}
