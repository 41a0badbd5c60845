//! The tables of a report: what came out, the settings, and what each parameter gets.

use std::fmt::Write;

use super::html::{bytes, duration, escape, number};
use crate::metrics::Kind;
use crate::{Row, Run, Score};

/// One row for each run, the scores of others below.
pub(super) fn results(runs: &[Run]) -> String {
    let score = runs.first().map_or(Score::Loss, |run| run.about.score);
    let name = score.name();
    let mut out = format!(
        "<div class=\"wide\"><table id=\"results\"><thead><tr><th>run</th><th>best {name}</th>\
         <th>at step</th><th>last {name}</th><th>held-out loss</th><th>training loss</th><th>steps</th>\
         <th>epochs</th><th>time</th><th>ms a step</th><th>parameters</th><th>state</th></tr></thead><tbody>"
    );
    for (at, run) in runs.iter().enumerate() {
        let cells = cells(run, score);
        let _ = write!(
            out,
            "<tr><th><i class=\"swatch run-{at}\"></i>{}</th>",
            escape(&run.about.name)
        );
        cells.iter().for_each(|cell| {
            let _ = write!(out, "<td>{cell}</td>");
        });
        out += "</tr>";
    }
    let mut references: Vec<&(String, f64)> = Vec::new();
    for reference in runs.iter().flat_map(|run| &run.about.references) {
        if !references.contains(&reference) {
            references.push(reference);
            let (name, level) = reference;
            let _ = write!(
                out,
                "<tr class=\"reference\"><th>{}</th><td>{}</td>{}</tr>",
                escape(name),
                shown(score, *level),
                "<td></td>".repeat(10)
            );
        }
    }
    out + "</tbody></table></div>"
}

fn cells(run: &Run, score: Score) -> [String; 11] {
    let of = |kind: Kind| run.rows.iter().filter(move |row| row.kind == kind);
    let scored = || of(Kind::Evaluation).filter_map(|row| Some((row, row.score?)));
    let best =
        scored().reduce(|best, next| if score.is_better(next.1, best.1) { next } else { best });
    let (last, step) = (of(Kind::Evaluation).next_back(), of(Kind::Step).next_back());
    let end = run.rows.last();
    let open = || "–".to_owned();
    let or = |x: Option<f64>| x.map_or_else(open, number);
    let count = |n: usize| grouped(n as u64);
    let a_step = |row: &Row| 1000.0 * row.seconds / row.step.max(1) as f64;
    [
        best.map_or_else(open, |(_, score_at)| shown(score, score_at)),
        best.map_or_else(open, |(row, _)| grouped(row.step)),
        last.and_then(|row| row.score).map_or_else(open, |s| shown(score, s)),
        or(last.and_then(|row| row.loss)),
        or(step.and_then(|row| row.loss)),
        end.map_or_else(open, |row| grouped(row.step)),
        last.map_or_else(open, |row| row.epoch.to_string()),
        end.map_or_else(open, |row| duration(row.seconds)),
        or(end.map(a_step)),
        count(run.about.parameters),
        bytes(run.about.state_bytes),
    ]
}

fn shown(score: Score, value: f64) -> String {
    match score {
        Score::Accuracy => format!("{:.2} %", 100.0 * value),
        Score::Perplexity | Score::Loss => number(value),
    }
}

/// 1234567 as 1 234 567.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// Settings down, runs across; what is not the same in all is marked.
pub(super) fn settings(runs: &[Run]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in runs.iter().flat_map(|run| run.about.settings.iter()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut out = String::from("<div class=\"wide\"><table id=\"settings\"><thead><tr><th></th>");
    for (at, run) in runs.iter().enumerate() {
        let name = escape(&run.about.name);
        let _ = write!(out, "<th><i class=\"swatch run-{at}\"></i>{name}</th>");
    }
    out += "</tr></thead><tbody>";
    for name in names {
        let value = |run: &Run| run.about.settings.get(name).unwrap_or("–").to_owned();
        let values: Vec<String> = runs.iter().map(value).collect();
        let differ = values.windows(2).any(|pair| pair[0] != pair[1]);
        let class = if differ { " class=\"differs\"" } else { "" };
        let _ = write!(out, "<tr{class}><th>{}</th>", escape(name));
        for value in values {
            let _ = write!(out, "<td>{}</td>", escape(&value));
        }
        out += "</tr>";
    }
    let ended = runs.iter().map(|run| match run.about.ended.as_str() {
        "" => "it has not".to_owned(),
        reason => escape(reason),
    });
    out += "<tr><th>ended because</th>";
    ended.for_each(|reason| out += &format!("<td>{reason}</td>"));
    out + "</tr></tbody></table></div>"
}

/// What the optimizer does for each parameter of a run.
pub(super) fn coverage(run: &Run) -> String {
    let mut out = String::from(
        "<div class=\"wide\"><table class=\"coverage\"><thead><tr><th>parameter</th><th>shape</th>\
         <th>rule</th><th>bytes of state</th></tr></thead><tbody>",
    );
    for [parameter, shape, rule, state] in &run.about.coverage {
        let [parameter, shape, rule, state] =
            [parameter, shape, rule, state].map(|text| escape(text));
        let _ = write!(
            out,
            "<tr><th>{parameter}</th><td>{shape}</td><td>{rule}</td><td>{state}</td></tr>"
        );
    }
    out + "</tbody></table></div>"
}
