//! Small charts side by side: spectra of the blocks, and Gershgorin discs of the factors.

use alcyon::optim::audit::{Audit, FactorFigures, LayerAudit};
use figures::plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use figures::plotters::prelude::*;

use figures::{Canvas, Drawn, FONT};

const PANEL: (u32, u32) = (420, 320);
const COLUMNS: usize = 3;
const HEAD: u32 = 46;

/// Whose spectra are drawn, and how: Okabe & Ito 2008.
const SHOWN: [(&str, RGBColor); 5] = [
    ("exact", RGBColor(0, 0, 0)),
    ("EKFAC", RGBColor(0, 158, 115)),
    ("K-FAC, expand", RGBColor(0, 114, 178)),
    ("diagonal", RGBColor(230, 159, 0)),
    ("Shampoo²", RGBColor(204, 121, 167)),
];

type Points = Vec<(f64, f64)>;

/// What is drawn in a panel.
enum Series {
    Curve(RGBColor, Points),
    /// From (x, low) to (x, high).
    Bars(RGBColor, Vec<(f64, f64, f64)>),
    Crosses(RGBColor, Points),
}

struct Panel {
    title: String,
    x: &'static str,
    log: bool,
    series: Vec<Series>,
    /// λ
    level: Option<f64>,
}

/// Charts in a grid, under one line of text.
pub(crate) struct Panels {
    title: String,
    panels: Vec<Panel>,
    legend: Vec<(&'static str, RGBColor)>,
}

/// The eigenvalues of each layer's block and of its approximations, largest first.
pub(crate) fn spectra(report: &Audit) -> Panels {
    let panel = |layer: &LayerAudit| {
        let of = |name: &str| match name {
            "exact" => Some(&layer.eigenvalues),
            _ => layer.lines.iter().find(|l| l.name == name).map(|l| &l.eigenvalues),
        };
        // Eight decades below the largest is rounding.
        let floor = 1e-8 * layer.eigenvalues.first().copied().unwrap_or(1.0);
        let curve = |(name, colour): &(&str, RGBColor)| {
            let above = of(name)?.iter().enumerate().filter(|(_, s)| **s > floor);
            Some(Series::Curve(*colour, above.map(|(i, s)| (i as f64 + 1.0, *s)).collect()))
        };
        Panel {
            title: format!("{} ({} numbers)", layer.path, layer.size),
            x: "rank",
            log: true,
            series: SHOWN.iter().filter_map(curve).collect(),
            level: Some(layer.damped.damping),
        }
    };
    Panels {
        title: "Eigenvalues of the exact block and of its approximations; grey: λ".to_owned(),
        panels: report.layers.iter().map(panel).collect(),
        legend: SHOWN.to_vec(),
    }
}

/// Each factor's discs as bars from m − R to m + R, sorted by m, and its eigenvalues.
pub(crate) fn discs(report: &Audit) -> Panels {
    let (bar, cross) = (RGBColor(86, 180, 233), RGBColor(213, 94, 0));
    let panel = |(layer, name, f): (&LayerAudit, &str, &FactorFigures)| {
        let mut discs = f.discs.clone();
        discs.sort_by(|x, y| x.0.total_cmp(&y.0));
        let bars = discs.iter().enumerate().map(|(i, (m, r))| (i as f64 + 1.0, m - r, m + r));
        let crosses = f.eigenvalues.iter().enumerate().map(|(i, x)| (i as f64 + 1.0, *x));
        Panel {
            title: format!("{name} of {}", layer.path),
            x: "row, by its diagonal entry",
            log: false,
            series: vec![
                Series::Bars(bar, bars.collect()),
                Series::Crosses(cross, crosses.collect()),
            ],
            level: None,
        }
    };
    Panels {
        title: "Gershgorin discs of each factor, and its eigenvalues".to_owned(),
        panels: report
            .layers
            .iter()
            .flat_map(|layer| layer.factors.iter().map(move |(name, f)| (layer, *name, f)))
            .map(panel)
            .collect(),
        legend: vec![("disc", bar), ("eigenvalue", cross)],
    }
}

impl Panels {
    pub(crate) fn size(&self) -> (u32, u32) {
        let rows = self.panels.len().div_ceil(COLUMNS).max(1) as u32;
        (PANEL.0 * COLUMNS as u32, HEAD + PANEL.1 * rows)
    }

    pub(crate) fn render<B: DrawingBackend>(&self, canvas: &Canvas<B>) -> Drawn<B> {
        let (head, body) = canvas.split_vertically(HEAD);
        head.draw(&Text::new(self.title.clone(), (14, 14), (FONT, 19)))?;
        for (i, (name, colour)) in self.legend.iter().rev().enumerate() {
            let x = self.size().0 as i32 - 130 * (i as i32 + 1);
            head.draw(&Rectangle::new([(x, 18), (x + 16, 26)], colour.filled()))?;
            head.draw(&Text::new((*name).to_owned(), (x + 22, 14), (FONT, 15)))?;
        }
        let rows = self.panels.len().div_ceil(COLUMNS).max(1);
        for (panel, area) in self.panels.iter().zip(body.split_evenly((rows, COLUMNS))) {
            panel.render(&area)?;
        }
        Ok(())
    }
}

impl Panel {
    fn render<B: DrawingBackend>(&self, area: &Canvas<B>) -> Drawn<B> {
        let xs = self.range(|(x, _)| x);
        let ys = self.range(|(_, y)| y);
        let xs = xs.0 - 0.5..xs.1 + 0.5;
        if self.log {
            self.chart(area, xs, (0.5 * ys.0..2.0 * ys.1).log_scale())
        } else {
            let margin = 0.05 * (ys.1 - ys.0);
            let ys: figures::plotters::coord::types::RangedCoordf64 =
                (ys.0 - margin..ys.1 + margin).into();
            self.chart(area, xs, ys)
        }
    }

    fn chart<B: DrawingBackend, Y>(
        &self,
        area: &Canvas<B>,
        xs: std::ops::Range<f64>,
        ys: impl AsRangedCoord<CoordDescType = Y, Value = f64>,
    ) -> Drawn<B>
    where
        Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let ends = (xs.start, xs.end);
        let mut builder = ChartBuilder::on(area);
        builder.caption(&self.title, (FONT, 16)).margin(10);
        builder.x_label_area_size(34).y_label_area_size(62);
        let mut chart = builder.build_cartesian_2d(xs, ys)?;
        chart
            .configure_mesh()
            .x_desc(self.x)
            .axis_desc_style((FONT, 13))
            .label_style((FONT, 12))
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{y:.1e}"))
            .x_labels(6)
            .y_labels(6)
            .bold_line_style(BLACK.mix(0.12))
            .light_line_style(BLACK.mix(0.03))
            .draw()?;
        if let Some(level) = self.level {
            let line = [(ends.0, level), (ends.1, level)];
            chart.draw_series(LineSeries::new(line, BLACK.mix(0.4).stroke_width(2)))?;
        }
        for series in &self.series {
            match series {
                Series::Curve(colour, points) => {
                    chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?;
                }
                Series::Bars(colour, bars) => {
                    let bar = |&(x, low, high): &(f64, f64, f64)| {
                        PathElement::new(vec![(x, low), (x, high)], colour.mix(0.6).stroke_width(2))
                    };
                    chart.draw_series(bars.iter().map(bar))?;
                }
                Series::Crosses(colour, points) => {
                    chart.draw_series(points.iter().map(|&p| Cross::new(p, 3, *colour)))?;
                }
            }
        }
        Ok(())
    }

    /// The smallest and the largest coordinate of all that is drawn, never equal.
    fn range(&self, of: fn((f64, f64)) -> f64) -> (f64, f64) {
        let points = self.series.iter().flat_map(|series| match series {
            Series::Curve(_, points) | Series::Crosses(_, points) => points.clone(),
            Series::Bars(_, bars) => {
                bars.iter().flat_map(|&(x, low, high)| [(x, low), (x, high)]).collect()
            }
        });
        let all = points
            .map(of)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if all.1 > all.0 { all } else { (1.0, 2.0) }
    }
}
