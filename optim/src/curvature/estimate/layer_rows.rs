//! Rows of layers, kept until the step: for rules that need more than second moments.
//!
//! Units as everywhere: the rows d that a rule sees are gradients of a *term* of the loss, d = N g. With
//! K draws of labels each draw's rows are scaled by 1/√K, so that sums of squares are averages; the
//! columns of the exact Fisher are added. Memory: all inputs and output gradients of the observed layers
//! live until the step, as f64.

mod seen;

use std::collections::BTreeMap;

use engine::{Layer, LayerObserver, LayerRecord, ParamId, Product, Result, Rng};

use kernels::elementwise;

use super::tentative::Tentative;
use crate::curvature::{CurvatureSource, Fisher};
pub use seen::Seen;
use seen::Use;

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
                let a = rows.a.to_f64_vec()?.into();
                group.push(Use { a, d: Vec::new(), examples: rows.examples });
            }
            if let Some(used) = group.get_mut(*at) {
                used.d.push(rows.g.to_f64_vec()?.into());
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

    fn rng(&mut self) -> Option<&mut Rng> {
        Some(&mut self.notes.rng)
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
                let all = uses.iter_mut().flat_map(|used| &mut used.d);
                all.for_each(|d| elementwise::update(d, |d| d * scale));
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
