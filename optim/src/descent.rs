//! The last role of optimizers that see layers: from directions to new values, clipped, with momentum
//! and decay.

use std::collections::BTreeMap;

use engine::{Element as _, Gradients, ParamId, Parameter, Parameters, Result, for_float};

use crate::flat::dot;
use crate::moments::Moments;

/// A vector of f64 for each of some parameters: gradients, directions.
pub(crate) type Vectors = BTreeMap<ParamId, Vec<f64>>;

/// The gradients of all trainable parameters. Call [`check_gradients`](crate::moments::check_gradients)
/// first.
pub(crate) fn in_double_precision(model: &dyn Parameters, grads: &Gradients) -> Result<Vectors> {
    let trainable = model.parameters().into_iter().filter(|(_, param)| param.is_trainable());
    let gradients = trainable.filter_map(|(_, param)| Some((param.id(), grads.of(param)?)));
    gradients.map(|(id, gradient)| Ok((id, gradient.to_f64_vec()?))).collect()
}

/// The gradient itself for every parameter that has no direction.
pub(crate) fn fill_in(directions: &mut Vectors, gradients: &Vectors) {
    for (&param, gradient) in gradients {
        directions.entry(param).or_insert_with(|| gradient.clone());
    }
}

/// ν = min(1, √(c / (α² Σ ⟨P, g⟩))): with F P = g, half of α² Σ ⟨P, g⟩ is the divergence between the
/// model before and after the step, to second order. 1 without a bound c.
pub(crate) fn kl_clip(
    bound: Option<f64>,
    rate: f64,
    directions: &Vectors,
    gradients: &Vectors,
) -> f64 {
    let Some(bound) = bound else { return 1.0 };
    let inner: f64 = directions.values().zip(gradients.values()).map(|(p, g)| dot(p, g)).sum();
    let change = rate * rate * inner;
    if change > bound { (bound / change).sqrt() } else { 1.0 }
}

/// Δ ← μ Δ − size · P and θ ← (1 − decay) θ + Δ.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Descent {
    pub(crate) momentum: f64,
    pub(crate) decay: f64,
    pub(crate) size: f64,
}

impl Descent {
    /// For every parameter with a direction; `updates` keeps Δ.
    pub(crate) fn step(
        self,
        model: &mut dyn Parameters,
        directions: &Vectors,
        updates: &mut Moments,
    ) -> Result<()> {
        for (_, param) in model.parameters_mut() {
            if let Some(direction) = directions.get(&param.id()) {
                self.update(param, direction, updates)?;
            }
        }
        Ok(())
    }

    fn update(self, param: &mut Parameter, direction: &[f64], updates: &mut Moments) -> Result<()> {
        let Self { momentum, decay, size } = self;
        let [update] = updates.next(param).tensors.as_mut_slice() else { return Ok(()) };
        for_float!(param.value().dtype(), T => {
            let delta = update.make_mut::<T>()?;
            let theta = param.value_mut().make_mut::<T>()?;
            for ((theta, delta), p) in theta.iter_mut().zip(delta).zip(direction) {
                *delta = T::from_f64(momentum * delta.to_f64() - size * p);
                *theta = T::from_f64((1.0 - decay) * theta.to_f64() + delta.to_f64());
            }
        });
        Ok(())
    }
}
