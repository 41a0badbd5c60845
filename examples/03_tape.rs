//! 03 · The tape: what is recorded, how gradients add up, what a second sweep is.
//!
//! `cargo run --example 03_tape`
#![allow(clippy::print_stdout, reason = "a lesson prints")]

use alcyon::prelude::*;

/// A hand-written model: any struct that names its parameters.
struct Net {
    hidden: Parameter,
    output: Parameter,
}
parameters!(Net { hidden, output });

fn main() -> Result<()> {
    let mut rng = Rng::new(0);
    let mut normal =
        |shape: [usize; 2]| Parameter::new(Tensor::normal(shape, 0.0, 0.5, DType::F64, &mut rng));
    let net = Net { hidden: normal([3, 2]), output: normal([1, 3]) };
    let x = Tensor::from_slice(&[0.5_f64, -1.0, 1.5, 2.0], [2, 2])?;

    // 1. Binding a parameter puts it on the tape once; every use is a record of its own.
    let tape = Tape::new();
    let input = tape.watch(x);
    let h = input.linear(&tape.bind(&net.hidden), None)?.tanh()?;
    let y = h.linear(&tape.bind(&net.output), None)?;
    let loss = y.mul(&y)?.mean_all()?;
    println!(
        "1. The recording of tanh(x Hᵀ) Oᵀ, squared, averaged:\n\n{}\n",
        tape.table(Some(&net))
    );

    // 2. Backward visits the records from the last to the first.
    let grads = tape.backward(&loss)?;
    println!("2. Gradients, by parameter and by watched input:");
    for (path, parameter) in net.parameters() {
        if let Some(gradient) = grads.of(parameter) {
            println!("   {path:<8} {gradient:.4}");
        }
    }
    if let Some(gradient) = grads.of_var(&input) {
        println!("   input    {gradient:.4}\n");
    }

    // 3. The tape is not used up: it can be swept again, from anywhere, with any seed.
    let mut records: Vec<LayerRecord> = Vec::new();
    tape.sweep(&y, Tensor::ones([2, 1], DType::F64), &mut records)?;
    println!(
        "3. A sweep from y with seed 1 brings {} layer records and no parameter gradients:",
        records.len()
    );
    for r in &records {
        println!(
            "   {:?}: input {}, output gradient {}",
            r.layer,
            r.input.shape(),
            r.output_grad.shape()
        );
    }

    // 4. A value used twice gets the sum of both gradients.
    let tape = Tape::new();
    let v = tape.watch(Tensor::scalar(3.0, DType::F64));
    let grads = tape.backward(&v.mul(&v)?.add(&v)?)?;
    println!(
        "\n4. d(v² + v)/dv at 3 = {:.0}",
        grads.of_var(&v).map_or(Ok(f64::NAN), Tensor::item)?
    );

    // 5. Recorded backward: the gradient is itself a program on the tape.
    let tape = Tape::new();
    let v = tape.watch(Tensor::scalar(2.0, DType::F64));
    let cube = v.mul(&v)?.mul(&v)?;
    let before = tape.len();
    let first = tape.backward_recorded(&cube)?;
    if let Some(slope) = first.of_var(&v) {
        let second = tape.backward(slope)?;
        println!(
            "5. v³ at 2: slope {:.0}, curvature {:.0} (the tape grew from {before} to {} records)",
            slope.item()?,
            second.of_var(&v).map_or(Ok(f64::NAN), Tensor::item)?,
            tape.len()
        );
    }

    // 6. Dropping the tape frees the recording; values stay, and say so when used further.
    let kept = cube;
    drop(tape);
    println!(
        "6. After drop(tape): v³ = {:.0}; using it: {}",
        kept.item()?,
        kept.relu().err().map_or_else(String::new, |e| e.to_string())
    );
    Ok(())
}
