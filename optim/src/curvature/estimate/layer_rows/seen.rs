//! What a layer saw, and the sums that rules make of it: over rows, over terms, over all workers.

use engine::Result;
use kernels::elementwise;
use kernels::gemm::{Matrix, gemm};
use kernels::pool::Buffer;

use crate::algebra::flat::dot;
use crate::algebra::pattern::Pattern;
use crate::curvature::communicator::{Communicator, exchange};
use crate::curvature::reduce::numbers::is_second_moment;

/// One use of a layer in one micro-batch.
#[derive(Debug, Clone)]
pub(super) struct Use {
    /// `[R, n]`
    pub(super) a: Buffer<f64>,
    /// `[R, m]` for each sweep.
    pub(super) d: Vec<Buffer<f64>>,
    /// The examples that the rows belong to, in order.
    pub(super) examples: usize,
}

/// What one layer (one group of a convolution) saw in a step's micro-batches.
#[derive(Debug, Clone)]
pub struct Seen {
    /// n, inputs; the constant 1 of a bias is the last one.
    pub n: usize,
    /// m, outputs.
    pub m: usize,
    /// N, the terms of the losses.
    pub terms: f64,
    /// The sweeps that make up the first column of the exact Fisher, or the first draw.
    pub(super) first: usize,
    /// The uses in each micro-batch.
    pub(super) batches: Vec<Vec<Use>>,
}

impl Seen {
    fn uses(&self) -> impl Iterator<Item = &Use> + Clone {
        self.batches.iter().flatten()
    }

    /// Whether every number seen is finite, and its square is, in f32.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        let mut numbers =
            self.uses().flat_map(|u| u.a.iter().chain(u.d.iter().flat_map(|d| d.iter())));
        numbers.all(|x| is_second_moment(x * x))
    }

    /// R, the rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.uses().map(|u| u.a.len() / self.n.max(1)).sum()
    }

    /// All inputs: `[R, n]`.
    #[must_use]
    pub fn inputs(&self) -> Buffer<f64> {
        joined(self.uses().map(|used| &used.a))
    }

    /// All output gradients, sweep by sweep: `[R · sweeps, m]`.
    #[must_use]
    pub fn outputs(&self) -> Buffer<f64> {
        joined(self.uses().flat_map(|used| &used.d))
    }

    /// A = 1/R Σ a aᵀ over the rows of all workers, as far as a pattern keeps it.
    ///
    /// # Errors
    /// The communicator's, here and below.
    pub fn input_moment(
        &self,
        side: &Pattern,
        workers: &mut dyn Communicator,
    ) -> Result<Buffer<f64>> {
        mean(gram(&self.inputs(), side), self.rows() as f64, workers)
    }

    /// G = 1/N Σ d dᵀ
    ///
    /// # Errors
    /// As [`Seen::input_moment`].
    pub fn output_moment(
        &self,
        side: &Pattern,
        workers: &mut dyn Communicator,
    ) -> Result<Buffer<f64>> {
        self.mean_over_terms(gram(&self.outputs(), side), workers)
    }

    /// The diagonals 0 to `width` of A, `[width + 1, n]`: entry i of diagonal k is 1/R Σ a\[i\] a\[i + k\].
    ///
    /// # Errors
    /// As [`Seen::input_moment`].
    pub fn input_band(&self, width: usize, workers: &mut dyn Communicator) -> Result<Buffer<f64>> {
        mean(band(&self.inputs(), self.n, width), self.rows() as f64, workers)
    }

    /// The diagonals 0 to `width` of G, `[width + 1, m]`.
    ///
    /// # Errors
    /// As [`Seen::input_moment`].
    pub fn output_band(&self, width: usize, workers: &mut dyn Communicator) -> Result<Buffer<f64>> {
        self.mean_over_terms(band(&self.outputs(), self.m, width), workers)
    }

    /// 1/R Σ a
    ///
    /// # Errors
    /// As [`Seen::input_moment`].
    pub fn mean_input(&self, workers: &mut dyn Communicator) -> Result<Buffer<f64>> {
        mean(sum(&self.inputs(), self.n), self.rows() as f64, workers)
    }

    /// 1/N Σ d: the sum over positions, the mean over terms. Of the first draw of labels, or the first column of
    /// the exact Fisher, where there are more.
    ///
    /// # Errors
    /// As [`Seen::input_moment`].
    pub fn mean_output(&self, workers: &mut dyn Communicator) -> Result<Buffer<f64>> {
        let first = joined(self.uses().flat_map(|used| used.d.iter().take(self.first)));
        self.mean_over_terms(sum(&first, self.m), workers)
    }

    /// 1/R of a sum over this worker's rows, with the sums and the R of all workers.
    ///
    /// # Errors
    /// As [`Seen::input_moment`].
    pub fn mean_over_rows(
        &self,
        sum: Buffer<f64>,
        workers: &mut dyn Communicator,
    ) -> Result<Buffer<f64>> {
        mean(sum, self.rows() as f64, workers)
    }

    /// 1/N of a sum over this worker's examples, with the sums and the N of all workers.
    ///
    /// # Errors
    /// As [`Seen::input_moment`].
    pub fn mean_over_terms(
        &self,
        sum: Buffer<f64>,
        workers: &mut dyn Communicator,
    ) -> Result<Buffer<f64>> {
        mean(sum, self.terms, workers)
    }

    /// The same where each use of the layer has turned its rows: a is `[R, n]`, d `[R, m]`.
    pub(crate) fn turned(
        &self,
        inputs: impl Fn(&[f64]) -> Buffer<f64>,
        outputs: impl Fn(&[f64]) -> Buffer<f64>,
    ) -> Self {
        let turn = |used: &Use| Use {
            a: inputs(&used.a),
            d: used.d.iter().map(|d| outputs(d)).collect(),
            examples: used.examples,
        };
        let batches = self.batches.iter().map(|batch| batch.iter().map(turn).collect()).collect();
        Self { batches, ..*self }
    }

    /// Σ over examples (and sweeps) of the squares of their gradients' entries, `[m, n]`.
    pub(crate) fn squared_gradients(&self) -> Buffer<f64> {
        let (n, m) = (self.n, self.m);
        let mut sum = Buffer::zeros(m * n);
        if self.one_row_each() {
            // (d aᵀ)² = d² (a²)ᵀ: one product for all examples.
            let squares = |x: &[f64]| -> Vec<f64> { x.iter().map(|x| x * x).collect() };
            for used in self.uses() {
                let a = squares(&used.a);
                for d in &used.d {
                    let (a, d) = (Matrix::new(&a, used.examples, n), squares(d));
                    gemm(1.0, Matrix::new(&d, used.examples, m).t(), a, 1.0, &mut sum);
                }
            }
            return sum;
        }
        self.each_gradient(|gradient| {
            sum.iter_mut().zip(gradient).for_each(|(s, x)| *s += x * x);
        });
        sum
    }

    /// Σ over examples (and sweeps) of D Dᵀ and of DᵀD of their gradients D `[m, n]`, as far as patterns keep
    /// them. Where an example is one row, D = d aᵀ is not formed: D Dᵀ = ‖a‖² d dᵀ.
    pub(crate) fn gradient_moments(&self, inputs: &Pattern, outputs: &Pattern) -> [Buffer<f64>; 2] {
        let (n, m) = (self.n, self.m);
        let (mut left, mut right) = (outputs.zeros(), inputs.zeros());
        if self.one_row_each() {
            for used in self.uses() {
                for d in &used.d {
                    // ‖a‖² d dᵀ and ‖d‖² a aᵀ: rows scaled by the other's length.
                    let scaled = |x: &[f64], width: usize, by: &[f64], other: usize| -> Vec<f64> {
                        let rows = x.chunks_exact(width.max(1)).zip(by.chunks_exact(other.max(1)));
                        let row = |(x, by): (&[f64], &[f64])| {
                            let length = dot(by, by).sqrt();
                            x.iter().map(|x| x * length).collect::<Vec<f64>>()
                        };
                        rows.flat_map(row).collect()
                    };
                    let rows = used.examples;
                    outputs.gram(&scaled(d, m, &used.a, n), rows, (1.0, 1.0), &mut left);
                    inputs.gram(&scaled(&used.a, n, d, m), rows, (1.0, 1.0), &mut right);
                }
            }
            return [left, right];
        }
        self.each_gradient(|d| {
            outputs.row_gram(d, n, (1.0, 1.0), &mut left);
            inputs.gram(d, m, (1.0, 1.0), &mut right);
        });
        [left, right]
    }

    /// Whether every example is one row of one use of the layer.
    fn one_row_each(&self) -> bool {
        let one = |used: &Use| used.a.len() == used.examples * self.n;
        self.batches.iter().all(|batch| batch.len() <= 1 && batch.iter().all(one))
    }

    /// Calls `visit` with the gradient `[m, n]` of each example (and sweep): Σ d aᵀ over its rows, all
    /// uses of the layer together. Each is the sum of the example's terms.
    pub fn each_gradient(&self, mut visit: impl FnMut(&[f64])) {
        let (n, m) = (self.n, self.m);
        for batch in &self.batches {
            let Some(first) = batch.first() else { continue };
            for sweep in 0..first.d.len() {
                for example in 0..first.examples {
                    let mut gradient = Buffer::zeros(m * n);
                    for used in batch.iter().filter(|u| u.examples == first.examples) {
                        let rows = used.a.len() / n.max(1) / used.examples.max(1);
                        let range =
                            |width: usize| example * rows * width..(example + 1) * rows * width;
                        let a = Matrix::new(&used.a[range(n)], rows, n);
                        let d = Matrix::new(&used.d[sweep][range(m)], rows, m);
                        gemm(1.0, d.t(), a, 1.0, &mut gradient);
                    }
                    visit(&gradient);
                }
            }
        }
    }
}

/// The rows of several matrices, one after another.
fn joined<'a>(all: impl Iterator<Item = &'a Buffer<f64>> + Clone) -> Buffer<f64> {
    let mut out = Buffer::unspecified(all.clone().map(|x| x.len()).sum());
    let mut rest = &mut *out;
    for x in all {
        let (here, after) = rest.split_at_mut(x.len());
        here.copy_from_slice(x);
        rest = after;
    }
    out
}

/// xᵀx, as far as it is kept.
fn gram(x: &[f64], side: &Pattern) -> Buffer<f64> {
    let mut out = side.zeros();
    side.gram(x, x.len() / side.size().max(1), (1.0, 1.0), &mut out);
    out
}

/// The diagonals 0 to `last` of xᵀx, one after another.
fn band(x: &[f64], width: usize, last: usize) -> Buffer<f64> {
    let mut out = Buffer::zeros((last + 1) * width);
    for row in x.chunks_exact(width.max(1)) {
        for (k, diagonal) in out.chunks_exact_mut(width).enumerate().take(width) {
            let products = row.iter().zip(&row[k..]);
            diagonal.iter_mut().zip(products).for_each(|(sum, (x, y))| *sum += x * y);
        }
    }
    out
}

/// Σ x
fn sum(x: &[f64], width: usize) -> Buffer<f64> {
    let mut sum = Buffer::zeros(width);
    for row in x.chunks_exact(width.max(1)) {
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    sum
}

/// Σ over workers of the sums, over Σ of the counts.
fn mean(
    mut sums: Buffer<f64>,
    mut count: f64,
    workers: &mut dyn Communicator,
) -> Result<Buffer<f64>> {
    exchange(sums.iter_mut().chain([&mut count]), workers)?;
    let count = count.max(1.0);
    elementwise::update(&mut sums, |x| x / count);
    Ok(sums)
}
