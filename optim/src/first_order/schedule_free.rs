//! Schedule-free AdamW and SGD: in place of a schedule, an average that is as good as one.
//!
//! Defazio, Yang, Mehta, Mishchenko, Khaled & Cutkosky 2024, "The Road Less Scheduled", Algorithm 1.
//!
//! ```text
//! y = (1 − β₁) z + β₁ x                          gradients are taken here: the model holds y
//! v ← β₂ v + (1 − β₂) g²
//! α ← α min(1, t/warm-up)
//! z ← z − α (g / (√v̂ + ε) + κ y)
//! x ← (1 − c) x + c z,   c = α² / Σ α²            evaluate here: `Optimizer::average`
//! ```
//! SGD has g in place of g / (√v̂ + ε), and keeps no v. No deviation. x is not stored: it is (y − (1 − β₁) z)/β₁, so β₁ must not be 0.

use engine::{DType, Parameter, Result, Tensor, for_float};
use kernels::Float as _;

use crate::algebra::dense::correction;
use crate::algebra::on_tensors::Composed;
use crate::algebra::on_tensors::{mix, spread};
use crate::check::{below_one, demand, not_negative, positive};
use crate::frame::first::First;
use crate::frame::per_parameter::{PerParameter, Rule, Start, each_entry, zeros};

/// Options of [`ScheduleFree`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScheduleFreeConfig {
    /// α
    pub rate: f64,
    /// β₁ in (0, 1): where between z and x gradients are taken.
    pub beta1: f64,
    /// β₂ in [0, 1)
    pub beta2: f64,
    /// ε, in units of the gradient.
    pub epsilon: f64,
    /// κ, applied at y.
    pub weight_decay: f64,
    /// Steps until the rate is α; 0 for none.
    pub warm_up: u64,
    /// Whether gradients are divided by the root of their second moment: AdamW, else SGD.
    pub adaptive: bool,
}

impl Default for ScheduleFreeConfig {
    /// α 0.0025, β 0.9 and 0.999, ε 10⁻⁸, no decay, no warm-up.
    fn default() -> Self {
        Self {
            rate: 2.5e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            warm_up: 0,
            adaptive: true,
        }
    }
}

impl ScheduleFreeConfig {
    /// Schedule-free SGD with the authors' program's α 1; β₁ 0.9, no decay, no warm-up.
    #[must_use]
    pub fn sgd() -> Self {
        Self { rate: 1.0, adaptive: false, ..Self::default() }
    }

    /// α at step t.
    fn rate_at(&self, t: u64) -> f64 {
        self.rate * (t as f64 / self.warm_up.max(1) as f64).min(1.0)
    }
}

/// Schedule-free AdamW, or SGD.
///
/// # Example
/// ```
/// use engine::{Gradients, Parameter, Tensor};
/// use alcyon_optim::{Optimizer, ScheduleFree, ScheduleFreeConfig};
/// let mut weight = Parameter::new(Tensor::from_slice(&[1.0], [1])?);
/// let mut grads = Gradients::default();
/// grads.set(&weight, Tensor::from_slice(&[4.0], [1])?);
/// let config = ScheduleFreeConfig { rate: 0.5, epsilon: 1e-300, ..ScheduleFreeConfig::default() };
/// let mut optimizer = ScheduleFree::new(config)?;
/// optimizer.step(&mut weight, &grads)?;
/// // After one step the average has seen one z, and all three points are the same.
/// assert!((weight.value().item()? - 0.5).abs() < 1e-12);
/// assert!((optimizer.average(&weight)?.unwrap().item()? - 0.5).abs() < 1e-12);
/// # Ok::<(), engine::Error>(())
/// ```
pub type ScheduleFree = PerParameter<ScheduleFreeConfig>;

impl Rule for ScheduleFreeConfig {
    fn has_composed(&self) -> bool {
        true
    }

    fn name(&self) -> &'static str {
        if self.adaptive { "schedule-free" } else { "schedule-free-sgd" }
    }

    fn check(&self) -> Result<()> {
        let inside = self.beta1 > 0.0 && self.beta1 < 1.0;
        demand("schedule-free", "beta1", self.beta1, "in (0, 1)", inside)?;
        below_one("schedule-free", "beta2", self.beta2)?;
        positive("schedule-free", "epsilon", self.epsilon)?;
        not_negative("schedule-free", "weight_decay", self.weight_decay)
    }

    fn rate(&self) -> f64 {
        self.rate
    }

    fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    fn words(&self, _: &Parameter) -> String {
        let rule = if self.adaptive { "root of second moment" } else { "gradient" };
        format!("{rule}, averaged over all steps")
    }

    /// z, which starts where the parameter is; v, for AdamW; and Σ α².
    fn start(&self, parameter: &Parameter) -> Start {
        let mut start = vec![("z", First::of(parameter.value()))];
        start.extend(zeros(parameter, if self.adaptive { &["v"] } else { &[] }));
        start.push(("squared_rates", First::zeros((), DType::F64)));
        start
    }

    fn update(&self, t: u64, value: &mut Tensor, grad: &Tensor, kept: &mut [Tensor]) -> Result<()> {
        let rate = self.rate_at(t);
        let [moments @ .., squared_rates] = kept else { return Ok(()) };
        let sum = squared_rates.item()? + rate * rate;
        *squared_rates = Tensor::scalar(sum, DType::F64);
        let c = if sum > 0.0 { rate * rate / sum } else { 0.0 };
        let root = correction(self.beta2, t).sqrt();
        for_float!(grad.dtype(), T => {
            let [beta2, fresh2] = [self.beta2, 1.0 - self.beta2].map(T::of);
            let [epsilon, root, kappa] = [self.epsilon, root, self.weight_decay].map(T::of);
            let [rate, old, new] = [rate, 1.0 - c, c].map(T::of);
            // y ← (1 − c) y + c z − α (1 − β₁ (1 − c)) d is what x and z become, seen from y.
            let along = rate * T::of(1.0 - self.beta1 * (1.0 - c));
            let advance = |d: T, y: &mut T, z: &mut T| {
                let d = d + kappa * *y;
                *y = old * *y + new * *z - along * d;
                *z -= rate * d;
            };
            if self.adaptive {
                each_entry(value, grad, moments, |g: T, [y, z, v]| {
                    *v = beta2 * *v + fresh2 * g * g;
                    advance(g / (v.sqrt() / root + epsilon), y, z);
                })
            } else {
                each_entry(value, grad, moments, |g: T, [y, z]| advance(g, y, z))
            }
        })
    }

    /// Σ α² stays where the moments are.
    fn compose(&self, t: u64, y: &Tensor, grad: &Tensor, kept: &[Tensor]) -> Result<Composed> {
        let [z, v @ .., squared_rates] = kept else { return Ok((y.clone(), kept.to_vec())) };
        let rate = self.rate_at(t);
        let squared_rates = squared_rates.shift(rate * rate)?;
        let c = match rate > 0.0 {
            true => squared_rates.recip()?.scale(rate * rate)?.to_dtype(y.dtype())?,
            false => squared_rates.scale(0.0)?.to_dtype(y.dtype())?,
        };
        let fresh = |v: &Tensor| mix(self.beta2, v, 1.0 - self.beta2, &grad.square()?);
        let v = v.iter().map(fresh).collect::<Result<Vec<_>>>()?;
        let along = match v.first() {
            Some(v) => grad.div(&spread(v, correction(self.beta2, t).sqrt(), self.epsilon)?)?,
            None => grad.clone(),
        };
        let d = along.add(&y.scale(self.weight_decay)?)?;
        // 1 − β₁ (1 − c)
        let along = c.scale(self.beta1)?.shift(1.0 - self.beta1)?.scale(rate)?;
        let y = y.add(&z.sub(y)?.mul(&c)?)?.sub(&d.mul(&along)?)?;
        Ok((y, [vec![z.sub(&d.scale(rate)?)?], v, vec![squared_rates]].concat()))
    }

    /// x
    fn average(&self, _: u64, y: &Tensor, kept: &[Tensor]) -> Result<Option<Tensor>> {
        let [z, ..] = kept else { return Ok(None) };
        let x = y.sub(&z.scale(1.0 - self.beta1)?)?.scale(1.0 / self.beta1)?;
        Ok(Some(x))
    }
}
