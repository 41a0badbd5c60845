//! Prodigy: Adam that estimates its own learning rate, as the distance to the solution.
//!
//! Mishchenko & Defazio 2024, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner", Algorithm 4
//! (the variant of Adam).
//!
//! ```text
//! a ← α d c                                          c = 1, or √(1 − β₂ᵗ)/(1 − β₁ᵗ)
//! r ← β₃ r + (d/d₀) a ⟨g, θ₀ − θ⟩                     over all parameters together;  β₃ = √β₂
//! s ← β₃ s + (d/d₀) a g
//! m ← β₁ m + (1 − β₁) d g,   v ← β₂ v + (1 − β₂) d² g²
//! d ← max(d, C r / ‖s‖₁)                             at most `growth` times the old one
//! θ ← θ − a (m / (√v + d ε) + κ θ)
//! ```
//! Deviations, all of them the authors' program's: r and s carry d/d₀; a has the old d; the estimate
//! may replace the first d at once; κ is decoupled. d is one number for the model: clipping gradients
//! changes it.

use engine::{Gradients, Parameter, Parameters, Result, for_float};
use kernels::Float as _;

use crate::algebra::dense::correction;
use crate::check::{below_one, demand, not_negative, positive};
use crate::frame::first::First;
use crate::frame::moments::{Moments, check_gradients, trainable};
use crate::frame::per_parameter::{Start, each_entry, zeros};
use crate::frame::saved::Saved;
use crate::optimizer::coverage::Coverage;
use crate::{Optimizer, State};

/// Options of [`Prodigy`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProdigyConfig {
    /// α, a multiple of the estimated distance: 1, or a schedule that ends at 0.
    pub rate: f64,
    /// β₁ in [0, 1)
    pub beta1: f64,
    /// β₂ in [0, 1)
    pub beta2: f64,
    /// ε, in units of the gradient.
    pub epsilon: f64,
    /// κ, decoupled.
    pub weight_decay: f64,
    /// d₀, a distance that is surely too small.
    pub start: f64,
    /// C, what the estimate is multiplied by.
    pub scale: f64,
    /// How many times larger d may become in one step. Infinite for no bound.
    pub growth: f64,
    /// Whether c corrects the moments' bias.
    pub bias_correction: bool,
}

impl Default for ProdigyConfig {
    /// The paper's: α 1, β 0.9 and 0.999, ε 10⁻⁸, d₀ 10⁻⁶, C 1, no bound, no correction, no decay.
    fn default() -> Self {
        Self {
            rate: 1.0,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            start: 1e-6,
            scale: 1.0,
            growth: f64::INFINITY,
            bias_correction: false,
        }
    }
}

/// Adam with an estimated rate.
///
/// # Example
/// ```
/// use engine::{Gradients, Parameter, Tensor};
/// use alcyon_optim::{Optimizer, Prodigy, ProdigyConfig};
/// let mut weight = Parameter::new(Tensor::from_slice(&[10.0], [1])?);
/// let mut prodigy = Prodigy::new(ProdigyConfig::default())?;
/// for _ in 0..300 {
///     let mut grads = Gradients::default();
///     grads.set(&weight, weight.value().clone()); // of ½ θ²
///     prodigy.step(&mut weight, &grads)?;
/// }
/// assert!(prodigy.distance() > 1.0 && prodigy.distance() < 10.0); // below the true one
/// assert!(weight.value().item()?.abs() < 0.1);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct Prodigy {
    config: ProdigyConfig,
    steps: u64,
    /// d
    distance: f64,
    /// The largest estimate so far.
    largest: f64,
    /// r
    numerator: f64,
    moments: Moments,
}

impl Prodigy {
    /// An optimizer that has not taken a step.
    ///
    /// # Errors
    /// [`Error::Argument`](engine::Error::Argument) when an option is outside its range.
    pub fn new(config: ProdigyConfig) -> Result<Self> {
        not_negative("prodigy", "rate", config.rate)?;
        below_one("prodigy", "beta1", config.beta1)?;
        below_one("prodigy", "beta2", config.beta2)?;
        not_negative("prodigy", "epsilon", config.epsilon)?;
        not_negative("prodigy", "weight_decay", config.weight_decay)?;
        positive("prodigy", "start", config.start)?;
        positive("prodigy", "scale", config.scale)?;
        demand("prodigy", "growth", config.growth, "above 1", config.growth > 1.0)?;
        let (distance, moments) = (config.start, Moments::new(&[]));
        Ok(Self { config, steps: 0, distance, largest: distance, numerator: 0.0, moments })
    }

    /// d, the estimated distance from the start to the solution; it never shrinks.
    #[must_use]
    pub const fn distance(&self) -> f64 {
        self.distance
    }

    /// d after this step, from the new r and ‖s‖₁.
    fn grown(&mut self, sum: f64) -> f64 {
        let estimate = if sum > 0.0 { self.config.scale * self.numerator / sum } else { 0.0 };
        let mut now = self.distance;
        if now == self.config.start {
            now = now.max(estimate);
        }
        self.largest = self.largest.max(estimate);
        self.largest.min(now * self.config.growth)
    }
}

fn start(parameter: &Parameter) -> Start {
    let mut start = vec![("start", First::of(parameter.value()))];
    start.extend(zeros(parameter, &["s", "m", "v"]));
    start
}

impl Optimizer for Prodigy {
    fn name(&self) -> &'static str {
        "prodigy"
    }

    fn step(&mut self, model: &mut dyn Parameters, grads: &Gradients) -> Result<()> {
        check_gradients(model, grads)?;
        let ProdigyConfig { rate, beta1, beta2, epsilon, weight_decay, .. } = self.config;
        let (t, old) = (self.steps + 1, self.distance);
        let corrected = if self.config.bias_correction {
            correction(beta2, t).sqrt() / correction(beta1, t)
        } else {
            1.0
        };
        let (size, beta3) = (rate * old * corrected, beta2.sqrt());
        let gain = old / self.config.start * size;
        // The estimate, from all parameters together.
        let (mut inner, mut sum) = (0.0, 0.0);
        for (parameter, grad) in self.moments.ready_from(trainable(model, grads)?, start)? {
            let kept = self.moments.next_from(parameter, || start(parameter))?;
            let (x0, x) = (kept.tensors[0].to_f64_vec()?, parameter.value().to_f64_vec()?);
            let away = grad.to_f64_vec()?.into_iter().zip(x0.iter().zip(&x));
            inner += away.map(|(g, (x0, x))| g * (x0 - x)).sum::<f64>();
            let [_, s, ..] = kept.tensors.as_mut_slice() else { continue };
            for_float!(grad.dtype(), T => {
                let [beta3, gain] = [beta3, gain].map(T::of);
                each_entry(s, &grad, &mut [], |g: T, [s]| *s = beta3 * *s + gain * g)?;
            });
            sum += s.to_f64_vec()?.iter().map(|s| s.abs()).sum::<f64>();
        }
        self.numerator = beta3 * self.numerator + gain * inner;
        self.distance = self.grown(sum);
        self.steps = t;
        // Adam, with d for the unit of length.
        let floor = self.distance * epsilon;
        for (parameter, grad) in trainable(model, grads)? {
            let Some(kept) = self.moments.get_mut(parameter) else { continue };
            for_float!(grad.dtype(), T => {
                let [beta1, fresh1] = [beta1, (1.0 - beta1) * old].map(T::of);
                let [beta2, fresh2] = [beta2, (1.0 - beta2) * old * old].map(T::of);
                let [size, floor, kappa] = [size, floor, weight_decay].map(T::of);
                let moments = &mut kept.tensors[2..];
                each_entry(parameter.value_mut(), &grad, moments, |g: T, [theta, m, v]| {
                    *m = beta1 * *m + fresh1 * g;
                    *v = beta2 * *v + fresh2 * g * g;
                    let length = v.sqrt() + floor;
                    let direction = if length > T::ZERO { *m / length } else { T::ZERO };
                    *theta -= size * (direction + kappa * *theta);
                })?;
            });
        }
        Ok(())
    }

    fn options(&self) -> String {
        format!("{:?}", self.config)
    }

    fn rate(&self) -> f64 {
        self.config.rate
    }

    fn set_rate(&mut self, rate: f64) {
        self.config.rate = rate;
    }

    fn coverage(&self, model: &dyn Parameters) -> Coverage {
        let words = |_: &Parameter| "first and root of second moment, at the estimated rate".into();
        Coverage::of(model, words, |p| {
            let counts = p.is_trainable() || self.moments.get(p).is_some();
            if counts { 4 * p.value().bytes() } else { 0 }
        })
    }

    fn state(&self, model: &dyn Parameters) -> Result<State> {
        let mut state = State { optimizer: self.name().to_owned(), ..State::default() };
        let mut put = |key: &str, text: String| state.numbers.insert(key.to_owned(), text);
        put("rate", self.config.rate.to_string());
        put("steps", self.steps.to_string());
        put("distance", self.distance.to_string());
        put("largest", self.largest.to_string());
        put("numerator", self.numerator.to_string());
        self.moments.save_from(model, &mut state, start);
        Ok(state)
    }

    fn load_state(&mut self, model: &dyn Parameters, state: &State) -> Result<()> {
        let mut saved = Saved::open(self.name(), state)?;
        let (rate, steps) = (saved.quantity("rate")?, saved.count("steps")?);
        let (distance, largest) = (saved.quantity("distance")?, saved.quantity("largest")?);
        let numerator = saved.number("numerator")?;
        let moments = self.moments.load_from(model, &mut saved, start)?;
        saved.close(model)?;
        self.config.rate = rate;
        (self.steps, self.distance, self.largest) = (steps, distance, largest);
        (self.numerator, self.moments) = (numerator, moments);
        Ok(())
    }
}
