//! PSGD-Kron: a preconditioner that is fitted, step by step, to whiten the gradient.
//!
//! Li 2018, "Preconditioned Stochastic Gradient Descent"; Kronecker products and the whitening
//! criterion: Pooladzandi & Li 2024, "Curvature-Informed SGD via General Purpose Lie-Group
//! Preconditioners", sections 3 and 5.
//!
//! ```text
//! m ← β m + (1 − β) g                          m̂ = m/(1 − βᵗ)
//! fit  A = m̂ ×₁ Q₁ ⋯ ×ₖ Qₖ,   B = z ×₁ Q₁⁻ᵀ ⋯ ×ₖ Qₖ⁻ᵀ,   z normal
//!      Qᵢ ← Qᵢ − μ triu(A₍ᵢ₎ A₍ᵢ₎ᵀ − B₍ᵢ₎ B₍ᵢ₎ᵀ) Qᵢ / ‖A₍ᵢ₎ A₍ᵢ₎ᵀ + B₍ᵢ₎ B₍ᵢ₎ᵀ‖
//! P  = m̂ ×₁ Q₁ᵀ Q₁ ⋯ ×ₖ Qₖᵀ Qₖ,   P ← P · min(1, 1.1/rms(P))
//! θ ← θ − α (P + κ θ)                          κ for matrices and up
//! ```
//! Qᵢ is upper triangular, or diagonal for sides of 1 and above `longest`. The fit runs with a
//! probability that falls from 1 to 0.03. As in the program `kron_torch`: a little of z is added to m̂,
//! the norm is a cheap lower bound, and the sides of a product are balanced now and then (here: every
//! hundredth fit's step). Deviations: draws follow from the seed and the step, and are the same for all
//! parameters; what is kept is f64.

use engine::{DType, Parameter, Result, Rng, Tensor};

use crate::axes;
use crate::moments::{below_one, correction, demand, not_negative, positive};
use crate::per_parameter::{PerParameter, Rule, Start};
use crate::soap::descend;

/// The root mean square that a direction is cut to.
const LONGEST_STEP: f64 = 1.1;

/// The part of z in the gradient that is fitted, relative to the mean of its sizes: √2⁻²³.
const NOISE: f64 = 3.452_669_8e-4;

/// The steps between two balancings.
const BALANCE_EVERY: u64 = 100;

/// Options of [`Psgd`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PsgdConfig {
    /// α
    pub rate: f64,
    /// β in [0, 1)
    pub beta: f64,
    /// μ in (0, 1]: the rate of the fit.
    pub fit_rate: f64,
    /// What the whole preconditioner's root starts from, times the identity.
    pub start: f64,
    /// Steps that are all fitted.
    pub warm_up: u64,
    /// The probability of a fit after that falls like e^(−`cooling` · steps) …
    pub cooling: f64,
    /// … down to this.
    pub least_probability: f64,
    /// The longest side with a triangular factor; longer ones have a diagonal.
    pub longest: usize,
    /// κ
    pub weight_decay: f64,
    /// The seed of z and of the draws.
    pub seed: u64,
}

impl Default for PsgdConfig {
    /// `kron_torch`'s: α 3·10⁻⁴, β 0.9, μ 0.1, start 1, 500 steps, cooling 10⁻³ to 0.03, sides to 8192.
    fn default() -> Self {
        Self {
            rate: 3e-4,
            beta: 0.9,
            fit_rate: 0.1,
            start: 1.0,
            warm_up: 500,
            cooling: 1e-3,
            least_probability: 0.03,
            longest: 8192,
            weight_decay: 0.0,
            seed: 0,
        }
    }
}

/// Preconditioned SGD with a Kronecker product of triangular factors.
///
/// # Example
/// ```
/// use engine::{Gradients, Parameter, Tensor};
/// use alcyon_optim::{Optimizer, Psgd, PsgdConfig};
/// let mut weight = Parameter::new(Tensor::from_slice(&[0.0], [1])?);
/// let mut psgd = Psgd::new(PsgdConfig { rate: 1e-3, beta: 0.0, ..PsgdConfig::default() })?;
/// let mut grads = Gradients::default();
/// grads.set(&weight, Tensor::from_slice(&[100.0], [1])?);
/// for _ in 0..400 {
///     psgd.step(&mut weight, &grads)?;
/// }
/// let before = weight.value().item()?;
/// psgd.step(&mut weight, &grads)?;
/// let length = (before - weight.value().item()?) / 1e-3; // whitened: of length about 1
/// assert!(length > 0.3 && length <= 1.1 + 1e-9);
/// # Ok::<(), engine::Error>(())
/// ```
pub type Psgd = PerParameter<PsgdConfig>;

const FACTORS: [&str; 8] = ["q.0", "q.1", "q.2", "q.3", "q.4", "q.5", "q.6", "q.7"];

impl Rule for PsgdConfig {
    const MAY_FAIL: bool = true;

    fn name(&self) -> &'static str {
        "psgd"
    }

    fn check(&self) -> Result<()> {
        below_one("psgd", "beta", self.beta)?;
        let (rate, least) = (self.fit_rate, self.least_probability);
        demand("psgd", "fit_rate", rate, "in (0, 1]", rate > 0.0 && rate <= 1.0)?;
        demand("psgd", "least_probability", least, "in [0, 1]", (0.0..=1.0).contains(&least))?;
        positive("psgd", "start", self.start)?;
        not_negative("psgd", "cooling", self.cooling)?;
        not_negative("psgd", "weight_decay", self.weight_decay)
    }

    fn rate(&self) -> f64 {
        self.rate
    }

    fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    fn words(&self, parameter: &Parameter) -> String {
        let side =
            |&n: &usize| if self.triangular(n) { n.to_string() } else { format!("diag {n}") };
        let sides: Vec<String> = dims(parameter.value()).iter().map(side).collect();
        format!("whitened, {}", sides.join(" ⊗ "))
    }

    /// m, then Q of each axis.
    fn start(&self, parameter: &Parameter) -> Start {
        let mut start = vec![("m", Tensor::zeros(*parameter.value().shape(), DType::F64))];
        let dims = dims(parameter.value());
        let each = self.start.powf(1.0 / dims.len() as f64);
        for (&n, name) in dims.iter().zip(FACTORS) {
            let q = Tensor::full([n], each, DType::F64);
            let eye = |k: usize| if k.is_multiple_of(n + 1) { each } else { 0.0 };
            let full = || Tensor::from_fn([n, n], DType::F64, eye);
            start.push((name, if self.triangular(n) { full() } else { q }));
        }
        start
    }

    fn update(&self, t: u64, value: &mut Tensor, grad: &Tensor, kept: &mut [Tensor]) -> Result<()> {
        let [m, tensors @ ..] = kept else { return Ok(()) };
        let (dims, g) = (dims(value), grad.to_f64_vec()?);
        let m = m.make_mut::<f64>()?;
        m.iter_mut().zip(&g).for_each(|(m, g)| *m = self.beta * *m + (1.0 - self.beta) * g);
        let scale = 1.0 / correction(self.beta, t);
        let moment: Vec<f64> = m.iter().map(|m| m * scale).collect();
        let mut factors = Vec::with_capacity(tensors.len());
        for (axis, (q, &n)) in tensors.iter_mut().zip(&dims).enumerate() {
            let triangular = self.triangular(n);
            factors.push(Side { axis, n, triangular, q: q.make_mut::<f64>()? });
        }
        let mut rng = Rng::stream(self.seed, t);
        let draw = Tensor::uniform([1], 0.0, 1.0, DType::F64, &mut rng).item()?;
        if draw < self.probability(t) {
            let z = Tensor::normal([g.len()], 0.0, 1.0, DType::F64, &mut rng).to_f64_vec()?;
            fit(&mut factors, &moment, z, &dims, self.fit_rate);
            if t.is_multiple_of(BALANCE_EVERY) {
                balance(&mut factors);
            }
        }
        let mut direction = moment;
        for side in &factors {
            direction = side.times(direction, &dims, false);
            direction = side.times(direction, &dims, true);
        }
        let square = direction.iter().map(|x| x * x).sum::<f64>() / direction.len().max(1) as f64;
        let cut = self.rate * (LONGEST_STEP / square.sqrt()).min(1.0);
        let decay = if value.rank() > 1 { self.weight_decay } else { 0.0 };
        // (1 − α κ) θ − α P = decay (θ − size P) with size α / decay; κ is far below 1/α.
        let kept = 1.0 - self.rate * decay;
        descend(value, &direction, cut / kept, kept)
    }
}

impl PsgdConfig {
    /// The probability of a fit at step t.
    ///
    /// # Example
    /// ```
    /// let config = alcyon_optim::PsgdConfig::default();
    /// assert_eq!((config.probability(500), config.probability(1_000_000)), (1.0, 0.03));
    /// ```
    #[must_use]
    pub fn probability(&self, t: u64) -> f64 {
        let cold = t.saturating_sub(self.warm_up) as f64;
        (-self.cooling * cold).exp().max(self.least_probability)
    }

    const fn triangular(&self, n: usize) -> bool {
        n > 1 && n <= self.longest
    }
}

/// The axes of a tensor; a scalar is a vector of one number, and axes behind the eighth are one.
fn dims(value: &Tensor) -> Vec<usize> {
    let mut dims = value.shape().to_vec();
    if dims.is_empty() {
        dims.push(1);
    }
    if dims.len() > FACTORS.len() {
        let rest: usize = dims.drain(FACTORS.len() - 1..).product();
        dims.push(rest);
    }
    dims
}

/// Q of one axis.
struct Side<'a> {
    axis: usize,
    n: usize,
    triangular: bool,
    /// `[n, n]`, upper triangular, or the diagonal `[n]`.
    q: &'a mut [f64],
}

impl Side<'_> {
    /// X ×ᵢ Q, or ×ᵢ Qᵀ.
    fn times(&self, x: Vec<f64>, dims: &[usize], transposed: bool) -> Vec<f64> {
        if self.triangular {
            return axes::times(&x, dims, self.axis, self.q, transposed);
        }
        self.scaled(x, dims, |x, q| x * q)
    }

    /// X ×ᵢ Q⁻ᵀ: forward substitution, Qᵀ being lower triangular.
    fn solve(&self, mut x: Vec<f64>, dims: &[usize]) -> Vec<f64> {
        if !self.triangular {
            return self.scaled(x, dims, |x, q| x / q);
        }
        let (n, inner) = (self.n, dims[self.axis + 1..].iter().product::<usize>());
        for slab in x.chunks_exact_mut((n * inner).max(1)) {
            for i in 0..n {
                for c in 0..inner {
                    let known: f64 = (0..i).map(|j| self.q[j * n + i] * slab[j * inner + c]).sum();
                    slab[i * inner + c] = (slab[i * inner + c] - known) / self.q[i * n + i];
                }
            }
        }
        x
    }

    fn scaled(&self, mut x: Vec<f64>, dims: &[usize], by: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        let inner: usize = dims[self.axis + 1..].iter().product();
        let entry = |(at, x): (usize, &mut f64)| *x = by(*x, self.q[at / inner.max(1) % self.n]);
        x.iter_mut().enumerate().for_each(entry);
        x
    }

    /// Q ← Q − μ triu(AAᵀ − BBᵀ) Q / ‖AAᵀ + BBᵀ‖
    fn fit(&mut self, a: &[f64], b: &[f64], dims: &[usize], rate: f64) {
        let n = self.n;
        if self.triangular {
            let mut sums = [vec![0.0; n * n], vec![0.0; n * n]];
            for (x, sum) in [a, b].into_iter().zip(&mut sums) {
                axes::gram(x, dims, self.axis, (0.0, 1.0), sum);
            }
            let [aa, bb] = sums;
            let bound =
                spectral_bound(&aa.iter().zip(&bb).map(|(a, b)| a + b).collect::<Vec<_>>(), n);
            let size = if bound > 0.0 { rate / bound } else { 0.0 };
            let old = self.q.to_vec();
            for i in 0..n {
                for k in i..n {
                    // Both are upper triangular: j runs from i to k.
                    let product: f64 =
                        (i..=k).map(|j| (aa[i * n + j] - bb[i * n + j]) * old[j * n + k]).sum();
                    self.q[i * n + k] -= size * product;
                }
            }
            return;
        }
        let inner: usize = dims[self.axis + 1..].iter().product::<usize>().max(1);
        let squares = |x: &[f64]| {
            let mut sums = vec![0.0; n];
            x.iter().enumerate().for_each(|(at, x)| sums[at / inner % n] += x * x);
            sums
        };
        let (aa, bb) = (squares(a), squares(b));
        let bound = aa.iter().zip(&bb).map(|(a, b)| a + b).fold(0.0, f64::max);
        let size = if bound > 0.0 { rate / bound } else { 0.0 };
        for ((q, a), b) in self.q.iter_mut().zip(aa).zip(bb) {
            *q -= size * (a - b) * *q;
        }
    }
}

/// One fit of all sides to the gradient g and the normal draw z.
fn fit(sides: &mut [Side<'_>], g: &[f64], z: Vec<f64>, dims: &[usize], rate: f64) {
    let size = g.iter().map(|g| g.abs()).sum::<f64>() / g.len().max(1) as f64;
    // Nothing to whiten: fitted to zero, the factors would grow without bound.
    if size == 0.0 {
        return;
    }
    let mut a: Vec<f64> = g.iter().zip(&z).map(|(g, z)| g + NOISE * size * z).collect();
    let mut b = z;
    for side in &*sides {
        a = side.times(a, dims, false);
        b = side.solve(b, dims);
    }
    sides.iter_mut().for_each(|side| side.fit(&a, &b, dims, rate));
}

/// Gives all sides the same largest entry; their product stays.
fn balance(sides: &mut [Side<'_>]) {
    let largest = |side: &Side<'_>| side.q.iter().fold(0.0_f64, |m, q| m.max(q.abs()));
    let sizes: Vec<f64> = sides.iter().map(largest).collect();
    let mean = sizes.iter().map(|s| s.ln()).sum::<f64>() / sizes.len().max(1) as f64;
    if mean.is_finite() {
        for (side, size) in sides.iter_mut().zip(sizes) {
            side.q.iter_mut().for_each(|q| *q *= mean.exp() / size);
        }
    }
}

/// A lower bound of a symmetric matrix's largest eigenvalue: ‖M x‖ with x along its longest row.
fn spectral_bound(m: &[f64], n: usize) -> f64 {
    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let rows = m.chunks_exact(n);
    let Some(longest) = rows.clone().max_by(|a, b| norm(a).total_cmp(&norm(b))) else { return 0.0 };
    let length = norm(longest);
    if length == 0.0 {
        return 0.0;
    }
    let product: Vec<f64> =
        rows.map(|row| row.iter().zip(longest).map(|(a, x)| a * x / length).sum()).collect();
    norm(&product)
}
