//! A workbench for those who write kernels: how fast each is, how near to what the machine can do, and
//! how far from the reference.
//!
//! `cargo run --release -p kernel_bench`, and `-- --help` for everything else.
//!
//! | to see … | open |
//! |---|---|
//! | which kernels there are, and add one | `registry.rs`, then a file of `kernels/` |
//! | what a kernel is to this program | `case.rs` |
//! | how time is taken | `measure.rs` |
//! | what the machine can do at most | `ceilings.rs` |
//! | what is made of the numbers | `outcome.rs`, `table.rs`, `roofline.rs` |
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its reader")]

mod case;
mod ceilings;
mod cli;
mod kernels;
mod measure;
mod outcome;
mod registry;
mod roofline;
mod table;

use std::fs;
use std::process::ExitCode;

use alcyon::prelude::*;
use clap::Parser;

use ceilings::Ceilings;
use cli::Cli;
use measure::{Effort, Machine};
use outcome::{Outcome, Report};

fn main() -> ExitCode {
    alcyon::kernels::parallel::work_here();
    match bench(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(if error.asked_wrongly() { 2 } else { 1 })
        }
    }
}

fn bench(cli: &Cli) -> Result<()> {
    if cli.list {
        println!("{}", table::list());
        return Ok(());
    }
    let shape_of = |kernel| Ok((kernel, cli.shape_of(kernel)?));
    let wanted: Vec<_> = cli.kernels()?.into_iter().map(shape_of).collect::<Result<_>>()?;
    let machine = Machine::open(cli.device)?;
    let effort = if cli.quick { Effort::QUICK } else { Effort::USUAL };
    println!("{}", machine.describe());
    let ceilings = Ceilings::measure(&machine, cli.dtype, effort)?;
    println!("{}\n", ceilings.describe(&machine));
    let mut outcomes: Vec<Outcome> = Vec::new();
    for (kernel, shape) in wanted {
        outcomes
            .extend(measure::all_rungs(kernel, &shape, cli.dtype, &machine, &ceilings, effort)?);
    }
    println!("{}", table::results(&outcomes, &machine));
    fs::create_dir_all(&cli.out).map_err(|e| Error::io(&cli.out, e))?;
    let title = format!("{}, {}", machine.name(), cli.dtype.name());
    let mut written = roofline::draw(&outcomes, &ceilings, &title, &cli.out)?;
    let report = Report {
        machine: &machine,
        dtype: cli.dtype.name(),
        ceilings: &ceilings,
        outcomes: &outcomes,
    };
    written.push(report.write(&cli.out)?);
    println!("Written:");
    written.iter().for_each(|path| println!("  {}", path.display()));
    Ok(())
}
