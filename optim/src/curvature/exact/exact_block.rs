//! The thing itself: the exact Fisher block of any set of parameters, from the tape.
//!
//! ```text
//! D_e = Σ over positions and uses of d aᵀ         the gradient of one example (and sweep), d = N g
//! F   = 1/N Σ over e of vec(D_e) vec(D_e)ᵀ = RᵀR   R: a row vec(D_e)/√N for each e
//! ```
//! Positions are summed first, then squared: that order is what K-FAC's expand setting gives up. With
//! the true labels F is the empirical Fisher; with drawn ones an unbiased estimate of the true one; with
//! exact seeds the Fisher of the model, which is the generalized Gauss–Newton matrix for the losses here.
//! Martens 2020, "New Insights and Perspectives on the Natural Gradient Method", sections 5 to 9.
//!
//! vec puts the parameters one after another, each in its own row-major order. Gradients are collected by
//! *parameter*, over all its uses: a table that is also the readout, or a bias of two layers, is exact,
//! and the block may span layers. What is kept is the root R: F is written out only when asked for, and
//! solving costs the smaller of its two sizes cubed.
//!
//! Batch norm in training mode ties examples together: its moments count as constants of the batch, as
//! they do for all curvature here. In evaluation mode there is nothing to tie.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::OnceLock;

use engine::{Error, LayerRecord, ParamId, Parameter, Result, room};
use kernels::linalg;
use kernels::pool::Buffer;

use super::recorded::RecordedBatch;
use crate::algebra::dense;
use crate::algebra::dense::{failed, product};
use crate::algebra::flat::dot;
use crate::curvature::reduce::example_gradients::gradients;

/// The exact Fisher block F = RᵀR of some parameters. An example is at [`RecordedBatch`].
///
/// # Units
/// Second moments of per-term gradients: curvature of the mean loss.
#[derive(Debug, Clone)]
pub struct ExactBlock {
    /// R, `[K, P]`
    root: Vec<f64>,
    /// The smaller of RᵀR and R Rᵀ, once it has been asked for.
    gram: OnceLock<Buffer<f64>>,
    /// P
    size: usize,
    /// The numbers of each parameter.
    sizes: Vec<usize>,
}

impl ExactBlock {
    /// The block of these parameters over some (micro-)batches.
    ///
    /// # Errors
    /// [`Error::Uncovered`] for a parameter that is used outside layers, in no layer, or in a layer
    /// whose rows are not those of the batch's examples (a table of positions that all examples share).
    pub fn new(batches: &[&RecordedBatch], parameters: &[&Parameter]) -> Result<Self> {
        let sizes: Vec<usize> = parameters.iter().map(|p| p.value().numel()).collect();
        let size: usize = sizes.iter().sum();
        let rows: usize = batches.iter().map(|b| b.examples() * b.sweeps().len()).sum();
        let mut root = room::empty("exact block", rows.saturating_mul(size))?;
        each_sweep(batches, parameters, |rows| root.extend_from_slice(rows))?;
        // The gram matrix, when it is asked for.
        let side = rows.min(size);
        room::expect("exact block", side.saturating_mul(side).saturating_mul(size_of::<f64>()))?;
        Ok(Self { root, gram: OnceLock::new(), size, sizes })
    }

    /// P, the numbers of all parameters together.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// The numbers of each parameter, in order.
    #[must_use]
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// K, the rows of the root: examples times sweeps. The rank of F is at most this.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.root.len().checked_div(self.size).unwrap_or(0)
    }

    /// R, `[K, P]`.
    #[must_use]
    pub fn root(&self) -> &[f64] {
        &self.root
    }

    /// F, `[P, P]`: the only method that needs P² numbers.
    #[must_use]
    pub fn matrix(&self) -> Vec<f64> {
        if self.is_inner() { self.small_gram().to_vec() } else { self.gram(true).to_vec() }
    }

    /// diag F
    #[must_use]
    pub fn diagonal(&self) -> Vec<f64> {
        let mut sum = vec![0.0; self.size];
        for row in self.root.chunks_exact(self.size.max(1)) {
            sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * x);
        }
        sum
    }

    /// tr F
    #[must_use]
    pub fn trace(&self) -> f64 {
        dot(&self.root, &self.root)
    }

    /// ‖F‖, the root of the sum of its squares.
    #[must_use]
    pub fn frobenius(&self) -> f64 {
        dot(self.small_gram(), self.small_gram()).sqrt()
    }

    /// The eigenvalues that are not 0 by the sizes alone, min(K, P) of them, ascending.
    ///
    /// # Errors
    /// [`Error::Linalg`] when a number is not finite.
    pub fn eigenvalues(&self) -> Result<Vec<f64>> {
        let n = self.size.min(self.rows());
        let eigen = linalg::symmetric_eigen(self.small_gram(), n).map_err(|e| failed(&e))?;
        Ok(eigen.values.into_iter().map(|x| x.max(0.0)).collect())
    }

    /// F v
    ///
    /// # Errors
    /// [`Error::Argument`] for a v of another length.
    pub fn times(&self, v: &[f64]) -> Result<Vec<f64>> {
        self.check("exact block", v)?;
        Ok(self.left(&dense::apply(&self.root, v)).to_vec())
    }

    /// (F + λ I)⁻¹ v. With fewer rows than numbers, by Woodbury's identity:
    ///
    /// ```text
    /// (RᵀR + λ I)⁻¹ v = (v − Rᵀ (R Rᵀ + λ I)⁻¹ R v) / λ
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] for a v of another length or a λ that is not positive; [`Error::Linalg`].
    pub fn solve(&self, damping: f64, v: &[f64]) -> Result<Vec<f64>> {
        self.check("exact block", v)?;
        crate::check::positive("exact block", "damping", damping)?;
        let n = self.size.min(self.rows());
        let mut gram = self.small_gram().to_vec();
        dense::shift(&mut gram, n, damping);
        let solve = |b: &[f64]| linalg::solve(&gram, n, b, 1).map_err(|e| failed(&e));
        if self.is_inner() {
            return solve(v);
        }
        let inside = self.left(&solve(&dense::apply(&self.root, v))?);
        Ok(v.iter().zip(&*inside).map(|(v, x)| (v - x) / damping).collect())
    }

    /// Rᵀ x
    fn left(&self, x: &[f64]) -> Buffer<f64> {
        product(x, (1, x.len()), false, &self.root, (self.rows(), self.size), false)
    }

    /// Whether RᵀR is the smaller one.
    fn is_inner(&self) -> bool {
        self.size <= self.rows()
    }

    /// The smaller of RᵀR and R Rᵀ: they have the same eigenvalues but for zeros.
    fn small_gram(&self) -> &[f64] {
        self.gram.get_or_init(|| self.gram(self.is_inner()))
    }

    /// RᵀR, or R Rᵀ.
    fn gram(&self, inner: bool) -> Buffer<f64> {
        let sizes = (self.rows(), self.size);
        product(&self.root, sizes, inner, &self.root, sizes, !inner)
    }

    fn check(&self, op: &'static str, v: &[f64]) -> Result<()> {
        if v.len() == self.size {
            return Ok(());
        }
        let got = format!("{} for {} parameters", v.len(), self.size);
        Err(Error::Argument { op, name: "v", expected: "a number for each of the block's", got })
    }
}

/// diag F alone, in the memory of one sweep: with exact seeds the exact diagonal of the generalized
/// Gauss–Newton matrix.
///
/// # Errors
/// As [`ExactBlock::new`].
pub fn diagonal(batches: &[&RecordedBatch], parameters: &[&Parameter]) -> Result<Vec<f64>> {
    let size = parameters.iter().map(|p| p.value().numel()).sum();
    let mut sum: Vec<f64> = room::zeros("exact block", size)?;
    each_sweep(batches, parameters, |rows| {
        for row in rows.chunks_exact(size.max(1)) {
            sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * x);
        }
    })?;
    Ok(sum)
}

/// Calls `visit` with the rows of R of each sweep, `[examples, P]`.
fn each_sweep(
    batches: &[&RecordedBatch],
    parameters: &[&Parameter],
    mut visit: impl FnMut(&[f64]),
) -> Result<()> {
    let (mut places, mut size) = (BTreeMap::new(), 0);
    for parameter in parameters {
        let numbers = parameter.value().numel();
        places.insert(parameter.id(), size..size + numbers);
        size += numbers;
    }
    let terms: usize = batches.iter().map(|batch| batch.terms()).sum();
    for batch in batches {
        covered(batch, parameters)?;
        let scale = batch.scale() / (terms.max(1) as f64).sqrt();
        for sweep in batch.sweeps() {
            let mut rows = room::zeros("exact block", batch.examples().saturating_mul(size))?;
            for record in sweep {
                add(record, &places, batch.examples(), &mut rows)?;
            }
            rows.iter_mut().for_each(|x| *x *= scale);
            visit(&rows);
        }
    }
    Ok(())
}

/// Refuses parameters that are used outside layers, or in none.
fn covered(batch: &RecordedBatch, parameters: &[&Parameter]) -> Result<()> {
    for (at, parameter) in parameters.iter().enumerate() {
        let id = parameter.id();
        let seen = batch.sweeps().first().is_some_and(|sweep| {
            sweep.iter().any(|record| record.weight == id || record.bias == Some(id))
        });
        let op = batch.unlayered_use(id).or((!seen).then_some("no layer"));
        if let Some(op) = op {
            return Err(Error::Uncovered { param: format!("number {at} of the block"), op });
        }
    }
    Ok(())
}

/// Adds a record's per-example gradients to the rows of the parameters that have a place.
fn add(
    record: &LayerRecord,
    places: &BTreeMap<ParamId, Range<usize>>,
    examples: usize,
    root: &mut [f64],
) -> Result<()> {
    let weight = places.get(&record.weight);
    let bias = record.bias.and_then(|bias| places.get(&bias));
    if weight.is_none() && bias.is_none() {
        return Ok(());
    }
    let groups = record.rows()?;
    let size = root.len() / examples.max(1);
    for (k, rows) in groups.iter().enumerate() {
        if rows.examples != examples {
            let param = format!("a weight seen with {} examples, not {examples}", rows.examples);
            return Err(Error::Uncovered { param, op: "a layer that examples share" });
        }
        let part = |place: &Range<usize>| {
            let width = place.len() / groups.len();
            place.start + k * width..place.start + (k + 1) * width
        };
        let (weight, bias) = (weight.map(part), bias.map(part));
        let gradients = gradients(rows, record.bias.is_some())?;
        for (row, (of_weight, of_bias)) in root.chunks_exact_mut(size.max(1)).zip(gradients) {
            let mut add = |place: &Option<Range<usize>>, gradient: &[f64]| {
                if let Some(place) = place {
                    row[place.clone()].iter_mut().zip(gradient).for_each(|(x, g)| *x += g);
                }
            };
            add(&weight, &of_weight);
            add(&bias, &of_bias);
        }
    }
    Ok(())
}
