//! The last role of optimizers that see layers: from directions to new values, clipped, with momentum
//! and decay.

#[cfg(feature = "cuda")]
mod there;

use std::collections::BTreeMap;

use engine::{
    Element as _, Error, Gradients, ParamId, Parameter, Parameters, Result, Tensor, for_float,
};
use kernels::parallel;
use kernels::reduce::sum_of;

use super::moments::Moments;

/// A tensor for each of some parameters: gradients, directions.
pub(crate) type Directions = BTreeMap<ParamId, Tensor>;

/// The gradients of all trainable parameters, contiguous. Call
/// [`check_gradients`](crate::frame::moments::check_gradients) first.
pub(crate) fn contiguous(model: &dyn Parameters, grads: &Gradients) -> Result<Directions> {
    let trainable = model.parameters().into_iter().filter(|(_, p)| p.is_trainable());
    let gradient = |(_, param): (String, &Parameter)| {
        Some(grads.of(param)?.contiguous().map(|gradient| (param.id(), gradient)))
    };
    trainable.filter_map(gradient).collect()
}

/// The gradient itself for every parameter that has no direction.
pub(crate) fn fill_in(directions: &mut Directions, gradients: &Directions) {
    for (&param, gradient) in gradients {
        directions.entry(param).or_insert_with(|| gradient.clone());
    }
}

/// ν = min(1, √(c / (α² Σ ⟨P, g⟩))): with F P = g, half of α² Σ ⟨P, g⟩ is the divergence between the
/// model before and after the step, to second order. 1 without a bound c. What is not finite is refused, before
/// anything is written.
fn kl_clip(
    bound: Option<f64>,
    rate: f64,
    directions: &Directions,
    gradients: &Directions,
) -> Result<f64> {
    let mut inner = 0.0;
    for (p, g) in directions.values().zip(gradients.values()) {
        inner += product(p, g)?;
    }
    // No product with a NaN or an infinity is finite, nor is a sum that has one.
    if !inner.is_finite() {
        let (name, expected, got) = ("direction", "finite numbers; raise λ", inner.to_string());
        return Err(Error::Argument { op: "step", name, expected, got });
    }
    let Some(bound) = bound else { return Ok(1.0) };
    let change = rate * rate * inner;
    Ok(if change > bound { (bound / change).sqrt() } else { 1.0 })
}

/// ⟨p, g⟩ in f64, whatever they are.
fn product(p: &Tensor, g: &Tensor) -> Result<f64> {
    let p = p.contiguous()?;
    for_float!(p.dtype(), P => for_float!(g.dtype(), G => {
        Ok(sum_of(p.as_slice::<P>()?, g.as_slice::<G>()?, |p, g| p * g))
    }))
}

/// Δ ← μ Δ − α ν P and θ ← (1 − decay) θ + Δ, with ν of [`kl_clip`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Descent {
    pub(crate) momentum: f64,
    pub(crate) decay: f64,
    /// α
    pub(crate) rate: f64,
    /// c
    pub(crate) bound: Option<f64>,
}

impl Descent {
    /// For every parameter with a direction; `updates` keeps Δ.
    pub(crate) fn step(
        self,
        model: &mut dyn Parameters,
        directions: &Directions,
        gradients: &Directions,
        updates: &mut Moments,
    ) -> Result<()> {
        #[cfg(feature = "cuda")]
        if directions.values().any(|direction| direction.gpu().is_some()) {
            return there::step(&self, model, directions, gradients, updates);
        }
        let size = self.rate * kl_clip(self.bound, self.rate, directions, gradients)?;
        let mut all = Vec::new();
        for (_, param) in model.parameters_mut() {
            if let Some(direction) = directions.get(&param.id()) {
                all.push((param, direction.contiguous()?));
            }
        }
        for (param, direction) in updates.ready(all)? {
            self.update(size, param, &direction, updates)?;
        }
        Ok(())
    }

    fn update(
        self,
        size: f64,
        param: &mut Parameter,
        direction: &Tensor,
        updates: &mut Moments,
    ) -> Result<()> {
        let Self { momentum, decay, .. } = self;
        let [update] = updates.next(param)?.tensors.as_mut_slice() else { return Ok(()) };
        for_float!(param.value().dtype(), T => for_float!(direction.dtype(), P => {
            let direction = direction.as_slice::<P>()?;
            let delta = update.make_mut::<T>()?;
            let theta = param.value_mut().make_mut::<T>()?;
            parallel::pieces_of([theta, delta], 1, #[inline(always)] |start, [theta, delta]| {
                // Copies: a loop that writes cannot change them.
                let (momentum, kept, size) = (momentum, 1.0 - decay, size);
                for ((theta, delta), p) in theta.iter_mut().zip(delta).zip(&direction[start..]) {
                    *delta = T::from_f64(momentum * delta.to_f64() - size * p.to_f64());
                    *theta = T::from_f64(kept * theta.to_f64() + delta.to_f64());
                }
            });
        }));
        Ok(())
    }
}
