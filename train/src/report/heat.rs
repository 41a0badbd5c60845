//! Factors as pictures: of vectors, entries across and time downwards; of matrices, the last one.
//!
//! The colour is the logarithm of an entry between the picture's smallest and largest, in sixteen steps. All
//! cells of a step are one path, so a picture is a few kilobytes.

use std::fmt::Write;

use super::html::{escape, number};
use crate::Run;
use crate::factors::Factor;

/// Steps of colour.
const LEVELS: usize = 16;
/// Evaluations shown of each vector, evenly spread.
const TIMES: usize = 32;

/// The section of a run; empty when its optimizer keeps no factors.
pub(super) fn section(run: &Run) -> String {
    let mut layers: Vec<(&str, Vec<Picture<'_>>)> = Vec::new();
    for factor in &run.factors {
        let at = layers.iter().position(|(path, _)| *path == factor.path).unwrap_or_else(|| {
            layers.push((&factor.path, Vec::new()));
            layers.len() - 1
        });
        let pictures = &mut layers[at].1;
        match pictures.iter_mut().find(|picture| picture.name == factor.name) {
            Some(picture) => picture.moments.push(factor),
            None => pictures.push(Picture { name: &factor.name, moments: vec![factor] }),
        }
    }
    if layers.is_empty() {
        return String::new();
    }
    let mut out = String::from("<div class=\"layers\">");
    for (path, pictures) in &layers {
        let _ = write!(out, "<div class=\"layer\"><h4>{}</h4>", escape(path));
        pictures.iter().for_each(|picture| picture.draw(&mut out));
        out += "</div>";
    }
    out + "</div>"
}

/// One factor of one layer at all evaluations.
struct Picture<'a> {
    name: &'a str,
    moments: Vec<&'a Factor>,
}

impl Picture<'_> {
    /// The rows of cells, from the top.
    fn rows(&self) -> Vec<&[f32]> {
        match self.moments.last() {
            Some(last) if last.rows > 1 => {
                last.values.chunks((last.values.len() / last.rows).max(1)).collect()
            }
            Some(_) => {
                let n = self.moments.len();
                let shown = n.min(TIMES);
                let at = |k: usize| if shown < 2 { n - 1 } else { k * (n - 1) / (shown - 1) };
                (0..shown).map(|k| &*self.moments[at(k)].values).collect()
            }
            None => Vec::new(),
        }
    }

    fn draw(&self, out: &mut String) {
        let rows = self.rows();
        let Some(last) = self.moments.last() else { return };
        let wide = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let positive = rows.iter().flat_map(|row| row.iter()).copied().filter(|v| *v > 0.0);
        let (low, high) =
            positive.fold((f32::INFINITY, 0.0_f32), |(low, high), v| (low.min(v), high.max(v)));
        let mut levels = vec![String::new(); LEVELS];
        for (y, row) in rows.iter().enumerate() {
            // Neighbours of one colour are one stroke.
            let mut x = 0;
            while x < row.len() {
                let level = level(row[x], low, high);
                let same = row[x..].iter().take_while(|&&v| self::level(v, low, high) == level);
                let run = same.count();
                let _ = write!(levels[level], "M{x} {y}.5h{run}");
                x += run;
            }
        }
        let matrix = last.rows > 1;
        let size = if matrix { format!("{0} × {0}", last.size) } else { last.size.to_string() };
        let kind = if matrix { "matrix" } else { "vector" };
        let _ = write!(
            out,
            "<figure class=\"heat {kind}\"><figcaption><b>{}</b> {size} <span>{} … {}</span></figcaption>\
             <svg viewBox=\"0 0 {wide} {}\" preserveAspectRatio=\"none\" role=\"img\" \
             aria-label=\"{} of a layer\">",
            escape(self.name),
            number(f64::from(low)),
            number(f64::from(high)),
            rows.len(),
            escape(self.name),
        );
        for (level, path) in levels.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
            let _ = write!(out, "<path class=\"h{level}\" d=\"{path}\"/>");
        }
        *out += "</svg></figure>";
    }
}

/// Of 0 .. [`LEVELS`]: by the logarithm.
fn level(value: f32, low: f32, high: f32) -> usize {
    if value <= low || low >= high {
        return 0;
    }
    let ln = |x: f32| f64::from(x).ln();
    let share = (ln(value) - ln(low)) / (ln(high) - ln(low));
    ((share * LEVELS as f64) as usize).min(LEVELS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_even_in_the_logarithm() {
        assert_eq!(level(1e-8, 1e-8, 1.0), 0);
        assert_eq!(level(1.0, 1e-8, 1.0), LEVELS - 1);
        assert_eq!(level(1.1e-4, 1e-8, 1.0), LEVELS / 2);
        assert_eq!(level(0.0, 1e-8, 1.0), 0);
        assert_eq!(level(3.0, 3.0, 3.0), 0);
    }
}
