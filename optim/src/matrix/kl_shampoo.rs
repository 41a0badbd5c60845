//! KL-Shampoo: Shampoo whose two factors are fitted to each other.
//!
//! Lin, Lowe, Dangel, Eschenhagen, Xu & Grosse 2025, "Understanding and Improving Shampoo and SOAP via
//! Kullback–Leibler Minimization", section 3, and the authors' public program of 2026. The factors that bring a
//! normal distribution with the covariance L ⊗ R nearest to the gradients' satisfy L = E\[g R⁻¹ gᵀ\]/columns and
//! R = E\[gᵀ L⁻¹ g\]/rows. L ≈ Q Λ Qᵀ and R ≈ P Ω Pᵀ with bases that are renewed now and then, and eigenvalues
//! that are measured in them at every step:
//!
//! ```text
//! first    Λ, Ω ← rms(g) I;   L, R, Q, P from g and these as below;   nothing moves
//! M ← β₁ M + (1 − β₁) g
//! θ ← θ − α (Q (Qᵀ M̂ P / (√(λ ωᵀ) + ε)) Pᵀ + κ θ)
//! L ← β₂ L + (1 − β₂) g P Ω⁻¹ Pᵀ gᵀ / columns          R likewise, both with the old bases and eigenvalues
//! Λ ← β₂ Λ + (1 − β₂) diag(Qᵀ g P Ω⁻¹ Pᵀ gᵀ Q) / columns
//! Q ← qr(L Q)                                           every `basis_every` steps
//! ```
//! As in that program, the first gradient only finds the bases, and roots are never stale. Where it differs:
//! the program starts with Λ = Ω = 0.1 I ([`Scale::Fixed`]), which supposes gradients of that size, and gradients
//! of 10⁻³ then take steps that are a hundred times too short for a hundred steps; here the start has the first
//! gradient's size. For the same reason the bound on λ^(−1/2), there max(10, min(n, 4000)), is here in units of
//! the mean eigenvalue's. M is corrected for its start from zero; ε is in units of the gradient; what is kept is f64.
//! A side that is cut ([`LongSides`]) has a basis block by block, and one that keeps its diagonal has the axes for
//! a basis. A tensor of more axes is a matrix of its first axis against all others; vectors get Adam.

use engine::{DType, Parameter, Result, Tensor};
use kernels::pool::Buffer;
use kernels::reduce::dot;
use kernels::{linalg, parallel};

use super::muon::sides;
use super::soap::{average_in, descend, eigenvectors};
use crate::LongSides;
use crate::algebra::axes;
use crate::algebra::axes::{copy, scratch};
use crate::algebra::dense::{correction, failed};
use crate::algebra::pattern::Pattern;
use crate::check::{below_one, not_negative, positive};
use crate::frame::first::First;
use crate::frame::per_parameter::{PerParameter, Rule, Start};

/// What the eigenvalues start from, on both sides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// The root mean square of the first gradient that is not zero: their product is the mean square.
    OfGradient,
    /// A number, as in the authors' program (0.1).
    Fixed(f64),
}

/// Options of [`KlShampoo`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KlShampooConfig {
    /// α: the length of a step in every whitened entry.
    pub rate: f64,
    /// β₁ in [0, 1)
    pub beta1: f64,
    /// β₂ in [0, 1)
    pub beta2: f64,
    /// ε, in units of the gradient.
    pub epsilon: f64,
    /// κ, decoupled.
    pub weight_decay: f64,
    /// Steps between two renewals of the bases.
    pub basis_every: u64,
    /// What the eigenvalues start from.
    pub scale: Scale,
    /// How much of each factor is kept.
    pub sides: LongSides,
}

impl Default for KlShampooConfig {
    /// α 10⁻³, β 0.95 and 0.95, ε 10⁻⁸, every 10 steps, as SOAP has them.
    fn default() -> Self {
        Self {
            rate: 1e-3,
            beta1: 0.95,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.0,
            basis_every: 10,
            scale: Scale::OfGradient,
            sides: LongSides::default(),
        }
    }
}

/// KL-Shampoo.
///
/// # Example
/// ```
/// use engine::{DType, Gradients, Parameter, Tensor};
/// use alcyon_optim::{KlShampoo, KlShampooConfig, Optimizer};
/// let mut weight = Parameter::new(Tensor::zeros([1, 1], DType::F64));
/// let mut optimizer = KlShampoo::new(KlShampooConfig { rate: 0.5, ..KlShampooConfig::default() })?;
/// let mut grads = Gradients::default();
/// grads.set(&weight, Tensor::full([1, 1], 10.0, DType::F64));
/// optimizer.step(&mut weight, &grads)?; // finds the bases
/// optimizer.step(&mut weight, &grads)?; // whitened: √(L R) = |g|
/// assert!((weight.value().item()? + 0.5).abs() < 1e-8);
/// # Ok::<(), engine::Error>(())
/// ```
pub type KlShampoo = PerParameter<KlShampooConfig>;

/// The factor, its basis and its eigenvalues of each side.
const SIDES: [[&str; 3]; 2] = [["l", "l_basis", "l_values"], ["r", "r_basis", "r_values"]];

/// The largest λ^(−1/2) in units of the mean eigenvalue's is n, but not less and not more than these.
const BOUNDS: (usize, usize) = (10, 4000);

/// The rows whose squares are summed in one go.
const RUN: usize = 1024;

impl Rule for KlShampooConfig {
    fn may_fail(&self) -> bool {
        true
    }

    fn name(&self) -> &'static str {
        "kl-shampoo"
    }

    fn check(&self) -> Result<()> {
        below_one("kl-shampoo", "beta1", self.beta1)?;
        below_one("kl-shampoo", "beta2", self.beta2)?;
        positive("kl-shampoo", "epsilon", self.epsilon)?;
        not_negative("kl-shampoo", "weight_decay", self.weight_decay)?;
        self.sides.check("kl-shampoo")?;
        match self.scale {
            Scale::OfGradient => Ok(()),
            Scale::Fixed(start) => positive("kl-shampoo", "scale", start),
        }
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
                format!("Kronecker by Kullback–Leibler, {rows} ⊗ {columns}")
            }
            None => "first and root of second moment".into(),
        }
    }

    /// M; of each side of a matrix its eigenvalues, and a factor and a basis unless it is a diagonal; of a
    /// vector v.
    fn start(&self, parameter: &Parameter) -> Start {
        let shape = parameter.value().shape();
        let zeros = || First::zeros(*shape, DType::F64);
        let Some((rows, columns)) = sides(shape) else {
            return vec![("m", zeros()), ("v", zeros())];
        };
        let mut start = vec![("m", zeros())];
        for (n, [factor, basis, values]) in [rows, columns].into_iter().zip(SIDES) {
            let side = self.sides.of(n);
            if let Pattern::Blocks(_) = side {
                start.push((factor, First::zeros(side.shape(), DType::F64)));
                start.push((basis, First::identity(&side, 1.0)));
            }
            start.push((values, First::zeros([n], DType::F64)));
        }
        start
    }

    fn update(&self, t: u64, value: &mut Tensor, grad: &Tensor, kept: &mut [Tensor]) -> Result<()> {
        let g = grad.to_dtype(DType::F64)?;
        let g = g.as_slice::<f64>()?;
        let [m, rest @ ..] = kept else { return Ok(()) };
        let Some((rows, columns)) = sides(value.shape()) else {
            let [v] = rest else { return Ok(()) };
            return self.vector(t, value, g, [m, v]);
        };
        let patterns = [rows, columns].map(|n| self.sides.of(n));
        let Some([mut left, mut right]) = split(rest, &patterns) else { return Ok(()) };
        let shape = (rows, columns);
        if left.is_new() {
            let square = dot(g, g) / g.len() as f64;
            // A gradient of zeros, or one whose squares are zeros, says nothing of size or basis.
            if !square.is_normal() {
                return Ok(());
            }
            let scale = match self.scale {
                Scale::OfGradient => square.sqrt(),
                Scale::Fixed(scale) => scale,
            };
            // As if the other factor had been there before.
            let fresh = (1.0 - self.beta2) / scale;
            left.begin(|side, out| {
                side.row_gram(g, columns, (0.0, fresh / columns as f64), out);
            })?;
            right.begin(|side, out| {
                side.gram(g, rows, (0.0, fresh / rows as f64), out);
            })?;
            left.set_values(scale)?;
            return right.set_values(scale);
        }
        // Precondition. The mean of the gradients since the one that found the bases.
        let m = m.make_mut::<f64>()?;
        average_in(m, g, self.beta1);
        let mut direction = turned(&left, &right, m, shape, true)?;
        let (lambda, omega) = (roots(left.values()?), roots(right.values()?));
        let epsilon = self.epsilon;
        parallel::pieces(&mut direction, columns, |start, rows| {
            let lambda = &lambda[start / columns.max(1)..];
            for (row, lambda) in rows.chunks_exact_mut(columns.max(1)).zip(lambda) {
                row.iter_mut().zip(&omega).for_each(|(x, omega)| *x /= lambda * omega + epsilon);
            }
        });
        let direction = turned(&left, &right, &direction, shape, false)?;
        self.descend(value, &direction, t.saturating_sub(1))?;
        // Estimate: both sides with what the other one was.
        let whitened = turned(&left, &right, g, shape, true)?;
        let [of_rows, of_columns] = mean_squares(&whitened, left.values()?, right.values()?);
        drop(whitened);
        let weights = |count: usize| (self.beta2, (1.0 - self.beta2) / count as f64);
        if left.whole.is_some() {
            let half = right.whitened(g, [rows, columns], 1)?;
            left.add(|side, out| side.row_gram(&half, columns, weights(columns), out))?;
        }
        if right.whole.is_some() {
            let half = left.whitened(g, [rows, columns], 0)?;
            right.add(|side, out| side.gram(&half, rows, weights(rows), out))?;
        }
        for (side, new) in [(&mut left, of_rows), (&mut right, of_columns)] {
            side.average(&new, self.beta2)?;
            if (t - 1).is_multiple_of(self.basis_every.max(1)) {
                side.renew()?;
            }
        }
        Ok(())
    }
}

impl KlShampooConfig {
    /// θ ← (1 − α κ) θ − α P / (1 − β₁ᵗ)
    fn descend(&self, value: &mut Tensor, direction: &[f64], t: u64) -> Result<()> {
        let (size, keep) =
            (self.rate / correction(self.beta1, t.max(1)), 1.0 - self.rate * self.weight_decay);
        descend(value, direction, size / keep, keep)
    }

    /// Adam.
    fn vector(
        &self,
        t: u64,
        value: &mut Tensor,
        g: &[f64],
        [m, v]: [&mut Tensor; 2],
    ) -> Result<()> {
        let (m, v) = (m.make_mut::<f64>()?, v.make_mut::<f64>()?);
        m.iter_mut().zip(g).for_each(|(m, g)| *m = self.beta1 * *m + (1.0 - self.beta1) * g);
        v.iter_mut().zip(g).for_each(|(v, g)| *v = self.beta2 * *v + (1.0 - self.beta2) * g * g);
        let bias = correction(self.beta2, t);
        let scaled = |(m, v): (&f64, &f64)| m / ((v / bias).sqrt() + self.epsilon);
        let direction: Vec<f64> = m.iter().zip(&*v).map(scaled).collect();
        self.descend(value, &direction, t)
    }
}

fn roots(values: &[f64]) -> Vec<f64> {
    values.iter().map(|x| x.sqrt()).collect()
}

/// The means of xᵢⱼ²/ωⱼ over each row, and of xᵢⱼ²/λᵢ over each column. Runs of rows are summed side by side.
fn mean_squares(x: &[f64], lambda: &[f64], omega: &[f64]) -> [Vec<f64>; 2] {
    let (rows, columns) = (lambda.len(), omega.len());
    let omega: Vec<f64> = omega.iter().map(|omega| 1.0 / omega).collect();
    let sums = |(x, lambda): (&[f64], &[f64])| {
        let (mut of_rows, mut of_columns) = (vec![0.0; lambda.len()], vec![0.0; columns]);
        for ((row, lambda), to) in x.chunks_exact(columns.max(1)).zip(lambda).zip(&mut of_rows) {
            let lambda = 1.0 / lambda;
            for ((x, omega), sum) in row.iter().zip(&omega).zip(&mut of_columns) {
                let square = x * x;
                *to += square * omega;
                *sum += square * lambda;
            }
        }
        (of_rows, of_columns)
    };
    let runs = x.chunks((RUN * columns).max(1)).zip(lambda.chunks(RUN)).collect();
    let (mut of_rows, mut of_columns) = (Vec::with_capacity(rows), vec![0.0; columns]);
    for (of_run, sums) in parallel::map(runs, RUN * columns, sums) {
        of_rows.extend(of_run.into_iter().map(|x| x / columns as f64));
        of_columns.iter_mut().zip(sums).for_each(|(sum, x)| *sum += x);
    }
    of_columns.iter_mut().for_each(|x| *x /= rows as f64);
    [of_rows, of_columns]
}

/// One side's factor and basis (none of a diagonal), and its eigenvalues.
struct Side<'a> {
    pattern: &'a Pattern,
    whole: Option<[&'a mut Tensor; 2]>,
    values: &'a mut Tensor,
}

/// What is kept of both sides.
fn split<'a>(kept: &'a mut [Tensor], patterns: &'a [Pattern; 2]) -> Option<[Side<'a>; 2]> {
    let mut kept = kept.iter_mut();
    let mut side = |pattern: &'a Pattern| {
        let whole = match pattern {
            Pattern::Blocks(_) => Some([kept.next()?, kept.next()?]),
            Pattern::Diagonal(_) => None,
        };
        Some(Side { pattern, whole, values: kept.next()? })
    };
    Some([side(&patterns[0])?, side(&patterns[1])?])
}

/// Qᵀ X P, or back: Q X Pᵀ.
fn turned(
    left: &Side<'_>,
    right: &Side<'_>,
    x: &[f64],
    (rows, columns): (usize, usize),
    into: bool,
) -> Result<Buffer<f64>> {
    let mut out = scratch(x.len())?;
    match (left.basis()?, right.basis()?) {
        (Some(q), Some(p)) => {
            let mut half = scratch(x.len())?;
            left.pattern.left_into(q, x, columns, into, &mut half);
            right.pattern.right_into(p, &half, rows, !into, &mut out);
        }
        (Some(q), None) => left.pattern.left_into(q, x, columns, into, &mut out),
        (None, Some(p)) => right.pattern.right_into(p, x, rows, !into, &mut out),
        (None, None) => return copy(x),
    }
    Ok(out)
}

impl Side<'_> {
    fn basis(&self) -> Result<Option<&[f64]>> {
        self.whole.as_ref().map(|[_, basis]| basis.as_slice::<f64>()).transpose()
    }

    fn values(&self) -> Result<&[f64]> {
        self.values.as_slice::<f64>()
    }

    /// Whether no gradient has been seen: eigenvalues are positive from the first on.
    fn is_new(&self) -> bool {
        self.values().is_ok_and(|values| values.iter().all(|x| *x == 0.0))
    }

    /// The first factor and its eigenvectors.
    fn begin(&mut self, factor: impl FnOnce(&Pattern, &mut [f64])) -> Result<()> {
        self.add(factor)?;
        if let Some([factor, basis]) = &mut self.whole {
            **basis = eigenvectors(factor, self.pattern)?;
        }
        Ok(())
    }

    fn set_values(&mut self, scale: f64) -> Result<()> {
        self.values.make_mut::<f64>()?.fill(scale);
        Ok(())
    }

    /// Changes the factor.
    fn add(&mut self, change: impl FnOnce(&Pattern, &mut [f64])) -> Result<()> {
        if let Some([factor, _]) = &mut self.whole {
            change(self.pattern, factor.make_mut::<f64>()?);
        }
        Ok(())
    }

    /// What is left of X, `[rows, columns]`, when this side has whitened it: Λ^(−1/2) Qᵀ X by the side of the rows
    /// (axis 0), X P Ω^(−1/2) by that of the columns (axis 1).
    fn whitened(&self, x: &[f64], dims: [usize; 2], axis: usize) -> Result<Buffer<f64>> {
        let inverse: Vec<f64> = self.values()?.iter().map(|value| 1.0 / value.sqrt()).collect();
        let turn = |pattern: &Pattern, by: &[f64], out: &mut [f64]| match axis {
            0 => pattern.left_into(by, x, dims[1], true, out),
            _ => pattern.right_into(by, x, dims[0], false, out),
        };
        let mut out = scratch(x.len())?;
        match self.basis()? {
            None => turn(&Pattern::Diagonal(inverse.len()), &inverse, &mut out),
            Some(basis) => {
                turn(self.pattern, basis, &mut out);
                axes::scale(&mut out, &dims, axis, &inverse);
            }
        }
        Ok(out)
    }

    /// λ ← β λ + (1 − β) new, and none far below the mean.
    fn average(&mut self, new: &[f64], beta: f64) -> Result<()> {
        let values = self.values.make_mut::<f64>()?;
        values.iter_mut().zip(new).for_each(|(old, new)| *old = beta * *old + (1.0 - beta) * new);
        let n = values.len();
        let bound = n.clamp(BOUNDS.0, BOUNDS.1) as f64;
        let floor = values.iter().sum::<f64>() / n.max(1) as f64 / (bound * bound);
        values.iter_mut().for_each(|x| *x = x.max(floor));
        Ok(())
    }

    /// Q ← qr(L Q)
    fn renew(&mut self) -> Result<()> {
        let Some([factor, basis]) = &mut self.whole else { return Ok(()) };
        let product = self.pattern.times((factor.as_slice()?, false), (basis.as_slice()?, false));
        let of = |block: &[f64], n: usize| linalg::orthonormal(block, n).map_err(|e| failed(&e));
        let renewed = self.pattern.block_by_block(&product, of)?;
        **basis = Tensor::from_buffer(renewed, self.pattern.shape())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_squares_of_many_rows_are_those_of_the_definition() {
        let number = |i: usize| (i * i % 23) as f64 - 11.0;
        for (rows, columns) in [(3, 4), (RUN, 2), (2 * RUN + 5, 3)] {
            let x: Vec<f64> = (0..rows * columns).map(number).collect();
            let [lambda, omega] =
                [rows, columns].map(|n| (0..n).map(|i| 1.0 + (i % 7) as f64).collect::<Vec<_>>());
            let [of_rows, of_columns] = mean_squares(&x, &lambda, &omega);
            let square = |i: usize, j: usize| x[i * columns + j] * x[i * columns + j];
            for (i, got) in of_rows.iter().enumerate() {
                let sum: f64 = (0..columns).map(|j| square(i, j) / omega[j]).sum();
                assert!((got - sum / columns as f64).abs() < 1e-10, "row {i} of {rows}");
            }
            for (j, got) in of_columns.iter().enumerate() {
                let sum: f64 = (0..rows).map(|i| square(i, j) / lambda[i]).sum();
                assert!((got - sum / rows as f64).abs() < 1e-10, "column {j} for {rows} rows");
            }
        }
    }
}
