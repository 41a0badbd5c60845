//! `optimizer/…`: the update alone, on the gradients of a perceptron with a million parameters.
//! What refreshes seldom (roots, inverses) is in it as often as the default options say.
//!
//! `optimizer_step/…`: the update alone of a perceptron with ten million, more than the caches hold; for
//! AdaFisher without a refresh and with one (the layers' rows to factors, the factors to averages). The
//! bytes that each keeps are printed beside.

#![allow(clippy::print_stdout, reason = "bytes are told beside times")]

mod quickly;

use alcyon::engine::Result;
use alcyon::nn::{CrossEntropy, Mlp, Module};
use alcyon::optim::curvature::RecordedBatch;
use alcyon::optim::{self, Fisher};
use alcyon::prelude::*;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quickly::quickly;

/// 784·784 + 784·512 weights, and what belongs to them: 1,022,490 parameters.
const WIDTHS: [usize; 4] = [784, 784, 512, 10];
const ROWS: usize = 64;

/// The gradients of one batch; the optimizer has seen its layer records.
fn gradients(model: &Mlp, optimizer: &mut dyn Optimizer) -> Result<Gradients> {
    let rng = &mut Rng::new(0);
    let inputs = Tensor::normal([ROWS, WIDTHS[0]], 0.0, 1.0, DType::F32, rng);
    let labels = Tensor::random_indices([ROWS], WIDTHS[3], rng)?;
    let tape = Tape::training(0);
    let logits = model.forward(&tape.input(inputs))?;
    Ok(optim::backward(&tape, &logits, &CrossEntropy::new(&labels), optimizer)?.gradients)
}

fn updates(c: &mut Criterion) {
    let mut group = c.benchmark_group("optimizer");
    let names = ["sgd", "adam", "radam", "lion", "adafactor", "muon", "adafisher", "kfac", "eva"];
    for name in names.into_iter().chain(["shampoo", "soap"]) {
        let mut model = Mlp::new(&WIDTHS, &mut Rng::new(1));
        group.throughput(Throughput::Elements(model.parameter_count() as u64));
        // The rate is so small that no number grows however long it is measured.
        let Ok(mut optimizer) = optim::build(name, Some(1e-8)) else { continue };
        let Ok(grads) = gradients(&model, &mut *optimizer) else { continue };
        assert!(optimizer.step(&mut model, &grads).is_ok(), "{name}: a step is made");
        group.bench_function(name, |b| b.iter(|| optimizer.step(&mut model, &grads)));
    }
}

/// 10,051,466 parameters.
const WIDE: [usize; 5] = [1024, 2304, 2304, 1024, 10];

fn wide_updates(c: &mut Criterion) {
    let mut group = c.benchmark_group("optimizer_step");
    let mut adams = None;
    for name in ["adam", "sgd", "adamw", "adafisher", "adafisher with refresh"] {
        let mut model = Mlp::new(&WIDE, &mut Rng::new(1));
        group.throughput(Throughput::Elements(model.parameter_count() as u64));
        let known = name.split(' ').next().unwrap_or(name);
        let Ok(mut optimizer) = optim::build(known, Some(1e-8)) else { continue };
        let Ok((grads, batch)) = recorded(&model) else { continue };
        let refresh = |optimizer: &mut dyn Optimizer| match optimizer.curvature() {
            Some(source) => batch.replay(source),
            None => Ok(()),
        };
        assert!(refresh(&mut *optimizer).is_ok(), "{name}: the records are read");
        assert!(optimizer.step(&mut model, &grads).is_ok(), "{name}: a step is made");
        let bytes = optimizer.coverage(&model).state_bytes();
        let adams = *adams.get_or_insert(bytes);
        println!("{name}: {bytes} bytes of state, {:.3} of adam's", bytes as f64 / adams as f64);
        let refreshes = known != name;
        group.bench_function(name, |b| {
            b.iter(|| {
                if refreshes {
                    refresh(&mut *optimizer)?;
                }
                optimizer.step(&mut model, &grads)
            });
        });
    }
}

/// The gradients of one batch, and its layer records.
fn recorded(model: &Mlp) -> Result<(Gradients, RecordedBatch)> {
    let rng = &mut Rng::new(0);
    let inputs = Tensor::normal([ROWS, WIDE[0]], 0.0, 1.0, DType::F32, rng);
    let loss = CrossEntropy::new(&Tensor::random_indices([ROWS], WIDE[4], rng)?);
    let tape = Tape::training(0);
    let logits = model.forward(&tape.input(inputs))?;
    let batch = RecordedBatch::new(&tape, &logits, &loss, ROWS, Fisher::Empirical, rng)?;
    Ok((tape.backward(&loss.nll(&logits)?)?, batch))
}

criterion_group! {
    name = benches;
    config = quickly(10, 2.0);
    targets = updates, wide_updates
}
criterion_main!(benches);
