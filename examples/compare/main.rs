//! Compare.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its reader")]

mod cli;
mod guide;
mod outcome;
mod plots;
mod progress;
mod report;
mod table;
use alcyon::prelude::*;
use clap::Parser;
use outcome::*;

fn main() -> Result<()> {
    let cli = cli::Cli::parse();
    cli.check()?;
    let mut runs = Vec::new();
    for (i, name) in
        ["sgd", "adam", "adamw", "adafisher", "adafisher-official", "adafisherw", "kfac", "shampoo"]
            .iter()
            .enumerate()
    {
        for seed in 0..3 {
            let tau = 20.0 + 15.0 * i as f64;
            let steps: Vec<Step> = (0..460)
                .map(|k| Step {
                    loss: 0.01
                        + 2.3
                            * (-(k as f64) / tau).exp()
                            * (1.0 + 0.2 * ((k * 7919 + seed as usize) as f64).sin()),
                    seconds: k as f64 * 0.002 * (1.0 + i as f64),
                })
                .collect();
            let epochs = (0..20)
                .map(|e| Epoch {
                    epoch: e + 1,
                    test_loss: 0.4,
                    test_accuracy: 0.93 - 0.5 * (-(e as f64) * 23.0 / tau).exp(),
                })
                .collect();
            runs.push(Run {
                optimizer: (*name).into(),
                rate: 0.01,
                seed,
                steps,
                epochs,
                train_loss: Some(0.01),
                cost: Cost { pass: 1.0, factors: 0.1, step: 0.2 },
                state_bytes: 12345,
                ending: Ending::Finished,
            });
        }
    }
    let summaries: Vec<_> = by_optimizer(&runs).iter().filter_map(|g| Summary::of(g)).collect();
    println!("{}", table::results(&summaries));
    println!("{}", table::verdict(&summaries, 360));
    std::fs::create_dir_all(&cli.out).map_err(|e| Error::io(&cli.out, e))?;
    println!("{:?}", plots::draw(&runs, "digits, CNN", &cli.out)?);
    Ok(())
}
