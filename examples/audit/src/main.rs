//! The audit: a network is trained a little, and then each layer's Fisher block is formed exactly and
//! laid beside what AdaFisher, K-FAC, EKFAC and Shampoo make of it.
//!
//! `cargo run --release -p audit`, and `-- --help`, which explains every column.
//!
//! | to see … | open |
//! |---|---|
//! | the network, and how it is trained | `training.rs` |
//! | what is asked for | `cli.rs`, `guide.rs` |
//! | what is made of the numbers | `tables.rs`, `plots.rs`, `report.rs` |
//! | the audit itself | `optim/src/audit/mod.rs` |
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its reader")]

mod cli;
mod guide;
mod heat;
mod panels;
mod plots;
mod report;
mod tables;
mod training;

use std::fs;
use std::process::ExitCode;

use alcyon::optim::audit::{GradientNoise, audit};
use alcyon::optim::curvature::{Ledger, RecordedBatch};
use alcyon::prelude::*;
use clap::Parser;

use cli::Cli;

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(if error.asked_wrongly() { 2 } else { 1 })
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let config = cli.config()?;
    let (train, test) = alcyon::nn::data::digits()?;
    let mut model = training::network(&mut Rng::new(cli.seed));
    training::train(&mut model, &train, cli.epochs(), cli.seed)?;
    let accuracy = training::accuracy(&model, &test)?;
    let rows = train.range(0, cli.examples().min(train.len()))?;
    println!("{}\n", cli.describe(rows.len(), accuracy));

    // In evaluation mode: batch norm's moments are constants, and examples are apart.
    let tape = Tape::new();
    let logits = model.forward(&tape.input(rows.inputs.clone()))?;
    let loss = CrossEntropy::new(&rows.labels);
    let report = audit(&model, &tape, &logits, &loss, rows.len(), config)?;

    for layer in &report.layers {
        println!("{}\n{}\n", tables::heading(layer), tables::approximations(layer));
    }
    println!("{}\n{}\n", tables::DAMPING, tables::damping(&report));
    println!("{}\n{}\n", tables::FACTORS, tables::factors(&report));
    let batch = RecordedBatch::new(
        &tape,
        &logits,
        &loss,
        rows.len(),
        Fisher::Empirical,
        &mut Rng::new(cli.seed),
    )?;
    println!("{}\n{}\n", tables::BYTES, Ledger::of(&model, &batch.sweeps()[0]));
    if rows.len() > 1 {
        let gradients = tape.backward(&loss.nll(&logits)?)?;
        println!("{}\n", tables::noise(&GradientNoise::of(&batch, &model, &gradients)?));
    }
    println!("{}", tables::verdict(&report));
    for (path, reason) in &report.left_out {
        println!("Left out: {path}, {reason}.");
    }
    fs::create_dir_all(&cli.out).map_err(|e| Error::io(&cli.out, e))?;
    let mut written = plots::draw(&report, &cli.out)?;
    written.push(report::write(&report, config, rows.len(), accuracy, &cli.out)?);
    println!("Written:");
    written.iter().for_each(|path| println!("  {}", path.display()));
    Ok(())
}
