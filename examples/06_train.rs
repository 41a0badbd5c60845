//! 06 · Training: the street from a row of data to a new parameter, and a run that can be resumed.
//!
//! `cargo run --release --example 06_train`
#![allow(clippy::print_stdout, reason = "a lesson prints")]

use alcyon::nn::{checkpoint, data, metric};
use alcyon::optim::backward;
use alcyon::prelude::*;

const EPOCHS: u64 = 12;

fn main() -> Result<()> {
    // 1. Data: 1,797 handwritten digits, split by writer, inside the program.
    let (train, test) = data::digits()?;
    println!(
        "{}: {} training images, {} test images by other writers\n",
        train.name,
        train.len(),
        test.len()
    );

    // 2. A model, an optimizer, a schedule, and two generators: for the start and for the order.
    let mut model = Mlp::new(&[64, 64, 10], &mut Rng::new(0));
    let mut optimizer = Adam::new(AdamConfig { rate: 0.003, ..AdamConfig::default() })?;
    let loader = Loader::new(&train, 64)?;
    let steps = EPOCHS * loader.batches() as u64;
    let schedule = Schedule::cosine(0.003, steps);
    let mut order = Rng::stream(0, 1);

    println!("epoch      rate   train loss   test accuracy");
    let mut step = 0;
    for epoch in 1..=EPOCHS {
        let (mut total, mut count) = (0.0, 0);
        for batch in loader.epoch(&mut order) {
            // 3. The street. Nothing on it looks back.
            let batch = batch?;
            let tape = Tape::training(step);
            let logits = model.forward(&tape.input(batch.inputs))?;
            let loss = CrossEntropy::new(&batch.targets);
            let pass = backward(&tape, &logits, &loss, &mut optimizer)?;
            model.commit(tape.staged())?;
            drop(tape);
            schedule.apply(step, &mut optimizer);
            optimizer.step(&mut model, &pass.gradients)?;
            total += pass.loss.item()?;
            count += 1;
            step += 1;
        }
        let accuracy = metric::accuracy(&model.predict(&test.inputs)?, &test.labels)?;
        let bar = "#".repeat((accuracy * 40.0) as usize);
        println!(
            "{epoch:>5}   {:.5}   {:>10.4}   {:>6.2} %  {bar}",
            optimizer.rate(),
            total / f64::from(count),
            100.0 * accuracy
        );
    }

    // 4. Everything in one file: parameters, moments, counters. Written atomically.
    let file = std::env::temp_dir().join("alcyon-06-train.safetensors");
    let state = optimizer.state(&model)?;
    checkpoint::save(&file, &model, &state.tensors, &state.numbers)?;
    let mut resumed = Mlp::new(&[64, 64, 10], &mut Rng::new(99));
    let found = checkpoint::load(&file, &mut resumed)?;
    let mut again = Adam::new(AdamConfig { rate: 0.003, ..AdamConfig::default() })?;
    again.load_state(
        &resumed,
        &State { optimizer: "adam".into(), numbers: found.metadata, tensors: found.extra },
    )?;
    let difference = resumed
        .predict(&test.inputs)?
        .sub(&model.predict(&test.inputs)?)?
        .abs()?
        .sum_all()?
        .item()?;
    println!("\nSaved, loaded into a fresh model: outputs differ by {difference}.");

    // 5. A checkpoint of another model changes nothing and says what does not fit.
    let mut other = Mlp::new(&[64, 32, 10], &mut Rng::new(1));
    let error = checkpoint::load(&file, &mut other).err();
    println!("Into another model: {}", error.map_or_else(String::new, |e| e.to_string()));
    std::fs::remove_file(&file).map_err(|e| Error::io(file, e))
}
