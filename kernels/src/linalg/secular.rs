//! The roots of the secular equation: the eigenvalues of D + ρ·z·zᵀ for a diagonal D.
//!
//! 1/ρ + Σᵢ zᵢ²/(dᵢ − λ) = 0 has one root between every two neighbours of the ascending dᵢ, and one behind the last.
//! A root is found as a distance from the neighbour that is nearer, so that no difference dᵢ − λ loses digits
//! (Li 1994, *Solving secular equations stably and efficiently*, LAPACK Working Note 89).

use crate::vector::vectorized;

/// Steps after which a bracket that halves at worst has no floating-point number inside.
const MOST_STEPS: usize = 1200;

/// Numbers that are added side by side.
const LANES: usize = 8;

/// λ, as a distance from one of the dᵢ.
#[derive(Clone, Copy, Debug)]
pub(super) struct Root {
    /// Which dᵢ.
    pub(super) origin: usize,
    /// λ − dᵢ
    pub(super) distance: f64,
}

/// A problem: d ascends strictly, z has no zero and the length 1, ρ > 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Secular<'a> {
    pub(super) d: &'a [f64],
    pub(super) squares: &'a [f64], // zᵢ²
    pub(super) rho: f64,
}

/// The equation's left side at one place, in three parts, and its derivative in two.
struct Value {
    sum: f64,
    magnitude: f64,
    /// Of the terms up to the left pole, and of those from the right pole on.
    slopes: [f64; 2],
}

impl Secular<'_> {
    /// The root behind d\[j\].
    pub(super) fn root(&self, j: usize) -> Root {
        let n = self.d.len();
        if n == 1 {
            return Root { origin: 0, distance: self.rho * self.squares[0] };
        }
        // The two poles by which the equation is approximated.
        let last = j + 1 == n;
        let poles = if last { [j - 1, j] } else { [j, j + 1] };
        let (origin, mut low, mut high) = if last {
            (j, 0.0, self.rho)
        } else {
            let gap = self.d[j + 1] - self.d[j];
            let middle = self.value(j, 0.5 * gap, poles);
            if middle.sum >= 0.0 { (j, 0.0, 0.5 * gap) } else { (j + 1, -0.5 * gap, 0.0) }
        };
        let mut at = 0.5 * (low + high);
        for _ in 0..MOST_STEPS {
            let value = self.value(origin, at, poles);
            let end = if value.sum > 0.0 { &mut high } else { &mut low };
            *end = at;
            let slope = value.slopes[0] + value.slopes[1];
            let noise = f64::EPSILON * (8.0 * value.magnitude + at.abs() * slope);
            if value.sum.abs() <= noise {
                break;
            }
            let gaps = poles.map(|pole| (self.d[pole] - self.d[origin]) - at);
            let next = at + step(&value, gaps, [low - at, high - at]);
            let next = if next > low && next < high { next } else { 0.5 * (low + high) };
            if next == at || next <= low || next >= high {
                break; // No number is left between the ends.
            }
            at = next;
        }
        Root { origin, distance: at }
    }

    /// 1/ρ + Σᵢ zᵢ²/(dᵢ − λ) at λ = d\[origin\] + distance.
    fn value(&self, origin: usize, distance: f64, [left, right]: [usize; 2]) -> Value {
        let from = self.d[origin];
        let (d, squares) = (self.d, self.squares);
        let [before, after] = [0..left + 1, right..d.len()].map(|range| {
            let (d, squares) = (&d[range.clone()], &squares[range]);
            vectorized(
                #[inline(always)]
                || sums(d, squares, from, distance),
            )
        });
        let constant = 1.0 / self.rho;
        Value {
            sum: constant + before[0] + after[0],
            magnitude: constant + before[0].abs() + after[0].abs(),
            slopes: [before[1], after[1]],
        }
    }
}

/// Σ zᵢ²/(dᵢ − λ) and Σ zᵢ²/(dᵢ − λ)².
#[inline(always)]
fn sums(d: &[f64], squares: &[f64], from: f64, distance: f64) -> [f64; 2] {
    let (d, d_rest) = d.as_chunks::<LANES>();
    let (squares, squares_rest) = squares.as_chunks::<LANES>();
    let mut sums = [[0.0; LANES]; 2];
    for (d, squares) in d.iter().zip(squares) {
        for lane in 0..LANES {
            let gap = (d[lane] - from) - distance;
            let term = squares[lane] / gap;
            sums[0][lane] += term;
            sums[1][lane] += term / gap;
        }
    }
    let mut total = sums.map(|sums| sums.iter().sum::<f64>());
    for (d, square) in d_rest.iter().zip(squares_rest) {
        let gap = (d - from) - distance;
        let term = square / gap;
        total[0] += term;
        total[1] += term / gap;
    }
    total
}

/// The step to the root of c + p/(left − x) + q/(right − x), which has the equation's value and slopes here: the
/// one that stays between the ends; NaN if there is none.
fn step(value: &Value, [left, right]: [f64; 2], [low, high]: [f64; 2]) -> f64 {
    let [before, after] = value.slopes;
    let c = value.sum - left * before - right * after;
    let a = (left + right) * value.sum - left * right * (before + after);
    let b = left * right * value.sum;
    // c·x² − a·x + b = 0
    let root = (a * a - 4.0 * b * c).max(0.0).sqrt();
    let larger = 0.5 * (a + root.copysign(a));
    let inside = |x: &f64| *x > low && *x < high;
    [b / larger, larger / c].into_iter().find(inside).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_lies_behind_its_pole_and_solves_the_equation() {
        for (gap, weight) in [(1.0, 1.0), (1e-9, 1.0), (1.0, 1e-9), (1e-13, 1e-4)] {
            let n = 12;
            let d: Vec<f64> = (0..n).map(|i| (2 * (i / 2)) as f64 + gap * (i % 2) as f64).collect();
            let z: Vec<f64> = (0..n).map(|i| if i % 3 == 0 { weight } else { 1.0 }).collect();
            let length: f64 = z.iter().map(|z| z * z).sum();
            let squares: Vec<f64> = z.iter().map(|z| z * z / length).collect();
            let secular = Secular { d: &d, squares: &squares, rho: 0.7 };
            let mut trace = 0.0;
            for j in 0..n {
                let Root { origin, distance } = secular.root(j);
                let behind = (d[origin] - d[j]) + distance;
                let end = if j + 1 < n { d[j + 1] - d[j] } else { 0.7 };
                assert!(behind > 0.0 && behind < end * (1.0 + 1e-15), "{j}: {behind}");
                trace += behind;
                let term = |i: usize| squares[i] / ((d[i] - d[origin]) - distance);
                let sum = 1.0 / 0.7 + (0..n).map(term).sum::<f64>();
                let magnitude = 1.0 / 0.7 + (0..n).map(|i| term(i).abs()).sum::<f64>();
                assert!(sum.abs() < 1e-13 * magnitude * n as f64, "{j}: {sum} of {magnitude}");
            }
            // The trace of D + ρzzᵀ.
            assert!((trace - 0.7).abs() < 1e-13, "{trace}");
        }
    }
}
