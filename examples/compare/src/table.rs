//! The closing table, and the sentence that says what it shows.

use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_FULL_CONDENSED};

use crate::outcome::{Spread, Summary};

/// What was reached and what a step cost, one line an optimizer, and below them what went wrong.
pub(crate) fn results(summaries: &[Summary]) -> String {
    let mut text = format!("{}\nMilliseconds a step\n{}", reached(summaries), cost(summaries));
    for (optimizer, remark) in
        summaries.iter().flat_map(|s| s.remarks.iter().map(move |r| (&s.optimizer, r)))
    {
        text += &format!("\n{optimizer}: {remark}");
    }
    text
}

fn reached(summaries: &[Summary]) -> Table {
    let mut table = plain(["optimizer", "test accuracy %", "train loss", "test loss"]);
    for s in summaries {
        table.add_row(cells([
            s.optimizer.clone(),
            spread(s.test_accuracy, 100.0, 2),
            spread(s.train_loss, 1.0, 4),
            spread(s.test_loss, 1.0, 4),
        ]));
    }
    table
}

fn cost(summaries: &[Summary]) -> Table {
    let mut table = plain(["optimizer", "rate", "pass", "factors", "step", "/ Adam", "state"]);
    let adam = summaries.iter().find(|s| s.optimizer == "adam").map(|s| s.per_step.total());
    for s in summaries {
        let cost = s.per_step;
        let ratio = adam.map_or_else(|| "–".into(), |a| format!("{:.2}", cost.total() / a));
        table.add_row(cells([
            s.optimizer.clone(),
            s.rate.to_string(),
            milliseconds(cost.pass),
            milliseconds(cost.factors),
            milliseconds(cost.step),
            ratio,
            bytes(s.state_bytes),
        ]));
    }
    table
}

/// An empty table with a head.
pub(crate) fn plain<const N: usize>(head: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(head);
    table
}

/// A row: the first cell to the left, numbers to the right.
pub(crate) fn cells(row: impl IntoIterator<Item = String>) -> Vec<Cell> {
    let side = |i| if i == 0 { CellAlignment::Left } else { CellAlignment::Right };
    row.into_iter().enumerate().map(|(i, c)| Cell::new(c).set_alignment(side(i))).collect()
}

fn spread(value: Option<Spread>, scale: f64, digits: usize) -> String {
    match value {
        None => "–".into(),
        Some(Spread { mean, deviation: None, .. }) => format!("{:.digits$}", scale * mean),
        Some(Spread { mean, deviation: Some(d), .. }) => {
            format!("{:.digits$} ± {:.digits$}", scale * mean, scale * d)
        }
    }
}

/// Hundredths, where they say anything.
fn milliseconds(time: f64) -> String {
    if time < 100.0 { format!("{time:.2}") } else { format!("{time:.0}") }
}

fn bytes(n: usize) -> String {
    if n < 1 << 20 {
        format!("{:.1} KiB", n as f64 / f64::from(1 << 10))
    } else {
        format!("{:.1} MiB", n as f64 / f64::from(1 << 20))
    }
}

/// Who is best on the test rows, and who cannot be told apart from it.
///
/// The standard error of one optimizer's mean accuracy p over K seeds and n test rows is taken as
/// √(s²/K + p(1 − p)/n): its seeds might have been others, and so might the test rows. Two
/// optimizers differ when their means are more than two standard errors of the difference apart.
/// The test rows are the same for all, which this ignores: it is a cautious reading.
pub(crate) fn verdict(summaries: &[Summary], test_rows: usize) -> String {
    let mut known: Vec<(&str, f64, f64)> = summaries
        .iter()
        .filter_map(|s| Some((s.optimizer.as_str(), s.test_accuracy?)))
        .map(|(name, a)| (name, a.mean, standard_error(a, test_rows)))
        .collect();
    known.sort_by(|a, b| b.1.total_cmp(&a.1));
    let Some((&(best, p, e), others)) = known.split_first() else {
        return "No optimizer ended with a finite loss.".into();
    };
    let noise = |&&(_, q, f): &&(&str, f64, f64)| p - q <= 2.0 * e.hypot(f);
    let within: Vec<_> = others.iter().filter(noise).map(|o| o.0).collect();
    let head = format!(
        "Best on the test rows: {best}, {:.2} % (standard error {:.2}: seeds and {test_rows} rows).",
        100.0 * p,
        100.0 * e,
    );
    match others {
        [] => head,
        [second, ..] if within.is_empty() => {
            format!("{head}\nThe runner-up, {}, is more than two standard errors behind.", second.0)
        }
        [second, ..] => format!(
            "{head}\nThe runner-up, {}, is within noise (two standard errors of the difference); \
             so in all: {}.",
            second.0,
            within.join(", "),
        ),
    }
}

fn standard_error(accuracy: Spread, test_rows: usize) -> f64 {
    let p = accuracy.mean;
    let seeds = accuracy.deviation.map_or(0.0, |s| s * s / accuracy.count as f64);
    (seeds + p * (1.0 - p) / test_rows.max(1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Ending, Epoch, Run};

    /// The widest that a terminal is sure to be.
    const COLUMNS: usize = 80;

    /// An optimizer whose seeds reached these accuracies.
    fn summary(name: &str, accuracies: &[f64]) -> Summary {
        let run = |&test_accuracy: &f64| {
            let mut run = Run::new(name, 0.1, 0);
            run.epochs.push(Epoch { epoch: 1, test_loss: 1.0, test_accuracy });
            run
        };
        let runs: Vec<Run> = accuracies.iter().map(run).collect();
        Summary::of(&runs.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_spread_has_the_sample_deviation_and_one_value_has_none() {
        let spread = Spread::of(&[1.0, 3.0]).unwrap();
        assert!((spread.mean - 2.0).abs() < 1e-15);
        assert!((spread.deviation.unwrap() - 2.0_f64.sqrt()).abs() < 1e-15);
        assert_eq!(Spread::of(&[5.0]).unwrap().deviation, None);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn two_points_on_360_rows_are_noise_and_on_a_million_rows_are_not() {
        let summaries = [summary("slow", &[0.90, 0.90]), summary("fast", &[0.92, 0.92])];
        let few = verdict(&summaries, 360);
        assert!(few.contains("fast, 92.00 %") && few.contains("slow, is within noise"), "{few}");
        let many = verdict(&summaries, 1_000_000);
        assert!(many.contains("slow, is more than two standard errors behind"), "{many}");
    }

    #[test]
    fn the_tables_fit_a_terminal_of_eighty_columns() {
        let mut wide = summary("adafisher-official", &[1.0, 0.0]);
        wide.train_loss = Spread::of(&[123.4567, 9.0]);
        wide.test_loss = wide.train_loss;
        wide.rate = 0.00001;
        wide.per_step.pass = 1234.56;
        wide.per_step.step = 1234.56;
        wide.state_bytes = 1023 << 10;
        let text = results(&[wide, summary("adam", &[0.5, 0.5])]);
        let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(longest <= COLUMNS, "{longest} columns:\n{text}");
    }

    #[test]
    fn a_run_that_diverged_counts_in_the_remarks_and_not_in_the_means() {
        let mut lost = Run::new("sgd", 9.0, 1);
        lost.ending = Ending::Diverged { step: 7, cause: "mul".into() };
        let mut whole = Run::new("sgd", 9.0, 0);
        whole.epochs.push(Epoch { epoch: 1, test_loss: 1.0, test_accuracy: 0.5 });
        let summary = Summary::of(&[&whole, &lost]);
        assert_eq!(summary.remarks, ["seed 1 diverged at step 7"]);
        assert_eq!(summary.test_accuracy.unwrap().count, 1);
        assert!(results(&[summary]).contains("diverged at step 7"));
    }
}
