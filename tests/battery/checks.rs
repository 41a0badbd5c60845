//! The questions, one function each. An answer is a cell of the table.

use engine::{DType, Error, Gradients, Parameters, Tape, Tensor};
use nn::CrossEntropy;
use optim::{Batch, Optimizer, backward, build};

use super::Cell;
use super::models::{
    Forward, Mixed, Net, Reversed, Thin, Tied, batch, largest_difference, step, values,
};

/// Optimizers that turn into eigenvectors.
const TURNED: [&str; 3] = ["soap", "eshampoo", "splus"];
const WHY_TURNED: &str = "eigenvectors of an eigenvalue that occurs twice (0, at the first gradient of a \
                          softmax layer) are any, and rounding chooses";

/// Optimizers whose random probe is another for every micro-batch.
const PROBED: [&str; 3] = ["adahessian", "sophia", "sophia-h"];
const WHY_PROBED: &str = "every micro-batch draws its own probe: equal on average only";

const WHY_PROBLEM: &str = "evaluates the whole batch itself, as often as it likes";

/// What single precision may do to the way of three steps, relative to its length.
const SINGLE: f64 = 0.01;

fn need(holds: bool, otherwise: impl FnOnce() -> String) -> Cell {
    if holds { Cell::Pass } else { Cell::Fail(otherwise()) }
}

fn is_finite(model: &impl Parameters) -> bool {
    values(model).iter().all(|x| x.is_finite())
}

/// A run that is saved and taken up again ends in the same bits.
pub(crate) fn resume(name: &str) -> Cell {
    for dtype in [DType::F32, DType::F64] {
        let (mut model, mut optimizer) = (Net::new(dtype), build(name, None).unwrap());
        (0..7).for_each(|seed| {
            step(&mut model, &mut *optimizer, &batch(seed, dtype));
        });
        let state = optimizer.state(&model).unwrap();
        let (mut copy, mut resumed) = (Net::new(dtype), build(name, Some(0.5)).unwrap());
        for ((_, to), (_, from)) in copy.parameters_mut().into_iter().zip(model.parameters()) {
            *to.value_mut() = from.value().clone();
        }
        resumed.load_state(&copy, &state).unwrap();
        assert_eq!(resumed.rate(), optimizer.rate(), "{name}");
        for seed in 7..20 {
            step(&mut model, &mut *optimizer, &batch(seed, dtype));
            step(&mut copy, &mut *resumed, &batch(seed, dtype));
        }
        if values(&copy) != values(&model) {
            return Cell::Fail(format!("another way in {dtype}"));
        }
    }
    Cell::Pass
}

/// Parameters listed backwards go the same way. Sums over all of them (K-FAC's clip, products of
/// vectors) are in another order then.
pub(crate) fn order(name: &str) -> Cell {
    let (mut straight, mut a) = (Net::new(DType::F64), build(name, None).unwrap());
    let (mut reversed, mut b) = (Reversed(Net::new(DType::F64)), build(name, None).unwrap());
    for seed in 0..5 {
        step(&mut straight, &mut *a, &batch(seed, DType::F64));
        step(&mut reversed, &mut *b, &batch(seed, DType::F64));
    }
    let apart = largest_difference(&values(&straight), &values(&reversed));
    need(apart < 1e-12, || format!("apart by {apart}"))
}

/// f32 and f64 go the same way.
pub(crate) fn precision(name: &str) -> Cell {
    if TURNED.contains(&name) {
        return Cell::Not(WHY_TURNED);
    }
    let (mut single, mut a) = (Net::new(DType::F32), build(name, None).unwrap());
    let (mut double, mut b) = (Net::new(DType::F64), build(name, None).unwrap());
    let start = values(&double);
    for seed in 0..3 {
        step(&mut single, &mut *a, &batch(seed, DType::F32));
        step(&mut double, &mut *b, &batch(seed, DType::F64));
    }
    let (single, double) = (values(&single), values(&double));
    let length =
        |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt();
    let (apart, long) = (length(&single, &double), length(&double, &start));
    need(apart < SINGLE * long + 1e-6, || format!("apart by {apart} of {long}"))
}

/// Two halves of a batch are the batch.
pub(crate) fn micro_batches(name: &str) -> Cell {
    let (mut whole, mut a) = (Net::new(DType::F64), build(name, None).unwrap());
    let (mut parts, mut b) = (Net::new(DType::F64), build(name, None).unwrap());
    if a.needs_problem() {
        return Cell::Not(WHY_PROBLEM);
    }
    if PROBED.contains(&name) {
        return Cell::Not(WHY_PROBED);
    }
    if TURNED.contains(&name) || name == "kl-shampoo" {
        return Cell::Not(WHY_TURNED);
    }
    for seed in 0..3 {
        let (x, y) = batch(seed, DType::F64);
        step(&mut whole, &mut *a, &(x.clone(), y.clone()));
        let mut sum = Gradients::default();
        for half in 0..2 {
            let cut = |t: &Tensor| t.narrow(0, 12 * half, 12).unwrap().contiguous().unwrap();
            let tape = Tape::training(0);
            let logits = parts.logits(&tape, &cut(&x)).unwrap();
            let loss = CrossEntropy::new(&cut(&y));
            let pass = backward(&tape, &logits, &loss, &mut *b).unwrap();
            sum.accumulate(&pass.gradients).unwrap();
        }
        sum.scale(0.5).unwrap();
        b.step(&mut parts, &sum).unwrap();
    }
    let apart = largest_difference(&values(&whole), &values(&parts));
    match name {
        _ if apart < 1e-11 => Cell::Pass,
        "shampoo" if apart < 1e-7 => {
            Cell::Bound("to 1e-7: roots of nearly singular matrices magnify rounding".into())
        }
        _ => Cell::Fail(format!("apart by {apart}")),
    }
}

/// A table that is also the readout's weight learns, and is one line of coverage.
pub(crate) fn tied(name: &str) -> Cell {
    let (mut model, mut optimizer) = (Tied::new(), build(name, None).unwrap());
    let before = model.table.value().to_f64_vec().unwrap();
    let data = batch(0, DType::F64);
    let losses: Vec<f64> = (0..100).map(|_| step(&mut model, &mut *optimizer, &data)).collect();
    if optimizer.coverage(&model).lines.len() != 2 {
        return Cell::Fail(format!("{}", optimizer.coverage(&model)));
    }
    if model.table.value().to_f64_vec().unwrap() == before {
        return Cell::Fail("the table does not move".into());
    }
    let lowest = losses.iter().copied().fold(f64::INFINITY, f64::min);
    need(lowest < losses[0] && is_finite(&model), || format!("{} to {lowest}", losses[0]))
}

/// Fifty gradients of zero do no harm.
pub(crate) fn zero(name: &str) -> Cell {
    let (mut model, mut optimizer) = (Net::new(DType::F32), build(name, None).unwrap());
    if optimizer.needs_problem() {
        return Cell::Not(WHY_PROBLEM);
    }
    step(&mut model, &mut *optimizer, &batch(0, DType::F32));
    for _ in 0..50 {
        let mut zeros = Gradients::default();
        for (_, p) in model.parameters() {
            zeros.set(p, Tensor::zeros(*p.value().shape(), DType::F32));
        }
        optimizer.step(&mut model, &zeros).unwrap();
    }
    step(&mut model, &mut *optimizer, &batch(1, DType::F32));
    need(is_finite(&model), || "a parameter is not finite".into())
}

/// A gradient with a NaN is refused by the parameter's path, and nothing has changed.
pub(crate) fn not_finite(name: &str) -> Cell {
    let (mut model, mut optimizer) = (Net::new(DType::F64), build(name, None).unwrap());
    step(&mut model, &mut *optimizer, &batch(0, DType::F64));
    let kept = |optimizer: &dyn Optimizer, model: &Net| {
        let state = optimizer.state(model).unwrap();
        let tensors = state.tensors.values().map(|t| t.to_f64_vec().unwrap());
        // A sweep may have drawn labels.
        let numbers = state.numbers.into_iter().filter(|(key, _)| !key.contains("generator"));
        (values(model), numbers.collect::<Vec<_>>(), tensors.collect::<Vec<_>>())
    };
    let before = kept(&*optimizer, &model);
    let (x, y) = batch(1, DType::F64);
    let loss = CrossEntropy::new(&y);
    // √(0 b) is 0, and its slope is 0 times infinity.
    let forward = |model: &Net, tape: &Tape| {
        let broken = tape.bind(&model.second_bias).scale(0.0)?.sqrt()?;
        model.logits(tape, &x)?.add(&broken)
    };
    let refused = optimizer.minimize(&mut Batch::new(&mut model, forward, &loss).training(0));
    let named = matches!(&refused, Err(Error::InLayer { path, source }) if path == "second_bias"
        && matches!(**source, Error::Argument { name: "gradient", .. }));
    if !named {
        return Cell::Fail(format!("{refused:?}"));
    }
    need(kept(&*optimizer, &model) == before, || "something has changed".into())
}

/// 25 steps of a model whose layers have one unit; `first_bias` can keep the first from ever opening.
pub(crate) fn thin(name: &str, first_bias: f64) -> Cell {
    let (mut model, mut optimizer) = (Thin::new(first_bias), build(name, None).unwrap());
    for seed in 0..25 {
        let loss = step(&mut model, &mut *optimizer, &batch(seed, DType::F32));
        if !loss.is_finite() {
            return Cell::Fail(format!("the loss is {loss} at step {seed}"));
        }
    }
    need(is_finite(&model), || "a parameter is not finite".into())
}

/// Every kind of parameter moves and has its rule.
pub(crate) fn moves(name: &str) -> Cell {
    let (mut model, mut optimizer) = (Mixed::new(), build(name, None).unwrap());
    let value = |model: &Mixed| -> Vec<(String, Vec<f64>)> {
        let all = model.parameters().into_iter();
        all.map(|(path, p)| (path, p.value().to_f64_vec().unwrap())).collect()
    };
    let before = value(&model);
    let data = batch(3, DType::F64);
    let losses: Vec<f64> = (0..5).map(|_| step(&mut model, &mut *optimizer, &data)).collect();
    let after = value(&model);
    let still: Vec<&str> =
        before.iter().zip(&after).filter(|(x, y)| x == y).map(|(x, _)| x.0.as_str()).collect();
    let coverage = optimizer.coverage(&model);
    let ruled = coverage.lines.len() == 6
        && coverage
            .lines
            .iter()
            .all(|line| !line.rule.is_empty() && !line.rule.contains("no layer"));
    let finite = losses.iter().all(|loss| loss.is_finite());
    need(still.is_empty() && ruled && finite, || format!("{still:?} {losses:?}\n{coverage}"))
}
