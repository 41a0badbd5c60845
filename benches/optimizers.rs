//! `optimizer/…`: the update alone, on the gradients of a perceptron with a million parameters.
//! What refreshes seldom (roots, inverses) is in it as often as the default options say.

mod quickly;

use alcyon::engine::Result;
use alcyon::nn::{CrossEntropy, Mlp, Module};
use alcyon::optim;
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

criterion_group! {
    name = benches;
    config = quickly(10, 2.0);
    targets = updates
}
criterion_main!(benches);
