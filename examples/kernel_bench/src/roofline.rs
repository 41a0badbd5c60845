//! The roofline: operations a second against operations a byte, both logarithmic, under the roof that was
//! measured, black for memory and grey for each size of a copy that a cache may hold. Williams, Waterman &
//! Patterson 2009. As SVG and PNG.
//!
//! A kernel's rungs stand above each other, hollow, and the one that is used is filled and numbered.

use std::path::{Path, PathBuf};

use alcyon::prelude::*;
use figures::plotters::prelude::*;
use figures::{Canvas, Drawn, FONT, Figure};

use crate::ceilings::Ceilings;
use crate::outcome::Outcome;

const SIZE: (u32, u32) = (1100, 700);
const LEGEND_WIDTH: i32 = 240;

/// All rungs of a kernel at a shape: the last is used.
struct Ladder<'a> {
    name: &'a str,
    rungs: Vec<&'a Outcome>,
}

/// Draws the plot into a folder that exists; nothing if no kernel computes anything.
///
/// # Errors
/// [`Error::Io`] when a file cannot be written or drawn.
pub(crate) fn draw(
    outcomes: &[Outcome],
    ceilings: &Ceilings,
    title: &str,
    folder: &Path,
) -> Result<Vec<PathBuf>> {
    let ladders = ladders(outcomes);
    if ladders.is_empty() {
        return Ok(Vec::new());
    }
    let roofline = Roofline { ladders, ceilings, title };
    let written = figures::write(&roofline, folder, "roofline");
    Ok(written.map_err(|e| Error::io(folder, e))?.into())
}

fn ladders(outcomes: &[Outcome]) -> Vec<Ladder<'_>> {
    let mut ladders: Vec<Ladder<'_>> = Vec::new();
    for outcome in outcomes.iter().filter(|o| o.flops > 0.0) {
        match ladders.last_mut() {
            Some(ladder) if ladder.name == outcome.kernel => ladder.rungs.push(outcome),
            _ => ladders.push(Ladder { name: outcome.kernel, rungs: vec![outcome] }),
        }
    }
    ladders
}

/// The plot.
struct Roofline<'a> {
    ladders: Vec<Ladder<'a>>,
    ceilings: &'a Ceilings,
    title: &'a str,
}

impl Figure for Roofline<'_> {
    fn size(&self) -> (u32, u32) {
        SIZE
    }

    fn render<B: DrawingBackend>(&self, canvas: &Canvas<B>) -> Drawn<B> {
        canvas.fill(&WHITE)?;
        let (plot, legend) = canvas.split_horizontally(SIZE.0 as i32 - LEGEND_WIDTH);
        chart(&plot, &self.ladders, self.ceilings, self.title)?;
        for (i, ladder) in self.ladders.iter().enumerate() {
            let y = 50 + 23 * i as i32;
            legend.draw(&Circle::new((10, y), 5, colour(i, self.ladders.len()).filled()))?;
            let name = format!("{} {}", i + 1, ladder.name);
            legend.draw(&Text::new(name, (24, y - 8), (FONT, 17)))?;
        }
        canvas.present()
    }
}

fn chart<B: DrawingBackend>(
    plot: &Canvas<B>,
    ladders: &[Ladder<'_>],
    ceilings: &Ceilings,
    title: &str,
) -> Drawn<B> {
    let ridge = ceilings.flops_per_second / ceilings.memory();
    let all = || ladders.iter().flat_map(|ladder| &ladder.rungs);
    let (left, right) = bounds(all().map(|o| o.intensity()).chain([ridge]));
    let points = all().map(|o| o.flops_per_second());
    let (low, high) = bounds(points.chain([ceilings.flops_per_second]));
    let mut chart = ChartBuilder::on(plot)
        .caption(format!("Roofline: {title}"), (FONT, 22))
        .margin(12)
        .x_label_area_size(45)
        .y_label_area_size(75)
        .build_cartesian_2d((left..right).log_scale(), (low / 1e9..high / 1e9).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("operations per byte")
        .y_desc("GFLOP/s")
        .axis_desc_style((FONT, 17))
        .label_style((FONT, 15))
        .x_label_formatter(&|x| short(*x))
        .y_label_formatter(&|y| short(*y))
        .bold_line_style(BLACK.mix(0.15))
        .light_line_style(BLACK.mix(0.04))
        .draw()?;
    for level in &ceilings.levels {
        let slant = ceilings.flops_per_second / ceilings.bandwidth(level.bytes);
        let roof = |x: f64| (x, ceilings.roof(x, level.bytes) / 1e9);
        let roof = [left, slant.clamp(left, right), right].map(roof);
        chart.draw_series(LineSeries::new(roof, BLACK.mix(0.3).stroke_width(1)))?;
    }
    let roof = [left, ridge, right].map(|x| (x, ceilings.roof(x, f64::INFINITY) / 1e9));
    chart.draw_series(LineSeries::new(roof, BLACK.stroke_width(2)))?;
    for (i, ladder) in ladders.iter().enumerate() {
        let colour = colour(i, ladders.len());
        let at = |o: &&Outcome| (o.intensity(), o.flops_per_second() / 1e9);
        let Some((used, earlier)) = ladder.rungs.split_last() else { continue };
        chart.draw_series(LineSeries::new(ladder.rungs.iter().map(at), colour.mix(0.5)))?;
        chart.draw_series(earlier.iter().map(|o| Circle::new(at(o), 4, colour)))?;
        chart.draw_series([Circle::new(at(used), 5, colour.filled())])?;
        let number =
            EmptyElement::at(at(used)) + Text::new((i + 1).to_string(), (7, -8), (FONT, 16));
        chart.draw_series([number])?;
    }
    Ok(())
}

/// From half of the smallest to twice the largest.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) =
        values.fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
    (low / 2.0, high * 2.0)
}

/// Evenly around the wheel, light and dark in turn.
fn colour(i: usize, of: usize) -> RGBColor {
    let lightness = if i.is_multiple_of(2) { 0.35 } else { 0.5 };
    let (r, g, b) = HSLColor(i as f64 / of as f64, 0.85, lightness).rgb();
    RGBColor(r, g, b)
}

/// A number in as few characters as tell it.
fn short(x: f64) -> String {
    if x >= 1.0 {
        return format!("{x:.0}");
    }
    let text = format!("{x:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
