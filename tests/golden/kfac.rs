//! `kfac_*`: factors, damped directions, clipping and a trajectory of K-FAC.
//!
//! Martens & Grosse 2015. Layer matrices are joint, `[W | b]`, with the bias as the last column.

use engine::{Likelihood, Tape};
use nn::{CrossEntropy, Mse};
use optim::curvature::{AverageStart, DampingRule};
use optim::{AdaptiveKfac, AdaptiveKfacConfig, Batch, Fisher, Kfac, KfacConfig, Optimizer};

use crate::document::{Document, Node, Result};
use crate::expected::{Expected, line};
use crate::kronecker::{Problem, Step, joint, per_example, plain, record_of, stored};
use crate::layerwise;
use crate::network::{Kind, Network};
use crate::report::{Comparison, Line};

/// The words of the files for the labels that factors come from.
pub(crate) fn fisher(word: &str) -> Fisher {
    if word == "type2" { Fisher::Exact } else { Fisher::Empirical }
}

/// Compares one layer's factors with the members `a` and `g`.
pub(crate) fn compare_factors(
    comparison: &mut Comparison,
    step: &Step,
    layer: &str,
    expected: &Expected<'_>,
    (a, g): (&str, &str),
) -> Result<()> {
    let factors = step.factors(layer)?;
    comparison.numbers(a, &factors.a, &expected.array(a)?.data)?;
    comparison.numbers(g, &factors.g, &expected.array(g)?.data)
}

/// Linear – tanh – linear: `W1 b1 W2 b2` are layers `1` and `2`.
pub(crate) fn mlp(inputs: &Node<'_>) -> Result<Network> {
    let ((w1, b1), (w2, b2)) = (stored(inputs, "W1", "b1")?, stored(inputs, "W2", "b2")?);
    Network::default().then("1", Kind::Linear, Some(&w1), b1.as_ref())?.and(Kind::Tanh).then(
        "2",
        Kind::Linear,
        Some(&w2),
        b2.as_ref(),
    )
}

/// One least-squares layer, where K-FAC is exact: its undamped step solves the problem.
pub(crate) fn linear_mse(file: &str, document: &Document) -> Result<Vec<Line>> {
    let root = document.root();
    let (inputs, expected) = (root.get("inputs")?, Expected::of(&root)?);
    let lambda = root.get("hyper")?.get("damping")?.number()?;
    let loss = Mse::half_sum(&inputs.get("Y")?.array()?.tensor()?);
    let network = || {
        let (weight, bias) = stored(&inputs, "W", "b")?;
        Network::default().then("1", Kind::Linear, Some(&weight), bias.as_ref())
    };
    let x = inputs.get("X")?.array()?.tensor()?;
    let problem = Problem { network: &network, x: x.clone(), loss: &loss };
    let with = |fisher, damping, damping_rule| {
        problem.step(KfacConfig { fisher, damping, damping_rule, ..plain() }, None)
    };
    let mut lines = vec![line(file, "loss, gradient, factors", &root, |comparison| {
        let step = with(Fisher::Exact, lambda, DampingRule::Pi)?;
        comparison.number("loss", step.loss, expected.number("loss")?)?;
        comparison.numbers("grad", &step.gradient("1")?.data, &expected.array("grad")?.data)?;
        compare_factors(comparison, &step, "1", &expected, ("A", "G_type2"))?;
        comparison.number("pi", step.pi("1")?, expected.number("pi")?)?;
        let step = with(Fisher::Empirical, lambda, DampingRule::Pi)?;
        compare_factors(comparison, &step, "1", &expected, ("A", "G_empirical"))
    })];
    let rules = [
        ("precond_pi", lambda, DampingRule::Pi),
        ("precond_plain", lambda, DampingRule::Plain),
        ("precond_sqrt", lambda.sqrt(), DampingRule::Plain),
        ("precond_exact_damping", lambda, DampingRule::Exact),
    ];
    lines.push(line(file, "damped directions", &root, |comparison| {
        for (name, damping, rule) in rules {
            let direction = with(Fisher::Exact, damping, rule)?.direction("1")?;
            comparison.numbers(name, &direction.data, &expected.array(name)?.data)?;
        }
        // The file's own residual of the last one: zero, up to rounding.
        expected.number("precond_exact_damping_check").map(drop)
    }));
    lines.push(line(file, "undamped step = least squares", &root, |comparison| {
        let step = with(Fisher::Exact, 0.0, DampingRule::Plain)?;
        let (direction, after) = (step.direction("1")?, step.parameters("1")?);
        let natural = expected.array("natural_gradient_undamped")?;
        comparison.numbers("natural gradient", &direction.data, &natural.data)?;
        for solution in ["W_after_one_step_lr1", "least_squares_solution"] {
            comparison.numbers(solution, &after.data, &expected.array(solution)?.data)?;
        }
        let tape = Tape::new();
        let again = loss.nll(&step.network().forward(&tape, x.clone())?)?.item()?;
        comparison.number("loss after", again, expected.number("loss_after_one_step")?)
    }));
    lines.extend(expected.rest(file)?);
    Ok(lines)
}

/// A two-layer network: all kinds of labels, all damping rules, the KL clip, diagonals.
pub(crate) fn mlp_ce(file: &str, document: &Document) -> Result<Vec<Line>> {
    let root = document.root();
    let (inputs, hyper) = (root.get("inputs")?, root.get("hyper")?);
    let expected = Expected::of(&root)?;
    let loss = CrossEntropy::new(&inputs.get("labels")?.list()?.indices()?);
    let (network, x) = (|| mlp(&inputs), inputs.get("X")?.array()?.tensor()?);
    let problem = Problem { network: &network, x, loss: &loss };
    let damping = hyper.get("damping")?.number()?;
    let with = |fisher, damping_rule| {
        problem.step(KfacConfig { fisher, damping, damping_rule, ..plain() }, None)
    };
    let mut lines = vec![line(file, "loss, logits, gradients", &root, |comparison| {
        let step = with(Fisher::Empirical, DampingRule::Pi)?;
        comparison.number("loss", step.loss, expected.number("loss")?)?;
        comparison.tensor("logits", &step.logits, &expected.array("logits")?)?;
        for (layer, name) in [("1", "grad1"), ("2", "grad2")] {
            let golden = expected.array(name)?;
            comparison.numbers(name, &step.gradient(layer)?.data, &golden.data)?;
        }
        Ok(())
    })];
    let mc = inputs.get("labels_mc")?.list()?.data;
    for kind in ["empirical", "type2", "mc"] {
        lines.push(line(file, &format!("factors {kind}"), &root, |comparison| {
            let config = KfacConfig { fisher: fisher(kind), damping, ..plain() };
            let step = problem.step(config, (kind == "mc").then_some(&mc[..]))?;
            for (layer, a) in [("1", "A0"), ("2", "A1")] {
                let g = format!("G{layer}_{kind}");
                compare_factors(comparison, &step, layer, &expected, (a, &g))?;
            }
            Ok(())
        }));
    }
    let rules =
        [("pi", DampingRule::Pi), ("plain", DampingRule::Plain), ("exact", DampingRule::Exact)];
    for kind in ["empirical", "type2"] {
        lines.push(line(file, &format!("directions {kind}"), &root, |comparison| {
            for (rule, damping_rule) in rules {
                let step = with(fisher(kind), damping_rule)?;
                for layer in ["1", "2"] {
                    let name = format!("precond{layer}_{kind}_{rule}");
                    let golden = expected.array(&name)?;
                    comparison.numbers(&name, &step.direction(layer)?.data, &golden.data)?;
                    let pi = expected.number(&format!("pi{layer}_{kind}"))?;
                    comparison.number("pi", step.pi(layer)?, pi)?;
                }
            }
            Ok(())
        }));
    }
    for kind in ["empirical", "type2"] {
        lines.push(line(file, &format!("EKFAC {kind}"), &root, |comparison| {
            layerwise::ekfac(comparison, &problem, &expected, (kind, fisher(kind), damping))
        }));
    }
    lines.push(line(file, "KL clip", &root, |c| kl_clip(c, &problem, &hyper, &expected)));
    lines.push(line(file, "diagonals", &root, |c| diagonals(c, &problem, &expected)));
    lines.extend(expected.rest(file)?);
    Ok(lines)
}

/// ν scales the step so that its predicted change of the outputs' distribution stays small.
fn kl_clip(
    comparison: &mut Comparison,
    problem: &Problem<'_>,
    hyper: &Node<'_>,
    expected: &Expected<'_>,
) -> Result<()> {
    let rate = hyper.get("lr_for_kl_clip")?.number()?;
    let free = KfacConfig {
        rate,
        fisher: Fisher::Exact,
        damping: hyper.get("damping")?.number()?,
        ..plain()
    };
    let clipped = KfacConfig { kl_clip: Some(hyper.get("kl_clip")?.number()?), ..free };
    let (free, clipped) = (problem.step(free, None)?, problem.step(clipped, None)?);
    let nu = expected.number("kl_clip_nu")?;
    let mut sum = 0.0;
    for layer in ["1", "2"] {
        let (free, clipped) = (free.direction(layer)?.data, clipped.direction(layer)?.data);
        let scaled: Vec<f64> = free.iter().map(|x| nu * x).collect();
        comparison.numbers("the clipped step", &clipped, &scaled)?;
        let gradient = problem.step(plain(), None)?.gradient(layer)?.data;
        sum += rate * free.iter().zip(&gradient).map(|(p, g)| p * g).sum::<f64>();
    }
    comparison.number("kl_clip_vg_sum", sum, expected.number("kl_clip_vg_sum")?)
}

/// Diagonals of the factors, and of the empirical Fisher itself.
fn diagonals(
    comparison: &mut Comparison,
    problem: &Problem<'_>,
    expected: &Expected<'_>,
) -> Result<()> {
    let (network, records) = problem.records()?;
    let terms = problem.loss.terms();
    for (layer, a) in [("1", "A0"), ("2", "A1")] {
        let record = record_of(&network, &records, layer)?;
        let mean = mean_squares(&per_example(record, terms)?);
        let name = format!("diag{layer}_empirical");
        comparison.numbers(&name, &mean, &expected.array(&name)?.data)?;
        for rows in record.rows()? {
            let squares = |t: &engine::Tensor, scale: f64| -> Result<Vec<f64>> {
                let count = t.shape()[0] as f64;
                Ok(t.mul(t)?.sum(&[0])?.scale(scale / count)?.to_f64_vec()?)
            };
            let (a, g) = (format!("diag_{a}"), format!("diag_G{layer}_empirical"));
            comparison.numbers(&a, &squares(&rows.a, 1.0)?, &expected.array(&a)?.data)?;
            let of_terms = (terms * terms) as f64;
            comparison.numbers(&g, &squares(&rows.g, of_terms)?, &expected.array(&g)?.data)?;
        }
    }
    Ok(())
}

/// The mean over examples of the squares: the diagonal of the empirical Fisher.
pub(crate) fn mean_squares(examples: &[Vec<f64>]) -> Vec<f64> {
    let width = examples.first().map_or(0, Vec::len);
    let mean = |i: usize| examples.iter().map(|x| x[i] * x[i]).sum::<f64>() / examples.len() as f64;
    (0..width).map(mean).collect()
}

/// Whole trajectories: exact Fisher, bias-corrected average 0.95, π damping, momentum.
pub(crate) fn optimizer_steps(file: &str, document: &Document) -> Result<Vec<Line>> {
    let root = document.root();
    let runs = root.get("expected")?.members()?;
    let run = |name: &str, expected: &Node<'_>| -> Line {
        line(file, name, &root, |comparison| match name {
            "fixed" => fixed(comparison, &root, expected),
            _ => adaptive(comparison, &root, (name, expected)),
        })
    };
    Ok(runs.iter().map(|(name, expected)| run(name, expected)).collect())
}

/// Rate and momentum from the quadratic model; with `initial_damping`, Levenberg–Marquardt too.
fn adaptive(
    comparison: &mut Comparison,
    root: &Node<'_>,
    (name, expected): (&str, &Node<'_>),
) -> Result<()> {
    let (inputs, hyper) = (root.get("inputs")?, root.get("hyper")?.get(name)?);
    hyper.only(&["damping", "initial_damping"])?;
    let start = hyper.find("initial_damping");
    let damping = start.clone().map_or_else(|| hyper.get("damping"), Ok)?.number()?;
    let loss = CrossEntropy::new(&inputs.get("labels")?.list()?.indices()?);
    let (mut network, x) = (mlp(&inputs)?, inputs.get("X")?.array()?.tensor()?);
    let mut optimizer = AdaptiveKfac::new(AdaptiveKfacConfig {
        damping,
        factor: 0.9,
        adapt_every: u64::from(start.is_some()),
        start: AverageStart::Zero,
        fisher: Fisher::Exact,
        ..AdaptiveKfacConfig::default()
    })?;
    let series = |name: &str| expected.get(name)?.items();
    let losses = series("loss_before")?;
    let stacks = [("1", "W1h"), ("2", "W2h")];
    for (step, golden) in losses.iter().enumerate() {
        let forward = |network: &Network, tape: &Tape| network.outputs(tape, x.clone());
        let before = optimizer.minimize(&mut Batch::new(&mut network, forward, &loss))?;
        comparison.number(&format!("loss before step {step}"), before, golden.number()?)?;
        let Some(last) = optimizer.last() else { return expected.complain("no step") };
        for (name, got) in [
            ("lr", Some(last.rate)),
            ("momentum", Some(last.momentum)),
            ("damping_used", Some(last.damping)),
            ("quad_change", Some(last.change)),
            ("rho", last.ratio),
        ] {
            let series = series(name)?;
            let (Some(golden), Some(got)) = (series.get(step), got) else { continue };
            comparison.number(&format!("{name} of step {step}"), got, golden.number()?)?;
        }
        for (layer, name) in stacks {
            let golden = expected.get(name)?.array()?.slices()?;
            let Some(golden) = golden.get(step) else { return expected.complain("a short stack") };
            let (weight, bias) = network.layer(layer)?;
            let got = joint(weight.value(), bias.map(|b| b.value()))?;
            comparison.numbers(&format!("{name} after step {step}"), &got.data, &golden.data)?;
        }
    }
    Ok(())
}

fn fixed(comparison: &mut Comparison, root: &Node<'_>, expected: &Node<'_>) -> Result<()> {
    let (inputs, hyper) = (root.get("inputs")?, root.get("hyper")?.get("fixed")?);
    hyper.only(&["lr", "momentum", "damping"])?;
    let loss = CrossEntropy::new(&inputs.get("labels")?.list()?.indices()?);
    let (mut network, x) = (mlp(&inputs)?, inputs.get("X")?.array()?.tensor()?);
    let mut optimizer = Kfac::new(KfacConfig {
        rate: hyper.get("lr")?.number()?,
        momentum: hyper.get("momentum")?.number()?,
        damping: hyper.get("damping")?.number()?,
        fisher: Fisher::Exact,
        decay: 0.95,
        ..plain()
    })?;
    let losses = expected.get("loss_before")?.list()?.data;
    let stacks = [("1", "W1h"), ("2", "W2h")];
    let stacks = stacks.map(|(layer, name)| (layer, name, expected.get(name)));
    for (step, golden) in losses.into_iter().enumerate() {
        let tape = Tape::new();
        let logits = network.forward(&tape, x.clone())?;
        let pass = optim::backward(&tape, &logits, &loss, &mut optimizer)?;
        comparison.number(&format!("loss before step {step}"), pass.loss.item()?, golden)?;
        optimizer.step(&mut network, &pass.gradients)?;
        for (layer, name, golden) in &stacks {
            let golden = golden.clone()?.array()?.slices()?;
            let Some(golden) = golden.get(step) else { return expected.complain("a short stack") };
            let (weight, bias) = network.layer(layer)?;
            let got = joint(weight.value(), bias.map(|b| b.value()))?;
            comparison.numbers(&format!("{name} after step {step}"), &got.data, &golden.data)?;
        }
    }
    Ok(())
}
