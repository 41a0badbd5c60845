//! K-FAC's factors: for each layer A = E[a aᵀ] and G = E[d dᵀ], so that G ⊗ A is its Fisher block.
//!
//! Martens & Grosse 2015 (dense), Grosse & Martens 2016 (convolutions), Eschenhagen et al. 2023
//! (shared weights). Units: the loss is a mean over N terms, so the gradients `g` of a sweep are d/N
//! with d the gradient of one term. Over R rows (R = N, or N times the positions that share the
//! weight, or more if it is used more than once)
//!
//! ```text
//! A = 1/R Σ a aᵀ                                    each row weighs the same
//! G = 1/N Σ d dᵀ = 1/N Σ (N g)(N g)ᵀ = N Σ g gᵀ     the mean over terms of the sum over positions
//! ```
//!
//! With several micro-batches of N₁, N₂, … terms the sums N₁² Σ g gᵀ + N₂² Σ g gᵀ + … are divided by
//! N₁ + N₂ + …, and A's by R₁ + R₂ + …: so micro-batches equal the whole batch. For one draw of
//! labels Σ runs over the records of one sweep; K draws are averaged; the columns of the exact
//! Fisher are added. The factor N² enters in [`KroneckerFactors::finish`] and nowhere else.

mod entry;

use std::collections::{BTreeMap, btree_map as map};

use engine::{LayerObserver, LayerRecord, ParamId, Parameter, Result, Rng, Tensor};

use super::tentative::Tentative;
use crate::LongSides;
use crate::algebra::pattern::Pattern;
use crate::curvature::block::kronecker::Kronecker;
use crate::curvature::block::ledger::Ledger;
use crate::curvature::communicator::{Communicator, exchange};
use crate::curvature::form::{Form, Kind, Reduction, Share};
use crate::curvature::reduce::second_moments::Moments;
use crate::curvature::{CurvatureSource, Fisher};
pub(crate) use entry::Entry;
use entry::{Sums, look};

/// How the running average begins: F ← F + (new − F)/w, and w is
///
/// | | w of the k-th batch | same as |
/// |---|---|---|
/// | `Zero` | (1 − βᵏ)/(1 − β) | zeros, β F + (1 − β) new, divided by 1 − βᵏ; w ← β w + 1 |
/// | `Identity` | 1/(1 − β) | β F + (1 − β) new from the identity |
/// | `Uncorrected` | 1/(1 − β) | the same from zeros |
/// | `First` | 1, then 1/(1 − β) | the same from the first batch |
/// | `Mean` | min(k, 1/(1 − β)) | a plain mean that begins to forget: min(1 − 1/k, β), the paper's |
/// | `LateMean` | min(max(k − 1, 1), 1/(1 − β)) | the same, counted from 0 |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// Every batch counts by its age alone.
    #[default]
    Zero,
    /// From the identity in A and in G, as in the widespread PyTorch program: the first average is
    /// mostly identity, and early steps are damped by it.
    Identity,
    /// From zeros, without correction: early factors are too small.
    Uncorrected,
    /// From the first batch, which counts for many.
    First,
    /// Martens & Grosse 2015, section 5.
    Mean,
    /// The same with k from 0: the second batch replaces the first.
    LateMean,
}

impl Start {
    /// w of the k-th batch, k ≥ 1.
    fn weight(self, k: u64, decay: f64) -> f64 {
        let (count, longest) = (k as f64, 1.0 / (1.0 - decay));
        match self {
            Self::Zero if decay < 1.0 => longest * crate::algebra::dense::correction(decay, k),
            Self::Zero => count,
            Self::Identity | Self::Uncorrected => longest,
            Self::First => {
                if k == 1 {
                    1.0
                } else {
                    longest
                }
            }
            Self::Mean => count.min(longest),
            Self::LateMean => (count - 1.0).max(1.0).min(longest),
        }
    }
}

/// Records → Kronecker factors, averaged over steps.
///
/// How the running average begins is told at [`Start`]. Factors are whole, cut into blocks or diagonal
/// ([`KroneckerFactors::sides`]), or, with a budget, of the kind that it affords for each layer.
///
/// # Example
/// The factors of one dense layer, read off one sweep:
/// ```
/// use engine::{DType, Parameter, Tape, Tensor};
/// use alcyon_optim::curvature::{KroneckerFactors, Share};
/// use alcyon_optim::{CurvatureSource, Fisher};
/// let weight = Parameter::new(Tensor::ones([1, 2], DType::F64));
/// let tape = Tape::new();
/// let x = tape.input(Tensor::from_slice(&[1.0_f64, 2.0, 3.0, 0.0], [2, 2])?);
/// let loss = x.linear(&tape.bind(&weight), None)?.sum_all()?.scale(0.5)?; // a mean over 2 terms
/// let mut factors = KroneckerFactors::new(Fisher::Empirical, Share::Expand);
/// tape.backward_observed(&loss, &mut factors)?;
/// factors.finish(2)?;
/// factors.fold()?;
/// let block = factors.of(&weight).unwrap();
/// assert_eq!(block.a, [5.0, 1.0, 1.0, 2.0]); // the mean of (1, 2)(1, 2)ᵀ and (3, 0)(3, 0)ᵀ
/// assert_eq!(block.g, [1.0]); // each term's gradient is 1
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct KroneckerFactors {
    fisher: Fisher,
    share: Share,
    sides: LongSides,
    budget: Option<usize>,
    pub(crate) notes: Tentative<Notes>,
    /// The records of that batch, each with its sweep.
    waiting: Vec<(usize, LayerRecord)>,
    every: u64,
    decay: f64,
    start: Start,
    /// Steps folded so far.
    pub(crate) steps: u64,
    /// Terms of the micro-batches since the last fold.
    terms: f64,
    /// The index of the sweep going on.
    sweep: usize,
    pub(crate) entries: BTreeMap<ParamId, Entry>,
    skipped: u64,
    /// Of each step that has not been settled: whether its sums on a device were bad.
    looks: Vec<Tensor>,
    /// Steps, skipped and looks before the last fold, until the step that it is for is taken.
    before: Option<(u64, u64, Vec<Tensor>)>,
}

/// What batches tell beside sums.
#[derive(Debug, Clone)]
pub(crate) struct Notes {
    pub(crate) rng: Rng,
    /// What the budget affords, once a batch has shown the layers.
    plan: Option<BTreeMap<ParamId, Kind>>,
    /// Which weight a bias was seen with.
    partners: BTreeMap<ParamId, ParamId>,
    uncovered: BTreeMap<ParamId, &'static str>,
}

impl Notes {
    const fn new(rng: Rng) -> Self {
        Self { rng, plan: None, partners: BTreeMap::new(), uncovered: BTreeMap::new() }
    }
}

/// Why a weight that several layers share has no factors.
const MISFIT: &str = "layers of different kinds";

impl KroneckerFactors {
    /// An estimator that has seen nothing: due at every step, average decay 0.95, seed 0.
    #[must_use]
    pub fn new(fisher: Fisher, share: Share) -> Self {
        Self {
            fisher,
            share,
            sides: LongSides::default(),
            budget: None,
            notes: Tentative::new(Notes::new(Rng::new(0))),
            waiting: Vec::new(),
            every: 1,
            decay: 0.95,
            start: Start::Zero,
            steps: 0,
            terms: 0.0,
            sweep: 0,
            entries: BTreeMap::new(),
            skipped: 0,
            looks: Vec::new(),
            before: None,
        }
    }

    /// Looks at every `every`-th step only, the first included.
    #[must_use]
    pub const fn every(mut self, every: u64) -> Self {
        self.every = every;
        self
    }

    /// How much of a factor is kept.
    #[must_use]
    pub const fn sides(mut self, sides: LongSides) -> Self {
        self.sides = sides;
        self
    }

    /// Bytes for factors and their inverses by the π rule, for all layers together: each gets a diagonal,
    /// Kronecker factors or its whole block, as [`Ledger::plan`] chooses when the first batch has shown
    /// them. A layer that is seen for the first time later gets a diagonal.
    #[must_use]
    pub const fn budget(mut self, bytes: Option<usize>) -> Self {
        self.budget = bytes;
        self
    }

    /// β of the running average; 0 keeps the last batch only.
    #[must_use]
    pub const fn decay(mut self, decay: f64) -> Self {
        self.decay = decay;
        self
    }

    /// What the running average starts from.
    #[must_use]
    pub const fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// The generator for sampled labels.
    #[must_use]
    pub fn generator(mut self, rng: Rng) -> Self {
        self.notes = Tentative::new(Notes::new(rng));
        self
    }

    /// The averaged factors of a weight, after its first [`KroneckerFactors::fold`]. Those of layers on a
    /// device are as they were at the last [`KroneckerFactors::fetch`].
    #[must_use]
    pub fn of(&self, weight: &Parameter) -> Option<&Kronecker> {
        self.entries.get(&weight.id()).filter(|entry| entry.updates > 0).map(|e| &e.average)
    }

    /// The weight whose factors cover a parameter: itself, or the one it is the bias of. `None` for
    /// a parameter that has no factors, or whose factors would leave out some of its uses.
    #[must_use]
    pub fn covering(&self, param: ParamId) -> Option<ParamId> {
        if self.notes.uncovered.contains_key(&param) {
            return None;
        }
        let weight = self.notes.partners.get(&param).copied().unwrap_or(param);
        self.entries.get(&weight).filter(|entry| entry.updates > 0).map(|_| weight)
    }

    /// Why a parameter is not covered: the op that used it outside layers, or the disagreement of
    /// the layers that share it.
    #[must_use]
    pub fn uncovered(&self, param: ParamId) -> Option<&'static str> {
        self.notes.uncovered.get(&param).copied()
    }

    /// Steps whose factors were thrown away because they were not finite; of layers on a device, those that
    /// an inversion or [`KroneckerFactors::fetch`] has read about.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// A step's micro-batches are over: averages their factors in. If any of them is not finite,
    /// none is taken and the step is counted as skipped. On a device all of it happens there, unread.
    ///
    /// # Errors
    /// None in main memory; when a device has no memory left, nothing has been averaged.
    pub fn fold(&mut self) -> Result<()> {
        self.fold_for_now()?;
        self.commit();
        Ok(())
    }

    /// The same for a step that may yet fail: [`CurvatureSource::discard`] takes it back, until
    /// [`KroneckerFactors::commit`].
    pub(crate) fn fold_for_now(&mut self) -> Result<()> {
        self.before = Some((self.steps, self.skipped, self.looks.clone()));
        self.entries.values_mut().for_each(Entry::mark);
        self.entries.values_mut().try_for_each(Entry::settle)?;
        let bad = look(self.entries.values())?;
        self.steps += 1;
        let terms = std::mem::take(&mut self.terms);
        let keep = self.entries.values().all(Entry::is_whole);
        self.skipped += u64::from(!keep);
        for entry in self.entries.values_mut() {
            if keep && entry.finished.rows > 0.0 && terms > 0.0 {
                let weight = self.start.weight(entry.updates + 1, self.decay);
                entry.fold(terms, weight, bad.as_ref())?;
            }
            entry.finished = Sums::default();
        }
        self.looks.extend(bad);
        Ok(())
    }

    /// The step is taken: what was folded counts.
    pub(crate) fn commit(&mut self) {
        self.before = None;
        self.entries.values_mut().for_each(Entry::commit);
        self.entries.retain(|weight, _| self.notes.uncovered.get(weight) != Some(&MISFIT));
        self.notes.commit();
    }

    /// Brings averages that are on a device to main memory, for [`KroneckerFactors::of`]. The host waits for
    /// the device.
    ///
    /// # Errors
    /// What the device refuses.
    pub fn fetch(&mut self) -> Result<()> {
        self.settle()?;
        self.entries.values_mut().try_for_each(Entry::fetch)
    }

    /// Takes back the batches counted that have brought nothing: a device has found them not finite.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let bad = self.bad()?;
        self.looks.clear();
        self.skipped += bad;
        for entry in self.entries.values_mut().filter(|entry| entry.is_there()) {
            entry.updates = entry.updates.saturating_sub(bad);
        }
        Ok(())
    }

    /// How many of the batches seen on a device, and not settled, have brought nothing.
    pub(crate) fn bad(&self) -> Result<u64> {
        match self.looks.iter().collect::<Vec<_>>().as_slice() {
            [] => Ok(0),
            looks => Ok(Tensor::concat(looks, 0)?.to_vec::<i64>()?.iter().map(|&x| x as u64).sum()),
        }
    }

    /// Adds a record's sums to its weight's, unless the uses of that weight do not fit together.
    fn add(&mut self, weight: ParamId, new: Moments) -> Result<()> {
        if self.notes.uncovered.contains_key(&weight) {
            return Ok(());
        }
        if let Some(bias) = new.bias {
            let partner = *self.notes.partners.entry(bias).or_insert(weight);
            if partner != weight {
                self.notes.uncovered.insert(bias, "layers with different weights");
            }
        }
        let entry = match self.entries.entry(weight) {
            map::Entry::Occupied(known) => known.into_mut(),
            map::Entry::Vacant(place) => place.insert(Entry::new(&new, self.start)?),
        };
        if entry.fits(&new) {
            entry.batch.rows += new.rows as f64;
            entry.batch.a.add(new.a)?;
            entry.batch.g.add(new.g)?;
        } else {
            self.notes.uncovered.insert(weight, MISFIT);
        }
        Ok(())
    }

    /// Adds a record's sums.
    fn reduce(&mut self, record: &LayerRecord) -> Result<()> {
        let kind = match &self.notes.plan {
            Some(plan) => plan.get(&record.weight).copied().unwrap_or(Kind::Diagonal),
            None => Kind::Block,
        };
        let reduction = Reduction { share: self.share, kind, sides: self.sides };
        self.add(record.weight, Moments::of(record, reduction, self.sweep == 0)?)
    }

    /// Decides what the budget affords, and reduces what has waited for it.
    fn decide(&mut self, budget: usize) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let first = waiting.iter().filter(|(sweep, _)| *sweep == 0).map(|(_, record)| record);
        let (weights, ledger) = Ledger::of_layers(first, self.sides);
        self.notes.plan = Some(weights.into_iter().zip(ledger.plan(budget)?).collect());
        for (sweep, record) in waiting {
            self.sweep = sweep;
            self.reduce(&record)?;
        }
        Ok(())
    }

    /// Takes a saved block over.
    pub(crate) fn restore(&mut self, weight: ParamId, average: Kronecker, updates: u64) {
        if self.budget.is_some() {
            self.notes.plan.get_or_insert_default().insert(weight, kind_of(&average));
        }
        if let Some(bias) = average.bias {
            self.notes.partners.insert(bias, weight);
        }
        self.notes.commit();
        let mut entry = Entry::around(average);
        entry.updates = updates;
        self.entries.insert(weight, entry);
    }

    /// Forgets all factors; what is known about uses stays.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        (self.waiting, self.looks, self.before) = (Vec::new(), Vec::new(), None);
        self.notes.discard();
        self.notes.plan = None;
        self.notes.commit();
        self.terms = 0.0;
        self.sweep = 0;
    }
}

impl LayerObserver for KroneckerFactors {
    fn observe(&mut self, record: &LayerRecord) -> Result<()> {
        if self.budget.is_some() && self.notes.plan.is_none() {
            self.waiting.push((self.sweep, record.clone()));
            return Ok(());
        }
        self.reduce(record)
    }

    fn unlayered(&mut self, param: ParamId, op: &'static str) -> Result<()> {
        self.notes.uncovered.insert(param, op);
        Ok(())
    }
}

impl CurvatureSource for KroneckerFactors {
    fn fisher(&self) -> Fisher {
        self.fisher
    }

    fn due(&self) -> bool {
        self.steps.is_multiple_of(self.every.max(1))
    }

    fn rng(&mut self) -> Option<&mut Rng> {
        Some(&mut self.notes.rng)
    }

    fn begin_sweep(&mut self, index: usize) {
        self.sweep = index;
        if index == 0 {
            self.entries.values_mut().for_each(|entry| entry.batch = Sums::default());
            self.waiting.clear();
        }
    }

    fn finish(&mut self, terms: usize) -> Result<()> {
        if let Some(budget) = self.budget.filter(|_| !self.waiting.is_empty()) {
            self.decide(budget)?;
        }
        let draws = match self.fisher {
            Fisher::Sampled { draws } => draws.max(1),
            Fisher::Empirical | Fisher::Exact => 1,
        };
        let terms = terms as f64;
        let scale = terms * terms / draws as f64;
        self.entries.values_mut().try_for_each(|entry| entry.finish(scale))?;
        self.terms += terms;
        self.sweep = 0;
        self.notes.finish();
        Ok(())
    }

    fn abandon(&mut self) {
        self.notes.abandon();
        self.waiting.clear();
        self.sweep = 0;
        self.entries.values_mut().for_each(|entry| entry.batch = Sums::default());
        self.entries.retain(|_, entry| entry.updates > 0 || entry.finished.rows > 0.0);
    }

    fn discard(&mut self) {
        if let Some((steps, skipped, looks)) = self.before.take() {
            (self.steps, self.skipped, self.looks) = (steps, skipped, looks);
        }
        self.notes.discard();
        self.waiting.clear();
        (self.terms, self.sweep) = (0.0, 0);
        self.entries.values_mut().for_each(Entry::discard);
        self.entries.retain(|_, entry| entry.updates > 0);
    }

    fn exchange(&mut self, communicator: &mut dyn Communicator) -> Result<()> {
        if communicator.workers() <= 1 {
            return Ok(());
        }
        let sums = self.entries.values_mut().map(Entry::whole_sums).collect::<Result<Vec<_>>>()?;
        exchange(sums.into_iter().flatten().chain([&mut self.terms]), communicator)
    }
}

/// The kind of curvature that a block is.
fn kind_of(block: &Kronecker) -> Kind {
    match (block.form, &block.inputs, &block.outputs) {
        (Form::Joint { .. }, ..) => Kind::Full,
        (Form::Lookup, _, Pattern::Diagonal(_)) => Kind::Diagonal,
        (_, Pattern::Diagonal(n), Pattern::Diagonal(_)) if *n > 0 => Kind::Diagonal,
        _ => Kind::Block,
    }
}
