//! 05 · Modules: who owns the parameters, how they are named, and what errors say.
//!
//! `cargo run --example 05_module`

use alcyon::nn::layer::{
    BatchNorm2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, Relu, Sequential,
};
use alcyon::prelude::*;

/// A module is a struct that owns parameters or other modules, and a `forward`.
#[derive(Debug)]
struct Residual {
    first: Linear,
    second: Linear,
}
parameters!(Residual { first, second });

impl Module for Residual {
    fn forward(&self, x: &Var) -> Result<Var> {
        let inner = self.second.forward(&self.first.forward(x)?.relu()?)?;
        x.add(&inner)
    }
}

fn main() -> Result<()> {
    let rng = &mut Rng::new(0);

    // 1. One line, `parameters!`, gives paths, counts and checkpoints.
    let block = Residual { first: Linear::new(4, 8, rng), second: Linear::new(8, 4, rng) };
    println!("1. A residual block owns");
    for (path, p) in block.parameters() {
        println!("   {path:<14} {}", p.value().shape());
    }
    println!("   {} trainable numbers\n", block.parameter_count());

    // 2. A convolutional network from the layers at hand.
    let same = Window { padding: (1, 1), ..Window::new((3, 3)) };
    let network = Sequential::new()
        .then(Conv2d::new(1, 8, same, rng))
        .then(BatchNorm2d::new(8))
        .then(Relu)
        .then(MaxPool2d::new(2))
        .then(Flatten)
        .then(Dropout::new(0.2))
        .named("head", Linear::new(8 * 4 * 4, 10, rng));
    println!("2. A small convolutional network; buffers are not trained:");
    for (path, p) in network.parameters() {
        println!("   {path:<14} {}", p.value().shape());
    }
    for (path, b) in network.buffers() {
        println!("   {path:<22} {} (buffer)", b.value().shape());
    }

    // 3. The mode belongs to the pass, not to the model: nothing to forget to switch back.
    let x = Tensor::normal([2, 1, 8, 8], 0.0, 1.0, DType::F32, rng);
    let tape = Tape::training(7);
    let training = network.forward(&tape.input(x.clone()))?;
    let evaluation = network.predict(&x)?;
    let gap = training.value().sub(&evaluation)?.abs()?.sum_all()?.item()?;
    println!(
        "\n3. Training and evaluation passes differ by {gap:.3}: dropout, and batch statistics."
    );

    // 4. Forward cannot write: running statistics are staged on the tape and committed by you.
    let mut network = network;
    let mean = |n: &Sequential| -> Result<f64> {
        let buffers = n.buffers();
        buffers
            .iter()
            .find(|(path, _)| path == "1.running_mean")
            .map_or(Ok(0.0), |(_, b)| b.value().mean_all()?.item())
    };
    print!("4. Mean of the running mean: {:.5} before, ", mean(&network)?);
    network.commit(tape.staged())?;
    println!("{:.5} after commit.", mean(&network)?);

    // 5. A shape that does not fit is located in the model.
    let wrong = network.predict(&Tensor::zeros([2, 1, 6, 6], DType::F32));
    println!("5. {}", wrong.err().map_or_else(String::new, |e| e.to_string()));

    // 6. Several inputs of one model, one model in several places: a module is only read.
    let twice = block.forward(&block.forward(&Tape::off().input(Tensor::ones([3, 4], DType::F32)))?)?;
    println!("6. The residual block applied twice maps [3, 4] to {}.", twice.shape());
    Ok(())
}
