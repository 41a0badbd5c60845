//! Schema `adafisher-golden/1`: runs of AdaFisher on small networks, step by step.
//!
//! Gomes et al. 2024 (arXiv 2405.16397). Compared at every step: loss, gradients, factors (of
//! the batch, min-max normalised, running, as used), the preconditioner F with λ, the first
//! moment, parameters; and the tape of step 1.

use std::collections::HashMap;

use engine::{Gradients, LayerRecord, Likelihood, ParamId, Parameters, Tape, Tensor};
use nn::CrossEntropy;
use optim::Optimizer;
use optim::adafisher::{
    AdaFisher, AdaFisherConfig, ConvScale, Damping, Decay, Degenerate, EmaInit, EmaRule,
    FactorOrder, FactorTrace, Fallback, MinMax, NormFactor, NormInput,
};

use crate::document::{Document, Node, Result, wrong};
use crate::network::Network;
use crate::report::{Comparison, Line, Tolerance};

/// Sums of at most a hundred f64 terms in another order.
const EXACT: Tolerance = Tolerance::absolute(1e-12);
/// Min-max subtracts close numbers: relative to what is left, more digits are lost.
const NORMALISED: Tolerance = Tolerance { relative: 1e-10, absolute: 1e-12 };

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

    let mut comparison = Comparison::new(EXACT);
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
    let mut comparison = Comparison::new(EXACT);
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
        compare_state(step, &network, &optimizer, &mut comparison)?;
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
    comparison.within(EXACT);
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
    comparison: &mut Comparison,
) -> Result<()> {
    let at = step.get("step")?.count()?;
    for (name, golden) in step.get("layers")?.members()? {
        compare_factors(at, name, &golden, network, optimizer, comparison)?;
    }
    comparison.within(NORMALISED);
    for (path, golden) in step.get("precond")?.members()? {
        let Some(fisher) = optimizer.fisher(network.parameter(path)?)? else {
            return golden.complain("the optimizer has no preconditioner for it");
        };
        comparison.tensor(&format!("step {at}: F of {path}"), &fisher, &golden.array()?)?;
    }
    comparison.within(EXACT);
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
        comparison.within(if quantity.ends_with("_new") { EXACT } else { NORMALISED });
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
    let mut comparison = Comparison::new(EXACT);
    let grads = forward_and_backward(root, data, step, &network, &mut optimizer, &mut comparison)?;
    optimizer.step(&mut network, &grads)?;
    for (name, golden) in step.get("layers")?.members()? {
        compare_factors(1, name, &golden, &network, &optimizer, &mut comparison)?;
    }
    let mut unmoved = Vec::new();
    for (path, parameter) in network.parameters() {
        let init = root.get("init")?.get(&path)?.array()?;
        if step.get("params")?.get(&path)?.array()? == init {
            let ours = parameter.value().to_f64_vec()?;
            let moved = ours.iter().zip(&init.data).map(|(a, b)| (a - b).abs());
            let moved = moved.fold(0.0, f64::max);
            if moved <= EXACT.absolute {
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

/// The options of a run: `config` in full, or the official program's few.
fn config(root: &Node<'_>, run: &Node<'_>) -> Result<AdaFisherConfig> {
    if let Some(config) = run.find("config") {
        return full_config(&config);
    }
    let hyper = run.get("hyper")?;
    hyper.only(&["optimizer", "lr", "beta", "Lambda", "gamma", "TCov", "weight_decay"])?;
    let number = |key: &str| hyper.get(key)?.number();
    let (mut config, rule) = match root.get("source")?.text()? {
        "official" => (AdaFisherConfig::official(), "official"),
        "official2024" => (AdaFisherConfig::spring2024(), "spring2024"),
        source => return wrong(format!("no options are known for the source `{source}`")),
    };
    config.rate = number("lr")?;
    config.beta = number("beta")?;
    config.damping = Damping::Constant(number("Lambda")?);
    config.ema = ema_rule(rule, number("gamma")?)?;
    config.every = hyper.get("TCov")?.count()? as u64;
    config.decay = match (number("weight_decay")?, hyper.get("optimizer")?.text()?) {
        (0.0, _) => Decay::None,
        (decay, "AdaFisher") => Decay::Coupled(decay),
        (decay, "AdaFisherW") => Decay::Decoupled(decay),
        (_, other) => return wrong(format!("the optimizer `{other}` is not known")),
    };
    Ok(config)
}

const OPTIONS: [&str; 17] = [
    "lr",
    "beta",
    "damping",
    "gamma",
    "weight_decay",
    "decay_mode",
    "tcov",
    "ema",
    "ema_init",
    "order",
    "eps",
    "span_scale",
    "degenerate",
    "norm_factor",
    "norm_input",
    "conv_h_scale",
    "fallback",
];

fn full_config(config: &Node<'_>) -> Result<AdaFisherConfig> {
    config.only(&OPTIONS)?;
    let number = |key: &str| config.get(key)?.number();
    Ok(AdaFisherConfig {
        rate: number("lr")?,
        beta: number("beta")?,
        damping: Damping::Constant(number("damping")?),
        ema: ema_rule(config.get("ema")?.text()?, number("gamma")?)?,
        every: config.get("tcov")?.count()? as u64,
        decay: match config.get("decay_mode")?.text()? {
            "coupled" => Decay::Coupled(number("weight_decay")?),
            "decoupled" => Decay::Decoupled(number("weight_decay")?),
            other => choice(&[("none", Decay::None)], "decay_mode", other)?,
        },
        min_max: MinMax {
            epsilon: number("eps")?,
            span_scale: number("span_scale")?,
            degenerate: chosen(
                config,
                "degenerate",
                &[("one", Degenerate::One), ("zero", Degenerate::Zero)],
            )?,
        },
        ema_init: chosen(config, "ema_init", &[("zeros", EmaInit::Zero), ("ones", EmaInit::One)])?,
        order: chosen(
            config,
            "order",
            &[
                ("ema_then_minmax", FactorOrder::EmaThenMinMax),
                ("minmax_then_ema", FactorOrder::MinMaxThenEma),
            ],
        )?,
        norm_factor: chosen(
            config,
            "norm_factor",
            &[
                ("thesis", NormFactor::Thesis),
                ("paper", NormFactor::Paper),
                ("official", NormFactor::Official),
            ],
        )?,
        norm_input: chosen(
            config,
            "norm_input",
            &[("raw", NormInput::Raw), ("normalized", NormInput::Normalized)],
        )?,
        conv_scale: chosen(
            config,
            "conv_h_scale",
            &[
                ("positions", ConvScale::Positions),
                ("official", ConvScale::Official),
                ("spring2024", ConvScale::Spring2024),
            ],
        )?,
        fallback: chosen(
            config,
            "fallback",
            &[("one_plus_damping", Fallback::Identity), ("one", Fallback::One)],
        )?,
        ..AdaFisherConfig::thesis()
    })
}

/// The option that a word stands for.
fn chosen<T: Clone>(config: &Node<'_>, key: &'static str, known: &[(&str, T)]) -> Result<T> {
    choice(known, key, config.get(key)?.text()?)
}

fn choice<T: Clone>(known: &[(&str, T)], key: &str, word: &str) -> Result<T> {
    match known.iter().find(|(name, _)| *name == word) {
        Some((_, option)) => Ok(option.clone()),
        None => wrong(format!("{key}: `{word}` is not known")),
    }
}

/// new state = keep · old state + gain · this batch.
fn ema_rule(rule: &str, gamma: f64) -> Result<EmaRule> {
    match rule {
        "thesis" => Ok(EmaRule { keep: gamma, gain: 1.0 - gamma }),
        "official" => Ok(EmaRule { keep: 0.1 * gamma, gain: 0.01 * gamma }),
        "spring2024" => Ok(EmaRule { keep: 1.0 - gamma, gain: gamma }),
        other => wrong(format!("ema: `{other}` is not known")),
    }
}
