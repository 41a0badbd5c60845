//! A table of coloured cells: layers across, approximations down.

use alcyon::optim::audit::{Audit, Line};
use figures::plotters::prelude::*;
use figures::plotters::style::text_anchor::{HPos, Pos, VPos};

use figures::{Canvas, Drawn, FONT};

const CELL: (i32, i32) = (120, 32);
const LEFT: i32 = 210;
const TOP: i32 = 90;

/// One number in [0, 1] for each layer and approximation.
pub(crate) struct Heat {
    title: &'static str,
    layers: Vec<String>,
    rows: Vec<(&'static str, Vec<Option<f64>>)>,
    /// Whether 1 is good, or 0.
    high_is_good: bool,
}

impl Heat {
    pub(crate) fn new(
        report: &Audit,
        title: &'static str,
        of: fn(&Line) -> f64,
        high_is_good: bool,
    ) -> Self {
        let layers = report.layers.iter().map(|l| l.path.clone()).collect();
        let mut names: Vec<&'static str> = Vec::new();
        for line in report.layers.iter().flat_map(|l| &l.lines) {
            if !names.contains(&line.name) {
                names.push(line.name);
            }
        }
        let value = |layer: &Vec<Line>, name| layer.iter().find(|l| l.name == name).map(of);
        let row = |name| (name, report.layers.iter().map(|l| value(&l.lines, name)).collect());
        Self { title, layers, rows: names.into_iter().map(row).collect(), high_is_good }
    }

    pub(crate) fn size(&self) -> (u32, u32) {
        let width = (LEFT + CELL.0 * self.layers.len() as i32 + 20).max(800);
        (width as u32, (TOP + CELL.1 * self.rows.len() as i32 + 20) as u32)
    }

    pub(crate) fn render<B: DrawingBackend>(&self, canvas: &Canvas<B>) -> Drawn<B> {
        let style = |size: i32, h, colour: &RGBColor| {
            (FONT, size).into_font().color(colour).pos(Pos::new(h, VPos::Center))
        };
        let write = |text: &str, at, style| canvas.draw(&Text::new(text.to_owned(), at, style));
        write(self.title, (20, 28), style(20, HPos::Left, &BLACK))?;
        for (i, layer) in self.layers.iter().enumerate() {
            let x = LEFT + CELL.0 * i as i32 + CELL.0 / 2;
            write(layer, (x, TOP - 16), style(15, HPos::Center, &BLACK))?;
        }
        for (j, (name, values)) in self.rows.iter().enumerate() {
            let y = TOP + CELL.1 * j as i32;
            write(name, (LEFT - 12, y + CELL.1 / 2), style(16, HPos::Right, &BLACK))?;
            for (i, value) in values.iter().enumerate() {
                let x = LEFT + CELL.0 * i as i32;
                let Some(value) = value else { continue };
                let good = if self.high_is_good { *value } else { 1.0 - value }.clamp(0.0, 1.0);
                let corners = [(x + 1, y + 1), (x + CELL.0 - 1, y + CELL.1 - 1)];
                canvas.draw(&Rectangle::new(corners, colour(good).filled()))?;
                let ink = if good > 0.55 { &WHITE } else { &BLACK };
                let middle = (x + CELL.0 / 2, y + CELL.1 / 2);
                write(&format!("{value:.3}"), middle, style(15, HPos::Center, ink))?;
            }
        }
        Ok(())
    }
}

/// From pale (0) to a deep blue (1): read the same in grey.
fn colour(good: f64) -> RGBColor {
    let between = |from: f64, to: f64| (from + (to - from) * good).round() as u8;
    RGBColor(between(247.0, 8.0), between(244.0, 69.0), between(235.0, 148.0))
}
