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
//! of more axes is a matrix of its first axis against all others. Vectors, and the parameters that the
//! user declares (embeddings, the last layer: [`MuonConfig::auxiliary`]), get AdamW.
//!
//! Deviations: the iteration runs in the parameter's own dtype, not in bfloat16, and the scale of a
//! convolution comes from the flattened matrix, not from its kernel's sides.

use std::collections::BTreeSet;

use engine::{FloatElement, ParamId, Parameter, Result, Shape, Tensor, for_float};
use kernels::Float as _;
#[cfg(feature = "cuda")]
use kernels::cuda::{Gpu, newton_schulz::newton_schulz as iterate_there, step::Moving};
use kernels::gemm::{Matrix, gemm};

use crate::AdamConfig;
use crate::compose::{length, mix};
use crate::moments::{below_one, not_negative, positive};
use crate::per_parameter::{Composed, PerParameter, Rule, Start, each_entry, zeros};

/// a, b and c of the iteration.
pub type Quintic = [f64; 3];

/// The authors' coefficients: steep at zero, not convergent.
pub const STEEP: Quintic = [3.4445, -4.775, 2.0315];

/// Coefficients with which the iteration converges to singular values of one.
pub const CONVERGENT: Quintic = [3.0, -3.2, 1.2];

/// k, by which the orthogonal direction is scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// √max(1, rows/columns): the authors'.
    Original,
    /// 0.2 √max(rows, columns): steps as long as AdamW's. Liu et al. 2025.
    LikeAdam,
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
            auxiliary: BTreeSet::new(),
        }
    }
}

/// Muon, with AdamW for what is no hidden matrix.
///
/// # Example
/// ```
/// use engine::{Gradients, Parameter, Tensor};
/// use alcyon_optim::{Muon, MuonConfig, Optimizer};
/// let mut weight = Parameter::new(Tensor::from_slice(&[0.0; 4], [2, 2])?);
/// let mut grads = Gradients::default();
/// grads.set(&weight, Tensor::from_slice(&[9.0, 0.0, 0.0, -1.0], [2, 2])?);
/// let config = MuonConfig { rate: 1.0, iterations: 60, quintic: alcyon_optim::muon::CONVERGENT,
///     ..MuonConfig::default() };
/// Muon::new(config)?.step(&mut weight, &grads)?;
/// let moved = weight.value().to_vec::<f64>()?; // U Vᵀ of the gradient
/// assert!((moved[0] + 1.0).abs() < 1e-9 && (moved[3] - 1.0).abs() < 1e-9);
/// # Ok::<(), engine::Error>(())
/// ```
pub type Muon = PerParameter<MuonConfig>;

/// Rows and columns of a tensor that is a matrix of its first axis against the others.
pub(crate) fn sides(shape: &Shape) -> Option<(usize, usize)> {
    let (&rows, rest) = shape.split_first()?;
    (!rest.is_empty()).then(|| (rows, rest.iter().product()))
}

impl Rule for MuonConfig {
    const COMPOSES: bool = true;

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

/// X / (‖X‖ + ε), then X ← a X + (b A + c A²) X with A = X Xᵀ, `iterations` times.
///
/// Singular vectors stay, every singular value s becomes p(p(… s/‖X‖ …)) with p(s) = a s + b s³ + c s⁵.
///
/// # Shape
/// x, result: `[rows, columns]`, row-major; A is formed on the shorter side.
///
/// # Source
/// Jordan et al. 2024; the classical cubic form: Higham 2008, *Functions of Matrices*, (8.20).
///
/// # Example
/// ```
/// use alcyon_optim::muon::{CONVERGENT, newton_schulz};
/// let x = newton_schulz(&[3.0_f64, 4.0], (1, 2), CONVERGENT, 9, 0.0); // a row: its direction
/// assert!((x[0] - 0.6).abs() < 1e-12 && (x[1] - 0.8).abs() < 1e-12);
/// ```
#[must_use]
pub fn newton_schulz<T: FloatElement>(
    x: &[T],
    (rows, columns): (usize, usize),
    quintic: Quintic,
    iterations: u32,
    epsilon: f64,
) -> Vec<T> {
    let length = x.iter().map(|&x| kernels::Float::to_f64(x * x)).sum::<f64>().sqrt();
    let scale = T::of(1.0 / (length + epsilon).max(f64::MIN_POSITIVE));
    iterate_here(x.iter().map(|&x| x * scale).collect(), (rows, columns), quintic, iterations)
}

/// The iteration, where X is.
fn iterate(x: &Tensor, sides: (usize, usize), quintic: Quintic, iterations: u32) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(gpu) = x.gpu().map(std::sync::Arc::clone) {
        let mut x = x.clone();
        iterate_there(&gpu, &x.make_cuda_mut()?, sides, quintic, iterations)?;
        return Ok(x);
    }
    let shape = *x.shape();
    for_float!(x.dtype(), T => {
        Tensor::from_vec(iterate_here(x.to_vec::<T>()?, sides, quintic, iterations), shape)
    })
}

/// X ← a X + (b A + c A²) X with A = X Xᵀ, `iterations` times.
fn iterate_here<T: FloatElement>(
    mut x: Vec<T>,
    (rows, columns): (usize, usize),
    quintic: Quintic,
    iterations: u32,
) -> Vec<T> {
    let n = rows.min(columns);
    let [a, b, c] = quintic.map(T::of);
    let (mut gram, mut poly) = (vec![T::ZERO; n * n], vec![T::ZERO; n * n]);
    let mut next = vec![T::ZERO; x.len()];
    for _ in 0..iterations {
        let m = Matrix::new(&x, rows, columns);
        let (short, long) = if rows <= columns { (m, m.t()) } else { (m.t(), m) };
        gemm(T::ONE, short, long, T::ZERO, &mut gram);
        // b A + c A²
        poly.copy_from_slice(&gram);
        gemm(c, Matrix::new(&gram, n, n), Matrix::new(&gram, n, n), b, &mut poly);
        next.copy_from_slice(&x);
        let p = Matrix::new(&poly, n, n);
        // P is symmetric: from the right for a tall X.
        let (left, right) = if rows <= columns { (p, m) } else { (m, p) };
        gemm(T::ONE, left, right, a, &mut next);
        std::mem::swap(&mut x, &mut next);
    }
    x
}
