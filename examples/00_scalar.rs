//! 00 · One number, its derivative, and the list that remembers how it was made.
//!
//! `cargo run --example 00_scalar`
#![allow(clippy::print_stdout, reason = "a lesson prints")]

use alcyon::prelude::*;

fn main() -> Result<()> {
    println!("A neuron with one input: y = tanh(w·x + b), loss = (y − t)².\n");
    let number = |value| Tensor::scalar(value, DType::F64);

    // 1. A tape is a list of records. `watch` puts a number on it whose derivative we want.
    let tape = Tape::new();
    let (x, w, b) = (tape.input(number(0.5)), tape.watch(number(-1.2)), tape.watch(number(0.3)));

    // 2. Ops read from left to right, compute at once, and write a record each.
    let y = w.mul(&x)?.add(&b)?.tanh()?;
    let error = y.sub(&tape.input(number(0.8)))?;
    let loss = error.mul(&error)?;
    println!("y    = {:.6}", y.item()?);
    println!("loss = {:.6}\n", loss.item()?);

    // 3. This is all the tape knows. Inputs are indices of earlier records, so the order of
    //    recording is an order in which derivatives can be passed back.
    println!("{}\n", tape.table(None));

    // 4. Backward walks the list from the last record to the first.
    let grads = tape.backward(&loss)?;
    let of = |v: &Var| grads.of_var(v).map_or(Ok(0.0), Tensor::item);
    println!("                 tape          by hand");

    // 5. The chain rule by hand: dloss/dw = 2(y − t) · (1 − y²) · x.
    let slope = 2.0 * (y.item()? - 0.8) * (1.0 - y.item()?.powi(2));
    println!("dloss/dw = {:>12.8} {:>16.8}", of(&w)?, slope * 0.5);
    println!("dloss/db = {:>12.8} {:>16.8}", of(&b)?, slope);

    // 6. And by taking it literally: nudge w, look what the loss does.
    let loss_at = |w: f64| ((w * 0.5 + 0.3).tanh() - 0.8).powi(2);
    let h = 1e-6;
    let nudged = (loss_at(-1.2 + h) - loss_at(-1.2 - h)) / (2.0 * h);
    println!("dloss/dw = {nudged:>12.8}   (finite difference)\n");

    // 7. One step downhill.
    let rate = 0.5;
    let after = loss_at(-1.2 - rate * of(&w)?);
    println!("w ← w − {rate}·dloss/dw moves the loss from {:.6} to {after:.6}.", loss.item()?);
    Ok(())
}
