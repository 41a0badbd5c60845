//! Muon: momentum whose singular values are all made about one.
//!
//! Jordan, Jin, Boza, You, Cesista, Newhouse & Bernstein 2024, "Muon: An optimizer for hidden layers
//! in neural networks"; the other scale: Liu et al. 2025 (Moonlight).
//!
//! ```text
//! M ← μ M + (1 − μ) g
//! U = (1 − μ) g + μ M                          Nesterov; else U = M
//! X = U / (‖U‖ + ε);   five times   X ← a X + (b X Xᵀ + c (X Xᵀ)²) X
//! θ ← (1 − α κ) θ − α k X                       k = √max(1, rows/columns)
//! ```
//! The iteration maps singular values in [0.02, 1] into [0.68, 1.14]; smaller ones stay small. A tensor
//! of more axes is a matrix of its first axis against all others. As the authors have it, only hidden matrices
//! get this; vectors, embedding tables and the readout get AdamW, and so do parameters that the user declares
//! ([`MuonConfig::auxiliary`]). Which matrix is what, the layers of the first backward pass show (`muon/roles.rs`);
//! coverage says it. A step without such a pass goes by shape, and so does [`Matrices::All`].
//!
//! Deviations: the iteration runs in the parameter's own dtype, not in bfloat16, and the scale of a
//! convolution comes from the flattened matrix, not from its kernel's sides.

mod hidden;
mod newton_schulz;
mod roles;

use std::collections::BTreeSet;

use engine::{ParamId, Parameter, Result, Shape, Tensor, for_float};
use kernels::Float as _;
#[cfg(feature = "cuda")]
use kernels::cuda::{Gpu, step::Moving};

use crate::AdamConfig;
use crate::algebra::on_tensors::Composed;
use crate::algebra::on_tensors::{length, mix};
use crate::check::{below_one, not_negative, positive};
use crate::frame::per_parameter::{Rule, Start, each_entry, zeros};
pub use hidden::Muon;
use newton_schulz::iterate;
pub use newton_schulz::{CONVERGENT, Quintic, STEEP, newton_schulz};

/// k, by which the orthogonal direction is scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// √max(1, rows/columns): the authors'.
    Original,
    /// 0.2 √max(rows, columns): steps as long as AdamW's. Liu et al. 2025.
    LikeAdam,
}

/// Which matrices are made orthogonal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matrices {
    /// Those between the tables and the readout: the authors' rule.
    Hidden,
    /// All that are not declared.
    All,
}

/// Options of [`Muon`].
#[derive(Debug, Clone, PartialEq)]
pub struct MuonConfig {
    /// α
    pub rate: f64,
    /// μ in [0, 1)
    pub momentum: f64,
    /// Whether the direction looks ahead.
    pub nesterov: bool,
    /// M ← μ M + g and U = g + μ M, without the factor 1 − μ.
    pub summed: bool,
    /// κ, decoupled.
    pub weight_decay: f64,
    /// k
    pub scale: Scale,
    /// The iteration's a, b and c.
    pub quintic: Quintic,
    /// How often it is applied.
    pub iterations: u32,
    /// ε, in units of U.
    pub epsilon: f64,
    /// AdamW for the rest. Its rate is [`MuonConfig::auxiliary_ratio`] times α.
    pub adam: AdamConfig,
    /// The rate of AdamW in units of α.
    pub auxiliary_ratio: f64,
    /// Which matrices are made orthogonal.
    pub matrices: Matrices,
    /// Matrices that get AdamW too.
    pub auxiliary: BTreeSet<ParamId>,
}

impl Default for MuonConfig {
    /// The authors': α 0.02, μ 0.95 with Nesterov, no decay; AdamW with 3·10⁻⁴, β 0.9 and 0.95, ε 10⁻¹⁰.
    fn default() -> Self {
        let adam = AdamConfig { beta2: 0.95, epsilon: 1e-10, ..AdamConfig::adamw() };
        Self {
            rate: 0.02,
            momentum: 0.95,
            nesterov: true,
            summed: false,
            weight_decay: 0.0,
            scale: Scale::Original,
            quintic: STEEP,
            iterations: 5,
            epsilon: 1e-7,
            adam: AdamConfig { weight_decay: 0.0, ..adam },
            auxiliary_ratio: 0.015,
            matrices: Matrices::Hidden,
            auxiliary: BTreeSet::new(),
        }
    }
}

/// Rows and columns of a tensor that is a matrix of its first axis against the others.
pub(crate) fn sides(shape: &Shape) -> Option<(usize, usize)> {
    let (&rows, rest) = shape.split_first()?;
    (!rest.is_empty()).then(|| (rows, rest.iter().product()))
}

impl Rule for MuonConfig {
    fn has_composed(&self) -> bool {
        true
    }

    fn name(&self) -> &'static str {
        "muon"
    }

    fn check(&self) -> Result<()> {
        below_one("muon", "momentum", self.momentum)?;
        not_negative("muon", "weight_decay", self.weight_decay)?;
        positive("muon", "epsilon", self.epsilon)?;
        not_negative("muon", "auxiliary_ratio", self.auxiliary_ratio)?;
        self.adam.check()
    }

    fn rate(&self) -> f64 {
        self.rate
    }

    fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    fn words(&self, parameter: &Parameter) -> String {
        match self.orthogonal(parameter) {
            Some((rows, columns)) => format!("orthogonal momentum, {rows} × {columns}"),
            None => format!("AdamW: {}", self.adam.words(parameter)),
        }
    }

    fn start(&self, parameter: &Parameter) -> Start {
        match self.orthogonal(parameter) {
            Some(_) => zeros(parameter, &["momentum"]),
            None => self.adam.start(parameter),
        }
    }

    fn update(&self, t: u64, value: &mut Tensor, grad: &Tensor, kept: &mut [Tensor]) -> Result<()> {
        let ([momentum], Some((rows, columns))) = (&mut *kept, sides(value.shape())) else {
            let adam = AdamConfig { rate: self.rate * self.auxiliary_ratio, ..self.adam };
            return adam.update(t, value, grad, kept);
        };
        let fresh = if self.summed { 1.0 } else { 1.0 - self.momentum };
        let k = self.factor((rows, columns));
        let mut ahead = grad.clone();
        for_float!(grad.dtype(), T => {
            let [mu, fresh] = [self.momentum, fresh].map(T::of);
            let momentum = std::slice::from_mut(momentum);
            each_entry(&mut ahead, grad, momentum, |g: T, [u, m]| {
                *m = mu * *m + fresh * g;
                *u = if self.nesterov { fresh * g + mu * *m } else { *m };
            })?;
            let u = ahead.as_slice::<T>()?;
            let x = newton_schulz(u, (rows, columns), self.quintic, self.iterations, self.epsilon);
            let x = Tensor::from_vec(x, *value.shape())?;
            let [size, decay] = [self.rate * k, 1.0 - self.rate * self.weight_decay].map(T::of);
            each_entry(value, &x, &mut [], |x: T, [theta]| *theta = decay * *theta - size * x)
        })
    }

    fn composes(&self, parameter: &Parameter) -> bool {
        self.orthogonal(parameter).is_some()
    }

    fn compose(&self, _: u64, value: &Tensor, grad: &Tensor, kept: &[Tensor]) -> Result<Composed> {
        let ([momentum], Some(sides)) = (kept, sides(value.shape())) else {
            return Ok((value.clone(), kept.to_vec()));
        };
        let fresh = if self.summed { 1.0 } else { 1.0 - self.momentum };
        let momentum = mix(self.momentum, momentum, fresh, grad)?;
        let u = match self.nesterov {
            true => mix(fresh, grad, self.momentum, &momentum)?,
            false => momentum.clone(),
        };
        let unit = u.div(&length(&u)?.shift(self.epsilon)?)?;
        let x = iterate(&unit, sides, self.quintic, self.iterations)?;
        let decay = 1.0 - self.rate * self.weight_decay;
        let value = value.scale(decay)?.sub(&x.scale(self.rate * self.factor(sides))?)?;
        Ok((value, vec![momentum]))
    }

    /// AdamW, for what is not orthogonal.
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, parameters: &[Moving<'_>]) -> Result<()> {
        AdamConfig { rate: self.rate * self.auxiliary_ratio, ..self.adam }.cuda(gpu, parameters)
    }
}

impl MuonConfig {
    /// k
    fn factor(&self, (rows, columns): (usize, usize)) -> f64 {
        match self.scale {
            Scale::Original => (rows as f64 / columns.max(1) as f64).max(1.0).sqrt(),
            Scale::LikeAdam => 0.2 * (rows.max(columns) as f64).sqrt(),
        }
    }

    fn orthogonal(&self, parameter: &Parameter) -> Option<(usize, usize)> {
        let declared = self.auxiliary.contains(&parameter.id());
        sides(parameter.value().shape()).filter(|_| !declared)
    }
}
