//! How diagonal is a factor? The figures that AdaFisher's analysis looks at, and two that can refute it.
//!
//! Martins Gomes 2025, section 3.2. For a symmetric matrix M of size n, with E noise N(0, σ²) on its
//! off-diagonal entries,
//!
//! ```text
//! diagonal energy     Σ mᵢᵢ² / ‖M‖²
//! radius              Rᵢ / mᵢᵢ,  Rᵢ = Σ_{j≠i} |mᵢⱼ|      Gershgorin 1931: eigenvalues are in the discs (mᵢᵢ, Rᵢ)
//! SNR                 10 log₁₀(Σ mᵢᵢ² / Σ_{j>i} (M + E)ᵢⱼ²)  dB
//! principal           eigenvalues above the mean one       Kaiser 1960, for a matrix that is no correlation
//! shift               max |λᵢ(M + E) − λᵢ(M)| / λᵢ over the principal ones
//! spectrum            Σ_{k+l ≡ 0} |F(M)ₖₗ|² / Σ |F(M)ₖₗ|²   F the two-dimensional Fourier transform
//! ```
//! What they can show. The eigenvalues of *every* matrix are inside its discs: only the radii tell. A
//! small shift says that σ is small beside M, whatever M is; with σ fixed (10⁻³ in the thesis) the SNR of
//! a factor whose entries are smaller is that of the noise, so it is given with σ relative to the mean
//! diagonal entry, too. And the diagonal of a Fourier spectrum is not the diagonal of the matrix: by
//! Parseval the energy at k + l ≡ 0 (mod n) is n Σ_d c_d², where c_d is the sum of the d-th wrapped
//! diagonal, so the share is 1 for every circulant matrix, the matrix of ones among them. (The whole
//! transform has n² ‖M‖².) It is computed by that identity.

use engine::{DType, Error, Result, Rng, Tensor};
use kernels::linalg;

use super::bounds::gershgorin;
use crate::algebra::dense::failed;

/// σ of the thesis.
pub const NOISE: f64 = 1e-3;

/// The figures of one symmetric matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct FactorFigures {
    /// n
    pub size: usize,
    /// The mean of mᵢᵢ, which is the mean eigenvalue.
    pub mean: f64,
    /// Σ mᵢᵢ² / ‖M‖², in [1/n, 1] for a positive semi-definite matrix.
    pub diagonal_energy: f64,
    /// The median of Rᵢ / mᵢᵢ over the rows that are not 0; below 1 a row is strictly dominant.
    pub median_radius: f64,
    /// The share of rows with Rᵢ < mᵢᵢ.
    pub dominant_rows: f64,
    /// max |mᵢⱼ| / √(mᵢᵢ mⱼⱼ), i ≠ j.
    pub largest_correlation: f64,
    /// The discs: (mᵢᵢ, Rᵢ), row by row.
    pub discs: Vec<(f64, f64)>,
    /// Their union.
    pub gershgorin: (f64, f64),
    /// Ascending.
    pub eigenvalues: Vec<f64>,
    /// The number of principal eigenvalues.
    pub principal: usize,
    /// Their share of the trace.
    pub principal_share: f64,
    /// SNR and shift with σ = 10⁻³, as printed.
    pub noise: Noise,
    /// The same with σ = 10⁻³ of the mean diagonal entry.
    pub relative_noise: Noise,
    /// The share of the Fourier spectrum's energy on its own diagonal.
    pub spectrum: f64,
}

/// What noise off the diagonal does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// In dB.
    pub snr: f64,
    /// The largest relative shift of a principal eigenvalue.
    pub shift: f64,
}

impl FactorFigures {
    /// The figures of a symmetric matrix; the noise is drawn from the seed.
    ///
    /// # Shape
    /// matrix: `[n, n]`, row-major
    ///
    /// # Errors
    /// [`Error::Argument`] when it is not square; [`Error::Linalg`] when it is not finite.
    ///
    /// # Example
    /// ```
    /// use alcyon_optim::audit::FactorFigures;
    /// let figures = FactorFigures::of(&[2.0, 1.0, 1.0, 2.0], 2, 0)?;
    /// assert_eq!((figures.diagonal_energy, figures.median_radius), (0.8, 0.5));
    /// assert_eq!((figures.gershgorin, figures.principal), ((1.0, 3.0), 1));
    /// assert_eq!((figures.principal_share, figures.spectrum), (0.75, 1.0)); // a circulant matrix
    /// # Ok::<(), engine::Error>(())
    /// ```
    pub fn of(matrix: &[f64], n: usize, seed: u64) -> Result<Self> {
        if matrix.len() != n * n {
            return Err(Error::Argument {
                op: "factor figures",
                name: "matrix",
                expected: "n² numbers",
                got: format!("{} for n = {n}", matrix.len()),
            });
        }
        let diagonal: Vec<f64> = matrix.iter().step_by(n + 1).copied().collect();
        let mean = diagonal.iter().sum::<f64>() / n.max(1) as f64;
        let disc = |(row, &d): (&[f64], &f64)| (d, row.iter().map(|x| x.abs()).sum::<f64>() - d);
        let discs: Vec<(f64, f64)> =
            matrix.chunks_exact(n.max(1)).zip(&diagonal).map(disc).collect();
        let mut radii: Vec<f64> =
            discs.iter().filter(|(d, _)| *d > 0.0).map(|(d, r)| r / d).collect();
        radii.sort_by(f64::total_cmp);
        let eigenvalues = eigenvalues(matrix, n)?;
        let principal = eigenvalues.iter().filter(|&&x| x > mean).count();
        let of_principal: f64 = eigenvalues[n - principal..].iter().sum();
        let union = gershgorin(matrix, n);
        let noise = |sigma| noise(matrix, n, sigma, seed, &eigenvalues[n - principal..]);
        Ok(Self {
            size: n,
            mean,
            diagonal_energy: ratio(square(&diagonal), square(matrix)),
            median_radius: radii.get(radii.len() / 2).copied().unwrap_or(0.0),
            dominant_rows: radii.iter().filter(|&&r| r < 1.0).count() as f64 / n.max(1) as f64,
            largest_correlation: largest_correlation(matrix, &diagonal),
            gershgorin: (*union.start(), *union.end()),
            discs,
            principal,
            principal_share: ratio(of_principal, mean * n as f64),
            noise: noise(NOISE)?,
            relative_noise: noise(NOISE * mean)?,
            spectrum: spectrum(matrix, n),
            eigenvalues,
        })
    }
}

fn eigenvalues(matrix: &[f64], n: usize) -> Result<Vec<f64>> {
    Ok(linalg::symmetric_eigen(matrix, n).map_err(|e| failed(&e))?.values)
}

fn square(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum()
}

/// 0 of nothing.
fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn largest_correlation(matrix: &[f64], diagonal: &[f64]) -> f64 {
    let mut largest = 0.0_f64;
    for (i, row) in matrix.chunks_exact(diagonal.len().max(1)).enumerate() {
        for (j, x) in row.iter().enumerate().filter(|(j, _)| *j > i) {
            largest = largest.max(ratio(x.abs(), (diagonal[i] * diagonal[j]).sqrt()));
        }
    }
    largest
}

/// M + E, with one draw for each pair of entries so that it stays symmetric.
fn noise(matrix: &[f64], n: usize, sigma: f64, seed: u64, principal: &[f64]) -> Result<Noise> {
    let draws =
        Tensor::normal([n * n], 0.0, sigma, DType::F64, &mut Rng::new(seed)).to_f64_vec()?;
    let mut noisy = matrix.to_vec();
    let (mut signal, mut off) = (0.0, 0.0);
    for i in 0..n {
        signal += matrix[i * n + i].powi(2);
        for j in i + 1..n {
            noisy[i * n + j] += draws[i * n + j];
            noisy[j * n + i] = noisy[i * n + j];
            off += noisy[i * n + j].powi(2);
        }
    }
    let shifted = eigenvalues(&noisy, n)?;
    let pairs = principal.iter().zip(&shifted[n - principal.len()..]);
    let shift = pairs.map(|(old, new)| ((new - old) / old).abs()).fold(0.0, f64::max);
    Ok(Noise { snr: 10.0 * (signal / off).log10(), shift })
}

/// n Σ_d c_d² / (n² ‖M‖²), c_d = Σ over p of M[p, p − d mod n].
fn spectrum(matrix: &[f64], n: usize) -> f64 {
    let mut sums = vec![0.0; n];
    for (k, x) in matrix.iter().enumerate() {
        sums[(k / n + n - k % n) % n] += x;
    }
    ratio(square(&sums), n as f64 * square(matrix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gram(n: usize) -> kernels::pool::Buffer<f64> {
        let x = Tensor::normal([2 * n, n], 0.0, 1.0, DType::F64, &mut Rng::new(4));
        let x = x.to_f64_vec().unwrap();
        crate::algebra::dense::product(&x, (2 * n, n), true, &x, (2 * n, n), false)
    }

    #[test]
    fn the_spectrum_s_diagonal_is_what_a_fourier_transform_has_there() {
        let n = 7;
        let m = gram(n);
        let power = |k: usize, l: usize| {
            let (mut re, mut im) = (0.0, 0.0);
            for (at, x) in m.iter().enumerate() {
                let angle = (at / n * k + at % n * l) as f64 * std::f64::consts::TAU / n as f64;
                (re, im) = (re + x * angle.cos(), im - x * angle.sin());
            }
            re * re + im * im
        };
        let all: f64 = (0..n * n).map(|at| power(at / n, at % n)).sum();
        let diagonal: f64 = (0..n).map(|k| power(k, (n - k) % n)).sum();
        let got = FactorFigures::of(&m, n, 0).unwrap().spectrum;
        assert!((got - diagonal / all).abs() < 1e-12, "{got} and {}", diagonal / all);
    }

    #[test]
    fn a_matrix_of_ones_has_a_perfect_spectrum_and_no_diagonal_energy_to_speak_of() {
        let figures = FactorFigures::of(&[1.0; 25], 5, 0).unwrap();
        assert_eq!((figures.spectrum, figures.diagonal_energy), (1.0, 0.2));
        assert_eq!((figures.median_radius, figures.dominant_rows), (4.0, 0.0));
        assert_eq!((figures.largest_correlation, figures.principal), (1.0, 1));
    }

    #[test]
    fn a_diagonal_matrix_is_as_diagonal_as_can_be() {
        let n = 40;
        let entry = |i: usize| if i.is_multiple_of(n + 1) { 1.0 + (i / n % 4) as f64 } else { 0.0 };
        let figures = FactorFigures::of(&(0..n * n).map(entry).collect::<Vec<_>>(), n, 0).unwrap();
        assert_eq!((figures.diagonal_energy, figures.dominant_rows), (1.0, 1.0));
        assert_eq!((figures.gershgorin, figures.largest_correlation), ((1.0, 4.0), 0.0));
        // All that is off the diagonal is the noise: 780 entries of variance σ², known to about 5 %.
        let signal = 10.0 * (1.0 + 4.0 + 9.0 + 16.0);
        let expected = 10.0 * (signal / (780.0 * NOISE * NOISE)).log10();
        assert!((figures.noise.snr - expected).abs() < 0.7, "{} dB", figures.noise.snr);
        assert!(figures.noise.snr > 0.0 && figures.relative_noise.snr < figures.noise.snr);
    }

    #[test]
    fn eigenvalues_are_in_the_discs_and_shift_by_no_more_than_the_noise() {
        let n = 12;
        let m = gram(n);
        let figures = FactorFigures::of(&m, n, 3).unwrap();
        let (low, high) = figures.gershgorin;
        assert!(figures.eigenvalues.iter().all(|x| (low..=high).contains(x)));
        // Weyl 1912: |λᵢ(M + E) − λᵢ(M)| ≤ ‖E‖₂ ≤ ‖E‖, and ‖E‖ is near σ n.
        let bound = 2.0 * NOISE * n as f64 / figures.mean;
        assert!(figures.noise.shift > 0.0 && figures.noise.shift < bound, "{figures:?}");
    }

    #[test]
    fn a_matrix_that_is_not_square_is_refused() {
        assert!(matches!(FactorFigures::of(&[1.0; 5], 2, 0), Err(Error::Argument { .. })));
        assert!(matches!(FactorFigures::of(&[f64::NAN], 1, 0), Err(Error::Linalg { .. })));
    }
}
