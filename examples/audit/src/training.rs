//! The network of `compare`'s default protocol, and a few epochs of Adam.

use alcyon::nn::data::{Dataset, Loader};
use alcyon::nn::{
    Activation, BatchNorm2d, Conv2d, CrossEntropy, Flatten, Linear, MaxPool2d, Module, Sequential,
    metric,
};
use alcyon::optim;
use alcyon::prelude::*;

const RATE: f64 = 0.003;
const BATCH: usize = 64;

/// Streams of a seed: weights come from stream 0.
const ORDER: u64 = 1;

/// conv 3x3 1-16, BN, ReLU, pool 2; conv 3x3 16-32, BN, ReLU, pool 2; linear 128-10.
pub(crate) fn network(rng: &mut Rng) -> Sequential {
    let padded = Window { padding: (1, 1), ..Window::new((3, 3)) };
    Sequential::new()
        .then(Conv2d::new(1, 16, padded, rng))
        .then(BatchNorm2d::new(16))
        .then(Activation::Relu)
        .then(MaxPool2d::new(2))
        .then(Conv2d::new(16, 32, padded, rng))
        .then(BatchNorm2d::new(32))
        .then(Activation::Relu)
        .then(MaxPool2d::new(2))
        .then(Flatten)
        .then(Linear::new(128, 10, rng))
}

/// Adam at 0.003, batches of 64.
///
/// # Errors
/// Whatever the model, the data or the optimizer finds.
pub(crate) fn train(
    model: &mut Sequential,
    rows: &Dataset,
    epochs: usize,
    seed: u64,
) -> Result<()> {
    let mut adam = Adam::new(AdamConfig { rate: RATE, ..AdamConfig::default() })?;
    let mut order = Rng::stream(seed, ORDER);
    let loader = Loader::new(rows, BATCH)?;
    for epoch in 0..epochs {
        for (step, batch) in loader.epoch(&mut order).enumerate() {
            let batch = batch?;
            let tape = Tape::training((epoch * rows.len() + step) as u64);
            let logits = model.forward(&tape.input(batch.inputs))?;
            let loss = CrossEntropy::new(&batch.targets);
            let pass = optim::backward(&tape, &logits, &loss, &mut adam)?;
            model.commit(tape.staged())?;
            drop((logits, tape));
            adam.step(model, &pass.gradients)?;
        }
    }
    Ok(())
}

/// The share of rows that are classified rightly.
///
/// # Errors
/// The model's own.
pub(crate) fn accuracy(model: &Sequential, rows: &Dataset) -> Result<f64> {
    let right = metric::correct(&model.predict(&rows.inputs)?, &rows.labels)?;
    Ok(right as f64 / rows.len() as f64)
}
