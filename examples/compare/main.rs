//! Optimizers side by side: the same start, the same batches, what each reached and what it cost.
//!
//! `cargo run --release --example compare`, and `-- --help` for everything else.
//!
//! | to see … | open |
//! |---|---|
//! | what is trained on what | `protocol.rs` |
//! | with which settings | `entrants.rs` |
//! | the training loop | `run.rs` |
//! | how rates are chosen | `grid.rs` |
//! | what is made of the numbers | `outcome.rs`, `table.rs`, `plots.rs`, `report.rs` |
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its reader")]

mod cli;
mod entrants;
mod grid;
mod guide;
mod outcome;
mod plots;
mod progress;
mod protocol;
mod report;
mod run;
mod table;

use std::fs;
use std::process::ExitCode;

use alcyon::prelude::*;
use clap::Parser;

use cli::Cli;
use outcome::{Run, Summary, by_optimizer};
use progress::Progress;
use protocol::{Protocol, Task};
use report::Report;
use run::{Entry, Plan};

fn main() -> ExitCode {
    match compare(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            let asked_wrongly = matches!(error, Error::Unknown { .. } | Error::Argument { .. });
            ExitCode::from(if asked_wrongly { 2 } else { 1 })
        }
    }
}

fn compare(cli: &Cli) -> Result<()> {
    cli.check()?;
    let names = cli.names()?;
    let protocol = Protocol::of(&cli.model, &cli.dataset)?;
    let entries = entries(cli, protocol, &names)?;
    let mut task = protocol.load(&cli.data_dir)?;
    if cli.grid {
        task = grid::validation(&task)?;
    }
    let epochs = if cli.quick { 1 } else { cli.epochs.unwrap_or(protocol.epochs) };
    let batch_size = cli.batch_size.unwrap_or(protocol.batch_size);
    let rates = if cli.grid { grid::RATES.len() } else { 1 };
    let steps = epochs * task.train.len().div_ceil(batch_size);
    let runs = names.len() * cli.seed_count() as usize * rates;
    let progress = Progress::new(runs * steps);
    let plan = Plan {
        protocol,
        task: &task,
        epochs,
        batch_size,
        seconds: cli.seconds,
        progress: &progress,
    };
    println!("{}", plan.describe()?);
    if cli.grid {
        return grid::search(&plan, &names, cli.seed_count());
    }
    let runs = runs_of(&plan, &entries, cli)?;
    progress.finish();
    conclude(&plan, &runs, cli)
}
