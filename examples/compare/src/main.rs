//! Optimizers side by side: the same start, the same batches, what each reached and what it cost.
//!
//! `cargo run --release -p compare`, and `-- --help` for everything else.
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
use std::path::Path;
use std::process::ExitCode;

use alcyon::prelude::*;
use clap::Parser;

use cli::Cli;
use outcome::{Run, Summary, by_optimizer};
use progress::Progress;
use protocol::Protocol;
use report::Report;
use run::{Entry, Plan};

fn main() -> ExitCode {
    alcyon::kernels::parallel::work_here();
    match compare(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(if error.asked_wrongly() { 2 } else { 1 })
        }
    }
}

fn compare(cli: &Cli) -> Result<()> {
    cli.check()?;
    cli.device.open()?;
    let protocol = Protocol::of(&cli.model, &cli.dataset)?;
    let entries = cli.entries(&protocol)?;
    let mut task = protocol.load(&cli.data_dir)?;
    let mut tries = 1;
    if cli.grid {
        (task, tries) = (grid::validation(&task)?, grid::RATES.len());
    }
    let progress = Progress::new(entries.len() * tries * cli.seed_count() as usize);
    let plan = Plan {
        protocol: &protocol,
        task: &task,
        batch_size: cli.batch_size.unwrap_or(protocol.batch_size),
        budget: cli.budget(&protocol),
        device: cli.device,
        progress: &progress,
    };
    println!("{}", plan.describe());
    if cli.grid {
        let names: Vec<String> = entries.into_iter().map(|(name, _)| name).collect();
        return grid::search(&plan, &names, cli.seed_count());
    }
    let runs = side_by_side(&plan, &entries, cli)?;
    progress.finish();
    conclude(&plan, &runs, &cli.out)
}

/// All optimizers at one seed, then at the next: what disturbs the machine meets all of them.
fn side_by_side(plan: &Plan<'_>, entries: &[(String, f64)], cli: &Cli) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for seed in 0..cli.seed_count() {
        for (name, rate) in entries {
            let mut optimizer = entrants::build(name, *rate, plan.protocol)?;
            let entry = Entry { name, rate: *rate, seed };
            let (run, coverage) = run::train(plan, &mut *optimizer, entry)?;
            if cli.coverage && seed == 0 {
                plan.progress.aside(&format!("\n{name}\n{coverage}\n"));
            }
            runs.push(run);
        }
    }
    Ok(runs)
}

/// The table, the sentence, the figures, the file.
fn conclude(plan: &Plan<'_>, runs: &[Run], out: &Path) -> Result<()> {
    let summary: Vec<Summary> = by_optimizer(runs).iter().map(|group| Summary::of(group)).collect();
    let verdict = table::verdict(&summary, plan.task.test.len());
    println!("{}\n{verdict}", table::results(&summary));
    fs::create_dir_all(out).map_err(|e| Error::io(out, e))?;
    let report = Report {
        protocol: plan.describe(),
        epochs: plan.budget.epochs,
        seconds: plan.budget.seconds,
        batch_size: plan.batch_size,
        train_rows: plan.task.train.len(),
        test_rows: plan.task.test.len(),
        device: plan.device.to_string(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        verdict: &verdict,
        summary: &summary,
        runs,
    };
    let mut written = plots::draw(runs, plan.protocol.title, out)?;
    written.push(report.write(out)?);
    println!("Written:");
    written.iter().for_each(|path| println!("  {}", path.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_none_is_refused_by_the_command_line() {
        let refused = Cli::try_parse_from(["compare", "--device", "gpu"]);
        let error = refused.map(|cli| cli.device).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("cpu, cuda or cuda:N"), "{error}");
    }

    #[test]
    fn a_device_that_is_not_there_is_one_line_before_anything_is_done() {
        let cli = Cli::parse_from(["compare", "--device", "cuda:1000000", "--out", "nowhere"]);
        let error = compare(&cli).unwrap_err();
        assert!(matches!(error, Error::NoDevice { ordinal: 1_000_000, .. }), "{error}");
        assert!(error.asked_wrongly());
        assert_eq!(error.to_string().lines().count(), 1);
        assert!(!Path::new("nowhere").exists());
    }
}
