//! The figures: loss by step, loss by training time, test accuracy by epoch, each as SVG and PNG.
//!
//! A curve is the mean over an optimizer's seeds. Batch losses are smoothed by the running mean
//! over the last epoch's worth of steps, or they would hide each other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use alcyon::prelude::*;
use figures::plotters::coord::ranged1d::{Ranged, ValueFormatter};
use figures::plotters::coord::types::RangedCoordf64;
use figures::plotters::prelude::*;
use figures::{Canvas, Drawn, FONT};

use crate::outcome::{Run, by_optimizer};

const SIZE: (u32, u32) = (1000, 600);
const LEGEND_WIDTH: i32 = 210;

/// Ten colours that stay apart, on paper and for the colour-blind: Okabe & Ito 2008, and three more.
const COLOURS: [RGBColor; 10] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(140, 86, 75),
    RGBColor(127, 127, 127),
    RGBColor(148, 103, 189),
];

/// One optimizer's curve.
#[derive(Debug)]
struct Curve {
    name: String,
    points: Points,
}

type Points = Vec<(f64, f64)>;

/// One figure.
#[derive(Debug)]
struct Figure {
    file: &'static str,
    title: String,
    x: &'static str,
    y: &'static str,
    /// Whether y is logarithmic.
    log: bool,
    curves: Vec<Curve>,
}

/// Draws all figures into a folder that exists; returns their paths.
///
/// # Errors
/// [`Error::Io`] when a file cannot be written or drawn.
pub(crate) fn draw(runs: &[Run], title: &str, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for figure in figures(runs, title) {
        if figure.curves.iter().all(|c| c.points.len() < 2) {
            continue;
        }
        let written = figures::write(&figure, folder, figure.file);
        paths.extend(written.map_err(|e| Error::io(folder, e))?);
    }
    Ok(paths)
}

fn figures(runs: &[Run], title: &str) -> Vec<Figure> {
    let groups = by_optimizer(runs);
    let curves = |f: &dyn Fn(&[&Run]) -> Points| -> Vec<Curve> {
        let curve = |g: &Vec<&Run>| Curve { name: g[0].optimizer.clone(), points: f(g) };
        groups.iter().map(curve).collect()
    };
    let figure = |file, x, y, log, curves| Figure {
        file,
        title: format!("{title}: {y}"),
        x,
        y,
        log,
        curves,
    };
    let loss = "training loss (running mean over an epoch)";
    vec![
        figure("loss_by_step", "step", loss, true, curves(&|g| loss_by(g, |k, _| k as f64 + 1.0))),
        figure(
            "loss_by_time",
            "training time, seconds",
            loss,
            true,
            curves(&|g| loss_by(g, |_, seconds| seconds)),
        ),
        figure("accuracy_by_epoch", "epoch", "test accuracy, %", false, curves(&accuracy)),
    ]
}

/// The mean smoothed loss over the seeds still running at step k, against `x(k, seconds)`.
fn loss_by(group: &[&Run], x: fn(usize, f64) -> f64) -> Points {
    let longest = group.iter().map(|r| r.steps.len()).max().unwrap_or(0);
    let smooth: Vec<Vec<f64>> = group.iter().map(|r| smoothed(r)).collect();
    (0..longest)
        .filter_map(|k| {
            let alive: Vec<_> = (0..group.len())
                .filter(|&r| smooth[r].get(k).is_some_and(|l| l.is_finite()))
                .collect();
            let n = alive.len() as f64;
            let loss = alive.iter().map(|&r| smooth[r][k]).sum::<f64>() / n;
            let time = alive.iter().map(|&r| group[r].steps[k].seconds).sum::<f64>() / n;
            (n > 0.0).then(|| (x(k, time), loss))
        })
        .collect()
}

/// Running means over at most one epoch's worth of steps.
fn smoothed(run: &Run) -> Vec<f64> {
    let window = (run.steps.len() / run.epochs.len().max(1)).max(1);
    (0..run.steps.len())
        .map(|k| {
            let recent = &run.steps[(k + 1).saturating_sub(window)..=k];
            recent.iter().map(|s| s.loss).sum::<f64>() / recent.len() as f64
        })
        .collect()
}

/// The mean test accuracy by epoch.
fn accuracy(group: &[&Run]) -> Points {
    let mut by_epoch: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for epoch in group.iter().flat_map(|r| &r.epochs) {
        by_epoch.entry(epoch.epoch).or_default().push(100.0 * epoch.test_accuracy);
    }
    let mean = |v: &Vec<f64>| v.iter().sum::<f64>() / v.len() as f64;
    by_epoch.iter().map(|(&epoch, v)| (epoch as f64, mean(v))).collect()
}

impl figures::Figure for Figure {
    fn size(&self) -> (u32, u32) {
        SIZE
    }

    fn render<B: DrawingBackend>(&self, canvas: &Canvas<B>) -> Drawn<B> {
        canvas.fill(&WHITE)?;
        let (plot, legend) = canvas.split_horizontally(SIZE.0 as i32 - LEGEND_WIDTH);
        let (xs, ys) = (self.range(|p| p.0), self.range(|p| p.1));
        let mut chart = ChartBuilder::on(&plot);
        chart
            .caption(&self.title, (FONT, 22))
            .margin(12)
            .x_label_area_size(45)
            .y_label_area_size(70);
        if self.log {
            let ys = (ys.0 * 0.8..ys.1 * 1.25).log_scale();
            self.curves(&mut chart, xs.0..xs.1, ys)?;
        } else {
            let margin = 0.03 * (ys.1 - ys.0).max(1.0);
            let ys: RangedCoordf64 = (ys.0 - margin..ys.1 + margin).into();
            self.curves(&mut chart, xs.0..xs.1, ys)?;
        }
        self.legend(&legend)?;
        canvas.present()
    }
}

impl Figure {
    fn curves<B: DrawingBackend, Y>(
        &self,
        chart: &mut ChartBuilder<'_, '_, B>,
        xs: std::ops::Range<f64>,
        ys: impl figures::plotters::coord::ranged1d::AsRangedCoord<CoordDescType = Y, Value = f64>,
    ) -> Drawn<B>
    where
        Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let mut chart = chart.build_cartesian_2d(xs, ys)?;
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .axis_desc_style((FONT, 17))
            .label_style((FONT, 15))
            .x_label_formatter(&|&x| short(x))
            .y_label_formatter(&|&y| short(y))
            .bold_line_style(BLACK.mix(0.15))
            .light_line_style(BLACK.mix(0.04))
            .draw()?;
        for (i, curve) in self.curves.iter().enumerate() {
            let points = curve.points.iter().copied();
            chart.draw_series(LineSeries::new(points, colour(i).stroke_width(2)))?;
        }
        Ok(())
    }

    /// Names beside their colours, to the right of the plot.
    fn legend<B: DrawingBackend>(&self, area: &Canvas<B>) -> Drawn<B> {
        for (i, curve) in self.curves.iter().enumerate() {
            let y = 60 + 28 * i as i32;
            let line = PathElement::new(vec![(0, y), (30, y)], colour(i).stroke_width(4));
            area.draw(&line)?;
            area.draw(&Text::new(curve.name.clone(), (40, y - 7), (FONT, 18)))?;
        }
        Ok(())
    }

    /// The smallest and the largest coordinate over all curves, never equal.
    fn range(&self, of: fn(&(f64, f64)) -> f64) -> (f64, f64) {
        let all = self.curves.iter().flat_map(|c| &c.points).map(of);
        let (low, high) =
            all.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if high > low { (low, high) } else { (low, low + low.abs().max(1e-6)) }
    }
}

fn colour(i: usize) -> RGBColor {
    COLOURS[i % COLOURS.len()]
}

/// A number in as few characters as tell it: `0.001`, `25`, `1e-7`.
fn short(x: f64) -> String {
    if x.abs() >= 1e5 || (x != 0.0 && x.abs() < 1e-4) {
        format!("{x:.0e}")
    } else {
        let text = format!("{x:.4}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}
