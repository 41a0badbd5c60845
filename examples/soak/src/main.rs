//! Trains for very long and looks at memory: after a tenth of the steps and at the end it must be the same.
//!
//! `cargo run --release -p soak` takes about twenty minutes and prints a table, a line for each
//! network and optimizer; `-- --fewer 10` takes a tenth of the steps. Each line is a process of its own, so that
//! none has the memory of another. It fails when a line's resident memory grows by more than 5 % and
//! by more than 4 MiB, or when the pool's bytes, in use and idle together, are not the same number.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its reader")]

#[path = "../../train_image/src/network.rs"]
mod network;
mod rows;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use alcyon::prelude::*;
use clap::Parser;

use rows::Row;

/// What resident memory may grow by: a share, or bytes if they are more.
const SHARE: f64 = 0.05;
const BYTES: u64 = 4 << 20;

#[derive(Debug, Parser)]
#[command(name = "soak", max_term_width = 80)]
struct Cli {
    /// Divides the numbers of steps.
    #[arg(long, value_name = "N", default_value_t = 1)]
    fewer: u64,
    /// Two lines of two thousand steps, a few seconds: `--only "mlp ada" --fewer 10`.
    #[arg(long)]
    quick: bool,
    /// Only this line; prints its numbers.
    #[arg(long, value_name = "NAME")]
    row: Option<String>,
    /// Only lines whose names contain this.
    #[arg(long, value_name = "PART", default_value = "")]
    only: String,
    /// A folder with cifar10 in it; without one pictures of that shape are made up.
    #[arg(long, value_name = "DIR", default_value = "data")]
    data_dir: PathBuf,
}

/// What a process holds: resident bytes (0 where the system does not say), and the pool's.
#[derive(Debug, Clone, Copy)]
struct Held {
    resident: u64,
    pool: u64,
}

fn main() -> ExitCode {
    alcyon::kernels::parallel::work_here();
    let mut cli = Cli::parse();
    if cli.quick {
        (cli.fewer, cli.only) = (10, "mlp ada".into());
    }
    let done = match &cli.row {
        Some(name) => one(name, &cli).map(|()| true),
        None => table(&cli),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Trains for one line and prints what was held: after a tenth of the steps, and at the end.
fn one(name: &str, cli: &Cli) -> Result<()> {
    let Some(row) = rows::all().into_iter().find(|row| row.name() == name) else {
        let known = rows::all().iter().map(Row::name).collect();
        return Err(Error::Unknown { what: "row", got: name.to_owned(), known });
    };
    for Held { resident, pool } in row.train(row.steps / cli.fewer.max(1), &cli.data_dir)? {
        println!("held {resident} {pool}");
    }
    Ok(())
}

/// All lines; whether memory was flat in all.
fn table(cli: &Cli) -> Result<bool> {
    println!("{:20} {:>6} {:>15} {:>23}", "", "", "resident, MiB", "pool, bytes");
    println!(
        "{:20} {:>6} {:>7} {:>7} {:>11} {:>11}",
        "network, optimizer", "steps", "tenth", "end", "tenth", "end"
    );
    let mut flat = true;
    for row in rows::all().into_iter().filter(|row| row.name().contains(&cli.only)) {
        let steps = row.steps / cli.fewer.max(1);
        let verdict = match measured(&row.name(), cli)? {
            Ok([tenth, end]) => {
                let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
                print!("{:20} {steps:6} {:7.1} ", row.name(), mib(tenth.resident));
                print!("{:7.1} {:11} {:11}", mib(end.resident), tenth.pool, end.pool);
                judge(tenth, end)
            }
            Err(why) => {
                print!("{:20} {steps:6} {why}", row.name());
                "failed"
            }
        };
        println!("  {verdict}");
        flat &= verdict == "flat";
    }
    Ok(flat)
}

/// What a process of its own says it held, or how it ended.
fn measured(name: &str, cli: &Cli) -> Result<std::result::Result<[Held; 2], String>> {
    let io = |error| Error::io("soak", error);
    let mut child = Command::new(std::env::current_exe().map_err(io)?);
    child.args(["--row", name, "--fewer", &cli.fewer.to_string()]);
    let output = child.arg("--data-dir").arg(&cli.data_dir).output().map_err(io)?;
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let held: Vec<Held> = text.lines().filter_map(read).collect();
    Ok(match (output.status.success(), &held[..]) {
        (true, &[tenth, end]) => Ok([tenth, end]),
        _ => Err(output.status.to_string()),
    })
}

fn read(line: &str) -> Option<Held> {
    let mut numbers = line.strip_prefix("held ")?.split(' ').map(str::parse);
    Some(Held { resident: numbers.next()?.ok()?, pool: numbers.next()?.ok()? })
}

fn judge(tenth: Held, end: Held) -> &'static str {
    let more = ((tenth.resident as f64 * SHARE) as u64).max(BYTES);
    match (end.resident <= tenth.resident + more, end.pool == tenth.pool) {
        (true, true) => "flat",
        (false, _) => "GROWS",
        (true, false) => "POOL",
    }
}
