//! The report: one HTML file of one run or several, which needs nothing else and asks nobody.
//!
//! Curves are drawn here, as SVG, four times each: by step and by time, plain and logarithmic. The style
//! sheet shows one of them and hides runs that are not wanted; it is light or dark as the reader's system
//! is. The script adds the values under the pointer, and the page is whole without it.
//!
//! | to see … | open |
//! |---|---|
//! | which curves there are | `curves.rs` |
//! | how one is drawn | `figure.rs`, `axis.rs`, `series.rs` |
//! | the tables | `tables.rs` |
//! | pictures of curvature factors | `heat.rs` |

mod axis;
mod curves;
mod figure;
mod heat;
mod html;
mod series;
mod tables;

use std::fmt::Write;
use std::path::Path;

use engine::Result;
use serde_json::{Map, Value};

use crate::Run;
use crate::disk::write_whole;
use html::{escape, script_json};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Writes the report of some runs, in the order given.
///
/// # Errors
/// [`Error::Io`](engine::Error::Io) when the file cannot be written.
pub fn write(file: &Path, title: &str, runs: &[Run]) -> Result<()> {
    write_whole(file, page(title, runs).as_bytes())
}

/// The page itself.
#[must_use]
pub fn page(title: &str, runs: &[Run]) -> String {
    let figures = curves::figures(runs);
    let data: Map<String, Value> =
        figures.iter().map(|figure| (figure.id.to_owned(), figure.json())).collect();
    let drawn: String = figures.iter().map(figure::Figure::html).collect();
    let (title, several) = (escape(title), runs.len() > 1);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n<style>\n{STYLE}{}</style>\n\
         </head>\n<body>\n<header><h1>{title}</h1></header>\n<main>\n",
        hidden_runs(runs.len())
    );
    out += &controls(runs);
    let _ = write!(out, "<section class=\"charts\">\n{drawn}</section>\n");
    let _ = writeln!(out, "<section><h2>Results</h2>{}</section>", tables::results(runs));
    let _ = writeln!(out, "<section><h2>Settings</h2>{}</section>", tables::settings(runs));
    for (at, run) in runs.iter().enumerate() {
        let name = if several { format!(" of {}", escape(&run.about.name)) } else { String::new() };
        let heat = heat::section(run);
        if !heat.is_empty() {
            let _ = writeln!(
                out,
                "<section class=\"run-{at}\"><h2>Factors{name}</h2><p class=\"note\">Entries \
                 of a vector across, evaluations downwards; of a matrix, the last one. Stronger \
                 is larger, on a logarithmic scale from the picture's smallest entry to its largest. Neighbours \
                 are averaged where there are more than can be shown.</p>{heat}</section>"
            );
        }
        if !run.about.coverage.is_empty() {
            let open = if run.about.coverage.len() <= 16 { " open" } else { "" };
            let _ = writeln!(
                out,
                "<section class=\"run-{at}\"><details{open}><summary><h2>Layers{name}</h2></summary>{}\
                 </details></section>",
                tables::coverage(run)
            );
        }
    }
    let data = script_json(&Value::Object(data));
    let names = runs.iter().map(|run| Value::from(run.about.name.as_str())).collect();
    let _ = write!(
        out,
        "</main>\n<div id=\"tip\" hidden></div>\n\
         <script type=\"application/json\" id=\"data\">{data}</script>\n\
         <script type=\"application/json\" id=\"names\">{}</script>\n\
         <script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        script_json(&Value::Array(names))
    );
    out
}

/// What can be chosen; the style sheet looks at it.
fn controls(runs: &[Run]) -> String {
    let mut out = String::from(
        "<nav><fieldset><legend>Across</legend>\
         <label><input type=\"radio\" name=\"by\" id=\"by-step\" checked>steps</label>\
         <label><input type=\"radio\" name=\"by\" id=\"by-seconds\">time</label></fieldset>\
         <fieldset><legend>Scale</legend>\
         <label><input type=\"checkbox\" id=\"log\">logarithmic</label></fieldset>",
    );
    if runs.len() > 1 {
        out += "<fieldset><legend>Runs</legend>";
        for (at, run) in runs.iter().enumerate() {
            let _ = write!(
                out,
                "<label><input type=\"checkbox\" id=\"show-{at}\" checked>\
                 <i class=\"swatch run-{at}\"></i>{}</label>",
                escape(&run.about.name)
            );
        }
        out += "</fieldset>";
    }
    out + "<p class=\"legend\"><svg viewBox=\"0 0 28 8\"><path class=\"line run-0\" d=\"M0 4H28\"/></svg>\
           training <svg viewBox=\"0 0 28 8\"><path class=\"held run-0\" d=\"M0 4H28\"/>\
           <path class=\"marks run-0\" d=\"M14 4h0\"/></svg>held out</p></nav>\n"
}

/// Colours of the runs, and the rules that hide those not chosen.
fn hidden_runs(runs: usize) -> String {
    let rule = |at: usize| {
        let colour = at % 8;
        format!(
            ".run-{at}{{--ink:var(--run-{colour})}}\n\
             body:has(#show-{at}:not(:checked)) :is(figure,main>section) .run-{at}:not(.swatch),\
             body:has(#show-{at}:not(:checked)) main>section.run-{at}{{display:none}}\n"
        )
    };
    (0..runs.max(1)).map(rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::factors::Factor;
    use crate::metrics::Kind;
    use crate::record::About;
    use crate::{Row, Score};

    fn run(name: &str) -> Run {
        let row = |kind, step: u64| Row {
            kind,
            step,
            epoch: step / 10,
            seconds: 0.25 * step as f64,
            loss: Some(2.0 / step as f64),
            rate: Some(0.1),
            norm: None,
            score: (kind == Kind::Evaluation).then_some(1.0 - 1.0 / step as f64),
        };
        let mut rows: Vec<Row> = (1..=20).map(|step| row(Kind::Step, step)).collect();
        rows.extend([row(Kind::Evaluation, 10), row(Kind::Evaluation, 20)]);
        let factor = |step, rows: usize, name: &str| Factor {
            step,
            path: "layers.0.weight".into(),
            name: name.into(),
            rows,
            size: 4,
            values: (1..=4 * rows).map(|v| v as f32).collect(),
        };
        let about = About {
            name: name.into(),
            settings: vec![("optimizer".into(), name.into()), ("epochs".into(), "2".into())].into(),
            segments: Vec::new(),
            references: vec![("guessing".into(), 0.1)],
            score: Score::Accuracy,
            parameters: 1234,
            coverage: vec![["layers.0.weight", "[4, 4]", "none", "64"].map(str::to_owned)],
            state_bytes: 64,
            ended: "the budget was used up".into(),
        };
        Run {
            about,
            rows,
            factors: vec![factor(10, 1, "H"), factor(20, 1, "H"), factor(20, 4, "A")],
        }
    }

    #[test]
    fn a_page_shows_curves_tables_and_factors_and_asks_for_nothing_else() {
        let page = page("Two runs", &[run("adam"), run("kfac")]);
        for part in ["data-figure=\"loss\"", "data-figure=\"score\"", "data-figure=\"rate\""] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("data-figure=\"norm\""), "no figure of what was not measured");
        // Loss and rate have four pictures, accuracy no logarithmic ones.
        assert_eq!(page.matches("data-by=").count(), 4 + 4 + 2);
        assert!(page.contains("95.00 %") && page.contains("guessing"));
        assert!(page.contains("class=\"heat vector\"") && page.contains("class=\"heat matrix\""));
        assert!(page.contains("<tr class=\"differs\"><th>optimizer</th>"));
        for elsewhere in ["http:", "https:", "src=", "@import", "url("] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn what_a_user_wrote_stays_text() {
        let evil = "</script><img onerror=alert(1)>\"'";
        let mut run = run(evil);
        run.about.settings = run.about.settings.with(evil, evil);
        run.about.references.push((evil.into(), 0.5));
        run.about.coverage[0][2] = evil.into();
        run.factors[0].path = evil.into();
        let page = page(evil, &[run.clone(), run]);
        assert!(!page.contains("<img"));
        assert_eq!(page.matches("</script>").count(), 3);
    }

    #[test]
    fn factors_and_rows_of_any_content_have_a_page() {
        let odd = [f32::NAN, f32::INFINITY, -1.0, 0.0, f32::from_bits(1), f32::MAX];
        for values in [Vec::new(), vec![0.5], odd.to_vec()] {
            for rows in [0, 1, 2, 6, 7, usize::MAX] {
                let mut run = run("odd");
                run.factors.iter_mut().for_each(|f| (f.rows, f.values) = (rows, values.clone()));
                for (row, x) in run.rows.iter_mut().zip([5e-324, f64::MAX, -f64::MAX, f64::NAN]) {
                    (row.seconds, row.loss, row.rate) = (x, Some(x), Some(x));
                }
                assert!(page("Odd", &[run]).ends_with("</html>\n"), "{rows} rows of {values:?}");
            }
        }
        let mut flat = run("flat");
        flat.rows.iter_mut().for_each(|row| (row.seconds, row.loss) = (5e-324, Some(5e-324)));
        assert!(!page("Flat", &[flat]).contains("NaN"));
    }

    #[test]
    fn a_run_without_a_single_row_still_has_a_page() {
        let mut empty = run("none");
        (empty.rows, empty.factors) = (Vec::new(), Vec::new());
        assert!(page("Nothing yet", &[empty]).contains("<table id=\"results\">"));
        assert!(page("No runs", &[]).contains("</html>"));
    }
}
