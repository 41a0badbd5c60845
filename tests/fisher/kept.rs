//! What is kept of factors: blocks, diagonals and joint blocks are parts of the whole, for every kind of
//! layer; and a budget of bytes chooses among them.

use engine::{Error, Parameters, Result, Tape};
use optim::curvature::{
    BlockInverse, DampingRule, ExactBlock, Factor, Form, Kronecker, KroneckerFactors, Pattern,
    RecordedBatch, Share, columns,
};
use optim::{Fisher, Kfac, KfacConfig, LongSides, Optimizer};

use super::exact::{Kind, kinds};
use super::ledger::{Model, trained};
use super::models::{REORDERED, assert_close, numbers};

/// Enough for everything.
const PLENTY: usize = 1 << 40;

fn estimated(
    kind: &Kind,
    batch: &RecordedBatch,
    change: impl Fn(KroneckerFactors) -> KroneckerFactors,
    share: Share,
) -> Result<Option<Kronecker>> {
    let mut factors = change(KroneckerFactors::new(batch.fisher(), share));
    batch.replay(&mut factors)?;
    factors.fold().unwrap();
    let weight = &kind.parameters[0];
    Ok(factors.covering(weight.id()).and_then(|_| factors.of(weight).cloned()))
}

/// The whole factor with zeros outside a pattern.
fn masked(whole: &Factor<'_>, pattern: &Pattern) -> Vec<f64> {
    let n = whole.dim();
    let kept = |i: usize, j: usize| match pattern {
        Pattern::Diagonal(_) => i == j,
        Pattern::Blocks(_) => pattern.ranges().iter().any(|r| r.contains(&i) && r.contains(&j)),
    };
    let entry = |(at, x): (usize, f64)| if kept(at / n, at % n) { x } else { 0.0 };
    whole.to_matrix().into_iter().enumerate().map(entry).collect()
}

fn assert_part_of(part: &Kronecker, whole: &Kronecker, what: &str) {
    assert_eq!(
        (part.form, part.groups, part.bias),
        (whole.form, whole.groups, whole.bias),
        "{what}"
    );
    for group in 0..whole.groups {
        if whole.inputs() > 0 {
            let expected = masked(&whole.input_factor(group).unwrap(), &part.inputs);
            let got = part.input_factor(group).unwrap().to_matrix();
            assert_close(&got, &expected, REORDERED, what);
        }
        let expected = masked(&whole.output_factor(group).unwrap(), &part.outputs);
        assert_close(&part.output_factor(group).unwrap().to_matrix(), &expected, REORDERED, what);
    }
}

#[test]
fn cut_factors_are_the_blocks_of_whole_ones_for_every_layer() {
    let mut cut_anywhere = 0;
    for kind in kinds() {
        for (fisher, share) in [(Fisher::Exact, Share::Expand), (Fisher::Empirical, Share::Reduce)]
        {
            let tape = Tape::new();
            let (batch, _) = kind.recorded(&tape, fisher, 0);
            let Some(whole) = estimated(&kind, &batch, |f| f, share).unwrap() else { continue };
            for longest in 1..8 {
                let cut = |factors: KroneckerFactors| factors.sides(LongSides::blocks(longest));
                let part = estimated(&kind, &batch, cut, share).unwrap().unwrap();
                assert_part_of(&part, &whole, &format!("{}, {longest}", kind.name));
                assert!(part.outputs.longest() <= longest.max(6), "{}", kind.name);
                cut_anywhere += usize::from(part.inputs.ranges().len() > 1);
                let long = longest >= whole.inputs.longest().max(whole.outputs.longest());
                assert!(!long || part == whole, "{}: nothing to cut", kind.name);
            }
        }
    }
    assert!(cut_anywhere > 10, "{cut_anywhere}");
}

#[test]
fn the_least_budget_keeps_diagonals_and_a_large_one_the_exact_block() {
    for kind in kinds() {
        let tape = Tape::new();
        let (batch, _) = kind.recorded(&tape, Fisher::Exact, 0);
        let with = |bytes| {
            let budget = |factors: KroneckerFactors| factors.budget(Some(bytes));
            estimated(&kind, &batch, budget, Share::Expand)
        };
        assert!(matches!(with(8), Err(Error::Argument { name: "budget", .. })), "{}", kind.name);
        let Some(whole) = estimated(&kind, &batch, |f| f, Share::Expand).unwrap() else { continue };
        let least = (0..).step_by(8).find_map(|bytes| with(bytes).ok()).unwrap().unwrap();
        assert_part_of(&least, &whole, kind.name);
        assert!(matches!(least.outputs, Pattern::Diagonal(_)), "{}", kind.name);
        assert!(matches!(least.inputs, Pattern::Diagonal(_)), "{}", kind.name);
        let joint = with(PLENTY).unwrap().unwrap();
        assert!(matches!(joint.form, Form::Joint { .. }), "{}", kind.name);
        if kind.name != "used twice" && kind.name != "transposed with bias" {
            let exact = ExactBlock::new(&[&batch], &kind.references()).unwrap();
            assert_close(&joint.g, &exact.matrix(), REORDERED, kind.name);
        }
    }
}

#[test]
fn the_direction_of_a_joint_block_solves_it_and_so_it_does_with_a_frozen_part() {
    const LAMBDA: f64 = 0.3;
    // Two layers of different kinds have no block, and two layers have two.
    let one = |kind: &Kind| !["tied readout", "transposed with bias"].contains(&kind.name);
    for kind in kinds().into_iter().filter(one) {
        let tape = Tape::new();
        let (batch, gradients) = kind.recorded(&tape, Fisher::Exact, 0);
        let budget = |factors: KroneckerFactors| factors.budget(Some(PLENTY));
        let joint = estimated(&kind, &batch, budget, Share::Expand).unwrap().unwrap();
        let of = |at: usize| kind.parameters.get(at).and_then(|p| gradients.of(p));
        for (weight, bias) in [(true, true), (true, false), (false, true)] {
            let kept = columns(&joint, weight, bias);
            let (w, b) = (of(0).filter(|_| weight), of(1).filter(|_| bias));
            if kept.is_empty() {
                continue; // No bias to train alone.
            }
            let inverse = BlockInverse::new(&joint, kept.clone(), LAMBDA, DampingRule::Pi).unwrap();
            let (p, q) = inverse.direction(joint.form, w, b).unwrap();
            assert_eq!((p.is_some(), q.is_some()), (w.is_some(), b.is_some()), "{}", kind.name);
            let flat = |parts: [Option<&engine::Tensor>; 2]| -> Vec<f64> {
                parts.into_iter().flatten().flat_map(numbers).collect()
            };
            let direction = flat([p.as_ref(), q.as_ref()]);
            let block = joint.output_factor(0).unwrap().within(&kept).to_matrix();
            let row = |(i, row): (usize, &[f64])| {
                let product: f64 = row.iter().zip(&direction).map(|(x, y)| x * y).sum();
                product + LAMBDA * direction[i]
            };
            let size = direction.len().max(1);
            let back: Vec<f64> = block.chunks_exact(size).enumerate().map(row).collect();
            assert_close(&back, &flat([w, b]), 1e3 * REORDERED, kind.name);
        }
    }
}

fn planned(budget: usize) -> Kfac {
    Kfac::new(KfacConfig { budget: Some(budget), ..KfacConfig::default() }).unwrap()
}

/// The bytes of all updates Δ.
fn updates(model: &Model) -> usize {
    model.parameters().iter().map(|(_, p)| p.value().bytes()).sum()
}

#[test]
fn what_runs_is_the_plan_coverage_tells_it_and_state_stays_within_the_budget() {
    let mut told = Vec::new();
    for budget in (1000..3000).step_by(101).chain((3000..120_000).step_by(3001)) {
        let (mut model, mut kfac) = (Model::new(), planned(budget));
        let before = numbers(model.dense_value());
        match trained(&mut kfac, &mut model, 2) {
            Err(Error::Argument { name: "budget", .. }) => continue,
            other => other.unwrap(),
        }
        assert_ne!(numbers(model.dense_value()), before);
        let coverage = kfac.coverage(&model);
        let kept = coverage.state_bytes() - updates(&model);
        assert!(kept <= budget, "{kept} of {budget}:\n{coverage}");
        told.extend(coverage.lines.into_iter().map(|line| line.rule));
    }
    for rule in [
        "diagonal Kronecker, 4 ⊗ 5",
        "Kronecker, 4 ⊗ 5",
        "whole block of 20",
        "diagonal Kronecker, 2 groups of 2 ⊗ 19",
        "Kronecker, 2 groups of 2 ⊗ 19",
        "whole block of 76",
        "diagonal Kronecker, frequencies of 5 ⊗ 4",
        "whole block of 8",
    ] {
        assert!(told.iter().any(|told| told == rule), "no budget chose `{rule}`");
    }
}

#[test]
fn a_planned_run_resumes_bit_for_bit_and_another_plan_is_refused() {
    let (whole, in_twos) = (LongSides::default(), LongSides::blocks(2));
    for (budget, sides) in [(Some(6_000), whole), (Some(PLENTY), whole), (None, in_twos)] {
        let make = |budget, sides| {
            Kfac::new(KfacConfig { budget, sides, ..KfacConfig::default() }).unwrap()
        };
        let (mut model, mut kfac) = (Model::new(), make(budget, sides));
        trained(&mut kfac, &mut model, 3).unwrap();
        let state = kfac.state(&model).unwrap();
        let mut copy = Model::new();
        for ((_, to), (_, from)) in copy.parameters_mut().into_iter().zip(model.parameters()) {
            *to.value_mut() = from.value().clone();
        }
        let mut resumed = make(budget, sides);
        resumed.load_state(&copy, &state).unwrap();
        trained(&mut kfac, &mut model, 12).unwrap();
        trained(&mut resumed, &mut copy, 12).unwrap();
        assert_eq!(numbers(copy.dense_value()), numbers(model.dense_value()));
        let diagonal = LongSides::diagonal();
        for mut other in [make(Some(6_001), whole), make(None, whole), make(None, diagonal)] {
            let refused = other.load_state(&copy, &state);
            assert!(matches!(refused, Err(Error::Argument { name: "state", .. })), "{refused:?}");
        }
    }
}

#[test]
fn a_block_as_long_as_the_longest_side_steps_as_without_one() {
    let after = |sides| {
        let (mut model, config) = (Model::new(), KfacConfig { sides, ..KfacConfig::default() });
        trained(&mut Kfac::new(config).unwrap(), &mut model, 3).unwrap();
        model.parameters().iter().flat_map(|(_, p)| numbers(p.value())).collect::<Vec<f64>>()
    };
    assert_eq!(after(LongSides::blocks(19)), after(LongSides::default()));
    assert_ne!(after(LongSides::blocks(2)), after(LongSides::default()));
}

#[test]
fn options_that_make_no_plan_are_refused() {
    let config = KfacConfig { sides: LongSides::blocks(0), ..KfacConfig::default() };
    assert!(matches!(Kfac::new(config), Err(Error::Argument { name: "sides.block", .. })));
    let damping_rule = DampingRule::Exact;
    let config = KfacConfig { budget: Some(1), damping_rule, ..KfacConfig::default() };
    assert!(matches!(Kfac::new(config), Err(Error::Argument { name: "budget", .. })));
}
