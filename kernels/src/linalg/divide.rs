//! Eigenvalues and eigenvectors of a symmetric tridiagonal matrix, by halves.
//!
//! T without the pair of entries that ties its halves together is two matrices; their eigenvectors make T a diagonal
//! matrix and one outer product, D + ρ·z·zᵀ. Entries that the product hardly touches stay as they are (deflation);
//! for the others the secular equation has the eigenvalues, and a vector z that these belong to exactly has
//! orthogonal eigenvectors (Cuppen 1981; Gu & Eisenstat 1995, *A divide-and-conquer algorithm for the symmetric
//! tridiagonal eigenproblem*).
//!
//! Eigenvectors are rows here, so that all that is done to one is done to neighbours in memory.

use super::rows::{dot, pair, rotate};
use super::secular::{Root, Secular};
use crate::gemm::{Matrix, into_strided};
use crate::pool::Buffer;
use crate::vector::vectorized;

/// Rows of a matrix that is not divided.
const SMALL: usize = 24;

/// Sweeps for one eigenvalue of a matrix that is not divided; three are usual.
const MOST_SWEEPS: usize = 60;

/// What is divided: a part of T, and the place of its eigenvectors.
struct Part<'a> {
    /// The diagonal; then the eigenvalues.
    d: &'a mut [f64],
    /// Beside it; one fewer.
    e: &'a mut [f64],
    /// Rows of zeros, `stride` apart, whose first element belongs to this part; then the eigenvectors.
    rows: &'a mut [f64],
    stride: usize,
}

/// Two matrices to work in, each as large as the eigenvectors.
struct Workspace {
    gathered: Buffer<f64>,
    mixed: Buffer<f64>,
}

/// Eigenvalues in place of the diagonal d, and eigenvectors as rows, which are zeros before: both in the order that
/// is returned. `None` if an iteration does not end.
pub(super) fn eigen(d: &mut [f64], e: &mut [f64], rows: &mut [f64]) -> Option<Vec<usize>> {
    let n = d.len();
    let mut workspace =
        Workspace { gathered: Buffer::unspecified(n * n), mixed: Buffer::unspecified(n * n) };
    Part { d, e, rows, stride: n }.eigen(&mut workspace)
}

impl Part<'_> {
    fn eigen(&mut self, workspace: &mut Workspace) -> Option<Vec<usize>> {
        let n = self.d.len();
        if n <= SMALL {
            self.sweep()?;
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by(|i, j| self.d[*i].total_cmp(&self.d[*j]));
            return Some(order);
        }
        let half = n / 2;
        let tie = self.e[half - 1];
        self.d[half - 1] -= tie.abs();
        self.d[half] -= tie.abs();
        let (d, e, stride) = (&mut *self.d, &mut *self.e, self.stride);
        let (d_above, d_below) = d.split_at_mut(half);
        let (e_above, e_below) = e.split_at_mut(half - 1);
        let (above, below) = self.rows.split_at_mut(half * stride);
        let mut first = Part { d: d_above, e: e_above, rows: above, stride };
        let mut second =
            Part { d: d_below, e: &mut e_below[1..], rows: &mut below[half..], stride };
        let mut order = first.eigen(workspace)?;
        order.extend(second.eigen(workspace)?.iter().map(|i| half + i));
        order.sort_by(|i, j| self.d[*i].total_cmp(&self.d[*j])); // Two runs, which the sort merges.
        Some(if tie == 0.0 { order } else { self.merge(half, tie, &order, workspace) })
    }

    /// The implicit QL algorithm (Bowdler, Martin, Reinsch & Wilkinson 1968) for few rows.
    fn sweep(&mut self) -> Option<()> {
        let (n, stride) = (self.d.len(), self.stride);
        let (d, e) = (&mut *self.d, &mut *self.e);
        // Small eigenvalues keep more of their digits where the larger end is the last.
        let turned = n > 0 && d[0].abs() > d[n - 1].abs();
        if turned {
            d.reverse();
            e.reverse();
        }
        for i in 0..n {
            self.rows[i * stride + if turned { n - 1 - i } else { i }] = 1.0;
        }
        for first in 0..n {
            let mut sweeps = 0;
            loop {
                // Where the matrix ends that `first` is tied to.
                let is_split =
                    |m: &usize| e[*m].abs() <= f64::EPSILON * (d[*m].abs() + d[m + 1].abs());
                let last = (first..n - 1).find(is_split).unwrap_or(n - 1);
                if last == first {
                    break;
                }
                sweeps += 1;
                if sweeps > MOST_SWEEPS {
                    return None;
                }
                // Wilkinson's shift, then rotations that chase the bulge from the end up.
                let ratio = (d[first + 1] - d[first]) / (2.0 * e[first]);
                let shift = d[first] - e[first] / (ratio + ratio.hypot(1.0).copysign(ratio));
                let mut chased = d[last] - shift;
                let (mut c, mut s, mut moved) = (1.0, 1.0, 0.0);
                let mut whole = true;
                for i in (first..last).rev() {
                    let (far, near) = (s * e[i], c * e[i]);
                    let length = far.hypot(chased);
                    if i + 1 < last {
                        e[i + 1] = length;
                    }
                    if length == 0.0 {
                        // The matrix falls apart here: what is behind is finished by another sweep.
                        d[i + 1] -= moved;
                        whole = false;
                        break;
                    }
                    (s, c) = (far / length, chased / length);
                    let next = d[i + 1] - moved;
                    let turned = (d[i] - next) * s + 2.0 * c * near;
                    moved = s * turned;
                    d[i + 1] = next + moved;
                    chased = c * turned - near;
                    let [lower, upper] = pair(self.rows, stride, [i + 1, i], n);
                    rotate(lower, upper, c, s);
                }
                if whole {
                    d[first] -= moved;
                    e[first] = chased;
                }
                if last < n - 1 {
                    e[last] = 0.0;
                }
            }
        }
        Some(())
    }

    /// The eigenvectors of both halves become those of the whole.
    fn merge(
        &mut self,
        half: usize,
        tie: f64,
        order: &[usize],
        workspace: &mut Workspace,
    ) -> Vec<usize> {
        let n = self.d.len();
        // T = diag(halves) + |tie|·z·zᵀ: z is the last entry of each vector of the first half, and the first of each
        // of the second. Both parts are unit vectors, so the whole is divided by √2.
        let unit = 0.5_f64.sqrt();
        let mut z: Vec<f64> = (0..n)
            .map(|i| {
                let row = &self.rows[i * self.stride..];
                if i < half { unit * row[half - 1] } else { unit.copysign(tie) * row[half] }
            })
            .collect();
        let rho = 2.0 * tie.abs();
        let mut sides: Vec<Side> =
            (0..n).map(|i| if i < half { Side::First } else { Side::Second }).collect();
        let (kept, dropped) = self.deflate(rho, &mut z, &mut sides, order);
        let k = kept.len();

        // Rows that share their zeros become neighbours.
        let mut grouped: Vec<usize> = (0..k).collect();
        grouped.sort_by_key(|slot| sides[kept[*slot]]);
        let count = |side| kept.iter().filter(|i| sides[**i] == side).count();
        let (first, second) = (k - count(Side::Second), count(Side::First));
        let from = grouped.iter().map(|slot| kept[*slot]).chain(dropped.iter().copied());
        for (to, i) in workspace.gathered.chunks_exact_mut(n).zip(from) {
            to.copy_from_slice(&self.rows[i * self.stride..][..n]);
        }

        let d: Vec<f64> = kept.iter().map(|i| self.d[*i]).collect();
        let z: Vec<f64> = kept.iter().map(|i| z[*i]).collect();
        let squares: Vec<f64> = z.iter().map(|z| z * z).collect();
        let secular = Secular { d: &d, squares: &squares, rho };
        let roots: Vec<Root> = (0..k).map(|j| secular.root(j)).collect();
        let mixed = &mut workspace.mixed[..k * k];
        mix(&d, &z, &roots, &grouped, mixed);

        let (mixed, gathered) = (Matrix::new(mixed, k, k), &workspace.gathered[..]);
        let sides = [(0..half, 0..first), (half..n, second..k)];
        for (columns, used) in sides {
            let rows = &gathered[used.start * n + columns.start..];
            let vectors = Matrix::strided(rows, used.len(), columns.len(), n, 1);
            let out = (&mut self.rows[columns.start..], self.stride);
            into_strided(true, 1.0, mixed.columns(used.start, used.end), vectors, 0.0, out);
        }
        for (i, row) in (k..n).zip(gathered[k * n..].chunks_exact(n)) {
            self.rows[i * self.stride..][..n].copy_from_slice(row);
        }
        let same: Vec<f64> = dropped.iter().map(|i| self.d[*i]).collect();
        let moved = roots.iter().map(|root| d[root.origin] + root.distance);
        self.d.iter_mut().zip(moved.chain(same)).for_each(|(to, value)| *to = value);
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|i, j| self.d[*i].total_cmp(&self.d[*j]));
        order
    }

    /// Which eigenvectors the product z·zᵀ changes, ascending, and which it does not. Of two eigenvalues that are
    /// equal but for rounding, a rotation makes one of those that it does not.
    fn deflate(
        &mut self,
        rho: f64,
        z: &mut [f64],
        sides: &mut [Side],
        order: &[usize],
    ) -> (Vec<usize>, Vec<usize>) {
        let largest = self.d.iter().chain(&*z).fold(0.0_f64, |largest, x| largest.max(x.abs()));
        let nothing = 8.0 * f64::EPSILON * largest;
        let (mut kept, mut dropped): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
        for &i in order {
            if rho * z[i].abs() <= nothing {
                dropped.push(i);
                continue;
            }
            if let Some(p) = kept.last().copied() {
                let length = z[i].hypot(z[p]);
                let (c, s) = (z[i] / length, -z[p] / length);
                if ((self.d[i] - self.d[p]) * c * s).abs() <= nothing {
                    (z[i], z[p]) = (length, 0.0);
                    let [x, y] = pair(self.rows, self.stride, [p, i], self.d.len());
                    rotate(x, y, c, s);
                    let (at_p, at_i) = (self.d[p], self.d[i]);
                    self.d[p] = at_p * c * c + at_i * s * s;
                    self.d[i] = at_p * s * s + at_i * c * c;
                    if sides[p] != sides[i] {
                        sides[i] = Side::Both;
                    }
                    dropped.push(p);
                    kept.pop();
                }
            }
            kept.push(i);
        }
        (kept, dropped)
    }
}

/// In which half of the columns an eigenvector has numbers other than 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    First,
    Both,
    Second,
}

/// The eigenvectors of D + ρ·z·zᵀ as rows, their entries in the order `grouped`: ẑᵢ/(dᵢ − λⱼ), divided by its length.
/// ẑ is the vector to which the roots belong exactly: ẑᵢ² = Πⱼ(λⱼ − dᵢ)/Π_{j≠i}(dⱼ − dᵢ).
fn mix(d: &[f64], z: &[f64], roots: &[Root], grouped: &[usize], out: &mut [f64]) {
    let k = d.len();
    let mut squares = vec![1.0; k];
    for (j, (row, root)) in out.chunks_exact_mut(k.max(1)).zip(roots).enumerate() {
        let (origin, own) = (d[root.origin], d[j]);
        vectorized(
            #[inline(always)]
            || {
                for ((to, d), square) in row.iter_mut().zip(d).zip(&mut squares) {
                    *to = (d - origin) - root.distance;
                    let gap = d - own;
                    *square *= if gap == 0.0 { -*to } else { *to / gap };
                }
            },
        );
    }
    let z: Vec<f64> = squares.iter().zip(z).map(|(square, z)| square.sqrt().copysign(*z)).collect();
    let mut vector = vec![0.0; k];
    for row in out.chunks_exact_mut(k.max(1)) {
        vectorized(
            #[inline(always)]
            || vector.iter_mut().zip(&z).zip(&*row).for_each(|((to, z), gap)| *to = z / gap),
        );
        let length = dot(&vector, &vector).sqrt();
        row.iter_mut().zip(grouped).for_each(|(to, from)| *to = vector[*from] / length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::noise;

    /// T·q = λ·q, and eigenvectors that are orthonormal.
    fn check(name: &str, d: &[f64], e: &[f64]) -> Vec<f64> {
        let n = d.len();
        let (mut values, mut rows) = (d.to_vec(), vec![0.0; n * n]);
        let order = eigen(&mut values, &mut e.to_vec(), &mut rows).unwrap();
        let norm = d.iter().chain(e).fold(0.0_f64, |norm, x| norm.max(x.abs()));
        for &i in &order {
            let q = &rows[i * n..(i + 1) * n];
            for j in 0..n {
                let left = if j > 0 { e[j - 1] * q[j - 1] } else { 0.0 };
                let right = if j + 1 < n { e[j] * q[j + 1] } else { 0.0 };
                let rest = left + d[j] * q[j] + right - values[i] * q[j];
                assert!(rest.abs() <= 1e-14 * norm * n as f64, "{name}: row {i}: {rest}");
            }
            for &k in &order {
                let product = dot(q, &rows[k * n..(k + 1) * n]) - f64::from(u8::from(i == k));
                assert!(product.abs() <= 2e-15 * n as f64, "{name}: {i}, {k}: {product}");
            }
        }
        let values: Vec<f64> = order.iter().map(|i| values[*i]).collect();
        assert!(values.is_sorted(), "{name}");
        values
    }

    #[test]
    fn second_differences_have_the_eigenvalues_that_are_known() {
        for n in [1, 2, 3, 24, 25, 49, 100, 257] {
            let values = check("1, -2, 1", &vec![-2.0; n], &vec![1.0; n - 1]);
            for (k, value) in values.iter().rev().enumerate() {
                let angle = std::f64::consts::PI * (k + 1) as f64 / (n + 1) as f64;
                assert!((value - (2.0 * angle.cos() - 2.0)).abs() < 1e-14, "{n}: {k}");
            }
        }
    }

    #[test]
    fn close_graded_glued_and_split_matrices_have_orthonormal_eigenvectors() {
        let n = 150;
        let random = |seed| noise::<f64>(n, seed);
        check("random", &random(1), &random(2)[1..]);
        check("zero diagonal", &vec![0.0; n], &random(3)[1..]);
        check("identity", &vec![1.0; n], &vec![0.0; n - 1]);
        check("zeros", &vec![0.0; n], &vec![0.0; n - 1]);
        // Wilkinson's: pairs of eigenvalues that agree to 15 digits; and glued to each other.
        let wilkinson: Vec<f64> = (0..n).map(|i| (i as f64 % 21.0 - 10.0).abs()).collect();
        check("Wilkinson", &wilkinson, &vec![1.0; n - 1]);
        for glue in [1e-3, 1e-8, 1e-14] {
            let e: Vec<f64> = (1..n).map(|i| if i % 21 == 0 { glue } else { 1.0 }).collect();
            check("glued", &wilkinson, &e);
        }
        for base in [0.1_f64, 0.5, 2.0] {
            let graded: Vec<f64> = (0..n as i32).map(|i| base.powi(i / 3)).collect();
            check("graded", &graded, &graded[1..]);
            check("graded, tied weakly", &graded, &vec![1e-9; n - 1]);
        }
        let e: Vec<f64> =
            random(4).iter().enumerate().map(|(i, x)| if i % 5 == 0 { 0.0 } else { *x }).collect();
        check("split", &random(5), &e[1..]);
        let tiny: Vec<f64> = random(6).iter().map(|x| 1e-30 * x).collect();
        check("noise beside one", &vec![1.0; n], &tiny[1..]);
    }
}
