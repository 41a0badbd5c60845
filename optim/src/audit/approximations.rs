//! The approximations of each layer, from the optimizers' own estimators.

use std::collections::BTreeMap;

use engine::{Error, ParamId, Parameter, Result};

use super::AuditConfig;
use super::operator::{LayerOperator, Layout, Part};
use crate::algebra::dense::transposed;
use crate::curvature::block::block_inverse::{BlockInverse, columns};
use crate::curvature::block::kronecker::Kronecker;
use crate::curvature::block::precondition::DampingRule;
use crate::curvature::communicator::Local;
use crate::curvature::estimate::kronecker_factors::KroneckerFactors;
use crate::curvature::estimate::layer_rows::{LayerRows, LayerSeen};
use crate::curvature::exact::exact_block::ExactBlock;
use crate::curvature::exact::recorded::RecordedBatch;
use crate::curvature::form::{Form, Share};
use crate::frame::layerwise::LayerRule;
use crate::{AdaFisher, AdaFisherConfig, EkfacConfig, LongSides};

/// After so many refreshes with one batch the factors in use stay as they are. The averages of the authors'
/// programs start at 1 and keep 0.08 of it: 0.08¹² is 7·10⁻¹⁴. Those of thesis and paper start at 0, so
/// they are multiples of the batch's factor at once, and min-max takes the multiple away.
const SETTLED: usize = 12;

/// The name of each preset's line.
const PRESETS: [(&str, &str); 4] = [
    ("AdaFisher, thesis", "thesis"),
    ("AdaFisher, paper", "paper"),
    ("AdaFisher, official", "official"),
    ("AdaFisher, spring2024", "spring2024"),
];

/// An approximate block, under its name.
pub(super) struct Approximation {
    pub(super) name: &'static str,
    pub(super) operator: LayerOperator,
    /// λ, if the method brings its own.
    pub(super) damping: Option<f64>,
    pub(super) bytes: usize,
}

/// What each estimator made of the batch.
pub(super) struct Estimates {
    expand: KroneckerFactors,
    cut: KroneckerFactors,
    reduce: KroneckerFactors,
    rows: BTreeMap<ParamId, LayerSeen>,
    presets: Vec<(&'static str, AdaFisher)>,
    damping: f64,
}

impl Estimates {
    /// Shows the batch to all of them; to AdaFisher the one with the true labels.
    pub(super) fn new(
        batch: &RecordedBatch,
        empirical: &RecordedBatch,
        AuditConfig { damping, block, .. }: AuditConfig,
    ) -> Result<Self> {
        let kronecker = |share, sides| {
            let mut factors = KroneckerFactors::new(batch.fisher(), share).sides(sides);
            batch.replay(&mut factors)?;
            factors.fold()?;
            Ok::<_, Error>(factors)
        };
        let mut rows = LayerRows::new(batch.fisher(), 1, 0);
        batch.replay(&mut rows)?;
        let preset = |&(line, name): &(_, _)| Ok((line, settled(empirical, name)?));
        Ok(Self {
            expand: kronecker(Share::Expand, LongSides::whole())?,
            cut: kronecker(Share::Expand, LongSides::blocks(block))?,
            reduce: kronecker(Share::Reduce, LongSides::whole())?,
            rows: rows.take(),
            presets: PRESETS.iter().map(preset).collect::<Result<_>>()?,
            damping,
        })
    }

    /// K-FAC's factors of a weight, in the expand setting.
    pub(super) fn kronecker(&self, weight: &Parameter) -> Option<&Kronecker> {
        self.expand.covering(weight.id()).and_then(|_| self.expand.of(weight))
    }

    /// All that there is for a layer: a weight, and its bias if there is one.
    pub(super) fn of_layer(
        &self,
        block: &[&Parameter],
        exact: &ExactBlock,
    ) -> Result<Vec<Approximation>> {
        let nothing = LayerOperator::diagonal(vec![0.0; exact.size()]);
        let diagonal = LayerOperator::diagonal(exact.diagonal());
        let mut all = vec![
            Approximation::new("gradient", nothing, 0),
            Approximation::new("diagonal", diagonal, exact.size()),
        ];
        self.adafisher(block, &mut all);
        let Some((weight, _)) = block.split_first() else { return Ok(all) };
        let Some(expand) = self.kronecker(weight) else { return Ok(all) };
        if expand.form == Form::ScaleShift {
            return Ok(all); // K-FAC has the diagonal above.
        }
        all.extend(raw(expand)?);
        let estimates = [
            ("K-FAC, expand", &self.expand),
            ("K-FAC, expand, cut", &self.cut),
            ("K-FAC, reduce", &self.reduce),
        ];
        for (name, factors) in estimates {
            if let Some(factors) = factors.of(weight) {
                let numbers = self.kfac_numbers(factors)?;
                let operator = LayerOperator::kronecker(factors)?;
                all.push(Approximation::new(name, operator, numbers));
            }
        }
        // What K-FAC inverts by default.
        let pi = LayerOperator::kronecker_pi(expand, self.damping)?;
        all.push(Approximation::new("K-FAC, expand, π", pi, self.kfac_numbers(expand)?));
        let layout = Layout::of(expand);
        if let Some(seen) = self.rows.get(&weight.id()) {
            all.push(ekfac(layout, seen)?);
        }
        let squared = LayerOperator::shampoo_squared(exact, layout)?;
        let Layout { groups, m, n, .. } = layout;
        // L and R, and their roots.
        all.push(Approximation::new("Shampoo²", squared, 2 * groups * (m * m + n * n)));
        Ok(all)
    }

    /// The presets, where they cover all of the layer.
    fn adafisher(&self, block: &[&Parameter], all: &mut Vec<Approximation>) {
        for (name, preset) in &self.presets {
            let parts = block.iter().map(|p| preset.curvature_and_damping(p));
            let Some(parts) = parts.collect::<Option<Vec<_>>>() else { continue };
            let damping = parts.first().map(|(_, damping)| *damping);
            let values = parts.into_iter().flat_map(|(values, _)| values).collect();
            let trace = block.iter().find_map(|p| preset.trace(p));
            let numbers = trace.map_or(0, |t| t.h_state.len() + t.s_state.len());
            let operator = LayerOperator::diagonal(values);
            all.push(Approximation { damping, ..Approximation::new(name, operator, numbers) });
        }
    }

    /// Both factors, and what K-FAC's default keeps of their inverses, in f64.
    fn kfac_numbers(&self, block: &Kronecker) -> Result<usize> {
        let all = columns(block, true, block.bias.is_some());
        let inverse = BlockInverse::new(block, all, self.damping, DampingRule::Pi)?;
        Ok(block.a.len() + block.g.len() + inverse.bytes() / size_of::<f64>())
    }
}

impl Approximation {
    fn new(name: &'static str, operator: LayerOperator, numbers: usize) -> Self {
        Self { name, operator, damping: None, bytes: numbers * size_of::<f64>() }
    }
}

/// AdaFisher after it has seen this batch forever.
fn settled(batch: &RecordedBatch, name: &str) -> Result<AdaFisher> {
    use crate::Optimizer as _;
    let mut preset = AdaFisher::new(AdaFisherConfig::preset(name)?)?;
    for _ in 0..SETTLED {
        if let Some(source) = preset.curvature() {
            batch.replay(source)?;
        }
        preset.refresh();
    }
    Ok(preset)
}

/// AdaFisher's H ⊗ S before it is normalised, in units of the Fisher matrix: the diagonals of K-FAC's
/// factors.
fn raw(block: &Kronecker) -> Result<Option<Approximation>> {
    if block.form == Form::Lookup {
        return Ok(None); // The presets give tables no factors.
    }
    let off_diagonal = |values: &[f64], size: usize| -> Vec<f64> {
        let entry = |(k, x): (usize, &f64)| {
            let (i, j) = (k / size % size, k % size);
            if i == j { *x } else { 0.0 }
        };
        values.iter().enumerate().map(entry).collect()
    };
    let a = off_diagonal(&block.a, block.inputs().max(1));
    let g = off_diagonal(&block.g, block.outputs().max(1));
    let numbers = block.groups * (block.inputs() + block.outputs());
    let operator = LayerOperator::kronecker(&Kronecker { a, g, ..block.clone() })?;
    Ok(Some(Approximation::new("raw H·S", operator, numbers)))
}

/// EKFAC's eigenvectors and eigenvalues after one look.
fn ekfac(layout: Layout, layer: &LayerSeen) -> Result<Approximation> {
    let rule = EkfacConfig::default();
    let (mut parts, mut numbers) = (Vec::new(), 0);
    for seen in &layer.groups {
        let mut kept = rule.start(layer.n, layer.m);
        rule.learn(1, seen, &mut kept, &mut Local)?;
        numbers += kept.iter().map(|(_, values)| values.len()).sum::<usize>();
        let mut take = |name: &str| {
            let of = kept.iter_mut().find(|(known, _)| *known == name);
            of.map(|(_, values)| values.to_vec())
        };
        let (v, u, s) = (take("v"), take("u"), take("s").unwrap_or_default());
        parts.push(match layer.transposed {
            false => Part { v, u, s },
            // Rows of the weight are inputs.
            true => Part { v: u, u: v, s: transposed(&s, layer.n) },
        });
    }
    Ok(Approximation::new("EKFAC", LayerOperator::new(layout, parts), numbers))
}
