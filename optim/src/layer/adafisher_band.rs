//! AdaFisher with bands: Kronecker factors of which the diagonal and its next neighbours are kept.
//!
//! AdaFisher keeps the diagonals of A = E\[a aᵀ\] and G = E\[d dᵀ\]; its thesis (7.3) leaves a band-diagonal
//! variant to others. This is one, with the inverse of Devvrit et al. 2023, "A Computationally Efficient
//! Sparsified Online Newton Method" (section 3): K-FAC's direction at the price of a few vectors.
//! Neighbours are neighbours in memory: of a convolution's inputs, the taps side by side in a channel.
//!
//! ```text
//! a_k = E[a_i a_{i+k}],  g_k likewise,  k = 0 … w        running averages: n (w + 1) and m (w + 1) numbers
//! Â⁻¹ = L D Lᵀ                                          so is the inverse: L unit lower, w below its diagonal
//!   L[I, j] = −A[I, I]⁻¹ A[I, j],  1/D[j] = A[j, j] + A[j, I] L[I, j],        I = j + 1 … j + w
//! P = Ĝ⁻¹ X Â⁻¹                                          16 m n w operations, about
//! ```
//! A band that is cut out of a positive definite matrix need not be positive definite, so the entries
//! beyond it are not taken to be 0. Â is the matrix that agrees with A inside the band and has the largest
//! determinant (Dempster 1972, "Covariance Selection"); its inverse is 0 outside the band, and the formulas
//! above give it without ever forming Â. With w = 0 these are AdaFisher's two vectors (without its min-max
//! and its one fused pass); with w = n − 1 it is K-FAC, exactly.
//!
//! λ is shared out between the factors as in K-FAC (Martens & Grosse 2015, 6.3), before they are inverted:
//! every window of A + λ' I is positive definite, so Â always exists.

use std::ops::Range;

use engine::Result;
use kernels::pool::Buffer;
use kernels::{linalg, parallel};

use crate::algebra::axes::{copy, scratch};
use crate::algebra::dense::{average, failed};
use crate::algebra::flat::dot;
use crate::check::{below_one, positive};
use crate::curvature::block::factor::Factor;
use crate::curvature::block::precondition::{of_side, pi};
use crate::curvature::communicator::Communicator;
use crate::curvature::estimate::layer_rows::Seen;
use crate::frame::layerwise::{LayerRule, LayerState, LayerStep, Layerwise};

/// The columns of L that one thread finds in one go, and what one number of them is worth, in elements of a loop.
const RUN: usize = 1024;
const WINDOW: usize = 32;

/// Options of [`Band`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BandConfig {
    /// Rate, momentum, clip, labels.
    pub step: LayerStep,
    /// w, how many neighbours on each side; 0 for diagonals.
    pub width: usize,
    /// λ, in units of the curvature of the mean loss.
    pub damping: f64,
    /// β of the running averages.
    pub decay: f64,
    /// Looks between two inversions.
    pub inverse_every: u64,
}

impl Default for BandConfig {
    /// One neighbour, λ 10⁻³, β 0.95, an inversion at every look; α 0.001, else the step is K-FAC's.
    fn default() -> Self {
        let step = LayerStep { rate: 1e-3, ..LayerStep::default() };
        Self { step, width: 1, damping: 1e-3, decay: 0.95, inverse_every: 1 }
    }
}

/// AdaFisher with band-diagonal factors: an experiment. Kept of each layer: `h` and `s`, the bands of A
/// and G, and `h_inverse` and `s_inverse`: D, then the w diagonals of L.
///
/// # Example
/// ```
/// use alcyon_optim::BandConfig;
/// use alcyon_optim::LayerRule;
/// let config = BandConfig::default();
/// let mut kept = config.start(2, 1);
/// // A⁻¹ of A = [[2, 1], [1, 1]] is [[1, −1], [−1, 2]]: D = (1, 1), L = [[1, 0], [−1, 1]]; G⁻¹ = 1.
/// kept[2].1 = vec![1.0, 1.0, -1.0, 0.0].into();
/// kept[3].1 = vec![1.0, 0.0].into();
/// assert_eq!(*config.direction(&kept, &[2.0, 3.0], 2, 1)?, [-1.0, 4.0]);
/// # Ok::<(), engine::Error>(())
/// ```
pub type Band = Layerwise<BandConfig>;

impl LayerRule for BandConfig {
    fn name(&self) -> &'static str {
        "adafisher-band"
    }

    fn check(&self) -> Result<()> {
        positive(self.name(), "damping", self.damping)?;
        below_one(self.name(), "decay", self.decay)
    }

    fn common(&self) -> &LayerStep {
        &self.step
    }

    fn common_mut(&mut self) -> &mut LayerStep {
        &mut self.step
    }

    fn start(&self, n: usize, m: usize) -> LayerState {
        let band = |n| Buffer::zeros((self.width + 1) * n);
        vec![("h", band(n)), ("s", band(m)), ("h_inverse", band(n)), ("s_inverse", band(m))]
    }

    fn words(&self, n: usize, m: usize) -> String {
        format!("Kronecker of bands of {}, {m} ⊗ {n}", 2 * self.width + 1)
    }

    fn learn(
        &self,
        t: u64,
        seen: &Seen,
        kept: &mut LayerState,
        workers: &mut dyn Communicator,
    ) -> Result<()> {
        let [(_, h), (_, s), (_, h_inverse), (_, s_inverse)] = kept.as_mut_slice() else {
            return Ok(());
        };
        average(h, &seen.input_band(self.width, workers)?, t, self.decay);
        average(s, &seen.output_band(self.width, workers)?, t, self.decay);
        if (t - 1).is_multiple_of(self.inverse_every.max(1)) {
            let diagonals = (Factor::diagonal(&s[..seen.m]), Factor::diagonal(&h[..seen.n]));
            let pi = pi(&diagonals.0, &diagonals.1).unwrap_or(1.0);
            let root = self.damping.sqrt();
            *h_inverse = of_side("the inputs", inverse(h, seen.n, root * pi))?;
            *s_inverse = of_side("the outputs", inverse(s, seen.m, root / pi))?;
        }
        Ok(())
    }

    fn direction(&self, kept: &LayerState, x: &[f64], n: usize, m: usize) -> Result<Buffer<f64>> {
        let [_, _, (_, h), (_, s)] = kept.as_slice() else { return copy(x) };
        let (mut half, mut right) = (scratch(x.len())?, scratch(x.len())?);
        parallel::rows2((&mut half, n), (&mut right, n), 2 * n, |i, half, right| {
            apply(h, n, (&x[i * n..(i + 1) * n], 1), [half, right]);
        });
        let mut out = scratch(x.len())?;
        apply(s, m, (&right, n), [&mut half, &mut out]);
        Ok(out)
    }
}

/// L D Lᵀ = Â⁻¹ of the band of A + `shift` I: D, then L's diagonals below its own. Entry i of diagonal k,
/// in the band and in L, is at row i + k and column i.
fn inverse(band: &[f64], n: usize, shift: f64) -> Result<Buffer<f64>> {
    let width = band.len().checked_div(n).unwrap_or(1) - 1;
    let entry = |i: usize, j: usize| {
        let at = band[i.abs_diff(j) * n + i.min(j)];
        if i == j { at + shift } else { at }
    };
    let column = |j: usize| -> Result<Vec<f64>> {
        let after = j + 1..n.min(j + 1 + width);
        let window: Vec<f64> =
            after.clone().flat_map(|i| after.clone().map(move |k| entry(i, k))).collect();
        let beside: Vec<f64> = after.map(|i| entry(i, j)).collect();
        let solve = match window.as_slice() {
            [a] if *a > 0.0 => vec![1.0 / a],
            _ => linalg::cholesky_inverse(&window, beside.len()).map_err(|e| failed(&e))?,
        };
        let mut column = vec![entry(j, j)];
        for (row, a) in solve.chunks_exact(beside.len().max(1)).zip(&beside) {
            let l = -dot(row, &beside);
            column[0] += a * l;
            column.push(l);
        }
        column[0] = 1.0 / column[0];
        Ok(column)
    };
    let runs = (0..n).step_by(RUN).map(|start| start..n.min(start + RUN)).collect();
    let columns = parallel::map(runs, RUN * WINDOW * (width + 1), |run: Range<usize>| {
        run.map(&column).collect::<Result<Vec<_>>>()
    });
    let (mut out, mut j) = (Buffer::zeros(band.len()), 0);
    for run in columns {
        for column in run? {
            column.into_iter().enumerate().for_each(|(k, x)| out[k * n + j] = x);
            j += 1;
        }
    }
    Ok(out)
}

/// L D Lᵀ Y of n rows of `columns` numbers; D Lᵀ Y on the way.
fn apply(inverse: &[f64], n: usize, (y, columns): (&[f64], usize), [half, out]: [&mut [f64]; 2]) {
    let (d, l) = inverse.split_at(n);
    let width = l.len() / n.max(1);
    let cost = (width + 1) * columns;
    let add = |to: &mut [f64], factor: f64, from: &[f64]| {
        to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
    };
    parallel::rows(half, columns, cost, |i, row| {
        let y = |i: usize| &y[i * columns..(i + 1) * columns];
        row.copy_from_slice(y(i));
        (1..=width.min(n - 1 - i)).for_each(|k| add(row, l[(k - 1) * n + i], y(i + k)));
        row.iter_mut().for_each(|y| *y *= d[i]);
    });
    let half = &*half;
    parallel::rows(out, columns, cost, |i, row| {
        let z = |i: usize| &half[i * columns..(i + 1) * columns];
        row.copy_from_slice(z(i));
        (1..=width.min(i)).for_each(|k| add(row, l[(k - 1) * n + i - k], z(i - k)));
    });
}

#[cfg(test)]
mod tests {
    use engine::{DType, Rng, Tensor};

    use super::*;

    /// A positive definite matrix, [n, n]: the Gram matrix of noise.
    fn moment(n: usize) -> Buffer<f64> {
        let noise = Tensor::normal([2 * n, n], 0.3, 1.0, DType::F64, &mut Rng::new(1));
        let x = noise.to_f64_vec().unwrap();
        crate::algebra::dense::product(&x, (2 * n, n), true, &x, (2 * n, n), false)
    }

    fn band_of(matrix: &[f64], n: usize, width: usize) -> Vec<f64> {
        let entry = |k: usize, i: usize| if i + k < n { matrix[i * n + i + k] } else { 0.0 };
        (0..=width).flat_map(|k| (0..n).map(move |i| entry(k, i))).collect()
    }

    /// Â⁻¹ written out.
    fn written_out(inverse: &[f64], n: usize) -> Vec<f64> {
        let (mut half, mut out) = (vec![0.0; n * n], vec![0.0; n * n]);
        apply(inverse, n, (&crate::algebra::dense::identity(n), n), [&mut half, &mut out]);
        out
    }

    #[test]
    fn the_completion_agrees_inside_the_band_and_its_inverse_is_nothing_outside() {
        let n = 7;
        let a = moment(n);
        for width in 0..n {
            let inverted = written_out(&inverse(&band_of(&a, n, width), n, 0.0).unwrap(), n);
            let completed = linalg::cholesky_inverse(&inverted, n).unwrap();
            for (i, j) in (0..n).flat_map(|i| (0..n).map(move |j| (i, j))) {
                let at = i * n + j;
                if i.abs_diff(j) <= width {
                    assert!((completed[at] - a[at]).abs() < 1e-9, "{width}: {i}, {j}");
                } else {
                    assert!(inverted[at].abs() < 1e-12, "{width}: {i}, {j}");
                }
            }
        }
    }

    #[test]
    fn a_band_of_the_whole_is_the_inverse_and_a_band_of_nothing_the_diagonal() {
        let (n, shift) = (6, 0.1);
        let a = moment(n);
        let mut damped = a.clone();
        crate::algebra::dense::shift(&mut damped, n, shift);
        let whole = written_out(&inverse(&band_of(&a, n, n - 1), n, shift).unwrap(), n);
        for (x, y) in whole.iter().zip(linalg::cholesky_inverse(&damped, n).unwrap()) {
            assert!((x - y).abs() < 1e-9);
        }
        let diagonal = written_out(&inverse(&band_of(&a, n, 0), n, shift).unwrap(), n);
        for (at, x) in diagonal.iter().enumerate() {
            let expected = if at % (n + 1) == 0 { 1.0 / damped[at] } else { 0.0 };
            assert!((x - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn a_band_that_cut_out_is_indefinite_has_a_positive_definite_completion() {
        // All entries 1: cut to three diagonals its eigenvalues are 1 ± √2 and 1.
        let inverted = inverse(&[1.0, 1.0, 1.0, 1.0, 1.0, 0.0], 3, 1e-6).unwrap();
        assert!(inverted[..3].iter().all(|&d| d > 0.0));
    }

    #[test]
    fn a_column_of_the_inverse_sees_the_window_below_it_and_nothing_else_of_a_long_band() {
        let (n, width) = (2 * RUN + 9, 2);
        let number = |i: usize| (i * i % 13) as f64 / 13.0;
        let band: Vec<f64> =
            (0..3 * n).map(|at| if at < n { 4.0 + number(at) } else { number(at) }).collect();
        let long = inverse(&band, n, 0.1).unwrap();
        for start in [0, RUN - 5, 2 * RUN - 1] {
            let part: Vec<f64> =
                band.chunks(n).flat_map(|diagonal| &diagonal[start..start + 10]).copied().collect();
            let short = inverse(&part, 10, 0.1).unwrap();
            for (k, j) in (0..=width).flat_map(|k| (0..10 - width).map(move |j| (k, j))) {
                assert_eq!(
                    short[k * 10 + j],
                    long[k * n + start + j],
                    "diagonal {k}, {start} + {j}"
                );
            }
        }
    }
}
