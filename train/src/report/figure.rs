//! One figure: its lines as SVG, by step and by time, with a plain and a logarithmic axis. A style sheet
//! shows one of the four; a script adds what the pointer is at.

use std::fmt::Write;

use serde_json::{Value, json};

use super::axis::Axis;
use super::html::{escape, number};
use super::series::{Point, Series};

/// The picture, and the frame of its axes.
const SIZE: (f64, f64) = (640.0, 340.0);
const FRAME: [f64; 4] = [64.0, 14.0, 618.0, 296.0];

/// What is drawn in one frame.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figure {
    /// A word, for scripts.
    pub(super) id: &'static str,
    pub(super) title: String,
    pub(super) series: Vec<Series>,
    /// Level lines with a name: scores of others.
    pub(super) references: Vec<(String, f64)>,
    /// Whether a logarithmic axis makes sense.
    pub(super) log: bool,
}

impl Figure {
    /// The element. Empty when nothing is to be drawn.
    pub(super) fn html(&self) -> String {
        if self.series.iter().all(|series| series.points.is_empty()) {
            return String::new();
        }
        let mut out = String::new();
        let (id, title) = (self.id, escape(&self.title));
        let _ = write!(
            out,
            "<figure class=\"chart\" data-figure=\"{id}\"><figcaption>{title}</figcaption>"
        );
        for by in ["step", "seconds"] {
            for log in [false, true] {
                if !log || self.log {
                    self.svg(&mut out, by, log);
                }
            }
        }
        out + "</figure>\n"
    }

    /// For the script: of each line its run, name and (step, seconds, value).
    pub(super) fn json(&self) -> Value {
        let point = |p: &Point| json!([p.step, p.seconds, p.mean]);
        let series = |s: &Series| {
            let points: Vec<Value> = s.points.iter().map(point).collect();
            json!({ "run": s.run, "name": s.name, "points": points })
        };
        json!(self.series.iter().map(series).collect::<Vec<Value>>())
    }

    fn svg(&self, out: &mut String, by: &str, log: bool) {
        let across = |p: &Point| if by == "step" { p.step } else { p.seconds };
        let [left, top, right, bottom] = FRAME;
        let points = || self.series.iter().flat_map(|series| &series.points);
        let xs = points().map(across).chain(points().map(|_| 0.0));
        let x = Axis::over(xs, false, left, right);
        let levels = self.references.iter().map(|(_, level)| *level);
        let y = Axis::over(points().map(|p| p.mean).chain(levels), log, bottom, top);
        let (x0, x1) = x.ends();
        let scale = match (log, self.log) {
            (_, false) => "any",
            (true, _) => "log",
            (false, _) => "linear",
        };
        let _ = write!(
            out,
            "<svg class=\"by-{by} scale-{scale}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\" \
             data-by=\"{by}\" data-low=\"{x0}\" data-high=\"{x1}\" data-left=\"{left}\" data-right=\"{right}\">",
            SIZE.0,
            SIZE.1,
            escape(&self.title)
        );
        axes(out, &x, &y, if by == "step" { "steps" } else { "seconds of training" });
        for (name, level) in &self.references {
            let Some(at) = y.place(*level) else { continue };
            let _ = write!(
                out,
                "<path class=\"reference\" d=\"M{left} {at:.1}H{right}\"/>\
                 <text class=\"reference\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{} {}</text>",
                right - 4.0,
                at - 5.0,
                escape(name),
                number(*level)
            );
        }
        for series in &self.series {
            line(out, series, &x, &y, across);
        }
        let _ = write!(out, "<path class=\"cursor\" d=\"M0 {top}V{bottom}\"/></svg>");
    }
}

fn axes(out: &mut String, x: &Axis, y: &Axis, unit: &str) {
    let [left, _, right, bottom] = FRAME;
    for tick in y.ticks() {
        let Some(at) = y.place(tick) else { continue };
        let _ = write!(
            out,
            "<path class=\"grid\" d=\"M{left} {at:.1}H{right}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 8.0,
            at + 4.0,
            number(tick)
        );
    }
    for tick in x.ticks() {
        let Some(at) = x.place(tick) else { continue };
        let _ = write!(
            out,
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 18.0,
            number(tick)
        );
    }
    let _ = write!(
        out,
        "<path class=\"axis\" d=\"M{left} {bottom}H{right}\"/>\
         <text class=\"unit\" x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">{unit}</text>",
        bottom + 38.0
    );
}

fn line(out: &mut String, series: &Series, x: &Axis, y: &Axis, across: impl Fn(&Point) -> f64) {
    let place = |p: &Point, value: f64| Some((x.place(across(p))?, y.place(value)?));
    let [_, top, _, bottom] = FRAME;
    let run = series.run;
    let spread = series.points.iter().any(|p| p.low < p.high);
    if spread {
        let (mut up, mut down) = (String::new(), Vec::new());
        for p in &series.points {
            let (Some((at, high)), Some((_, low))) = (place(p, p.high), place(p, p.low)) else {
                continue;
            };
            let sign = if up.is_empty() { 'M' } else { 'L' };
            let _ = write!(up, "{sign}{at:.1} {:.1}", high.clamp(top, bottom));
            down.push(format!("L{at:.1} {:.1}", low.clamp(top, bottom)));
        }
        down.reverse();
        let _ = write!(out, "<path class=\"band run-{run}\" d=\"{up}{}Z\"/>", down.concat());
    }
    let (mut path, mut marks) = (String::new(), String::new());
    for p in &series.points {
        let Some((at, level)) = place(p, p.mean) else { continue };
        let sign = if path.is_empty() { 'M' } else { 'L' };
        let _ = write!(path, "{sign}{at:.1} {level:.1}");
        if series.marked && series.points.len() <= 60 {
            let _ = write!(marks, "M{at:.1} {level:.1}h0");
        }
    }
    let kind = if series.marked { "held" } else { "line" };
    let _ = write!(out, "<path class=\"{kind} run-{run}\" d=\"{path}\"/>");
    if !marks.is_empty() {
        let _ = write!(out, "<path class=\"marks run-{run}\" d=\"{marks}\"/>");
    }
}
