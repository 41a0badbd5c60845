//! One step of K-FAC on a given problem, taken apart: factors, joint gradients, directions.

use engine::{LayerRecord, Likelihood, Tape, Tensor};
use optim::curvature::{Factor, Kronecker, pi};
use optim::{Kfac, KfacConfig, Optimizer};

use crate::document::{Array, Node, Result, wrong};
use crate::network::Network;

/// A network in its starting state, inputs, and a loss.
pub(crate) struct Problem<'a> {
    /// Builds the network.
    pub(crate) network: &'a dyn Fn() -> Result<Network>,
    /// A batch.
    pub(crate) x: Tensor,
    /// A mean over terms.
    pub(crate) loss: &'a dyn Likelihood,
}

/// What a step saw and did. Matrices are joint: `[W | b]`, outputs × (inputs + 1).
pub(crate) struct Step {
    /// The mean loss before the step.
    pub(crate) loss: f64,
    /// The outputs before the step.
    pub(crate) logits: Tensor,
    grads: engine::Gradients,
    /// The same start, untouched.
    before: Network,
    /// The network that was stepped: gradients and factors are keyed by its parameters.
    after: Network,
    optimizer: Kfac,
}

/// K-FAC as the golden files have it: rate 1, no momentum, no clipping, refreshed at every step.
pub(crate) fn plain() -> KfacConfig {
    KfacConfig {
        rate: 1.0,
        momentum: 0.0,
        kl_clip: None,
        weight_decay: 0.0,
        factor_every: 1,
        inverse_every: 1,
        ..KfacConfig::default()
    }
}

impl Problem<'_> {
    /// One step. With `labels`, the factors come from these labels and not from `config.fisher`.
    pub(crate) fn step(&self, config: KfacConfig, labels: Option<&[f64]>) -> Result<Step> {
        let (before, mut after) = ((self.network)()?, (self.network)()?);
        let mut optimizer = Kfac::new(config)?;
        let tape = Tape::new();
        let logits = after.forward(&tape, self.x.clone())?;
        let (loss, grads) = match labels {
            None => {
                let pass = optim::backward(&tape, &logits, self.loss, &mut optimizer)?;
                (pass.loss, pass.gradients)
            }
            Some(labels) => {
                let Some(source) = optimizer.curvature() else { return wrong("no estimator") };
                source.begin_sweep(0);
                tape.sweep(&logits, seed_of(&logits.value(), labels)?, source)?;
                source.finish(self.loss.terms())?;
                let loss = self.loss.nll(&logits)?;
                (loss.value(), tape.backward(&loss)?)
            }
        };
        optimizer.step(&mut after, &grads)?;
        Ok(Step { loss: loss.item()?, logits: logits.value(), grads, before, after, optimizer })
    }

    /// The records of the loss's own labels, and the network they belong to.
    pub(crate) fn records(&self) -> Result<(Network, Vec<LayerRecord>)> {
        let (network, tape, mut records) = ((self.network)()?, Tape::new(), Vec::new());
        let logits = network.forward(&tape, self.x.clone())?;
        tape.backward_observed(&self.loss.nll(&logits)?, &mut records)?;
        Ok((network, records))
    }
}

impl Step {
    /// A layer's gradient.
    pub(crate) fn gradient(&self, layer: &str) -> Result<Array> {
        let (weight, bias) = self.after.layer(layer)?;
        let of = |p| self.grads.of(p).map_or_else(|| wrong("no gradient"), Ok);
        joint(of(weight)?, bias.map(of).transpose()?)
    }

    /// A layer's factors.
    pub(crate) fn factors(&self, layer: &str) -> Result<&Kronecker> {
        let factors = self.optimizer.factors().of(self.after.layer(layer)?.0);
        factors.map_or_else(|| wrong(format!("no factors of layer {layer}")), Ok)
    }

    /// π of a layer's factors.
    pub(crate) fn pi(&self, layer: &str) -> Result<f64> {
        let factors = self.factors(layer)?;
        let g = Factor::full(factors.outputs(), &factors.g[..])?;
        let a = Factor::full(factors.inputs(), &factors.a[..])?;
        pi(&g, &a).map_or_else(|| wrong("π is not defined"), Ok)
    }

    /// A layer's parameters after the step.
    pub(crate) fn parameters(&self, layer: &str) -> Result<Array> {
        let (weight, bias) = self.after.layer(layer)?;
        joint(weight.value(), bias.map(|b| b.value()))
    }

    /// The step taken, before − after: with rate 1 the preconditioned gradient.
    pub(crate) fn direction(&self, layer: &str) -> Result<Array> {
        let (weight, bias) = self.before.layer(layer)?;
        let before = joint(weight.value(), bias.map(|b| b.value()))?;
        let after = self.parameters(layer)?;
        let data = before.data.iter().zip(&after.data).map(|(b, a)| b - a).collect();
        Ok(Array { shape: before.shape, data })
    }

    /// The network after the step.
    pub(crate) const fn network(&self) -> &Network {
        &self.after
    }
}

/// `[W | b]`: rows are outputs, the bias is the last column.
pub(crate) fn joint(weight: &Tensor, bias: Option<&Tensor>) -> Result<Array> {
    let outputs = weight.shape().first().copied().unwrap_or(0);
    let rows = weight.reshape([outputs, weight.numel().checked_div(outputs).unwrap_or(0)])?;
    let matrix = match bias {
        Some(bias) => Tensor::concat(&[&rows, &bias.reshape([outputs, 1])?], 1)?,
        None => rows,
    };
    Ok(Array { shape: matrix.shape().to_vec(), data: matrix.to_f64_vec()? })
}

/// W and b of a stored `[W | b]`-less layer: a weight and, if the file has it, a bias.
pub(crate) fn stored(
    inputs: &Node<'_>,
    weight: &str,
    bias: &str,
) -> Result<(Array, Option<Array>)> {
    let bias = inputs.find(bias).map(|node| node.array()).transpose()?;
    Ok((inputs.get(weight)?.array()?, bias))
}

/// The gradient of the mean cross-entropy at given labels: (softmax − onehot) / N.
fn seed_of(logits: &Tensor, labels: &[f64]) -> Result<Tensor> {
    let classes = logits.shape().last().copied().unwrap_or(0);
    let terms = logits.numel().checked_div(classes).unwrap_or(0);
    let mut seed = logits.softmax(-1)?.to_f64_vec()?;
    if labels.len() != terms || labels.iter().any(|&l| l < 0.0 || l >= classes as f64) {
        return wrong("the labels do not fit the logits");
    }
    for (row, &label) in seed.chunks_exact_mut(classes.max(1)).zip(labels) {
        row[label as usize] -= 1.0;
        row.iter_mut().for_each(|x| *x /= terms as f64);
    }
    Ok(Tensor::from_vec(seed, *logits.shape())?)
}

/// The gradient of each example's own loss, joint and flattened, from a layer's record.
///
/// # Units
/// Rows carry 1/N of the mean; the factor N is put back here.
pub(crate) fn per_example(record: &LayerRecord, terms: usize) -> Result<Vec<Vec<f64>>> {
    let mut all = Vec::new();
    for rows in record.rows()? {
        let (a, g) = (rows.a.to_f64_vec()?, rows.g.to_f64_vec()?);
        let (n, m) = (rows.a.shape()[1], rows.g.shape()[1]);
        let positions = rows.a.shape()[0] / rows.examples.max(1);
        let tile = |x: &[f64], e: usize, width: usize| {
            x[e * positions * width..(e + 1) * positions * width].to_vec()
        };
        for example in 0..rows.examples {
            let (a, g) = (tile(&a, example, n), tile(&g, example, m));
            let mut gradient = vec![0.0; m * n];
            for (a, g) in a.chunks_exact(n).zip(g.chunks_exact(m)) {
                for (row, g) in gradient.chunks_exact_mut(n).zip(g) {
                    row.iter_mut().zip(a).for_each(|(x, a)| *x += terms as f64 * g * a);
                }
            }
            all.push(gradient);
        }
    }
    Ok(all)
}

/// The record of a layer.
pub(crate) fn record_of<'a>(
    network: &Network,
    records: &'a [LayerRecord],
    layer: &str,
) -> Result<&'a LayerRecord> {
    let weight = network.layer(layer)?.0.id();
    let found = records.iter().find(|record| record.weight == weight);
    found.map_or_else(|| wrong(format!("no record of layer {layer}")), Ok)
}
