//! The tables, and the sentences that say what they show.

use alcyon::optim::audit::{Audit, Damped, GradientNoise, LayerAudit, Line};
use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_FULL_CONDENSED};

/// Above the second table.
pub(crate) const DAMPING: &str = "How much of each block is curvature, and how much is λ:";

/// Above the third.
pub(crate) const FACTORS: &str = "The Kronecker factors: how diagonal are they?";

/// Above the fourth.
pub(crate) const BYTES: &str =
    "Bytes: of a moment, of this batch's rows, and of each kind of curvature with a moment:";

/// How much the examples' gradients differ.
pub(crate) fn noise(noise: &GradientNoise) -> String {
    format!(
        "Gradient noise: variance {:.2e}, |∇L|² {:.2e}; signal and noise are alike at {:.0} examples.",
        noise.variance,
        noise.mean_square,
        noise.scale(),
    )
}

/// The line above a layer's table.
pub(crate) fn heading(layer: &LayerAudit) -> String {
    format!(
        "{} ({}): {} numbers, mean curvature {:.2e}, largest eigenvalue {:.2e}, rank {}",
        layer.path,
        layer.kind,
        layer.size,
        layer.mean_curvature,
        layer.eigenvalues.first().copied().unwrap_or(0.0),
        layer.rank,
    )
}

/// One line for each approximation.
pub(crate) fn approximations(layer: &LayerAudit) -> Table {
    let mut table =
        plain(&["approximation", "error", "basis", "shape", "cosine", "aligned", "bytes"]);
    for line in &layer.lines {
        table.add_row(cells([
            line.name.to_owned(),
            figure(line.distance.error),
            figure(line.distance.basis),
            figure(line.distance.shape),
            format!("{:.3}", line.cosine),
            format!("{:.3}", line.aligned),
            line.bytes.to_string(),
        ]));
    }
    table
}

/// One line for each layer and approximation, the exact block first.
pub(crate) fn damping(report: &Audit) -> Table {
    let mut table = plain(&["layer", "block", "λ", "curvature %", "λ %", "effective %", "spread"]);
    for layer in &report.layers {
        let exact = ("exact", &layer.damped);
        let lines = layer.lines.iter().filter(|line| line.name != "gradient");
        let all = std::iter::once(exact).chain(lines.map(|line| (line.name, &line.damped)));
        for (at, (name, damped)) in all.enumerate() {
            let path = if at == 0 { layer.path.clone() } else { String::new() };
            table.add_row(cells(shares(path, name, damped)));
        }
    }
    table
}

fn shares(path: String, name: &str, damped: &Damped) -> [String; 7] {
    let percent = |x: f64| format!("{:.2}", 100.0 * x);
    [
        path,
        name.to_owned(),
        format!("{:.0e}", damped.damping),
        percent(damped.curvature),
        percent(1.0 - damped.curvature),
        percent(damped.effective),
        figure(damped.spread),
    ]
}

/// One line for each factor.
pub(crate) fn factors(report: &Audit) -> Table {
    let mut table = plain(&[
        "factor", "n", "diagonal", "radius", "dominant", "corr", "SNR dB", "shift", "Kaiser", "FFT",
    ]);
    for (layer, name, f) in
        report.layers.iter().flat_map(|l| l.factors.iter().map(move |(name, f)| (l, name, f)))
    {
        let both = |x: f64, y: f64| format!("{x:.1} / {y:.1}");
        table.add_row(cells([
            format!("{name} of {}", layer.path),
            f.size.to_string(),
            format!("{:.3}", f.diagonal_energy),
            figure(f.median_radius),
            format!("{:.2}", f.dominant_rows),
            format!("{:.3}", f.largest_correlation),
            both(f.noise.snr, f.relative_noise.snr),
            format!("{:.1e} / {:.1e}", f.noise.shift, f.relative_noise.shift),
            format!("{} ({:.0} %)", f.principal, 100.0 * f.principal_share),
            format!("{:.3}", f.spectrum),
        ]));
    }
    table
}

/// What the numbers say, in words.
pub(crate) fn verdict(report: &Audit) -> String {
    let best = |layer: &LayerAudit| {
        let all = layer.lines.iter().filter(|l| l.name != "gradient");
        all.max_by(|a, b| a.aligned.total_cmp(&b.aligned)).map(|l| (l.name, l.aligned))
    };
    let mut lines: Vec<String> = Vec::new();
    for layer in &report.layers {
        if let Some((name, cosine)) = best(layer) {
            lines.push(format!(
                "{}: nearest to the exact step is {name} ({cosine:.3}).",
                layer.path
            ));
        }
    }
    let official = share_of_lambda(report, "AdaFisher, official");
    if let Some((low, high)) = official {
        lines.push(format!(
            "AdaFisher by its authors' program is {:.1} to {:.1} % λ: nearly gradient descent.",
            100.0 * low,
            100.0 * high,
        ));
    }
    lines.join("\n")
}

/// The smallest and the largest share of λ over the layers.
fn share_of_lambda(report: &Audit, name: &str) -> Option<(f64, f64)> {
    let of = |layer: &LayerAudit| layer.lines.iter().find(|l| l.name == name).map(lambda);
    let all: Vec<f64> = report.layers.iter().filter_map(of).collect();
    let low = all.iter().copied().fold(f64::INFINITY, f64::min);
    let high = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (!all.is_empty()).then_some((low, high))
}

fn lambda(line: &Line) -> f64 {
    1.0 - line.damped.curvature
}

/// Three digits, whatever the size.
fn figure(x: f64) -> String {
    match x {
        x if x == 0.0 || (0.01..1000.0).contains(&x) => format!("{x:.3}"),
        x => format!("{x:.1e}"),
    }
}

/// An empty table with a head.
fn plain(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(head);
    table
}

/// A row: the first cell to the left, the others to the right.
fn cells<const N: usize>(row: [String; N]) -> Vec<Cell> {
    let side = |i| if i == 0 { CellAlignment::Left } else { CellAlignment::Right };
    row.into_iter().enumerate().map(|(i, c)| Cell::new(c).set_alignment(side(i))).collect()
}
