//! Schema `adafisher-golden/1`: runs of AdaFisher on small networks, step by step.
//!
//! Gomes et al. 2024 (arXiv 2405.16397). Compared at every step: loss, gradients, factors (of
//! the batch, min-max normalised, running, as used), the preconditioner F with λ, the first
//! moment, parameters; and the tape of step 1.

use std::collections::HashMap;

use engine::{Gradients, LayerRecord, Likelihood, ParamId, Parameters, Tape, Tensor};
use nn::CrossEntropy;
use optim::{AdaFisher, FactorTrace, Optimizer};

use crate::adafisher_options::config;
use crate::document::{Document, Node, Result, wrong};
use crate::network::Network;
use crate::report::{Comparison, Line, Tolerance};

/// Sums of at most a hundred f64 terms in another order.
const EXACT: f64 = 1e-12;
/// F and the normalised factors: min-max subtracts close numbers.
const RELATIVE: f64 = 1e-10;
/// What the sums in a factor may lose to rounding, relative to the factor.
const ROUNDING: f64 = 16.0 * f64::EPSILON;

/// The two tolerances of a run.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    plain: Tolerance,
    normalised: Tolerance,
}

impl Bounds {
    /// The min-max of an average magnifies its rounding by κ = max / (max − min). That is 10 or
    /// so, but 10⁵ where a normalising layer sees its own normalised input: H = var/(var + ε) is
    /// then 1 but for the ε. All that follows from such an H (F, parameters, the next gradients)
    /// is known to κ · rounding, in the reference as here.
    fn magnified(by: f64) -> Self {
        let absolute = EXACT + by * ROUNDING;
        let normalised = Tolerance { relative: RELATIVE, absolute };
        Self { plain: Tolerance::absolute(absolute), normalised }
    }

    fn of(run: &Node<'_>) -> Result<(Self, f64)> {
        let mut largest: f64 = 1.0;
        let order = run.find("config").and_then(|config| config.find("order"));
        if order.map(|order| order.text()).transpose()? == Some("ema_then_minmax") {
            for step in run.get("steps")?.items()? {
                for (_, layer) in step.get("layers")?.members()? {
                    for state in ["h_ema", "s_ema"] {
                        largest = largest.max(magnification(&layer.get(state)?.array()?.data));
                    }
                }
            }
        }
        Ok((Self::magnified(largest), largest))
    }
}

/// max / (max − min); 1 for a constant vector, which min-max does not divide.
fn magnification(state: &[f64]) -> f64 {
    let largest = state.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let span = largest - state.iter().copied().fold(f64::INFINITY, f64::min);
    if span > largest * f64::EPSILON.sqrt() { largest / span } else { 1.0 }
}

/// One file: the tape of step 1, then each run.
pub(crate) fn replay(file: &str, document: &Document) -> Result<Vec<Line>> {
    let root = document.root();
    let mut lines = Vec::new();
    if root.find("tape_step1").is_some() {
        lines.push(Line::new(file, "tape of step 1", tape(&root)));
    }
    for run in root.get("runs")?.items()? {
        let name = run.get("name")?.text()?;
        let outcome = match run.flag_or("walk_bug", false)? {
            true => first_step_only(&root, &run),
            false => trajectory(&root, &run),
        };
        lines.push(Line::new(file, name, outcome));
    }
    Ok(lines)
}

fn network(root: &Node<'_>) -> Result<Network> {
    match root.get("loss")?.text()? {
        "mean cross-entropy over rows" => {
            Network::described(&root.get("model")?, &root.get("init")?)
        }
        loss => wrong(format!("the loss `{loss}` is not known")),
    }
}

/// A batch's inputs and its loss. Inputs of an embedding are indices.
fn batch(root: &Node<'_>, batch: &Node<'_>) -> Result<(Tensor, CrossEntropy)> {
    let (x, y) = (batch.get("x")?.array()?, batch.get("y")?.array()?);
    let first = root.get("model")?.items()?.into_iter().next();
    let first = first.map(|layer| layer.get("kind")?.text()).transpose()?;
    let x = if first == Some("Embedding") { x.indices()? } else { x.tensor()? };
    Ok((x, CrossEntropy::new(&y.indices()?)))
}

/// Layer inputs and output gradients of the first step.
fn tape(root: &Node<'_>) -> Result<Comparison> {
    let network = network(root)?;
    let first = root.get("batches")?.items()?;
    let Some(first) = first.first() else { return root.complain("no batch") };
    let (x, likelihood) = batch(root, first)?;
    let tape = Tape::training(0);
    let logits = network.forward(&tape, x)?;
    let mut records: Vec<LayerRecord> = Vec::new();
    tape.backward_observed(&likelihood.nll(&logits)?, &mut records)?;
    let by_weight: HashMap<ParamId, &LayerRecord> = records.iter().map(|r| (r.weight, r)).collect();

    let mut comparison = Comparison::new(Tolerance::absolute(EXACT));
    for (name, golden) in root.get("tape_step1")?.members()? {
        golden.only(&["input", "grad_output"])?;
        let (weight, _) = network.layer(name)?;
        let Some(record) = by_weight.get(&weight.id()) else {
            return golden.complain("the tape has no record of this layer");
        };
        let (input, grad) = (golden.get("input")?.array()?, golden.get("grad_output")?.array()?);
        comparison.tensor(&format!("input of layer {name}"), &record.input, &input)?;
        comparison.tensor(&format!("grad_output of layer {name}"), &record.output_grad, &grad)?;
    }
    Ok(comparison)
}

/// All steps of a run.
fn trajectory(root: &Node<'_>, run: &Node<'_>) -> Result<Comparison> {
    let (mut network, mut optimizer) = (network(root)?, AdaFisher::new(config(root, run)?)?);
    let (batches, steps) = (root.get("batches")?.items()?, run.get("steps")?.items()?);
    if batches.len() < steps.len() {
        return run.complain("more steps than batches");
    }
    let (bounds, magnification) = Bounds::of(run)?;
    let mut comparison = Comparison::new(bounds.plain);
    if magnification > 1e3 {
        comparison.remark(format!("min-max magnifies rounding {magnification:.0e} times"));
    }
    for (data, step) in batches.iter().zip(&steps) {
        step.only(&[
            "step",
            "factors_updated",
            "loss",
            "grads",
            "layers",
            "precond",
            "m",
            "params",
        ])?;
        let grads =
            forward_and_backward(root, data, step, &network, &mut optimizer, &mut comparison)?;
        optimizer.step(&mut network, &grads)?;
        compare_state(step, &network, &optimizer, bounds, &mut comparison)?;
    }
    Ok(comparison)
}

/// Loss and gradients of one step, compared.
fn forward_and_backward(
    root: &Node<'_>,
    data: &Node<'_>,
    step: &Node<'_>,
    network: &Network,
    optimizer: &mut AdaFisher,
    comparison: &mut Comparison,
) -> Result<Gradients> {
    let at = step.get("step")?.count()?;
    let (x, likelihood) = batch(root, data)?;
    let tape = Tape::training(0);
    let logits = network.forward(&tape, x)?;
    let pass = optim::backward(&tape, &logits, &likelihood, optimizer)?;
    comparison.number(
        &format!("step {at}: loss"),
        pass.loss.item()?,
        step.get("loss")?.number()?,
    )?;
    for (path, golden) in step.get("grads")?.members()? {
        let Some(grad) = pass.gradients.of(network.parameter(path)?) else {
            return golden.complain("this parameter has no gradient");
        };
        comparison.tensor(&format!("step {at}: gradient of {path}"), grad, &golden.array()?)?;
    }
    Ok(pass.gradients)
}

/// What a step left behind: factors, preconditioner, moments, parameters.
fn compare_state(
    step: &Node<'_>,
    network: &Network,
    optimizer: &AdaFisher,
    bounds: Bounds,
    comparison: &mut Comparison,
) -> Result<()> {
    let at = step.get("step")?.count()?;
    for (name, golden) in step.get("layers")?.members()? {
        compare_factors(at, name, &golden, network, optimizer, bounds, comparison)?;
    }
    comparison.within(bounds.normalised);
    for (path, golden) in step.get("precond")?.members()? {
        let Some(fisher) = optimizer.fisher(network.parameter(path)?)? else {
            return golden.complain("the optimizer has no preconditioner for it");
        };
        comparison.tensor(&format!("step {at}: F of {path}"), &fisher, &golden.array()?)?;
    }
    comparison.within(bounds.plain);
    for (path, golden) in step.get("m")?.members()? {
        let Some(moment) = optimizer.moment(network.parameter(path)?) else {
            return golden.complain("the optimizer has no first moment of it");
        };
        comparison.tensor(&format!("step {at}: m of {path}"), moment, &golden.array()?)?;
    }
    for (path, parameter) in network.parameters() {
        let golden = step.get("params")?.get(&path)?.array()?;
        comparison.tensor(&format!("step {at}: {path}"), parameter.value(), &golden)?;
    }
    Ok(())
}

/// The factors of one layer, those that the file has.
fn compare_factors(
    at: usize,
    name: &str,
    golden: &Node<'_>,
    network: &Network,
    optimizer: &AdaFisher,
    bounds: Bounds,
    comparison: &mut Comparison,
) -> Result<()> {
    let Some(trace) = optimizer.trace(network.layer(name)?.0) else {
        return golden.complain("the optimizer has no factors of this layer");
    };
    for (quantity, golden) in golden.members()? {
        let Some(got) = quantity_of(trace, quantity) else {
            match quantity {
                "kind" => continue,
                _ => return golden.complain("not computed, or not known"),
            }
        };
        comparison.within(if quantity.ends_with("_new") {
            bounds.plain
        } else {
            bounds.normalised
        });
        let what = format!("step {at}: {quantity} of layer {name}");
        comparison.numbers(&what, got, &golden.array()?.data)?;
    }
    Ok(())
}

fn quantity_of<'a>(trace: &'a FactorTrace, name: &str) -> Option<&'a [f64]> {
    match name {
        "h_new" => Some(&trace.h_new),
        "s_new" => Some(&trace.s_new),
        "h_new_norm" => trace.h_new_norm.as_deref(),
        "s_new_norm" => trace.s_new_norm.as_deref(),
        "h_ema" => Some(&trace.h_state),
        "s_ema" => Some(&trace.s_state),
        "h_used" => Some(&trace.h_used),
        "s_used" => Some(&trace.s_used),
        _ => None,
    }
}

/// A run whose reference gives factors to the wrong parameters: what comes before that (loss,
/// gradients, raw factors of step 1) agrees, and what follows must not.
fn first_step_only(root: &Node<'_>, run: &Node<'_>) -> Result<Comparison> {
    let (mut network, mut optimizer) = (network(root)?, AdaFisher::new(config(root, run)?)?);
    let (batches, steps) = (root.get("batches")?.items()?, run.get("steps")?.items()?);
    let (Some(data), Some(step)) = (batches.first(), steps.first()) else {
        return run.complain("no step");
    };
    let bounds = Bounds::magnified(1.0);
    let mut comparison = Comparison::new(bounds.plain);
    let grads = forward_and_backward(root, data, step, &network, &mut optimizer, &mut comparison)?;
    optimizer.step(&mut network, &grads)?;
    for (name, golden) in step.get("layers")?.members()? {
        compare_factors(1, name, &golden, &network, &optimizer, bounds, &mut comparison)?;
    }
    let mut unmoved = Vec::new();
    for (path, parameter) in network.parameters() {
        let init = root.get("init")?.get(&path)?.array()?;
        if step.get("params")?.get(&path)?.array()? == init {
            let ours = parameter.value().to_f64_vec()?;
            let moved = ours.iter().zip(&init.data).map(|(a, b)| (a - b).abs());
            let moved = moved.fold(0.0, f64::max);
            if moved <= EXACT {
                return wrong(format!("{path} does not move, as in the reference"));
            }
            unmoved.push(format!("{path} moves {moved:.2}"));
        }
    }
    if unmoved.is_empty() {
        return run.complain("`walk_bug`, but the reference moves every parameter");
    }
    comparison.remark(format!(
        "up to the factors of step 1; reference has the walk bug; target is fixedwalk_embed; here {}, there 0",
        unmoved.join(" and ")
    ));
    Ok(comparison)
}
