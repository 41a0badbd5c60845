//! 09 · AdaFisher: two short vectors per layer, and what becomes of them.
//!
//! `cargo run --example 09_adafisher`
#![allow(clippy::print_stdout, reason = "a lesson prints")]

use alcyon::optim::backward;
use alcyon::prelude::*;

/// Smallest and largest.
fn range(values: &[f64]) -> String {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{low:>9.2e} … {high:<9.2e}")
}

fn main() -> Result<()> {
    let data = alcyon::nn::data::digits()?.0;
    let (x, labels) = (data.inputs.narrow(0, 0, 256)?, data.labels.narrow(0, 0, 256)?);

    println!(
        "F for weight (o, p) of a layer is S[o]·H[p] + λ: H from the inputs, S from the output"
    );
    println!("gradients, both averaged over time and brought to [0, 1]. F is never built.\n");
    for preset in ["thesis", "paper", "official", "spring2024"] {
        let mut config = AdaFisherConfig::preset(preset)?;
        config.every = 1;
        let mut optimizer = AdaFisher::new(config)?;
        let mut model = Mlp::new(&[64, 32, 10], &mut Rng::new(0));
        println!("preset `{preset}`");
        println!(
            "   step  loss      raw H of layer 0         used H                   F of its weight          max/min"
        );
        for step in 1..=5 {
            let tape = Tape::training(step);
            let logits = model.forward(&tape.input(x.clone()))?;
            let pass = backward(&tape, &logits, &CrossEntropy::new(&labels), &mut optimizer)?;
            drop(tape);
            optimizer.step(&mut model, &pass.gradients)?;
            let parameters = model.parameters();
            let Some((_, weight)) = parameters.first() else { break };
            if let (Some(trace), Some(f)) = (optimizer.trace(weight), optimizer.fisher(weight)?) {
                let f = f.to_f64_vec()?;
                let ratio = f.iter().copied().fold(0.0, f64::max)
                    / f.iter().copied().fold(f64::INFINITY, f64::min);
                println!(
                    "   {step:>4}  {:.4}  {}  {}  {}  {ratio:>8.2}",
                    pass.loss.item()?,
                    range(&trace.h_new),
                    range(&trace.h_used),
                    range(&f)
                );
            }
        }
        if preset == "thesis" {
            println!("\n{}", optimizer.coverage(&model));
        }
        println!();
    }
    println!(
        "`official` is what the authors' program computes. Its factors shrink to 1/115 of their"
    );
    println!(
        "size, so F → λ everywhere: momentum SGD at rate lr/λ. `thesis` is the published rule."
    );
    Ok(())
}
