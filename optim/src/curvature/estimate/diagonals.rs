//! The diagonals of a layer's two Kronecker factors, reduced from its records as they pass by.
//! Martins Gomes 2025, Eqs. 14 to 18, Prop. 3.3.1; the earlier paper's rules: arXiv 2405.16397, A.3.
//!
//! ```text
//! dense          H[p] = Σ a[p]² / R          and 1 for the bias     S[o] = Σ s[o]² / R
//! convolution    the same over patches, R = examples · positions (· groups, where they share H)
//! scale, shift   H[c] = Σ h[c]² / R                                 S[c] = Σ s[c]² / R
//! table          H[v] = frequency of index v                        S[c] = Σ s[c]² / R
//! ```
//! h is the layer's input, s the gradient of the *mean* loss with respect to its output.
//!
//! # Units
//! A batch of N terms brings s = d / N, where d is the gradient of a term's own loss. What is summed
//! is d (or d²); 1/N, with N the terms of *all* batches since the last step, is put back at the end.
//! So two micro-batches give what one batch of both would have given. A weight that is used twice
//! adds its rows.

mod sums;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;

use engine::{DType, Device, Layer, LayerObserver, LayerRecord, ParamId, Result, Shape, Tensor};

use super::tentative::Tentative;
use crate::algebra::read_together::together;
use crate::curvature::CurvatureSource;
use crate::curvature::communicator::{Communicator, exchange};
use crate::curvature::reduce::numbers::is_second_moment;
pub(crate) use sums::partial_squares;
use sums::{Raw, Sums};

/// The factors of normalising layers (scale γ, shift β).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormFactor {
    /// One number per channel: F = H∘S + λ for γ, S + λ for β. Prop. 3.3.1.
    Thesis,
    /// H has two numbers, for γ and for β; S is the square of the summed gradient. arXiv 2405.16397,
    /// Prop. 3.1.
    Paper,
    /// The same with the sums and scales of the authors' program.
    Official,
    /// No factors: the fallback.
    Identity,
}

/// Which activations of a normalising layer the thesis' H is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormInput {
    /// The layer's input, as it comes.
    Raw,
    /// The normalised input. For batch norm its second moment is var / (var + ε), which is 1 but
    /// for ε: in f32 that is degenerate (see [`MinMax`](crate::curvature::MinMax)), so H = 1.
    Normalized,
}

/// What the sum of squared patches is divided by (M examples, L = OH · OW positions, g groups, D
/// numbers in a patch). The scale matters only where min-max has an ε.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConvScale {
    /// M L g: the mean over rows.
    Positions,
    /// M L D: the authors' program.
    Official,
    /// M OW D: the authors' program of spring 2024.
    Spring2024,
}

/// Whether the groups of a convolution have factors of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConvGroups {
    /// One H, pooled over all groups.
    Shared,
    /// One H for each group, used for its outputs.
    PerGroup,
}

/// The choices that the sources leave open, or make differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiagonalRule {
    /// Normalising layers.
    pub norm_factor: NormFactor,
    /// Their input.
    pub norm_input: NormInput,
    /// The scale of a convolution's H.
    pub conv_scale: ConvScale,
    /// The groups of a convolution.
    pub conv_groups: ConvGroups,
    /// Whether tables get factors. Rare rows have H near 0, and take the longest steps.
    pub lookup: bool,
}

/// How H and S make up the curvature of a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// F\[o, p\] = S\[o\] H\[group of o\]\[p\]; the bias is the last entry of each group's H.
    Outer { groups: usize },
    /// γ: F\[c\] = S\[c\] H\[c\], β: F\[c\] = S\[c\].
    Hadamard,
    /// γ: F\[c\] = S\[c\] H\[0\], β: F\[c\] = S\[c\] H\[1\].
    Switch,
    /// F\[v, c\] = H\[v\] S\[c\].
    Table,
}

impl Form {
    /// Whether factors of these lengths are a weight's of this shape.
    pub(crate) fn fits(self, weight: &Shape, bias: bool, h: usize, s: usize) -> bool {
        let rows = weight.first().copied().unwrap_or(1);
        let columns = weight.numel().checked_div(rows).unwrap_or(0);
        match self {
            Self::Outer { groups } => {
                let splits = groups > 0 && rows.is_multiple_of(groups);
                splits && s == rows && h == groups * (columns + usize::from(bias))
            }
            Self::Hadamard => h == weight.numel() && s == h,
            Self::Switch => h == 2 && s == weight.numel(),
            Self::Table => h == rows && s == columns,
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outer { groups } => write!(f, "outer {groups}"),
            Self::Hadamard => f.write_str("hadamard"),
            Self::Switch => f.write_str("switch"),
            Self::Table => f.write_str("table"),
        }
    }
}

impl FromStr for Form {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        match text {
            "hadamard" => Ok(Self::Hadamard),
            "switch" => Ok(Self::Switch),
            "table" => Ok(Self::Table),
            _ => {
                let groups = text.strip_prefix("outer ").ok_or(())?;
                Ok(Self::Outer { groups: groups.parse().map_err(|_| ())? })
            }
        }
    }
}

/// A weight's raw diagonals, of all its uses since the last step.
#[derive(Debug, Clone)]
pub(crate) struct Diagonal {
    pub(crate) form: Form,
    pub(crate) biases: Vec<ParamId>,
    pub(crate) dtype: DType,
    pub(crate) h: Vec<f64>,
    pub(crate) s: Vec<f64>,
}

/// The estimator: records → diagonals.
#[derive(Debug)]
pub(crate) struct Diagonals {
    rule: DiagonalRule,
    pub(crate) due: bool,
    /// What of the batch being swept is still on a device, with the weight's op: read all at once.
    unread: Vec<(ParamId, &'static str, Sums, Raw)>,
    /// The (micro-)batch being swept: s as it comes.
    batch: BTreeMap<ParamId, Sums>,
    /// The batches complete since the last step: d = N s.
    total: BTreeMap<ParamId, Sums>,
    terms: f64,
    pub(crate) notes: Tentative<Notes>,
}

/// What batches tell beside sums.
#[derive(Debug, Clone)]
pub(crate) struct Notes {
    /// Whether all that was seen since the last step is finite.
    finite: bool,
    /// Uses that no factor describes: the op.
    pub(crate) elsewhere: HashMap<ParamId, &'static str>,
}

impl Diagonals {
    pub(crate) fn new(rule: DiagonalRule) -> Self {
        Self {
            rule,
            due: true,
            unread: Vec::new(),
            batch: BTreeMap::new(),
            total: BTreeMap::new(),
            terms: 0.0,
            notes: Tentative::new(Notes { finite: true, elsewhere: HashMap::new() }),
        }
    }

    /// The diagonals of everything observed since the last call. `None` when some of it was not
    /// finite: half a refresh would be worse than none.
    pub(crate) fn take(&mut self) -> Option<Vec<(ParamId, Diagonal)>> {
        let total = std::mem::take(&mut self.total);
        let terms = std::mem::replace(&mut self.terms, 0.0);
        let finite = std::mem::replace(&mut self.notes.finite, true);
        let rule = self.rule;
        let all = total.into_iter().map(|(weight, sums)| (weight, sums.finish(terms, rule)));
        finite.then(|| all.collect())
    }

    /// Adds what has been seen, with its numbers.
    fn read(&mut self, seen: Vec<(ParamId, &'static str, Sums, Raw)>) -> Result<()> {
        let raw: Vec<&Tensor> = seen.iter().flat_map(|(.., raw)| raw).collect();
        let mut numbers = together(&raw)?.into_iter();
        for (weight, op, sums, _) in seen {
            let Some(h_and_s) = numbers.next().zip(numbers.next()) else { continue };
            let sums = sums.filled(h_and_s.into());
            self.notes.finite &= sums.h.iter().chain(&sums.s).all(|&x| is_second_moment(x));
            if !add(&mut self.batch, weight, sums) {
                self.notes.elsewhere.insert(weight, op);
            }
        }
        Ok(())
    }
}

impl LayerObserver for Diagonals {
    fn observe(&mut self, record: &LayerRecord) -> Result<()> {
        let op = record.layer.name();
        let wanted = match record.layer {
            Layer::Dense | Layer::Conv2d(_) => true,
            Layer::Lookup => self.rule.lookup,
            Layer::ScaleShift(_) => self.rule.norm_factor != NormFactor::Identity,
            // The sources have no rule for a transposed convolution.
            _ => false,
        };
        if !wanted {
            for param in std::iter::once(record.weight).chain(record.bias) {
                self.notes.elsewhere.insert(param, op);
            }
        } else if let Some((sums, raw)) = Sums::of(record, self.rule)? {
            let here = raw.iter().all(|x| x.device() == Device::Cpu);
            let seen = (record.weight, op, sums, raw);
            if here {
                return self.read(vec![seen]);
            }
            self.unread.push(seen);
        }
        Ok(())
    }

    fn unlayered(&mut self, param: ParamId, op: &'static str) -> Result<()> {
        self.notes.elsewhere.insert(param, op);
        Ok(())
    }
}

impl CurvatureSource for Diagonals {
    fn due(&self) -> bool {
        self.due
    }

    fn begin_sweep(&mut self, _index: usize) {
        // What a sweep left that ended in an error.
        self.unread.clear();
        self.batch.clear();
    }

    fn finish(&mut self, terms: usize) -> Result<()> {
        let unread = std::mem::take(&mut self.unread);
        self.read(unread)?;
        self.terms += terms as f64;
        for (weight, mut sums) in std::mem::take(&mut self.batch) {
            sums.per_term(terms as f64);
            add(&mut self.total, weight, sums);
        }
        self.notes.finish();
        Ok(())
    }

    fn abandon(&mut self) {
        self.notes.abandon();
        self.unread.clear();
        self.batch.clear();
    }

    fn discard(&mut self) {
        self.abandon();
        self.notes.discard();
        self.total.clear();
        self.terms = 0.0;
    }

    fn exchange(&mut self, communicator: &mut dyn Communicator) -> Result<()> {
        let mut broken = f64::from(!self.notes.finite);
        let sums = self.total.values_mut().flat_map(Sums::numbers_mut);
        exchange(sums.chain([&mut self.terms, &mut broken]), communicator)?;
        self.notes.finite = broken == 0.0;
        self.notes.finish();
        Ok(())
    }
}

/// Adds a use to those of the same weight. Uses that make different factors cannot be added: a
/// product's are kept rather than a table's (tied embeddings: those of the readout), else the
/// first. Then the answer is `false`.
fn add(all: &mut BTreeMap<ParamId, Sums>, weight: ParamId, sums: Sums) -> bool {
    match all.get_mut(&weight) {
        None => {
            all.insert(weight, sums);
            true
        }
        Some(known) if known.fits(&sums) => {
            known.add(sums);
            true
        }
        Some(known) => {
            if known.form == Form::Table {
                *known = sums;
            }
            false
        }
    }
}
