//! `--grid`: one protocol of choosing a rate, the same for every optimizer.
//!
//! Nine rates, 1e-4 … 1, each about three times the one before. Trained on the first four fifths of
//! the training rows and judged on the last fifth: on the digits these are other writers, as the
//! test rows are. The best is the highest mean accuracy after the last epoch; the lower loss
//! decides between equals. The test rows are not looked at.

use alcyon::prelude::*;

use crate::entrants;
use crate::outcome::{Run, Summary};
use crate::progress::Progress;
use crate::protocol::Task;
use crate::run::{Entry, Plan, train};
use crate::table::{cells, plain};

/// The rates tried.
const RATES: [f64; 9] = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0];

/// The training rows as a task of their own: the first four fifths, and the last.
///
/// # Errors
/// [`Error::Argument`] when there are too few rows.
pub(crate) fn validation(task: &Task) -> Result<Task> {
    let rows = task.train.len();
    let kept = rows - rows / 5;
    Ok(Task { train: task.train.rows(0..kept)?, test: task.train.rows(kept..rows)? })
}

/// Tries every rate; prints a table and the best of each optimizer.
///
/// # Errors
/// Whatever a run finds.
pub(crate) fn search(plan: &Plan<'_>, names: &[String], seeds: u64) -> Result<()> {
    let mut table = plain(["rate"]);
    let head = std::iter::once("rate").chain(names.iter().map(String::as_str));
    table.set_header(head);
    let mut columns = Vec::new();
    for name in names {
        let column: Result<Vec<Summary>> =
            RATES.iter().map(|&rate| column(plan, name, rate, seeds)).collect();
        columns.push(column?);
    }
    for (row, rate) in RATES.iter().enumerate() {
        let accuracy = columns.iter().map(|column| shown(&column[row]));
        table.add_row(cells(std::iter::once(rate.to_string()).chain(accuracy)));
    }
    println!("{table}");
    println!("Accuracy in % on the validation part, mean over {seeds} seed(s). The best rates:");
    for (name, column) in names.iter().zip(&columns) {
        println!("{}", best(name, column));
    }
    Ok(())
}

fn column(plan: &Plan<'_>, name: &str, rate: f64, seeds: u64) -> Result<Summary> {
    let runs: Result<Vec<Run>> = (0..seeds)
        .map(|seed| {
            let mut optimizer = entrants::build(name, rate, plan.protocol)?;
            train(plan, &mut *optimizer, Entry { name, rate, seed })
        })
        .collect();
    Ok(Summary::of(&runs?.iter().collect::<Vec<_>>()))
}
