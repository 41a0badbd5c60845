//! `step/…`: what a training loop does with one batch — forward, backward, curvature, update — in the
//! networks of `peers/`: two small ones, a decoder and a ResNet-18. K-FAC and Shampoo in the last are in
//! `curvature_cost.rs`, refresh by refresh.

mod quickly;

use alcyon::engine::Result;
use alcyon::nn::models::{GptConfig, ResNetConfig, Stem};
use alcyon::nn::{
    Activation, Conv2d, CrossEntropy, Flatten, Linear, MaxPool2d, Mlp, Module, Sequential,
};
use alcyon::optim;
use alcyon::prelude::*;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quickly::quickly;

/// Random inputs and labels: the numbers do not matter for the time.
struct Rows {
    inputs: Tensor,
    labels: Tensor,
}

fn rows(shape: impl Into<Shape>) -> Result<Rows> {
    let (shape, rng) = (shape.into(), &mut Rng::new(0));
    let inputs = Tensor::normal(shape, 0.0, 1.0, DType::F32, rng);
    Ok(Rows { inputs, labels: Tensor::random_indices([shape[0]], 10, rng)? })
}

/// conv 3x3 1-16, ReLU, pool 2; conv 3x3 16-32, ReLU, pool 2; linear 1568-10; on 28x28 pixels.
fn cnn() -> Sequential {
    let rng = &mut Rng::new(1);
    let window = Window { padding: (1, 1), ..Window::new((3, 3)) };
    Sequential::new()
        .then(Conv2d::new(1, 16, window, rng))
        .then(Activation::Relu)
        .then(MaxPool2d::new(2))
        .then(Conv2d::new(16, 32, window, rng))
        .then(Activation::Relu)
        .then(MaxPool2d::new(2))
        .then(Flatten)
        .then(Linear::new(1568, 10, rng))
}

fn step(model: &mut impl Module, optimizer: &mut dyn Optimizer, rows: &Rows) -> Result<()> {
    let tape = Tape::training(0);
    let logits = model.forward(&tape.input(rows.inputs.clone()))?;
    let loss = CrossEntropy::new(&rows.labels);
    let pass = optim::backward(&tape, &logits, &loss, optimizer)?;
    model.commit(tape.staged())?;
    drop((logits, tape));
    optimizer.step(model, &pass.gradients)
}

/// Default options; the rate is so small that no number grows however long it is measured.
fn compare(
    c: &mut Criterion,
    group: &str,
    optimizers: &[&str],
    model: impl Fn() -> Box<dyn Module>,
    rows: &Rows,
) {
    let mut group = c.benchmark_group(group);
    group.throughput(Throughput::Elements(rows.labels.numel() as u64)); // examples
    for &name in optimizers {
        let built = optim::build(name, Some(1e-8));
        let Ok(mut optimizer) = built else { continue };
        let mut model = model();
        assert!(step(&mut model, &mut *optimizer, rows).is_ok(), "{name}: a step is made");
        group.bench_function(name, |b| b.iter(|| step(&mut model, &mut *optimizer, rows)));
    }
}

fn small(c: &mut Criterion) {
    let Ok(vectors) = rows([128, 784]) else { return };
    let mlp = || Box::new(Mlp::new(&[784, 256, 256, 10], &mut Rng::new(1))) as Box<dyn Module>;
    compare(c, "step/mlp", &["adam", "adafisher", "kfac"], mlp, &vectors);
    let Ok(images) = rows([64, 1, 28, 28]) else { return };
    let cnn = || Box::new(cnn()) as Box<dyn Module>;
    compare(c, "step/cnn", &["sgd", "adafisher", "kfac"], cnn, &images);
}

/// Four blocks 128 wide, 16 texts of 64 tokens.
fn decoder(c: &mut Criterion) {
    let config = GptConfig {
        vocabulary: 256,
        context: 64,
        width: 128,
        layers: 4,
        heads: 4,
        dropout: 0.0,
        ..GptConfig::gpt2()
    };
    let rng = &mut Rng::new(0);
    let Ok(inputs) = Tensor::random_indices([16, 64], 256, rng) else { return };
    let gpt = || match config.build_gpt2(&mut Rng::new(1)) {
        Ok(model) => Box::new(model) as Box<dyn Module>,
        Err(error) => unreachable!("{error}"),
    };
    compare(c, "step/gpt", &["adamw", "adafisher"], gpt, &Rows { labels: inputs.clone(), inputs });
}

/// For 32 images of 32 x 32 pixels.
fn resnet18(c: &mut Criterion) {
    let Ok(images) = rows([32, 3, 32, 32]) else { return };
    let config = ResNetConfig { stem: Stem::Cifar, classes: 10, ..ResNetConfig::default() };
    let resnet = || match config.build(&mut Rng::new(1)) {
        Ok(model) => Box::new(model) as Box<dyn Module>,
        Err(error) => unreachable!("{error}"),
    };
    compare(c, "step/resnet18", &["sgd", "adam", "adafisher"], resnet, &images);
}

criterion_group! {
    name = benches;
    config = quickly(10, 3.0);
    targets = small, decoder, resnet18
}
criterion_main!(benches);
