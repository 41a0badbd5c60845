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
//! Qᵢ is upper triangular, or diagonal for sides of 1, for vectors, and where a side keeps its diagonal
//! ([`LongSides`]). The fit runs with a probability that falls from 1 to 0.03. As in the program `kron_torch`:
//! tensors of more than two axes are merged to the squarest matrix, vectors have diagonals
//! (`min_ndim_triangular` 2), a little of z is added to m̂, and the norm is a lower bound by two products
//! (‖M x‖/‖x‖ for x = M² e, e the longest column's). Deviations: the longest side is 2,048 by default, theirs
//! 8,192; the sides of a product are balanced at every hundredth step that is fitted, there at random, once in a
//! hundred; draws follow from the seed and the step, and are the same for all parameters; what is kept is f64.

mod runs;
mod triangle;

use engine::{DType, Parameter, Result, Rng, Shape, Tensor, for_float};
use kernels::length::largest;
use kernels::parallel;
use kernels::pool::Buffer;
use kernels::reduce::dot;

use super::soap::{average_in, descend};
use crate::LongSides;
use crate::algebra::axes::scratch;
use crate::algebra::dense::correction;
use crate::algebra::pattern::Pattern;
use crate::check::{below_one, demand, not_negative, positive};
use crate::frame::first::First;
use crate::frame::per_parameter::{PerParameter, Rule, Start};
use runs::Moment;
use triangle::Side;

/// The root mean square that a direction is cut to.
const LONGEST_STEP: f64 = 1.1;

/// The part of z in the gradient that is fitted, relative to the mean of its sizes: √2⁻²³.
const NOISE: f64 = 3.452_669_8e-4;

/// The numbers of z that are drawn in one go.
const RUN: usize = 1 << 18;

/// The 32-bit words of the generator between two runs: more than one takes.
const WORDS: u64 = 1 << 40;

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
    /// The longest side with a triangular factor; longer ones have a diagonal. There are no blocks.
    pub sides: LongSides,
    /// The axes that a tensor needs for triangular factors, after merging: those of others are diagonal.
    pub least_axes: usize,
    /// Merges the axes of tensors of more than two to the squarest matrix.
    pub merge: bool,
    /// κ
    pub weight_decay: f64,
    /// The seed of z and of the draws.
    pub seed: u64,
}

impl Default for PsgdConfig {
    /// `kron_torch`'s: α 3·10⁻⁴, β 0.9, μ 0.1, start 1, 500 steps, cooling 10⁻³ to 0.03, triangles for
    /// matrices, axes merged.
    fn default() -> Self {
        Self {
            rate: 3e-4,
            beta: 0.9,
            fit_rate: 0.1,
            start: 1.0,
            warm_up: 500,
            cooling: 1e-3,
            least_probability: 0.03,
            sides: LongSides::default(),
            least_axes: 2,
            merge: true,
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
    fn may_fail(&self) -> bool {
        true
    }

    fn name(&self) -> &'static str {
        "psgd"
    }

    fn check(&self) -> Result<()> {
        below_one("psgd", "beta", self.beta)?;
        let (rate, least) = (self.fit_rate, self.least_probability);
        demand("psgd", "fit_rate", rate, "in (0, 1]", rate > 0.0 && rate <= 1.0)?;
        demand("psgd", "least_probability", least, "in [0, 1]", (0.0..=1.0).contains(&least))?;
        positive("psgd", "start", self.start)?;
        let LongSides { block, longest } = self.sides;
        demand("psgd", "sides.block", block as f64, "`longest`: no blocks", block >= longest)?;
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
        let sides = self.patterns(parameter.value().shape());
        let sides: Vec<String> = sides.iter().map(Pattern::words).collect();
        format!("whitened, {}", sides.join(" ⊗ "))
    }

    /// m, then Q of each axis.
    fn start(&self, parameter: &Parameter) -> Start {
        let shape = parameter.value().shape();
        let mut start = vec![("m", First::zeros(*shape, DType::F64))];
        let sides = self.patterns(shape);
        let each = self.start.powf(1.0 / sides.len() as f64);
        let named = sides.iter().zip(FACTORS);
        start.extend(named.map(|(side, name)| (name, First::identity(side, each))));
        start
    }

    fn update(&self, t: u64, value: &mut Tensor, grad: &Tensor, kept: &mut [Tensor]) -> Result<()> {
        let [m, tensors @ ..] = kept else { return Ok(()) };
        let (grad, m) = (grad.contiguous()?, m.make_mut::<f64>()?);
        for_float!(grad.dtype(), T => average_in(m, grad.as_slice::<T>()?, self.beta));
        let dims = self.dims(value.shape());
        let moment = Moment { m, scale: 1.0 / correction(self.beta, t), dims: &dims };
        let patterns = self.patterns(value.shape());
        let mut rng = Rng::stream(self.seed, t);
        let draw = Tensor::uniform([1], 0.0, 1.0, DType::F64, &mut rng).item()?;
        if draw < self.probability(t) {
            let z = normal(m.len(), &rng)?;
            let changes = moment.fit(&sides(tensors, &patterns, Side::to_fit)?, &z)?;
            for (q, change) in tensors.iter_mut().zip(&changes) {
                change.apply(q.make_mut()?, self.fit_rate);
            }
            if t.is_multiple_of(BALANCE_EVERY) && tensors.len() > 1 {
                balance(tensors)?;
            }
        }
        let direction =
            moment.preconditioned(&sides(tensors, &patterns, |axis, pattern, q| {
                Side::to_precondition(axis, pattern, q, m.len())
            })?)?;
        let square = dot(&direction, &direction) / direction.len().max(1) as f64;
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

    /// The axes of a tensor as they are seen.
    fn dims(&self, shape: &Shape) -> Vec<usize> {
        let mut dims = shape.to_vec();
        if self.merge && dims.len() > 2 {
            let sides = |at: usize| -> [usize; 2] {
                [dims[..at].iter().product(), dims[at..].iter().product()]
            };
            let skew = |[a, b]: [usize; 2]| a.max(b) as f64 / a.min(b).max(1) as f64;
            let splits = (1..dims.len()).map(sides);
            return splits
                .min_by(|a, b| skew(*a).total_cmp(&skew(*b)))
                .map_or(dims, |s| s.to_vec());
        }
        // A scalar is a vector of one number, and axes behind the eighth are one.
        if dims.is_empty() {
            dims.push(1);
        }
        if dims.len() > FACTORS.len() {
            let rest: usize = dims.drain(FACTORS.len() - 1..).product();
            dims.push(rest);
        }
        dims
    }

    /// What is kept of Q along each of them: all of it, for its triangle, or a diagonal.
    fn patterns(&self, shape: &Shape) -> Vec<Pattern> {
        let dims = self.dims(shape);
        let vector = dims.len() < self.least_axes;
        let side =
            |&n: &usize| if vector || n <= 1 { Pattern::Diagonal(n) } else { self.sides.of(n) };
        dims.iter().map(side).collect()
    }
}

/// The factors of all axes.
fn sides<'a>(
    tensors: &'a [Tensor],
    patterns: &'a [Pattern],
    side: impl Fn(usize, &'a Pattern, &'a [f64]) -> Side<'a>,
) -> Result<Vec<Side<'a>>> {
    let all = tensors.iter().zip(patterns).enumerate();
    all.map(|(axis, (q, pattern))| Ok(side(axis, pattern, q.as_slice()?))).collect()
}

/// So many standard normal numbers from here on. Runs of them are drawn side by side, each from a place of its
/// own in the generator's stream, the first from here.
fn normal(numbers: usize, rng: &Rng) -> Result<Buffer<f64>> {
    let [seed, stream, position] = rng.state();
    let mut z = scratch(numbers)?;
    // A draw is worth some ten elements of a loop.
    parallel::items(z.chunks_mut(RUN).collect(), 10 * RUN, |run, z| {
        Rng::from_state([seed, stream, position + run as u64 * WORDS]).fill_normal(z);
    });
    Ok(z)
}

/// Gives all factors the same largest entry; their product stays.
fn balance(factors: &mut [Tensor]) -> Result<()> {
    let mut sizes = Vec::with_capacity(factors.len());
    for q in &*factors {
        sizes.push(largest(q.as_slice::<f64>()?));
    }
    let mean = sizes.iter().map(|s| s.ln()).sum::<f64>() / sizes.len().max(1) as f64;
    if mean.is_finite() {
        for (q, size) in factors.iter_mut().zip(sizes) {
            q.make_mut::<f64>()?.iter_mut().for_each(|q| *q *= mean.exp() / size);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_run_is_drawn_as_one_and_the_next_from_a_place_of_its_own() {
        let mut rng = Rng::stream(3, 5);
        Tensor::uniform([1], 0.0, 1.0, DType::F64, &mut rng);
        let z = normal(RUN + 3, &rng).unwrap();
        let [seed, stream, position] = rng.state();
        let one = |numbers: usize, mut rng: Rng| {
            let z = Tensor::normal([numbers], 0.0, 1.0, DType::F64, &mut rng);
            (z.to_vec::<f64>().unwrap(), rng.state()[2])
        };
        let (first, end) = one(RUN, rng);
        assert!(z[..RUN] == first && end < position + WORDS, "{end}");
        let place = Rng::from_state([seed, stream, position + WORDS]);
        assert_eq!(z[RUN..], one(3, place).0);
        assert!(normal(0, &Rng::new(1)).unwrap().is_empty());
    }
}
