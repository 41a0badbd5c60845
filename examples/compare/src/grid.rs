//! `--grid`: one protocol of choosing a rate, the same for every optimizer.
//!
//! Nine rates, 1e-4 … 1, each about three times the one before. Trained on the first four fifths of
//! the training rows and judged on the last fifth: on the digits these are other writers, as the
//! test rows are. The best is the highest mean accuracy after the last epoch; the lower loss
//! decides between equals. The test rows are not looked at.

use alcyon::prelude::*;

use crate::entrants;
use crate::outcome::{Spread, Summary};
use crate::protocol::Task;
use crate::run::{Entry, Plan, train};
use crate::table::{cells, plain};

/// The rates tried.
pub(crate) const RATES: [f64; 9] = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0];

/// The training rows as a task of their own: the first four fifths, and the last.
///
/// # Errors
/// None: the parts are within the rows.
pub(crate) fn validation(task: &Task) -> Result<Task> {
    let rows = task.train.len();
    let (train, test) = task.train.split(rows - rows / 5)?;
    Ok(Task { train, test })
}

/// Tries every rate; prints the accuracies, and the best rate of each optimizer.
///
/// # Errors
/// Whatever a run finds.
pub(crate) fn search(plan: &Plan<'_>, names: &[String], seeds: u64) -> Result<()> {
    let mut columns = Vec::new();
    for name in names {
        let column: Result<Vec<Summary>> =
            RATES.iter().map(|&rate| tried(plan, name, rate, seeds)).collect();
        columns.push(column?);
    }
    plan.progress.finish();
    let mut table = plain(["rate"]);
    table.set_header(std::iter::once("rate").chain(names.iter().map(String::as_str)));
    for (row, rate) in RATES.iter().enumerate() {
        let accuracies = columns.iter().map(|column| shown(&column[row]));
        table.add_row(cells(std::iter::once(rate.to_string()).chain(accuracies)));
    }
    println!("{table}\nAccuracy in % on the validation rows, mean over {seeds} seed(s).");
    for (name, column) in names.iter().zip(&columns) {
        println!("{}", best(name, column));
    }
    Ok(())
}

/// One rate, all seeds.
fn tried(plan: &Plan<'_>, name: &str, rate: f64, seeds: u64) -> Result<Summary> {
    let mut runs = Vec::new();
    for seed in 0..seeds {
        let mut optimizer = entrants::build(name, rate, plan.protocol)?;
        runs.push(train(plan, &mut *optimizer, Entry { name, rate, seed })?.0);
    }
    Ok(Summary::of(&runs.iter().collect::<Vec<_>>()))
}

fn shown(summary: &Summary) -> String {
    match summary.test_accuracy {
        Some(accuracy) if summary.remarks.is_empty() => format!("{:.2}", 100.0 * accuracy.mean),
        _ => "diverged".into(),
    }
}

/// A rate counts only if no seed diverged.
fn best(name: &str, column: &[Summary]) -> String {
    let whole = column.iter().filter(|s| s.remarks.is_empty());
    let score = |s: &Summary| {
        let mean = |x: Option<Spread>| x.map_or(f64::NAN, |x| x.mean);
        (mean(s.test_accuracy), -mean(s.test_loss))
    };
    let best = whole.max_by(|a, b| {
        let (a, b) = (score(a), score(b));
        a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
    });
    let Some(best) = best else { return format!("{name}: diverged at every rate") };
    let edge = [RATES[0], RATES[RATES.len() - 1]].contains(&best.rate);
    let edge = if edge { " (at the edge of the grid)" } else { "" };
    format!("(\"{name}\", {}), // {} %{edge}", best.rate, shown(best))
}
