//! `kfac_conv_ce`, `kfac_tokens_ce`: K-FAC where many positions share a weight.
//!
//! Grosse & Martens 2016 (convolutions); Eschenhagen et al. 2023 (expand and reduce).

use engine::{Geometry, Window};
use nn::CrossEntropy;
use optim::KfacConfig;
use optim::curvature::Share;

use crate::document::{Array, Document, Node, Result};
use crate::expected::{Expected, line};
use crate::kfac::{compare_factors, fisher, mean_squares, mlp};
use crate::kronecker::{Problem, per_example, plain, record_of, stored};
use crate::network::{Kind, Network};
use crate::report::{Comparison, Line};

/// Two convolutions and a linear layer, expanded and reduced.
pub(crate) fn conv_ce(file: &str, document: &Document) -> Result<Vec<Line>> {
    let root = document.root();
    let (inputs, expected) = (root.get("inputs")?, Expected::of(&root)?);
    let loss = CrossEntropy::new(&inputs.get("labels")?.list()?.indices()?);
    let (network, x) = (|| convolutions(&inputs), inputs.get("X")?.array()?.tensor()?);
    let problem = Problem { network: &network, x, loss: &loss };
    let damping = root.get("hyper")?.get("damping")?.number()?;
    let layers = ["conv1", "conv2", "linear"];
    let mut lines = vec![line(file, "loss, logits, gradients, patches", &root, |comparison| {
        let step = problem.step(KfacConfig { damping, ..plain() }, None)?;
        comparison.number("loss", step.loss, expected.number("loss")?)?;
        comparison.tensor("logits", &step.logits, &expected.array("logits")?)?;
        for (layer, name) in
            layers.iter().zip(["grad_conv1_joint", "grad_conv2", "grad_linear_joint"])
        {
            let golden = expected.array(name)?;
            comparison.numbers(name, &step.gradient(layer)?.data, &golden.data)?;
        }
        patches(comparison, &problem, &expected)
    })];
    for (share, word) in [(Share::Expand, "expand"), (Share::Reduce, "reduce")] {
        for kind in ["empirical", "type2"] {
            lines.push(line(file, &format!("{word} {kind}"), &root, |comparison| {
                let config = KfacConfig { fisher: fisher(kind), damping, share, ..plain() };
                let step = problem.step(config, None)?;
                for layer in layers {
                    let names =
                        [format!("A_{layer}_{kind}_{word}"), format!("G_{layer}_{kind}_{word}")];
                    compare_factors(comparison, &step, layer, &expected, (&names[0], &names[1]))?;
                    let name = format!("precond_{layer}_{kind}_{word}_pi");
                    if expected.has(&name) {
                        let golden = expected.array(&name)?;
                        comparison.numbers(&name, &step.direction(layer)?.data, &golden.data)?;
                        let pi = expected.number(&format!("pi_{layer}_{kind}_{word}"))?;
                        comparison.number("pi", step.pi(layer)?, pi)?;
                    }
                }
                let name = format!("kfac_{word}_conv1_trace_{kind}");
                if expected.has(&name) {
                    let factors = step.factors("conv1")?;
                    let trace = |m: &[f64], n| m.iter().step_by(n + 1).sum::<f64>();
                    let a = trace(&factors.a, factors.inputs());
                    let g = trace(&factors.g, factors.outputs());
                    comparison.number(&name, a * g, expected.number(&name)?)?;
                }
                Ok(())
            }));
        }
    }
    // How other libraries scale their factors: words, nothing to compare.
    if expected.has("scalings_conv1_empirical") {
        expected.get("scalings_conv1_empirical")?;
    }
    lines.extend(expected.rest(file)?);
    Ok(lines)
}

fn convolutions(inputs: &Node<'_>) -> Result<Network> {
    let conv = |kernel: &Array, stride, padding| {
        let side = |axis: usize| kernel.shape.get(axis).copied().unwrap_or(0);
        let window = Window {
            kernel: (side(2), side(3)),
            stride: (stride, stride),
            padding: (padding, padding),
            dilation: (1, 1),
        };
        Kind::Conv2d(Geometry { window, groups: 1 })
    };
    let (k1, b1) = stored(inputs, "K1", "b1")?;
    let (k2, b2) = stored(inputs, "K2", "b2")?;
    let (l, bl) = stored(inputs, "L", "bl")?;
    Network::default()
        .then("conv1", conv(&k1, 1, 1), Some(&k1), b1.as_ref())?
        .and(Kind::Tanh)
        .then("conv2", conv(&k2, 2, 0), Some(&k2), b2.as_ref())?
        .and(Kind::Tanh)
        .and(Kind::Flatten)
        .then("linear", Kind::Linear, Some(&l), bl.as_ref())
}

/// The patches of both convolutions, and what per-example gradients made of them sum up to.
fn patches(
    comparison: &mut Comparison,
    problem: &Problem<'_>,
    expected: &Expected<'_>,
) -> Result<()> {
    let (network, records) = problem.records()?;
    for layer in ["conv1", "conv2"] {
        let golden = expected.array(&format!("patches_{layer}"))?;
        let record = record_of(&network, &records, layer)?;
        for rows in record.rows()? {
            let width = golden.shape.last().copied().unwrap_or(0);
            let patches = rows.a.narrow(1, 0, width)?;
            comparison.numbers(
                &format!("patches_{layer}"),
                &patches.to_f64_vec()?,
                &golden.data,
            )?;
        }
    }
    let examples = per_example(record_of(&network, &records, "conv1")?, problem.loss.terms())?;
    let diagonal = mean_squares(&examples);
    let (name, trace) =
        ("ekfac_diag_conv1_identity_basis_empirical", "exact_empirical_fisher_block_conv1_trace");
    comparison.numbers(name, &diagonal, &expected.array(name)?.data)?;
    comparison.number(trace, diagonal.iter().sum(), expected.number(trace)?)
}

/// Name, labels, loss, network.
type Case<'a> = (&'static str, &'static str, &'static str, &'a dyn Fn() -> Result<Network>);

/// A layer shared over tokens: one loss per sequence (`pooled`), or one per token.
pub(crate) fn tokens_ce(file: &str, document: &Document) -> Result<Vec<Line>> {
    let root = document.root();
    let (inputs, expected) = (root.get("inputs")?, Expected::of(&root)?);
    let x = inputs.get("X")?.array()?.tensor()?;
    let pooled = || {
        let ((w1, b1), (w2, b2)) = (stored(&inputs, "W1", "b1")?, stored(&inputs, "W2", "b2")?);
        Network::default()
            .then("1", Kind::Linear, Some(&w1), b1.as_ref())?
            .and(Kind::Tanh)
            .and(Kind::MeanOverPositions)
            .then("2", Kind::Linear, Some(&w2), b2.as_ref())
    };
    let per_token = || mlp(&inputs);
    let cases: [Case<'_>; 2] = [
        ("pooled", "labels", "pooled_loss", &pooled),
        ("pertoken", "labels_tokens", "pertoken_loss_mean_over_N_T", &per_token),
    ];
    let mut lines = Vec::new();
    for (case, labels, loss_name, network) in cases {
        let loss = CrossEntropy::new(&inputs.get(labels)?.list()?.indices()?);
        let problem = Problem { network, x: x.clone(), loss: &loss };
        for (share, word) in [(Share::Expand, "expand"), (Share::Reduce, "reduce")] {
            for kind in ["empirical", "type2"] {
                let names = |l: &str| {
                    let name = |factor| format!("{case}_{factor}{l}_{kind}_{word}");
                    (name("A"), name("G"))
                };
                if !["1", "2"].iter().any(|layer| expected.has(&names(layer).0)) {
                    continue;
                }
                let run = format!("{case} {word} {kind}");
                lines.push(line(file, &run, &root, |comparison| {
                    let step = problem
                        .step(KfacConfig { fisher: fisher(kind), share, ..plain() }, None)?;
                    comparison.number("loss", step.loss, expected.number(loss_name)?)?;
                    for layer in ["1", "2"] {
                        let (a, g) = names(layer);
                        if expected.has(&a) {
                            compare_factors(comparison, &step, layer, &expected, (&a, &g))?;
                        }
                    }
                    Ok(())
                }));
            }
        }
    }
    lines.extend(expected.rest(file)?);
    Ok(lines)
}
