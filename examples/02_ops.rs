//! 02 · The registry of ops: one line buys documentation, gradient checks and parity.
//!
//! `cargo run --example 02_ops`
#![allow(clippy::print_stdout, reason = "a lesson prints")]

use alcyon::engine::gradcheck;
use alcyon::engine::ops::OPS;
use alcyon::prelude::*;

fn main() -> Result<()> {
    println!("An op is one file and one line in the registry. Everything below follows from the");
    println!("samples in the op's file: each is run, differentiated once and twice, and compared");
    println!("with finite differences in f64.\n");
    println!(
        "{:<14} {:>7}  {:>12} {:>12}  output of the first sample",
        "op", "samples", "1st order", "2nd order"
    );
    for spec in OPS {
        let samples = (spec.samples)();
        let (mut first, mut second) = (0.0_f64, None);
        for sample in &samples {
            first = first.max(gradcheck::first_order(&sample.inputs, &sample.call)?.error);
            if sample.twice {
                let error = gradcheck::second_order(&sample.inputs, &sample.call)?.error;
                second = Some(error.max(second.unwrap_or(0.0)));
            }
        }
        let shape = match samples.first() {
            Some(sample) => {
                let x: Vec<Var> = sample.inputs.iter().map(Var::constant).collect();
                let inputs: Vec<_> = sample.inputs.iter().map(|t| t.shape().to_string()).collect();
                format!("{} → {}", inputs.join(" "), (sample.call)(&x)?.shape())
            }
            None => String::new(),
        };
        let second = second.map_or_else(|| "—".to_owned(), |e| format!("{e:.1e}"));
        println!(
            "{:<14} {:>7}  {:>12} {:>12}  {shape}",
            spec.name,
            samples.len(),
            format!("{first:.1e}"),
            second
        );
    }
    println!(
        "\n{} ops. The numbers are the largest relative difference from the finite",
        OPS.len()
    );
    println!("difference; what finite differences themselves lose is about 1e-9.");
    Ok(())
}
