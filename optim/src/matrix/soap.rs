//! SOAP: Adam in the eigenvectors of Shampoo.
//!
//! Vyas, Morwani, Zhao, Kwun, Shapira, Brandfonbrener, Janson & Kakade 2025, "SOAP: Improving and
//! Stabilizing Shampoo using Adam", Algorithm 3. With [`Basis::Eigenvectors`] it is Shampoo with
//! corrected eigenvalues: Eschenhagen, Defazio, Lee, Turner & Shi 2025, "Purifying Shampoo".
//!
//! ```text
//! g' = Q₁ᵀ g Q₂,   m ← β₁ m + (1 − β₁) g,   v ← β₂ v + (1 − β₂) g'²
//! θ  ← θ − α Q₁ ((Q₁ᵀ m̂ Q₂) / (√v̂ + ε')) Q₂ᵀ
//! θ  ← (1 − α κ) θ
//! Lᵢ ← β Lᵢ + (1 − β) g₍ᵢ₎ g₍ᵢ₎ᵀ                 along each axis
//! Qᵢ ← qr(Lᵢ Qᵢ), columns sorted by Qᵢᵀ Lᵢ Qᵢ     every `basis_every` steps; v is sorted along
//! ```
//! As in the authors' program, the first step only finds L and Q and moves nothing, and ε' = ε/√(1 − β₂ᵗ)
//! stands beside an uncorrected √v. Any number of axes; vectors get plain Adam. An axis whose side keeps its
//! diagonal ([`LongSides`]) is not rotated, and one in blocks is rotated block by block. Deviations: everything
//! that is kept is f64, where they keep f32; their longest axis is 10,000.

use engine::{DType, Element, Parameter, Result, Shape, Tensor, for_float};
use kernels::gemm::{Matrix, gemm};
use kernels::pool::Buffer;
use kernels::{linalg, parallel};

use crate::LongSides;
use crate::algebra::axes;
use crate::algebra::dense::{correction, failed};
use crate::algebra::on_tensors::Composed;
use crate::algebra::on_tensors::{here, mix, there};
use crate::algebra::pattern::Pattern;
use crate::check::{below_one, not_negative, positive};
use crate::frame::first::First;
use crate::frame::per_parameter::{PerParameter, Rule, Start};

/// How the eigenvectors are renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// One step of the power iteration from the old ones, by QR.
    PowerIteration,
    /// An eigendecomposition. v stays where it is.
    Eigenvectors,
}

/// Options of [`Soap`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SoapConfig {
    /// α
    pub rate: f64,
    /// β₁ in [0, 1)
    pub beta1: f64,
    /// β₂ in [0, 1)
    pub beta2: f64,
    /// β of L; β₂ if there is none.
    pub shampoo_beta: Option<f64>,
    /// ε, in units of the gradient.
    pub epsilon: f64,
    /// κ, decoupled, after the step.
    pub weight_decay: f64,
    /// Steps between two renewals of Q.
    pub basis_every: u64,
    /// How Q is renewed.
    pub basis: Basis,
    /// Whether the moments' bias is corrected.
    pub bias_correction: bool,
    /// How much of each axis is rotated.
    pub sides: LongSides,
}

impl Default for SoapConfig {
    /// The authors': α 0.003, β 0.95 and 0.95, ε 10⁻⁸, κ 0.01, every 10 steps.
    fn default() -> Self {
        Self {
            rate: 3e-3,
            beta1: 0.95,
            beta2: 0.95,
            shampoo_beta: None,
            epsilon: 1e-8,
            weight_decay: 0.01,
            basis_every: 10,
            basis: Basis::PowerIteration,
            bias_correction: true,
            sides: LongSides::default(),
        }
    }
}

impl SoapConfig {
    /// Shampoo with corrected eigenvalues: eigendecompositions in place of power iterations.
    #[must_use]
    pub fn corrected_shampoo() -> Self {
        Self { basis: Basis::Eigenvectors, ..Self::default() }
    }
}

/// SOAP.
///
/// # Example
/// ```
/// use engine::{Gradients, Parameter, Tensor};
/// use alcyon_optim::{Optimizer, Soap, SoapConfig};
/// let mut weight = Parameter::new(Tensor::from_slice(&[1.0, 1.0, 1.0, 1.0], [2, 2])?);
/// let mut grads = Gradients::default();
/// grads.set(&weight, Tensor::from_slice(&[3.0, 0.0, 0.0, -1.0], [2, 2])?);
/// let mut soap = Soap::new(SoapConfig { rate: 0.5, weight_decay: 0.0, ..SoapConfig::default() })?;
/// soap.step(&mut weight, &grads)?; // finds the axes
/// soap.step(&mut weight, &grads)?; // Adam along them
/// let moved = weight.value().to_vec::<f64>()?;
/// assert!((moved[0] - 0.5).abs() < 1e-6 && (moved[3] - 1.5).abs() < 1e-6);
/// # Ok::<(), engine::Error>(())
/// ```
pub type Soap = PerParameter<SoapConfig>;

const MOMENTS: [&str; 8] = ["l.0", "l.1", "l.2", "l.3", "l.4", "l.5", "l.6", "l.7"];
const BASES: [&str; 8] = ["q.0", "q.1", "q.2", "q.3", "q.4", "q.5", "q.6", "q.7"];

impl Rule for SoapConfig {
    fn may_fail(&self) -> bool {
        true
    }

    fn has_composed(&self) -> bool {
        true
    }

    fn name(&self) -> &'static str {
        match self.basis {
            Basis::PowerIteration => "soap",
            Basis::Eigenvectors => "eshampoo",
        }
    }

    fn check(&self) -> Result<()> {
        below_one("soap", "beta1", self.beta1)?;
        below_one("soap", "beta2", self.beta2)?;
        below_one("soap", "shampoo_beta", self.shampoo_beta.unwrap_or(0.0))?;
        positive("soap", "epsilon", self.epsilon)?;
        self.sides.check("soap")?;
        not_negative("soap", "weight_decay", self.weight_decay)
    }

    fn rate(&self) -> f64 {
        self.rate
    }

    fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    fn words(&self, parameter: &Parameter) -> String {
        let shape = parameter.value().shape();
        if self.rotated(shape).is_empty() {
            return "first and root of second moment".into();
        }
        let sides: Vec<String> = shape.iter().map(|&n| self.sides.of(n).words()).collect();
        format!("Adam in eigenvectors, {}", sides.join(" ⊗ "))
    }

    /// m and v, then L and Q of each rotated axis.
    fn start(&self, parameter: &Parameter) -> Start {
        let shape = parameter.value().shape();
        let zeros = || First::zeros(*shape, DType::F64);
        let mut start = vec![("m", zeros()), ("v", zeros())];
        for (axis, side) in self.rotated(shape) {
            start.push((MOMENTS[axis], First::zeros(side.shape(), DType::F64)));
            start.push((BASES[axis], First::identity(&side, 1.0)));
        }
        start
    }

    fn update(&self, t: u64, value: &mut Tensor, grad: &Tensor, kept: &mut [Tensor]) -> Result<()> {
        let [m, v, pairs @ ..] = kept else { return Ok(()) };
        let mut pairs: Vec<&mut [Tensor]> = pairs.chunks_exact_mut(2).collect();
        let (dims, axes) = (*value.shape(), self.rotated(value.shape()));
        let g = grad.to_dtype(DType::F64)?;
        let g = g.as_slice::<f64>()?;
        let beta = self.shampoo_beta.unwrap_or(self.beta2);
        if t == 1 {
            for ((axis, side), pair) in axes.iter().zip(&mut pairs) {
                let l = pair[0].make_mut::<f64>()?;
                axes::gram(g, &dims, (*axis, side), (0.0, 1.0 - beta), l);
                pair[1] = eigenvectors(&pair[0], side)?;
            }
            return Ok(());
        }
        // Adam along the eigenvectors: t counts the steps that move.
        let t = t - 1;
        let (m, v) = (m.make_mut::<f64>()?, v.make_mut::<f64>()?);
        average_in(m, g, self.beta1);
        let turn = |x: &[f64], back: bool| -> Result<Option<Buffer<f64>>> {
            let mut turned: Option<Buffer<f64>> = None;
            for ((axis, side), pair) in axes.iter().zip(&pairs) {
                let (from, q) = (turned.as_deref().unwrap_or(x), pair[1].as_slice::<f64>()?);
                turned = Some(axes::times(from, &dims, (*axis, side), q, !back)?);
            }
            Ok(turned)
        };
        let (turned, direction) = (turn(g, false)?, turn(m, false)?);
        let turned = turned.as_deref().unwrap_or(g);
        let mut direction = direction.map_or_else(|| axes::copy(m), Ok)?;
        let (beta2, epsilon) = (self.beta2, self.epsilon);
        parallel::pieces_of([&mut direction, &mut *v], 1, |start, [d, v]| {
            for ((d, v), g) in d.iter_mut().zip(v).zip(&turned[start..]) {
                *v = beta2 * *v + (1.0 - beta2) * g * g;
                *d /= v.sqrt() + epsilon;
            }
        });
        let direction = turn(&direction, true)?.unwrap_or(direction);
        let decay = 1.0 - self.rate * self.weight_decay;
        descend(value, &direction, self.rate * self.corrected(t), decay)?;
        // What Shampoo sees of it.
        for ((axis, side), pair) in axes.iter().zip(&mut pairs) {
            let (at, weights) = ((*axis, side), (beta, 1.0 - beta));
            axes::gram(g, &dims, at, weights, pair[0].make_mut::<f64>()?);
            if t.is_multiple_of(self.basis_every.max(1)) {
                pair[1] = match self.basis {
                    Basis::Eigenvectors => eigenvectors(&pair[0], side)?,
                    Basis::PowerIteration => power_iteration(&pair[0], &pair[1], v, &dims, at)?,
                };
            }
        }
        Ok(())
    }

    /// In f64, too. Where eigenvectors are renewed, the host reads L (and Q and v) and finds them.
    fn compose(&self, t: u64, value: &Tensor, grad: &Tensor, kept: &[Tensor]) -> Result<Composed> {
        let [m, v, pairs @ ..] = kept else { return Ok((value.clone(), kept.to_vec())) };
        let (axes, g) = (self.rotated(value.shape()), grad.to_dtype(DType::F64)?);
        let pairs = axes.iter().zip(pairs.chunks_exact(2));
        let beta = self.shampoo_beta.unwrap_or(self.beta2);
        if t == 1 {
            let mut kept = vec![m.clone(), v.clone()];
            for ((axis, side), _) in pairs {
                let l = axes::gram_of(&g, (*axis, side))?.scale(1.0 - beta)?;
                kept.extend([l.clone(), there(&eigenvectors(&here(&l)?, side)?, &l)?]);
            }
            return Ok((value.clone(), kept));
        }
        let t = t - 1;
        let m = mix(self.beta1, m, 1.0 - self.beta1, &g)?;
        let (mut turned, mut direction) = (g.clone(), m.clone());
        for ((axis, side), pair) in pairs.clone() {
            turned = axes::times_of(&turned, (*axis, side), &pair[1], true)?;
            direction = axes::times_of(&direction, (*axis, side), &pair[1], true)?;
        }
        let mut v = mix(self.beta2, v, 1.0 - self.beta2, &turned.square()?)?;
        direction = direction.div(&v.sqrt()?.shift(self.epsilon)?)?;
        for ((axis, side), pair) in pairs.clone() {
            direction = axes::times_of(&direction, (*axis, side), &pair[1], false)?;
        }
        let decay = 1.0 - self.rate * self.weight_decay;
        let size = decay * self.rate * self.corrected(t);
        let moved = mix(decay, &value.to_dtype(DType::F64)?, -size, &direction)?;
        let mut after = Vec::new();
        for ((axis, side), pair) in pairs {
            let at = (*axis, side);
            let l = mix(beta, &pair[0], 1.0 - beta, &axes::gram_of(&g, at)?)?;
            let q = match self.basis {
                _ if !t.is_multiple_of(self.basis_every.max(1)) => pair[1].clone(),
                Basis::Eigenvectors => there(&eigenvectors(&here(&l)?, side)?, &l)?,
                Basis::PowerIteration => {
                    let (q, mut sorted) = (here(&pair[1])?, v.to_vec::<f64>()?);
                    let q = power_iteration(&here(&l)?, &q, &mut sorted, value.shape(), at)?;
                    v = there(&Tensor::from_vec(sorted, *value.shape())?, &l)?;
                    there(&q, &l)?
                }
            };
            after.extend([l, q]);
        }
        Ok((moved.to_dtype(value.dtype())?, [vec![m, v], after].concat()))
    }
}

impl SoapConfig {
    /// What corrects the moments' bias at the t-th step that moves.
    fn corrected(&self, t: u64) -> f64 {
        match self.bias_correction {
            true => correction(self.beta2, t).sqrt() / correction(self.beta1, t),
            false => 1.0,
        }
    }

    /// The axes that are rotated, and by what: none of a vector.
    fn rotated(&self, shape: &Shape) -> Vec<(usize, Pattern)> {
        if shape.rank() < 2 {
            return Vec::new();
        }
        let side = |axis: usize| (axis, self.sides.of(shape[axis]));
        let axes = (0..shape.rank().min(MOMENTS.len())).map(side);
        axes.filter(|(_, side)| matches!(side, Pattern::Blocks(_))).collect()
    }
}

/// θ ← decay (θ − size · direction)
pub(crate) fn descend(value: &mut Tensor, direction: &[f64], size: f64, decay: f64) -> Result<()> {
    for_float!(value.dtype(), T => {
        parallel::pieces(value.make_mut::<T>()?, 1, |start, theta| {
            for (theta, d) in theta.iter_mut().zip(&direction[start..]) {
                *theta = T::from_f64(decay * (theta.to_f64() - size * d));
            }
        });
    });
    Ok(())
}

/// m ← β m + (1 − β) g
pub(crate) fn average_in<T: Element>(m: &mut [f64], g: &[T], beta: f64) {
    parallel::pieces(m, 1, |start, m| {
        let (keep, gain) = (beta, 1.0 - beta); // copies: a loop that writes cannot change them
        m.iter_mut().zip(&g[start..]).for_each(|(m, g)| *m = keep * *m + gain * g.to_f64());
    });
}

/// The eigenvectors of a second moment as columns, those of the largest eigenvalues first, block by block.
pub(crate) fn eigenvectors(moment: &Tensor, side: &Pattern) -> Result<Tensor> {
    let of = |block: &[f64], n: usize| {
        let eigen = linalg::symmetric_eigen(block, n).map_err(|e| failed(&e))?;
        Ok((0..n * n).map(|at| eigen.vectors[at / n * n + n - 1 - at % n]).collect())
    };
    Tensor::from_buffer(side.block_by_block(moment.as_slice::<f64>()?, of)?, side.shape())
}

/// Q ← qr(L Q), the columns of Q sorted by Qᵀ L Q first, and v along its axis with them; block by block.
fn power_iteration(
    l: &Tensor,
    q: &Tensor,
    v: &mut [f64],
    dims: &[usize],
    (axis, side): (usize, &Pattern),
) -> Result<Tensor> {
    let (l, q) = (l.as_slice::<f64>()?, q.as_slice::<f64>()?);
    let (mut renewed, mut order, mut at) = (Vec::with_capacity(q.len()), Vec::new(), 0);
    for range in side.ranges() {
        let n = range.len();
        let [l, q] = [l, q].map(|x| &x[at..at + n * n]);
        at += n * n;
        let (sorted, by) = sorted_product(l, q, n);
        renewed.extend(linalg::orthonormal(&sorted, n).map_err(|e| failed(&e))?);
        order.extend(by.into_iter().map(|i| range.start + i));
    }
    let inner: usize = dims[axis + 1..].iter().product();
    let slab = dims[axis] * inner;
    parallel::rows(v, slab, slab, |_, v| {
        let from = v.to_vec();
        for (row, &i) in v.chunks_exact_mut(inner.max(1)).zip(&order) {
            row.copy_from_slice(&from[i * inner..(i + 1) * inner]);
        }
    });
    Tensor::from_vec(renewed, side.shape())
}

/// L Q with its columns in the order of qⱼᵀ L qⱼ, largest first, and that order.
fn sorted_product(l: &[f64], q: &[f64], n: usize) -> (Vec<f64>, Vec<usize>) {
    let mut product = vec![0.0; n * n];
    gemm(1.0, Matrix::new(l, n, n), Matrix::new(q, n, n), 0.0, &mut product);
    let curvature = |j: usize| (0..n).map(|i| q[i * n + j] * product[i * n + j]).sum::<f64>();
    let curvatures: Vec<f64> = (0..n).map(curvature).collect();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| curvatures[j].total_cmp(&curvatures[i]));
    ((0..n * n).map(|at| product[at / n * n + order[at % n]]).collect(), order)
}
