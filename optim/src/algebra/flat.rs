//! All trainable parameters of a model as one vector of f64, in the model's order, and back.

use engine::{Error, Gradients, ParamId, Parameter, Parameters, Result, Tensor, Var, room};

use super::finite::all_finite;

/// The trainable parameters.
pub(crate) fn trainable(model: &dyn Parameters) -> impl Iterator<Item = (String, &Parameter)> {
    model.parameters().into_iter().filter(|(_, parameter)| parameter.is_trainable())
}

/// Vectors of all parameters that an optimizer which works on them makes in a step, beside what it keeps.
const WORKSPACE: usize = 8;

/// θ. Here such an optimizer begins its step: what that works in has to fit.
pub(crate) fn values(model: &dyn Parameters) -> Result<Vec<f64>> {
    let size = trainable(model).map(|(_, p)| p.value().numel()).sum();
    room::expect("step", size * WORKSPACE * size_of::<f64>())?;
    let mut all = room::empty("step", size)?;
    for (_, parameter) in trainable(model) {
        all.extend(parameter.value().to_f64_vec()?);
    }
    Ok(all)
}

/// ∇L; zeros for a parameter without a gradient.
pub(crate) fn gradients(model: &dyn Parameters, grads: &Gradients) -> Result<Vec<f64>> {
    let mut all = room::empty("step", trainable(model).map(|(_, p)| p.value().numel()).sum())?;
    for (_, parameter) in trainable(model) {
        match grads.of(parameter) {
            Some(grad) => all.extend(grad.to_f64_vec()?),
            None => all.resize(all.len() + parameter.value().numel(), 0.0),
        }
    }
    Ok(all)
}

/// θ ← x
///
/// # Errors
/// [`Error::Argument`] for a number that is not finite in its parameter's dtype: nothing has changed then.
pub(crate) fn set_values(model: &mut dyn Parameters, x: &[f64]) -> Result<()> {
    let (mut rest, mut values) = (x, Vec::new());
    for (path, parameter) in trainable(model) {
        let (part, tail) = rest.split_at(parameter.value().numel().min(rest.len()));
        let value = like(parameter.value(), part)?;
        all_finite("step", [&value]).map_err(|error| error.in_layer(&path))?;
        values.push(value);
        rest = tail;
    }
    let all = model.parameters_mut().into_iter().filter(|(_, p)| p.is_trainable());
    all.zip(values).for_each(|((_, parameter), value)| *parameter.value_mut() = value);
    Ok(())
}

/// The trainable parameters that have no gradient: a step leaves those where they are.
pub(crate) fn unused(model: &dyn Parameters, grads: &Gradients) -> Vec<ParamId> {
    let without = trainable(model).filter(|(_, p)| grads.of(p).is_none());
    without.map(|(_, p)| p.id()).collect()
}

/// 0 for each of some parameters.
pub(crate) fn hold(model: &dyn Parameters, still: &[ParamId], v: &mut [f64]) {
    let mut rest = v;
    for (_, parameter) in trainable(model) {
        let (part, tail) = rest.split_at_mut(parameter.value().numel().min(rest.len()));
        if still.contains(&parameter.id()) {
            part.fill(0.0);
        }
        rest = tail;
    }
}

/// ⟨v, grads⟩ on the tape: a scalar whose gradient is the product of grads' Jacobian with v. `None`
/// if no parameter has a gradient.
pub(crate) fn inner(
    model: &dyn Parameters,
    grads: &engine::VarGradients,
    v: &[f64],
) -> Result<Option<Var>> {
    let size: usize = trainable(model).map(|(_, p)| p.value().numel()).sum();
    if v.len() != size {
        let got = format!("{} for {size} trainable numbers", v.len());
        let expected = "a number for every trainable one of the model";
        return Err(Error::Argument { op: "curvature product", name: "v", expected, got });
    }
    let (mut rest, mut sum) = (v, None::<Var>);
    for (_, parameter) in trainable(model) {
        let value = parameter.value();
        let (part, tail) = rest.split_at(value.numel());
        rest = tail;
        let Some(grad) = grads.of(parameter) else { continue };
        let term = grad.mul(&Var::constant(&like(value, part)?))?.sum_all()?;
        sum = Some(match sum {
            Some(sum) => sum.add(&term)?,
            None => term,
        });
    }
    Ok(sum)
}

/// Numbers of the shape, the dtype and the device of a tensor.
fn like(tensor: &Tensor, x: &[f64]) -> Result<Tensor> {
    Tensor::from_slice(x, *tensor.shape())?.to_dtype(tensor.dtype())?.to_device(tensor.device())
}

/// Σ x y
pub(crate) fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// x + a y
pub(crate) fn plus(x: &[f64], a: f64, y: &[f64]) -> Vec<f64> {
    x.iter().zip(y).map(|(x, y)| x + a * y).collect()
}
