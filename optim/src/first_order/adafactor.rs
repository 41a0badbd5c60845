//! Adafactor: Adam's second moment of a matrix from the means of its rows and columns.
//!
//! Shazeer & Stern 2018, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", Algorithms
//! 4 (matrices) and 5 (vectors) with section 7's relative steps and clipping.
//!
//! ```text
//! β₂ = 1 − t^(−c)                                      c = 0.8; no bias to correct
//! r  ← β₂ r + (1 − β₂) mean over columns of (g² + ε₁)
//! c  ← β₂ c + (1 − β₂) mean over rows of (g² + ε₁)
//! V  = r cᵀ / mean(r)                                  vectors keep V itself
//! U  = g / √V,   U ← U / max(1, rms(U)/d)
//! θ  ← θ (1 − α κ) − max(ε₂, rms(θ)) min(α, 1/√t) U     κ is decoupled
//! ```
//! Deviations: means in place of sums, which leaves V as it is; α is the paper's 10⁻² by default; κ;
//! [`Floor::Clamp`] is PyTorch's way with ε₁. Without [`AdafactorConfig::relative_step`] the rate is α at every step,
//! without [`AdafactorConfig::relative_size`] max(ε₂, rms(θ)) is left out: for schedules of one's own, as in fine-tuning.
//! A tensor of more axes is a matrix of its first axis
//! against all others.

use engine::{DType, Error, FloatElement, Parameter, Result, Shape, Tensor, for_float};
use kernels::Float as _;

use crate::algebra::on_tensors::Composed;
use crate::algebra::on_tensors::{length, mix};
use crate::check::{not_negative, positive};
use crate::frame::first::First;
use crate::frame::per_parameter::{PerParameter, Rule, Start, each_entry, norm};

/// What keeps V from zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Floor {
    /// ε₁ is added to every squared gradient, as in the paper.
    Added(f64),
    /// The machine epsilon of the dtype bounds mean(r) from below, its square V.
    Clamp,
}

/// Options of [`Adafactor`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdafactorConfig {
    /// α, the longest step, relative to the parameter's root mean square (or not: see below).
    pub rate: f64,
    /// c in β₂ = 1 − t^(−c).
    pub decay_power: f64,
    /// ε₁
    pub floor: Floor,
    /// ε₂: a parameter counts as at least so large.
    pub smallest: f64,
    /// d: the largest root mean square of U.
    pub clip: f64,
    /// κ, decoupled.
    pub weight_decay: f64,
    /// Whether steps shrink with time: min(α, 1/√t) in place of α.
    pub relative_step: bool,
    /// Whether steps are in units of the parameter's root mean square.
    pub relative_size: bool,
}

impl Default for AdafactorConfig {
    /// The paper's: α 10⁻², c 0.8, ε₁ 10⁻³⁰, ε₂ 10⁻³, d 1.
    fn default() -> Self {
        Self {
            rate: 1e-2,
            decay_power: 0.8,
            floor: Floor::Added(1e-30),
            smallest: 1e-3,
            clip: 1.0,
            weight_decay: 0.0,
            relative_step: true,
            relative_size: true,
        }
    }
}

/// Adafactor.
///
/// # Example
/// ```
/// use engine::{DType, Gradients, Parameter, Tensor};
/// use alcyon_optim::{Adafactor, AdafactorConfig, Optimizer};
/// let mut weight = Parameter::new(Tensor::full([2, 2], 4.0, DType::F64));
/// let mut grads = Gradients::default();
/// grads.set(&weight, Tensor::from_slice(&[1.0, -2.0, 3.0, -6.0], [2, 2])?); // of rank one
/// Adafactor::new(AdafactorConfig::default())?.step(&mut weight, &grads)?;
/// let moved = weight.value().to_vec::<f64>()?; // V is exact: 1 % of 4 along the signs
/// assert!((moved[0] - 3.96).abs() < 1e-12 && (moved[3] - 4.04).abs() < 1e-12);
/// # Ok::<(), engine::Error>(())
/// ```
pub type Adafactor = PerParameter<AdafactorConfig>;

/// Rows and columns of a parameter that is factored.
fn matrix(shape: &Shape) -> Option<(usize, usize)> {
    let (&rows, rest) = shape.split_first()?;
    (!rest.is_empty()).then(|| (rows, rest.iter().product()))
}

impl Rule for AdafactorConfig {
    fn has_composed(&self) -> bool {
        true
    }

    fn name(&self) -> &'static str {
        "adafactor"
    }

    fn check(&self) -> Result<()> {
        positive("adafactor", "decay_power", self.decay_power)?;
        positive("adafactor", "smallest", self.smallest)?;
        positive("adafactor", "clip", self.clip)?;
        not_negative("adafactor", "weight_decay", self.weight_decay)?;
        match self.floor {
            Floor::Added(epsilon) => positive("adafactor", "floor", epsilon),
            Floor::Clamp => Ok(()),
        }
    }

    fn rate(&self) -> f64 {
        self.rate
    }

    fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    fn words(&self, parameter: &Parameter) -> String {
        match matrix(parameter.value().shape()) {
            Some((rows, columns)) => format!("second moment of rank one, {rows} + {columns}"),
            None => "root of second moment".into(),
        }
    }

    fn start(&self, parameter: &Parameter) -> Start {
        let (shape, dtype) = (parameter.value().shape(), parameter.value().dtype());
        match matrix(shape) {
            Some((rows, columns)) => vec![
                ("rows", First::zeros([rows], dtype)),
                ("columns", First::zeros([columns], dtype)),
            ],
            None => vec![("v", First::zeros(*shape, dtype))],
        }
    }

    fn update(&self, t: u64, value: &mut Tensor, grad: &Tensor, kept: &mut [Tensor]) -> Result<()> {
        let fresh = (t as f64).powf(-self.decay_power);
        let rms = |x: &Tensor| Ok::<_, Error>(norm(x)? / (x.numel().max(1) as f64).sqrt());
        let unit = if self.relative_size { rms(value)?.max(self.smallest) } else { 1.0 };
        let relative = unit * self.rate_at(t);
        let mut update = grad.clone();
        for_float!(grad.dtype(), T => {
            let scales = self.second_moment::<T>(grad, kept, T::of(fresh))?;
            each_entry(&mut update, &scales, &mut [], |scale: T, [u]| *u *= scale)?;
            let size = T::of(relative / (rms(&update)? / self.clip).max(1.0));
            let decay = T::of(1.0 - self.rate * self.weight_decay);
            each_entry(value, &update, &mut [], |u: T, [theta]| *theta = decay * *theta - size * u)
        })
    }

    fn compose(&self, t: u64, value: &Tensor, grad: &Tensor, kept: &[Tensor]) -> Result<Composed> {
        let fresh = (t as f64).powf(-self.decay_power);
        let rms = |x: &Tensor| length(x)?.scale(1.0 / (x.numel().max(1) as f64).sqrt());
        let (added, least) = self.floors(value.dtype());
        let square = grad.square()?.shift(added)?;
        let average = |old: &Tensor, new: &Tensor| mix(1.0 - fresh, old, fresh, new);
        let (v, kept) = match (kept, matrix(value.shape())) {
            ([rows, columns], Some((m, n))) => {
                let square = square.reshape([m, n])?;
                let rows = average(rows, &square.mean(&[1])?)?;
                let columns = average(columns, &square.mean(&[0])?)?;
                let scaled = rows.div(&rows.mean_all()?.clamp(least, f64::INFINITY)?)?;
                let v = scaled.reshape([m, 1])?.mul(&columns)?.reshape(*value.shape())?;
                (v, vec![rows, columns])
            }
            ([v], _) => {
                let v = average(v, &square)?;
                (v.clone(), vec![v])
            }
            _ => return Ok((value.clone(), kept.to_vec())),
        };
        let smallest =
            if value.dtype() == DType::F64 { f64::MIN_POSITIVE } else { f32::MIN_POSITIVE.into() };
        let update = grad.div(&v.clamp((least * least).max(smallest), f64::INFINITY)?.sqrt()?)?;
        let cut = rms(&update)?.scale(1.0 / self.clip)?.clamp(1.0, f64::INFINITY)?;
        let size = if self.relative_size {
            rms(value)?.clamp(self.smallest, f64::INFINITY)?.scale(self.rate_at(t))?.div(&cut)?
        } else {
            cut.recip()?.scale(self.rate_at(t))?
        };
        let decay = 1.0 - self.rate * self.weight_decay;
        Ok((value.scale(decay)?.sub(&update.mul(&size)?)?, kept))
    }
}

impl AdafactorConfig {
    /// The longest step t, in units of the parameter's root mean square or in its own.
    fn rate_at(&self, t: u64) -> f64 {
        if self.relative_step { self.rate.min(1.0 / (t as f64).sqrt()) } else { self.rate }
    }

    /// What is added to every square, and what bounds mean(r) from below.
    const fn floors(&self, dtype: DType) -> (f64, f64) {
        match (self.floor, dtype) {
            (Floor::Added(epsilon), _) => (epsilon, 0.0),
            (Floor::Clamp, DType::F64) => (0.0, f64::EPSILON),
            (Floor::Clamp, _) => (0.0, f32::EPSILON as f64),
        }
    }

    /// Averages g² in; returns 1/√V.
    fn second_moment<T: FloatElement>(
        &self,
        grad: &Tensor,
        kept: &mut [Tensor],
        fresh: T,
    ) -> Result<Tensor> {
        let (added, least) = self.floors(grad.dtype());
        let [added, least] = [added, least].map(T::of);
        let g = grad.as_slice::<T>()?;
        // A row that is dead beside a large one: their product with a column's mean may be 0.
        let root = |v: T| T::ONE / v.max(least * least).max(T::MIN_POSITIVE).sqrt();
        let average = |old: &mut T, new: T| *old += fresh * (new - *old);
        let mut out = Vec::with_capacity(g.len());
        match kept {
            [rows, columns] => {
                let (rows, columns) = (rows.make_mut::<T>()?, columns.make_mut::<T>()?);
                let count = |n: usize| T::of(n.max(1) as f64);
                let mut sums = vec![T::ZERO; columns.len()];
                for (row, g) in rows.iter_mut().zip(g.chunks_exact(columns.len().max(1))) {
                    let mut sum = T::ZERO;
                    for (column, &g) in sums.iter_mut().zip(g) {
                        let square = g * g + added;
                        sum += square;
                        *column += square;
                    }
                    average(row, sum / count(columns.len()));
                }
                let mean = |sum: T| sum / count(rows.len());
                columns.iter_mut().zip(sums).for_each(|(c, sum)| average(c, mean(sum)));
                let scale = mean(rows.iter().copied().sum::<T>()).max(least);
                for &row in rows.iter() {
                    out.extend(columns.iter().map(|&column| root(row / scale * column)));
                }
            }
            [v] => {
                let v = v.make_mut::<T>()?;
                v.iter_mut().zip(g).for_each(|(v, &g)| average(v, g * g + added));
                out.extend(v.iter().map(|&v| root(v)));
            }
            _ => {}
        }
        Tensor::from_vec(out, *grad.shape())
    }
}
