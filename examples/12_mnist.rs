//! 12 · MNIST: the loop of lesson 6 with everything that a longer run wants, and a page to look at.
//!
//! `cargo run --release --example 12_mnist`. With the four MNIST files in `data/mnist` it trains on those,
//! else on the digits inside the program.
#![allow(clippy::print_stdout, reason = "a lesson prints")]

use std::path::Path;

use alcyon::nn::data;
use alcyon::nn::layer::{BatchNorm2d, Conv2d, Dropout, Flatten, MaxPool2d, Relu};
use alcyon::optim;
use alcyon::prelude::*;
use alcyon::train::{
    Budget, Event, Pace, Plan, Record, Run, Shuffled, Snapshots, Supervised, Trainer, report,
};

fn network(side: usize, rng: &mut Rng) -> Sequential {
    let window = Window { padding: (1, 1), ..Window::new((3, 3)) };
    Sequential::new()
        .then(Conv2d::new(1, 8, window, rng))
        .then(BatchNorm2d::new(8))
        .then(Relu)
        .then(MaxPool2d::new(2))
        .then(Conv2d::new(8, 16, window, rng))
        .then(BatchNorm2d::new(16))
        .then(Relu)
        .then(MaxPool2d::new(2))
        .then(Flatten)
        .then(Dropout::new(0.1))
        .then(Linear::new(16 * (side / 4) * (side / 4), 10, rng))
}

fn main() -> Result<()> {
    // 1. The data: a few thousand rows, so that this takes seconds.
    let (train, test) = match data::open("mnist", Some(Path::new("data"))) {
        Ok((train, test)) => (train.range(0, 4000)?, test.range(0, 1000)?),
        Err(_) => data::digits()?,
    };
    let side = train.inputs.shape()[2];
    println!(
        "{}: {} images of {side} × {side}, {} held out\n",
        train.name,
        train.len(),
        test.len()
    );
    let batches = Shuffled::new(Loader::new(&train, 50)?, 0);
    let held_out = Loader::new(&test, 200)?;

    // 2. Two optimizers from one start, each in a folder of its own.
    let root = Path::new("target/alcyon/12-mnist");
    let mut runs = Vec::new();
    for (name, rate) in [("adam", 0.003), ("kfac", 0.1)] {
        let folder = root.join(name);
        let mut model = network(side, &mut Rng::new(0));
        let mut optimizer = optim::build(name, Some(rate))?;

        // 3. A plan: three epochs along a cosine, and evaluations with an average of the weights.
        let plan = Plan {
            budget: Budget::epochs(3),
            pace: Some(Pace::over_budget(Schedule::cosine(rate, 1000), 1000)),
            average: Some(0.95),
            ..Plan::default()
        };

        // 4. Whoever wants to know listens. The loop itself prints nothing.
        let settings = vec![("optimizer".into(), name.into()), ("rate".into(), rate.to_string())];
        let mut record = Record::new(&folder, name, settings);
        let mut print = |event: &Event<'_>| {
            if let Event::Evaluated { evaluation: e, .. } = event {
                println!(
                    "{name:<5} epoch {}  loss {:.4}  {:.2} %",
                    e.epoch,
                    e.loss,
                    100.0 * e.score
                );
            }
            Ok(())
        };
        Trainer::new(&mut model, &mut *optimizer, &Supervised::classification(), plan)?
            // 5. Snapshots: kill it, run it again, and it goes on where it was, to the last bit.
            .snapshots(Snapshots::new(&folder))
            .observe(&mut record)
            .observe(&mut print)
            .run(&batches, &held_out)?;
        runs.push(Run::read(&folder)?);
    }

    // 6. One page about both: curves by step and by time, tables, K-FAC's matrices.
    let page = root.join("report.html");
    report::write(&page, "Lesson 12", &runs)?;
    println!("\nOpen {} in a browser.", page.display());
    println!("Run this again: both runs are over, and nothing is trained twice.");
    Ok(())
}
