//! A step length that satisfies the strong Wolfe conditions.
//!
//! Nocedal & Wright 2006, *Numerical Optimization*, Algorithms 3.5 (bracketing) and 3.6 (zoom), with
//! cubic interpolation (3.59), and a parabola beside it where Moré & Thuente 1994, "Line search algorithms with
//! guaranteed sufficient decrease", section 4, have one (case 1). For φ(t) = L(θ + t p), a length t is taken if
//!
//! ```text
//! φ(t) ≤ φ(0) + c₁ t φ'(0)      and      |φ'(t)| ≤ c₂ |φ'(0)|
//! ```

use engine::Result;

/// How much farther is looked while the line still falls: Moré & Thuente's.
const FARTHER: f64 = 4.0;

/// How near, in parts of the interval, a new point may come to its ends.
const MARGIN: f64 = 0.2;

/// A point on the line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Point {
    /// t
    pub(crate) t: f64,
    /// φ(t)
    pub(crate) value: f64,
    /// φ'(t)
    pub(crate) slope: f64,
    /// ∇L there, for who goes on from it.
    pub(crate) gradient: Vec<f64>,
}

/// The constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wolfe {
    /// c₁: the least part of the promised decrease.
    pub decrease: f64,
    /// c₂: the largest part of the slope that may be left.
    pub curvature: f64,
    /// The most evaluations.
    pub evaluations: usize,
}

impl Default for Wolfe {
    /// c₁ 10⁻⁴ and c₂ 0.9, which the book recommends for quasi-Newton directions; 25 evaluations.
    fn default() -> Self {
        Self { decrease: 1e-4, curvature: 0.9, evaluations: 25 }
    }
}

impl Wolfe {
    /// Searches from `start` (t = 0, a negative slope), trying `first` first. Returns the point found;
    /// if the evaluations run out, or the lengths left to try differ by less than `least`, the best one with some
    /// decrease; `None` if there is none.
    pub(crate) fn search(
        &self,
        start: &Point,
        first: f64,
        least: f64,
        mut evaluate: impl FnMut(f64) -> Result<Point>,
    ) -> Result<Option<Point>> {
        let enough = |p: &Point| p.value <= start.value + self.decrease * p.t * start.slope;
        let flat = |p: &Point| p.slope.abs() <= -self.curvature * start.slope;
        let (mut low, mut high): (Point, Option<Point>) = (start.clone(), None);
        let mut t = first;
        for _ in 0..self.evaluations {
            let point = evaluate(t)?;
            let bad = !point.value.is_finite() || !point.slope.is_finite();
            if bad || !enough(&point) || (point.value >= low.value && low.t > 0.0) {
                high = Some(point);
            } else if flat(&point) {
                return Ok(Some(point));
            } else if high.is_none() && point.slope < 0.0 {
                low = point;
            } else {
                // The minimum lies between the new lowest point and the one that its slope points to.
                let towards_high =
                    high.as_ref().is_some_and(|high| point.slope * (high.t - point.t) < 0.0);
                let old = std::mem::replace(&mut low, point);
                if !towards_high {
                    high = Some(old);
                }
            }
            if high.as_ref().is_some_and(|high| (high.t - low.t).abs() < least) {
                break;
            }
            t = match &high {
                None => FARTHER * low.t,
                Some(high) => between(&low, high),
            };
        }
        Ok((low.t > 0.0 && low.value < start.value).then_some(low))
    }
}

/// The minimum of the cubic through both points; where b is higher and the minimum of the parabola (with a's slope)
/// is nearer to a, halfway between the two. Kept away from the ends; the middle where there is none.
fn between(a: &Point, b: &Point) -> f64 {
    let width = b.t - a.t;
    if !b.value.is_finite() || !b.slope.is_finite() {
        return a.t + 0.1 * width;
    }
    let secant = (b.value - a.value) / width;
    let d1 = a.slope + b.slope - 3.0 * secant;
    let d2 = width.signum() * (d1 * d1 - a.slope * b.slope).sqrt();
    let mut part = 1.0 - (b.slope + d2 - d1) / (b.slope - a.slope + 2.0 * d2);
    if b.value > a.value {
        let parabola = 0.5 * a.slope / (a.slope - secant);
        part = if part.is_nan() { parabola } else { part + 0.5 * (parabola - part).min(0.0) };
    }
    a.t + width * if part.is_nan() { 0.5 } else { part.clamp(MARGIN, 1.0 - MARGIN) }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Line = fn(f64) -> (f64, f64);

    #[test]
    fn the_point_found_satisfies_both_conditions() {
        let lines: [Line; 4] = [
            |t| ((t - 1.0) * (t - 1.0), 2.0 * (t - 1.0)),
            |t| ((t - 30.0).powi(2) / 60.0, (t - 30.0) / 30.0),
            |t| (t.powi(4) - 0.01 * t, 4.0 * t.powi(3) - 0.01),
            |t| ((3.0 * t).sin() * 0.2 - t + 0.1 * t * t, 0.6 * (3.0 * t).cos() - 1.0 + 0.2 * t),
        ];
        for line in lines {
            let at = |t: f64| {
                let (value, slope) = line(t);
                Ok(Point { t, value, slope, ..Point::default() })
            };
            let start = at(0.0).unwrap();
            for curvature in [0.9, 0.1] {
                let wolfe = Wolfe { curvature, ..Wolfe::default() };
                let found = wolfe.search(&start, 1.0, 0.0, at).unwrap().unwrap();
                assert!(found.value <= start.value + 1e-4 * found.t * start.slope);
                assert!(found.slope.abs() <= -curvature * start.slope, "{found:?}");
            }
        }
    }

    #[test]
    fn a_wall_of_infinity_is_stepped_back_from() {
        let at = |t: f64| {
            let value = if t < 0.3 { -t } else { f64::INFINITY };
            Ok(Point { t, value, slope: -1.0, ..Point::default() })
        };
        let found = Wolfe::default().search(&at(0.0).unwrap(), 1.0, 0.0, at).unwrap().unwrap();
        assert!(found.t > 0.0 && found.t < 0.3);
    }
}
