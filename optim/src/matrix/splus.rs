//! SPlus: the sign of the momentum in Shampoo's eigenvectors, and an average to evaluate at.
//!
//! Frans, Levine & Abbeel 2025, "A Stable Whitening Optimizer for Efficient Neural Network Training",
//! Algorithm 1.
//!
//! ```text
//! m ← β₁ m + (1 − β₁) g
//! L ← β₂ L + (1 − β₂) g gᵀ,   R ← β₂ R + (1 − β₂) gᵀ g
//! θ ← θ − α k Q sign(Qᵀ m P) Pᵀ              k = 2/(rows + columns)
//! E ← γ E + (1 − γ) θ                         evaluate at E/(1 − γᵗ): `Optimizer::average`
//! θ ← (1 − α k κ) θ
//! Q, P ← eigenvectors of L, R                 after steps 1, f, 2f, …; the identity before
//! ```
//! Vectors step along the sign of m with k = 10⁻³. As in the authors' PyTorch program, E is taken after
//! the step and before the decay. A tensor of more axes is a matrix of its first axis against all
//! others. A side that keeps its diagonal ([`LongSides`]) is not rotated, and one in blocks is rotated block by
//! block; the authors' longest side is 10,000.

use engine::{DType, Element as _, Parameter, Result, Shape, Tensor, for_float};

use kernels::elementwise;

use super::muon::sides;
use super::soap::{average_in, eigenvectors};
use crate::LongSides;
use crate::algebra::axes;
use crate::algebra::dense::correction;
use crate::algebra::on_tensors::Composed;
use crate::algebra::on_tensors::{here, mix, there};
use crate::algebra::pattern::Pattern;
use crate::check::{below_one, not_negative, positive};
use crate::frame::first::First;
use crate::frame::per_parameter::{PerParameter, Rule, Start};

/// Options of [`SPlus`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SPlusConfig {
    /// α, before it is scaled by the sides of a matrix.
    pub rate: f64,
    /// β₁ in [0, 1)
    pub beta1: f64,
    /// β₂ in [0, 1), of L and R.
    pub beta2: f64,
    /// γ in [0, 1), of the average.
    pub average: f64,
    /// f: steps between two eigendecompositions.
    pub basis_every: u64,
    /// κ, decoupled.
    pub weight_decay: f64,
    /// k of vectors.
    pub vector_scale: f64,
    /// How much of each side is rotated.
    pub sides: LongSides,
}

impl Default for SPlusConfig {
    /// The authors': α 0.1, β 0.9 and 0.999, γ 0.999, every 100 steps, κ 0.01.
    fn default() -> Self {
        Self {
            rate: 0.1,
            beta1: 0.9,
            beta2: 0.999,
            average: 0.999,
            basis_every: 100,
            weight_decay: 0.01,
            vector_scale: 1e-3,
            sides: LongSides::default(),
        }
    }
}

/// SPlus.
///
/// # Example
/// ```
/// use engine::{Gradients, Parameter, Tensor};
/// use alcyon_optim::{Optimizer, SPlus, SPlusConfig};
/// let mut weight = Parameter::new(Tensor::from_slice(&[0.0; 4], [2, 2])?);
/// let mut grads = Gradients::default();
/// grads.set(&weight, Tensor::from_slice(&[5.0, -0.1, 0.0, 2.0], [2, 2])?);
/// SPlus::new(SPlusConfig { rate: 1.0, ..SPlusConfig::default() })?.step(&mut weight, &grads)?;
/// // The first step is along the sign, 2/(2 + 2) long; then the decay.
/// assert_eq!(weight.value().to_vec::<f64>()?, [-0.4975, 0.4975, 0.0, -0.4975]);
/// # Ok::<(), engine::Error>(())
/// ```
pub type SPlus = PerParameter<SPlusConfig>;

const SIDES: [(&str, &str); 2] = [("l", "q"), ("r", "p")];

impl Rule for SPlusConfig {
    fn may_fail(&self) -> bool {
        true
    }

    fn has_composed(&self) -> bool {
        true
    }

    fn name(&self) -> &'static str {
        "splus"
    }

    fn check(&self) -> Result<()> {
        below_one("splus", "beta1", self.beta1)?;
        below_one("splus", "beta2", self.beta2)?;
        below_one("splus", "average", self.average)?;
        self.sides.check("splus")?;
        not_negative("splus", "weight_decay", self.weight_decay)?;
        positive("splus", "vector_scale", self.vector_scale)
    }

    fn rate(&self) -> f64 {
        self.rate
    }

    fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    fn words(&self, parameter: &Parameter) -> String {
        match sides(parameter.value().shape()) {
            Some((rows, columns)) => {
                let [rows, columns] = [rows, columns].map(|n| self.sides.of(n).words());
                format!("sign in eigenvectors, {rows} ⊗ {columns}")
            }
            None => "sign of the first moment".into(),
        }
    }

    /// m and E, then a second moment and its eigenvectors for each rotated side.
    fn start(&self, parameter: &Parameter) -> Start {
        let shape = parameter.value().shape();
        let zeros = || First::zeros(*shape, DType::F64);
        let mut start = vec![("m", zeros()), ("average", zeros())];
        for (axis, side) in self.rotated(shape) {
            start.push((SIDES[axis].0, First::zeros(side.shape(), DType::F64)));
            start.push((SIDES[axis].1, First::identity(&side, 1.0)));
        }
        start
    }

    fn update(&self, t: u64, value: &mut Tensor, grad: &Tensor, kept: &mut [Tensor]) -> Result<()> {
        let [m, average, pairs @ ..] = kept else { return Ok(()) };
        let (dims, scale) = self.seen(value.shape());
        let (g, size) = (grad.to_dtype(DType::F64)?, self.rate * scale);
        let (g, m) = (g.as_slice::<f64>()?, m.make_mut::<f64>()?);
        average_in(m, g, self.beta1);
        let rotated = self.rotated(value.shape());
        let mut direction = axes::copy(m)?;
        for ((axis, side), pair) in rotated.iter().zip(pairs.chunks_exact(2)) {
            let q = pair[1].as_slice::<f64>()?;
            direction = axes::times(&direction, &dims, (*axis, side), q, true)?;
        }
        elementwise::update(&mut direction, |x| if x == 0.0 { 0.0 } else { x.signum() });
        for ((axis, side), pair) in rotated.iter().zip(pairs.chunks_exact(2)) {
            let q = pair[1].as_slice::<f64>()?;
            direction = axes::times(&direction, &dims, (*axis, side), q, false)?;
        }
        let (gamma, kept) = (self.average, 1.0 - size * self.weight_decay);
        let average = average.make_mut::<f64>()?;
        for_float!(value.dtype(), T => {
            let values = value.make_mut::<T>()?.iter_mut().zip(average);
            for ((theta, e), u) in values.zip(&*direction) {
                let moved = T::from_f64(theta.to_f64() - size * u);
                *e = gamma * *e + (1.0 - gamma) * moved.to_f64();
                *theta = T::from_f64(kept * moved.to_f64());
            }
        });
        // What the next steps look along.
        let weights = (self.beta2, 1.0 - self.beta2);
        for ((axis, side), pair) in rotated.iter().zip(pairs.chunks_exact_mut(2)) {
            axes::gram(g, &dims, (*axis, side), weights, pair[0].make_mut::<f64>()?);
            if t == 1 || t.is_multiple_of(self.basis_every.max(1)) {
                pair[1] = eigenvectors(&pair[0], side)?;
            }
        }
        Ok(())
    }

    /// In f64, too. Where eigenvectors are renewed, the host reads the second moments and finds them.
    fn compose(&self, t: u64, value: &Tensor, grad: &Tensor, kept: &[Tensor]) -> Result<Composed> {
        let [m, average, pairs @ ..] = kept else { return Ok((value.clone(), kept.to_vec())) };
        let (dims, scale) = self.seen(value.shape());
        let dims = Shape::new(&dims)?;
        let wide = |x: &Tensor| x.to_dtype(DType::F64)?.reshape(dims);
        let (g, size) = (wide(grad)?, self.rate * scale);
        let m = mix(self.beta1, m, 1.0 - self.beta1, &grad.to_dtype(DType::F64)?)?;
        let rotated = self.rotated(value.shape());
        let pairs = rotated.iter().zip(pairs.chunks_exact(2));
        let mut direction = wide(&m)?;
        for ((axis, side), pair) in pairs.clone() {
            direction = axes::times_of(&direction, (*axis, side), &pair[1], true)?;
        }
        let zero = direction.scale(0.0)?;
        let [up, down] = [direction.greater(&zero)?, direction.less(&zero)?];
        direction = up.to_dtype(DType::F64)?.sub(&down.to_dtype(DType::F64)?)?;
        for ((axis, side), pair) in pairs.clone() {
            direction = axes::times_of(&direction, (*axis, side), &pair[1], false)?;
        }
        let (narrow, shape) = (value.dtype(), *value.shape());
        let moved = mix(1.0, &wide(value)?, -size, &direction)?.to_dtype(narrow)?.reshape(shape)?;
        let moved = moved.to_dtype(DType::F64)?;
        let mut after = vec![m, mix(self.average, average, 1.0 - self.average, &moved)?];
        for ((axis, side), pair) in pairs {
            let new = axes::gram_of(&g, (*axis, side))?;
            let l = mix(self.beta2, &pair[0], 1.0 - self.beta2, &new)?;
            let q = match t == 1 || t.is_multiple_of(self.basis_every.max(1)) {
                true => there(&eigenvectors(&here(&l)?, side)?, &l)?,
                false => pair[1].clone(),
            };
            after.extend([l, q]);
        }
        let value = moved.scale(1.0 - size * self.weight_decay)?;
        Ok((value.to_dtype(narrow)?, after))
    }

    fn average(&self, t: u64, value: &Tensor, kept: &[Tensor]) -> Result<Option<Tensor>> {
        let [_, average, ..] = kept else { return Ok(None) };
        let corrected = average.scale(1.0 / correction(self.average, t))?;
        Ok(Some(corrected.to_dtype(value.dtype())?))
    }
}

impl SPlusConfig {
    /// The dims that a parameter is seen with, and how long its steps are in units of α.
    fn seen(&self, shape: &Shape) -> (Vec<usize>, f64) {
        match sides(shape) {
            Some((rows, columns)) => (vec![rows, columns], 2.0 / (rows + columns).max(1) as f64),
            None => (vec![shape.numel()], self.vector_scale),
        }
    }

    /// The sides that are rotated, and by what.
    fn rotated(&self, shape: &Shape) -> Vec<(usize, Pattern)> {
        let Some((rows, columns)) = sides(shape) else { return Vec::new() };
        let both = [(0, self.sides.of(rows)), (1, self.sides.of(columns))];
        both.into_iter().filter(|(_, side)| matches!(side, Pattern::Blocks(_))).collect()
    }
}
