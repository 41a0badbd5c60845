//! An approximate Fisher block as a linear operator: product, solve, trace, spectrum, distance.
//!
//! All approximations here are one thing, a block whose eigenvectors are a Kronecker product. For a
//! layer whose gradient is a matrix X of m × n, group by group,
//!
//! ```text
//! B = (V ⊗ U) diag(S) (V ⊗ U)ᵀ        B vec(X) = vec(V ((Vᵀ X U) ∘ S) Uᵀ)
//!                                     f(B)     : the same with f(S), so (B + λ I)⁻¹ has 1/(S + λ)
//! ```
//!
//! | approximation | V | U | S |
//! |---|---|---|---|
//! | a diagonal; AdaFisher's | I | I | the diagonal |
//! | K-FAC, G ⊗ A | eigenvectors of G | of A | products of eigenvalues |
//! | the same, damped by the π rule | of G | of A | products of shifted eigenvalues, less λ |
//! | EKFAC | of G | of A | E\[(Vᵀ D U)²\] |
//! | Shampoo² | of L = E\[D Dᵀ\] | of R = E\[Dᵀ D\] | products of eigenvalues, over tr L |
//!
//! Shampoo²: Morwani et al. 2024, "A New Perspective on Shampoo's Preconditioner": the square of what
//! Shampoo divides by (L^½ ⊗ R^½, with the gradients of examples) is one step of the power iteration for
//! the nearest Kronecker product.
//!
//! The distance from the exact block F falls into two parts, which say what is to blame. With
//! Q = diag((V ⊗ U)ᵀ F (V ⊗ U)), the energies of F along the eigenvectors of B,
//!
//! ```text
//! ‖F − B‖² = (‖F‖² − ‖Q‖²)  +  ‖Q − S‖²
//!             the basis's       the eigenvalues'
//! ```
//! because a rotation does not change ‖·‖ and B is diagonal there. S = Q is the best for its basis:
//! EKFAC (George et al. 2018, theorem 2). The first part is a difference, known to ‖F‖² times the
//! machine epsilon, so a distance is 0 up to about 10⁻⁷ ‖F‖.

use engine::{Error, Result};
use kernels::linalg;
use kernels::pool::Buffer;

use crate::algebra::dense::{failed, product};
use crate::algebra::flat::dot;
use crate::curvature::block::factor::Factor;
use crate::curvature::block::kronecker::Kronecker;
use crate::curvature::exact::exact_block::ExactBlock;
use crate::curvature::form::Form;

/// How a block's numbers (a weight's, then its bias's) are matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Groups of a convolution; each is a block of its own.
    pub groups: usize,
    /// Rows of a group's matrix.
    pub m: usize,
    /// Its columns, the bias among them.
    pub n: usize,
    /// Whether the bias is the last column.
    pub bias: bool,
}

impl Layout {
    /// Of a layer that K-FAC knows.
    #[must_use]
    pub fn of(block: &Kronecker) -> Self {
        let (inputs, outputs) = (block.inputs(), block.outputs());
        let (m, n) = match block.form {
            Form::Dense => (outputs, inputs),
            Form::Transposed | Form::Lookup => (inputs, outputs),
            Form::ScaleShift => return Self::flat(block.g.len()),
            Form::Joint { .. } => (outputs, 1),
        };
        let bias = block.form == Form::Dense && block.bias.is_some();
        Self { groups: block.groups, m, n, bias }
    }

    /// One row.
    #[must_use]
    pub const fn flat(size: usize) -> Self {
        Self { groups: 1, m: 1, n: size, bias: false }
    }

    /// P
    #[must_use]
    pub const fn size(&self) -> usize {
        self.groups * self.m * self.n
    }

    /// The group's matrix, cut out of the block's numbers.
    #[must_use]
    pub fn read(&self, v: &[f64], group: usize) -> Vec<f64> {
        let width = self.n - usize::from(self.bias);
        let biases = self.groups * self.m * width;
        let rows = group * self.m..(group + 1) * self.m;
        let row = |i: usize| {
            let bias = if self.bias { &v[biases + i..=biases + i] } else { &[] };
            v[i * width..(i + 1) * width].iter().chain(bias).copied()
        };
        rows.flat_map(row).collect()
    }

    /// Writes a group's matrix to its place.
    fn write(&self, matrix: &[f64], group: usize, v: &mut [f64]) {
        let width = self.n - usize::from(self.bias);
        let (weights, biases) = v.split_at_mut(self.groups * self.m * width);
        for (i, row) in matrix.chunks_exact(self.n.max(1)).enumerate() {
            let i = group * self.m + i;
            weights[i * width..(i + 1) * width].copy_from_slice(&row[..width]);
            if self.bias {
                biases[i] = row[width];
            }
        }
    }
}

/// One group's eigenvectors and eigenvalues.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// V, `[m, m]`; `None` for I.
    pub v: Option<Vec<f64>>,
    /// U, `[n, n]`; `None` for I.
    pub u: Option<Vec<f64>>,
    /// S, `[m, n]`.
    pub s: Vec<f64>,
}

/// A block in a Kronecker-factored eigenbasis.
///
/// # Example
/// ```
/// use alcyon_optim::audit::LayerOperator;
/// let block = LayerOperator::diagonal(vec![1.0, 3.0]);
/// assert_eq!(block.times(&[2.0, 2.0])?, [2.0, 6.0]);
/// assert_eq!(block.solve(1.0, &[2.0, 2.0])?, [1.0, 0.5]);
/// assert_eq!((block.trace(), block.log_determinant(0.0)), (4.0, 3.0_f64.ln()));
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct LayerOperator {
    layout: Layout,
    parts: Vec<Part>,
}

/// How far a block is from the exact one, all relative to ‖F‖.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    /// ‖F − B‖ / ‖F‖
    pub error: f64,
    /// √(‖F‖² − ‖Q‖²) / ‖F‖: no eigenvalues in this basis come nearer.
    pub basis: f64,
    /// min over c of ‖F − c B‖ / ‖F‖ = √(1 − ⟨F, B⟩² / ‖F‖² ‖B‖²): a wrong scale forgiven.
    pub shape: f64,
}

impl LayerOperator {
    /// diag(values).
    #[must_use]
    pub fn diagonal(values: Vec<f64>) -> Self {
        let layout = Layout::flat(values.len());
        Self { layout, parts: vec![Part { v: None, u: None, s: values }] }
    }

    /// From the eigenvectors and eigenvalues of each group.
    #[must_use]
    pub const fn new(layout: Layout, parts: Vec<Part>) -> Self {
        Self { layout, parts }
    }

    /// K-FAC's.
    ///
    /// # Errors
    /// [`Error::Linalg`] when a factor is not finite.
    pub fn kronecker(block: &Kronecker) -> Result<Self> {
        Self::of_halves(block, |left, right| outer(left, right, 1.0))
    }

    /// K-FAC's with λ shared out by the π rule (Martens & Grosse 2015, 6.3), less λ I: with λ added it is
    /// what is inverted,
    ///
    /// ```text
    /// (G + √λ/π I) ⊗ (A + π √λ I) = G ⊗ A + π √λ G ⊗ I + √λ/π I ⊗ A + λ I
    /// ```
    /// The two terms in the middle are what factored damping costs: it is not the block's own.
    ///
    /// # Errors
    /// [`Error::Linalg`] when a factor is not finite.
    pub fn kronecker_pi(block: &Kronecker, damping: f64) -> Result<Self> {
        let root = damping.sqrt();
        Self::of_halves(block, |(v, mut left), (u, mut right)| {
            let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len().max(1) as f64;
            let pi = (mean(&right) / mean(&left)).sqrt();
            let pi = if pi.is_finite() && pi > 0.0 { pi } else { 1.0 };
            left.iter_mut().for_each(|s| *s += root / pi);
            right.iter_mut().for_each(|s| *s += root * pi);
            let mut part = outer((v, left), (u, right), 1.0);
            part.s.iter_mut().for_each(|s| *s = (*s - damping).max(0.0));
            part
        })
    }

    /// From the eigenvectors and eigenvalues of the left and the right factor of each group.
    fn of_halves(block: &Kronecker, part: impl Fn(Half, Half) -> Part) -> Result<Self> {
        let layout = Layout::of(block);
        if block.form == Form::ScaleShift {
            return Ok(Self::diagonal(block.g.clone()));
        }
        let group = |k: usize| {
            let full = |factor: Factor<'_>| eigen(&factor.to_matrix(), factor.dim());
            let (a, g) = (|| full(block.input_factor(k)?), full(block.output_factor(k)?)?);
            match block.form {
                Form::Dense => Ok(part(g, a()?)),
                Form::Transposed => Ok(part(a()?, g)),
                // One-hot rows: A is diagonal.
                Form::Lookup | Form::ScaleShift => Ok(part((None, block.a.clone()), g)),
                Form::Joint { .. } => Ok(outer(g, (None, vec![1.0]), 1.0)),
            }
        };
        Ok(Self { layout, parts: (0..block.groups).map(group).collect::<Result<_>>()? })
    }

    /// Shampoo²: L ⊗ R / tr L with the second moments of the examples' gradient matrices.
    ///
    /// # Errors
    /// [`Error::Linalg`] when a gradient is not finite; [`Error::Argument`] when the layout is of
    /// another size.
    pub fn shampoo_squared(block: &ExactBlock, layout: Layout) -> Result<Self> {
        check(layout.size(), block.size())?;
        let Layout { m, n, .. } = layout;
        let part = |group: usize| {
            let (mut l, mut r) = (vec![0.0; m * m], vec![0.0; n * n]);
            for row in block.root().chunks_exact(block.size().max(1)) {
                let d = layout.read(row, group);
                let add = |sum: &mut [f64], x: &[f64]| {
                    sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
                };
                add(&mut l, &product(&d, (m, n), false, &d, (m, n), true));
                add(&mut r, &product(&d, (m, n), true, &d, (m, n), false));
            }
            let trace = crate::algebra::dense::trace(&l, m);
            let scale = if trace > 0.0 { 1.0 / trace } else { 0.0 };
            Ok(outer(eigen(&l, m)?, eigen(&r, n)?, scale))
        };
        Ok(Self { layout, parts: (0..layout.groups).map(part).collect::<Result<_>>()? })
    }

    /// The same eigenvectors with the eigenvalues that are best for them, Q: EKFAC of that batch.
    ///
    /// # Errors
    /// [`Error::Argument`] when the sizes differ.
    pub fn corrected(&self, block: &ExactBlock) -> Result<Self> {
        let energies = self.energies(block)?;
        let mut corrected = self.clone();
        let size = self.layout.m * self.layout.n;
        for (part, q) in corrected.parts.iter_mut().zip(energies.chunks_exact(size.max(1))) {
            part.s.copy_from_slice(q);
        }
        Ok(corrected)
    }

    /// c B
    #[must_use]
    pub fn scaled(&self, c: f64) -> Self {
        let mut scaled = self.clone();
        scaled.parts.iter_mut().flat_map(|part| &mut part.s).for_each(|s| *s *= c);
        scaled
    }

    /// How its numbers are matrices.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// S, group by group: all eigenvalues, in no order.
    #[must_use]
    pub fn eigenvalues(&self) -> Vec<f64> {
        self.parts.iter().flat_map(|part| part.s.iter().copied()).collect()
    }

    /// tr B
    #[must_use]
    pub fn trace(&self) -> f64 {
        self.eigenvalues().iter().sum()
    }

    /// ‖B‖
    #[must_use]
    pub fn frobenius(&self) -> f64 {
        self.parts.iter().map(|part| dot(&part.s, &part.s)).sum::<f64>().sqrt()
    }

    /// ln det(B + λ I)
    #[must_use]
    pub fn log_determinant(&self, damping: f64) -> f64 {
        self.eigenvalues().iter().map(|s| (s + damping).ln()).sum()
    }

    /// B v
    ///
    /// # Errors
    /// [`Error::Argument`] for a v of another length.
    pub fn times(&self, v: &[f64]) -> Result<Vec<f64>> {
        self.function(v, |s| s)
    }

    /// (B + λ I)⁻¹ v
    ///
    /// # Errors
    /// [`Error::Argument`] for a v of another length; [`Error::Linalg`] when S + λ is not positive
    /// everywhere.
    pub fn solve(&self, damping: f64, v: &[f64]) -> Result<Vec<f64>> {
        let low = self.eigenvalues().into_iter().fold(f64::INFINITY, f64::min) + damping;
        if low <= 0.0 {
            let reason = format!("the smallest eigenvalue of the damped block is {low}; raise λ");
            return Err(Error::Linalg { routine: "solve", reason });
        }
        self.function(v, |s| 1.0 / (s + damping))
    }

    /// f(B) v, for a function of each eigenvalue.
    ///
    /// # Errors
    /// [`Error::Argument`] for a v of another length.
    pub fn function(&self, v: &[f64], f: impl Fn(f64) -> f64) -> Result<Vec<f64>> {
        check(self.layout.size(), v.len())?;
        let mut out = vec![0.0; v.len()];
        for (group, part) in self.parts.iter().enumerate() {
            let mut x = self.turned(part, self.layout.read(v, group).into(), true);
            x.iter_mut().zip(&part.s).for_each(|(x, &s)| *x *= f(s));
            self.layout.write(&self.turned(part, x, false), group, &mut out);
        }
        Ok(out)
    }

    /// Q: the energies of the exact block along this one's eigenvectors, in the order of
    /// [`LayerOperator::eigenvalues`].
    ///
    /// # Errors
    /// [`Error::Argument`] when the sizes differ.
    pub fn energies(&self, block: &ExactBlock) -> Result<Vec<f64>> {
        check(self.layout.size(), block.size())?;
        let mut all = Vec::with_capacity(block.size());
        for (group, part) in self.parts.iter().enumerate() {
            let mut q = vec![0.0; part.s.len()];
            for row in block.root().chunks_exact(block.size().max(1)) {
                let turned = self.turned(part, self.layout.read(row, group).into(), true);
                q.iter_mut().zip(&*turned).for_each(|(q, x)| *q += x * x);
            }
            all.extend(q);
        }
        Ok(all)
    }

    /// The distance from the exact block.
    ///
    /// # Errors
    /// [`Error::Argument`] when the sizes differ.
    pub fn distance(&self, block: &ExactBlock) -> Result<Distance> {
        let (q, s, norm) = (self.energies(block)?, self.eigenvalues(), block.frobenius());
        let square = norm * norm;
        let missed = (square - dot(&q, &q)).max(0.0);
        let wrong: f64 = q.iter().zip(&s).map(|(q, s)| (q - s).powi(2)).sum();
        let cosine = dot(&q, &s) / (norm * dot(&s, &s).sqrt());
        let relative = |x: f64| if norm > 0.0 { (x / square).sqrt() } else { x.sqrt() };
        Ok(Distance {
            error: relative(missed + wrong),
            basis: relative(missed),
            shape: if cosine.is_finite() { (1.0 - cosine * cosine).max(0.0).sqrt() } else { 1.0 },
        })
    }

    /// Vᵀ X U, or back.
    fn turned(&self, part: &Part, x: Buffer<f64>, into: bool) -> Buffer<f64> {
        let Layout { m, n, .. } = self.layout;
        let left = match &part.v {
            Some(v) => product(v, (m, m), into, &x, (m, n), false),
            None => x,
        };
        match &part.u {
            Some(u) => product(&left, (m, n), false, u, (n, n), !into),
            None => left,
        }
    }
}

type Half = (Option<Vec<f64>>, Vec<f64>);

/// Eigenvectors and eigenvalues; a second moment has no negative ones but by rounding.
fn eigen(matrix: &[f64], n: usize) -> Result<Half> {
    let eigen = linalg::symmetric_eigen(matrix, n).map_err(|e| failed(&e))?;
    Ok((Some(eigen.vectors), eigen.values.into_iter().map(|x| x.max(0.0)).collect()))
}

/// The part of a Kronecker product of two factors.
fn outer((v, left): Half, (u, right): Half, scale: f64) -> Part {
    let row = |l: &f64| right.iter().map(|r| scale * l * r).collect::<Vec<f64>>();
    Part { v, u, s: left.iter().flat_map(row).collect() }
}

fn check(expected: usize, got: usize) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    let got = format!("{got} for {expected}");
    Err(Error::Argument { op: "layer operator", name: "v", expected: "a number for each row", got })
}
