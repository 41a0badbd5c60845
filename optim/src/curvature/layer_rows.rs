//! Rows of layers, kept until the step: for rules that need more than second moments.
//!
//! Units as everywhere: the rows d that a rule sees are gradients of a *term* of the loss, d = N g. With
//! K draws of labels each draw's rows are scaled by 1/√K, so that sums of squares are averages; the
//! columns of the exact Fisher are added. Memory: all inputs and output gradients of the observed layers
//! live until the step, as f64.

use std::collections::BTreeMap;

use engine::{Layer, LayerObserver, LayerRecord, ParamId, Product, Result, Rng};
use kernels::gemm::{Matrix, gemm};

use super::communicator::{Communicator, exchange};
use super::numbers::is_second_moment;
use super::pattern::Pattern;
use super::tentative::Tentative;
use super::{CurvatureSource, Fisher};
use crate::flat::dot;

/// One use of a layer in one micro-batch.
#[derive(Debug, Clone, Default)]
struct Use {
    /// `[R, n]`
    a: Vec<f64>,
    /// `[R, m]` for each sweep.
    d: Vec<Vec<f64>>,
    /// The examples that the rows belong to, in order.
    examples: usize,
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
    first: usize,
    /// The uses in each micro-batch.
    batches: Vec<Vec<Use>>,
}

impl Seen {
    fn uses(&self) -> impl Iterator<Item = &Use> {
        self.batches.iter().flatten()
    }

    /// Whether every number seen is finite, and its square is, in f32.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        let mut numbers = self.uses().flat_map(|u| u.a.iter().chain(u.d.iter().flatten()));
        numbers.all(|x| is_second_moment(x * x))
    }

    /// R, the rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.uses().map(|u| u.a.len() / self.n.max(1)).sum()
    }

    /// All inputs: `[R, n]`.
    #[must_use]
    pub fn inputs(&self) -> Vec<f64> {
        self.uses().flat_map(|u| u.a.iter().copied()).collect()
    }

    /// All output gradients, sweep by sweep: `[R · sweeps, m]`.
    #[must_use]
    pub fn outputs(&self) -> Vec<f64> {
        self.uses().flat_map(|u| u.d.iter().flatten().copied()).collect()
    }

    /// A = 1/R Σ a aᵀ over the rows of all workers, as far as a pattern keeps it.
    ///
    /// # Errors
    /// The communicator's, here and below.
    pub fn input_moment(&self, side: &Pattern, workers: &mut dyn Communicator) -> Result<Vec<f64>> {
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
    ) -> Result<Vec<f64>> {
        self.mean_over_terms(gram(&self.outputs(), side), workers)
    }

    /// The diagonals 0 to `width` of A, `[width + 1, n]`: entry i of diagonal k is 1/R Σ a\[i\] a\[i + k\].
    ///
    /// # Errors
    /// As [`Seen::input_moment`].
    pub fn input_band(&self, width: usize, workers: &mut dyn Communicator) -> Result<Vec<f64>> {
        mean(band(&self.inputs(), self.n, width), self.rows() as f64, workers)
    }

    /// The diagonals 0 to `width` of G, `[width + 1, m]`.
    ///
    /// # Errors
    /// As [`Seen::input_moment`].
    pub fn output_band(&self, width: usize, workers: &mut dyn Communicator) -> Result<Vec<f64>> {
        self.mean_over_terms(band(&self.outputs(), self.m, width), workers)
    }

    /// 1/R Σ a
    ///
    /// # Errors
    /// As [`Seen::input_moment`].
    pub fn mean_input(&self, workers: &mut dyn Communicator) -> Result<Vec<f64>> {
        mean(sum(&self.inputs(), self.n), self.rows() as f64, workers)
    }

    /// 1/N Σ d: the sum over positions, the mean over terms. Of the first draw of labels, or the first column of
    /// the exact Fisher, where there are more.
    ///
    /// # Errors
    /// As [`Seen::input_moment`].
    pub fn mean_output(&self, workers: &mut dyn Communicator) -> Result<Vec<f64>> {
        let first: Vec<f64> =
            self.uses().flat_map(|u| u.d.iter().take(self.first).flatten().copied()).collect();
        self.mean_over_terms(sum(&first, self.m), workers)
    }

    /// 1/R of a sum over this worker's rows, with the sums and the R of all workers.
    ///
    /// # Errors
    /// As [`Seen::input_moment`].
    pub fn mean_over_rows(
        &self,
        sum: Vec<f64>,
        workers: &mut dyn Communicator,
    ) -> Result<Vec<f64>> {
        mean(sum, self.rows() as f64, workers)
    }

    /// 1/N of a sum over this worker's examples, with the sums and the N of all workers.
    ///
    /// # Errors
    /// As [`Seen::input_moment`].
    pub fn mean_over_terms(
        &self,
        sum: Vec<f64>,
        workers: &mut dyn Communicator,
    ) -> Result<Vec<f64>> {
        mean(sum, self.terms, workers)
    }

    /// The same where each use of the layer has turned its rows: a is `[R, n]`, d `[R, m]`.
    pub(crate) fn turned(
        &self,
        inputs: impl Fn(&[f64]) -> Vec<f64>,
        outputs: impl Fn(&[f64]) -> Vec<f64>,
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
    pub(crate) fn squared_gradients(&self) -> Vec<f64> {
        let (n, m) = (self.n, self.m);
        let mut sum = vec![0.0; m * n];
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
    pub(crate) fn gradient_moments(&self, inputs: &Pattern, outputs: &Pattern) -> [Vec<f64>; 2] {
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
                    let mut gradient = vec![0.0; m * n];
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

/// xᵀx, as far as it is kept.
fn gram(x: &[f64], side: &Pattern) -> Vec<f64> {
    let mut out = side.zeros();
    side.gram(x, x.len() / side.size().max(1), (1.0, 1.0), &mut out);
    out
}

/// The diagonals 0 to `last` of xᵀx, one after another.
fn band(x: &[f64], width: usize, last: usize) -> Vec<f64> {
    let mut out = vec![0.0; (last + 1) * width];
    for row in x.chunks_exact(width.max(1)) {
        for (k, diagonal) in out.chunks_exact_mut(width).enumerate().take(width) {
            let products = row.iter().zip(&row[k..]);
            diagonal.iter_mut().zip(products).for_each(|(sum, (x, y))| *sum += x * y);
        }
    }
    out
}

/// Σ x
fn sum(x: &[f64], width: usize) -> Vec<f64> {
    let mut sum = vec![0.0; width];
    for row in x.chunks_exact(width.max(1)) {
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    sum
}

/// Σ over workers of the sums, over Σ of the counts.
fn mean(mut sums: Vec<f64>, mut count: f64, workers: &mut dyn Communicator) -> Result<Vec<f64>> {
    exchange(sums.iter_mut().chain([&mut count]), workers)?;
    sums.iter_mut().for_each(|x| *x /= count.max(1.0));
    Ok(sums)
}

/// One weight's layer.
#[derive(Debug, Clone)]
pub struct LayerSeen {
    /// The bias that goes with the weight.
    pub bias: Option<ParamId>,
    /// n
    pub n: usize,
    /// m, of one group.
    pub m: usize,
    /// Whether the weight of a group is `[n, m]`: a transposed convolution's, whose first axis is the input's.
    pub transposed: bool,
    /// One for each group.
    pub groups: Vec<Seen>,
}

/// Records → rows.
#[derive(Debug, Clone)]
pub struct LayerRows {
    fisher: Fisher,
    every: u64,
    pub(crate) notes: Tentative<Notes>,
    /// Steps taken.
    pub(crate) steps: u64,
    sweep: usize,
    /// Uses of each weight in this sweep.
    counted: BTreeMap<ParamId, usize>,
    /// The micro-batch going on: uses of each group of each weight.
    batch: BTreeMap<ParamId, Vec<Vec<Use>>>,
    finished: BTreeMap<ParamId, LayerSeen>,
    terms: f64,
}

/// One weight's layer: its sizes, none of them if a saved state has told of it, and its bias.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Known {
    n: usize,
    m: usize,
    bias: Option<ParamId>,
    transposed: bool,
}

/// What batches tell beside rows.
#[derive(Debug, Clone)]
pub(crate) struct Notes {
    pub(crate) rng: Rng,
    /// What is known of each weight's layer.
    known: BTreeMap<ParamId, Known>,
    /// Which weight a bias was seen with.
    partners: BTreeMap<ParamId, ParamId>,
    uncovered: BTreeMap<ParamId, &'static str>,
}

impl LayerRows {
    /// An observer that has seen nothing.
    #[must_use]
    pub fn new(fisher: Fisher, every: u64, seed: u64) -> Self {
        let (known, partners, uncovered) = Default::default();
        Self {
            fisher,
            every: every.max(1),
            notes: Tentative::new(Notes { rng: Rng::new(seed), known, partners, uncovered }),
            steps: 0,
            sweep: 0,
            counted: BTreeMap::new(),
            batch: BTreeMap::new(),
            finished: BTreeMap::new(),
            terms: 0.0,
        }
    }

    /// The weight whose layer covers a parameter.
    #[must_use]
    pub fn covering(&self, param: ParamId) -> Option<ParamId> {
        let Notes { known, partners, uncovered, .. } = &*self.notes;
        let weight = partners.get(&param).copied().unwrap_or(param);
        let covered = known.contains_key(&weight)
            && !uncovered.contains_key(&param)
            && !uncovered.contains_key(&weight);
        covered.then_some(weight)
    }

    /// The op that uses a parameter in a way that rows do not cover.
    #[must_use]
    pub fn uncovered(&self, param: ParamId) -> Option<&'static str> {
        let of = |param: &ParamId| self.notes.uncovered.get(param).copied();
        of(&param).or_else(|| of(self.notes.partners.get(&param)?))
    }

    /// What was seen since the last step, by weight.
    pub(crate) fn take(&mut self) -> BTreeMap<ParamId, LayerSeen> {
        let terms = std::mem::take(&mut self.terms);
        let mut all = std::mem::take(&mut self.finished);
        all.retain(|weight, _| !self.notes.uncovered.contains_key(weight));
        for layer in all.values_mut() {
            layer.groups.iter_mut().for_each(|group| group.terms = terms);
        }
        all
    }

    /// The step is taken: what was seen counts.
    pub(crate) fn commit(&mut self) {
        self.steps += 1;
        self.notes.commit();
    }

    /// A layer known from a saved state.
    pub(crate) fn restore(&mut self, weight: ParamId, bias: Option<ParamId>) {
        let known = Known { n: 0, m: 0, bias, transposed: false };
        self.notes.known.entry(weight).or_insert(known);
        self.notes.partners.extend(bias.map(|bias| (bias, weight)));
        self.notes.commit();
    }

    fn add(&mut self, record: &LayerRecord) -> Result<()> {
        let weight = record.weight;
        let rows = record.rows()?;
        let Some(first) = rows.first() else { return Ok(()) };
        let sizes = Known {
            n: first.a.shape()[1],
            m: first.g.shape()[1],
            bias: record.bias,
            transposed: first.product == Product::Transposed,
        };
        let notes = &mut *self.notes;
        let known = *notes.known.get(&weight).filter(|known| known.n > 0).unwrap_or(&sizes);
        if known != sizes {
            notes.uncovered.insert(weight, "layers of different kinds");
            return Ok(());
        }
        notes.known.insert(weight, sizes);
        if let Some(bias) = record.bias
            && *notes.partners.entry(bias).or_insert(weight) != weight
        {
            notes.uncovered.insert(bias, "layers with different weights");
        }
        let at = self.counted.entry(weight).or_default();
        let groups = self.batch.entry(weight).or_default();
        groups.resize_with(rows.len(), Vec::new);
        for (group, rows) in groups.iter_mut().zip(&rows) {
            if self.sweep == 0 {
                let a = rows.a.to_f64_vec()?;
                group.push(Use { a, d: Vec::new(), examples: rows.examples });
            }
            if let Some(used) = group.get_mut(*at) {
                used.d.push(rows.g.to_f64_vec()?);
            }
        }
        *at += 1;
        Ok(())
    }
}

impl LayerObserver for LayerRows {
    fn observe(&mut self, record: &LayerRecord) -> Result<()> {
        let op = match record.layer {
            Layer::Dense | Layer::Conv2d(_) | Layer::ConvTranspose2d(_) | Layer::Bias => {
                return self.add(record);
            }
            Layer::Lookup => "an embedding",
            Layer::ScaleShift(_) => "a norm",
            layer => layer.name(),
        };
        self.notes.uncovered.insert(record.weight, op);
        record.bias.map(|bias| self.notes.uncovered.insert(bias, op));
        Ok(())
    }

    fn unlayered(&mut self, param: ParamId, op: &'static str) -> Result<()> {
        self.notes.uncovered.insert(param, op);
        Ok(())
    }
}

impl CurvatureSource for LayerRows {
    fn fisher(&self) -> Fisher {
        self.fisher
    }

    fn due(&self) -> bool {
        self.steps.is_multiple_of(self.every)
    }

    fn rng(&mut self) -> &mut Rng {
        &mut self.notes.rng
    }

    fn begin_sweep(&mut self, index: usize) {
        self.sweep = index;
        self.counted.clear();
        if index == 0 {
            self.batch.clear();
        }
    }

    fn finish(&mut self, terms: usize) -> Result<()> {
        let draws = match self.fisher {
            Fisher::Sampled { draws } => draws.max(1),
            Fisher::Empirical | Fisher::Exact => 1,
        };
        let scale = terms as f64 / (draws as f64).sqrt();
        for (weight, groups) in std::mem::take(&mut self.batch) {
            let Some(&Known { n, m, bias, transposed }) = self.notes.known.get(&weight) else {
                continue;
            };
            let layer = self.finished.entry(weight).or_insert_with(|| {
                let seen = || Seen { n, m, terms: 0.0, first: 1, batches: Vec::new() };
                LayerSeen {
                    bias,
                    n,
                    m,
                    transposed,
                    groups: groups.iter().map(|_| seen()).collect(),
                }
            });
            for (group, mut uses) in layer.groups.iter_mut().zip(groups) {
                // One for each place of a term in its example.
                if let (Fisher::Exact, Some(used)) = (self.fisher, uses.first()) {
                    group.first = (terms / used.examples.max(1)).max(1);
                }
                let all = uses.iter_mut().flat_map(|used| &mut used.d).flatten();
                all.for_each(|d| *d *= scale);
                group.batches.push(uses);
            }
        }
        self.terms += terms as f64;
        self.sweep = 0;
        self.counted.clear();
        self.notes.finish();
        Ok(())
    }

    fn abandon(&mut self) {
        self.notes.abandon();
        self.batch.clear();
        self.counted.clear();
        self.sweep = 0;
    }

    fn discard(&mut self) {
        self.abandon();
        self.notes.discard();
        self.finished.clear();
        self.terms = 0.0;
    }
}
