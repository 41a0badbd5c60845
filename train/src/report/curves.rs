//! The figures of a report: losses, scores, rates and norms against steps and time.

use super::figure::Figure;
use super::series::Series;
use crate::metrics::{Kind, Row};
use crate::{Run, Score};

/// All that have something to show.
pub(super) fn figures(runs: &[Run]) -> Vec<Figure> {
    let series = |name, kind, marked, of: fn(&Row) -> Option<f64>| -> Vec<Series> {
        let line = |(at, run): (usize, &Run)| {
            let rows = run.rows.iter().filter(|row| row.kind == kind);
            let points = rows.filter_map(|row| Some((row.step, row.seconds, of(row)?)));
            Series::new(at, name, marked, &points.collect::<Vec<_>>())
        };
        runs.iter().enumerate().map(line).filter(|series| !series.points.is_empty()).collect()
    };
    let mut losses = series("training", Kind::Step, false, |row| row.loss);
    losses.extend(series("held out", Kind::Evaluation, true, |row| row.loss));
    let figure = |id, title: &str, log, series| {
        let references = Vec::new();
        Figure { id, title: title.to_owned(), series, references, log }
    };
    let mut figures = vec![figure("loss", "Loss", true, losses)];
    let score = runs.first().map_or(Score::Loss, |run| run.about.score);
    if score != Score::Loss {
        let scores = series("held out", Kind::Evaluation, true, |row| row.score);
        let title = match score {
            Score::Accuracy => "Accuracy on held-out data",
            Score::Perplexity | Score::Loss => "Perplexity on held-out data",
        };
        let mut scores = figure("score", title, score == Score::Perplexity, scores);
        for reference in runs.iter().flat_map(|run| &run.about.references) {
            if !scores.references.contains(reference) {
                scores.references.push(reference.clone());
            }
        }
        figures.push(scores);
    }
    let rates = series("rate", Kind::Step, false, |row| row.rate);
    figures.push(figure("rate", "Learning rate", true, rates));
    let norms = series("norm", Kind::Step, false, |row| row.norm);
    figures.push(figure("norm", "Norm of the gradients", true, norms));
    figures
}
