//! One side's Q: products with it, its inverse, and its fit. Upper triangular, or a diagonal.
//!
//! A side of n with k numbers along each of its entries (a [2000, 8] matrix has n = 2000, k = 8) is fitted to
//! A Aᵀ and B Bᵀ of `[n, k]` matrices. Where k is far below n they are never formed: row i of triu(A Aᵀ) Q is
//! aᵢᵀ Σ_{j ≥ i} aⱼ qⱼᵀ, a sum that grows by one term from row to row, for 4 n² k operations in place of 2 n³.

use std::ops::Range;
use std::sync::Arc;

use engine::Result;
use kernels::elementwise;
use kernels::gemm::{Matrix, gemm};
use kernels::pool::Buffer;
use kernels::transpose::transpose;

use crate::algebra::axes;
use crate::algebra::flat::dot;
use crate::algebra::pattern::Pattern;

/// Sums of products of rows are slower than a product of matrices by about this factor.
const ROWS_AGAINST_PRODUCTS: usize = 32;

/// The rows of a triangle that are solved one by one before the rest takes them over in one product.
const RUN: usize = 64;

/// Q of one axis, with what a step makes of it beforehand.
#[derive(Clone)]
pub(super) struct Side<'a> {
    axis: usize,
    /// The whole matrix, or its diagonal.
    pub(super) pattern: Pattern,
    /// `[n, n]`, upper triangular, or the diagonal `[n]`.
    q: &'a [f64],
    /// Q⁻¹ of a small triangle.
    inverse: Option<Arc<Buffer<f64>>>,
    /// QᵀQ, where it is applied to more than n rows.
    square: Option<Arc<Buffer<f64>>>,
}

/// What a fit adds to a factor: −μ `product` / `bound`.
pub(super) struct Change {
    bound: f64,
    product: Buffer<f64>,
}

impl Change {
    /// Q ← Q − μ triu(AAᵀ − BBᵀ) Q / ‖AAᵀ + BBᵀ‖
    pub(super) fn apply(&self, q: &mut [f64], rate: f64) {
        let size = if self.bound > 0.0 { rate / self.bound } else { 0.0 };
        elementwise::update2(q, &self.product, |q, p| q - size * p);
    }
}

impl<'a> Side<'a> {
    fn new(axis: usize, pattern: &'a Pattern, q: &'a [f64]) -> Self {
        Self { axis, pattern: pattern.clone(), q, inverse: None, square: None }
    }

    /// For [`Side::times`] and [`Side::solve`].
    pub(super) fn to_fit(axis: usize, pattern: &'a Pattern, q: &'a [f64]) -> Self {
        let n = pattern.size();
        let small = n <= RUN && matches!(pattern, Pattern::Blocks(_));
        let inverse = small.then(|| Arc::new(inverse_of(q, n, 0..n).into()));
        Self { inverse, ..Self::new(axis, pattern, q) }
    }

    /// For [`Side::twice`] of so many numbers.
    pub(super) fn to_precondition(
        axis: usize,
        pattern: &'a Pattern,
        q: &'a [f64],
        numbers: usize,
    ) -> Self {
        let n = pattern.size();
        let many = numbers / n.max(1) > n && matches!(pattern, Pattern::Blocks(_));
        let square = many.then(|| Arc::new(pattern.times((q, true), (q, false))));
        Self { square, ..Self::new(axis, pattern, q) }
    }

    /// The same for some rows of a tensor: of its first axis, that part of the diagonal.
    pub(super) fn of_rows(&self, rows: &Range<usize>) -> Self {
        match self.pattern {
            Pattern::Diagonal(_) if self.axis == 0 => {
                let (pattern, q) = (Pattern::Diagonal(rows.len()), &self.q[rows.clone()]);
                Self { pattern, q, ..self.clone() }
            }
            _ => self.clone(),
        }
    }

    /// X ×ᵢ Q
    pub(super) fn times(&self, x: Buffer<f64>, dims: &[usize]) -> Result<Buffer<f64>> {
        match self.pattern {
            Pattern::Diagonal(_) => Ok(self.scaled(x, dims, |q| q)),
            Pattern::Blocks(_) => axes::times(&x, dims, (self.axis, &self.pattern), self.q, false),
        }
    }

    /// X ×ᵢ QᵀQ
    pub(super) fn twice(&self, x: Buffer<f64>, dims: &[usize]) -> Result<Buffer<f64>> {
        if let Pattern::Diagonal(_) = self.pattern {
            return Ok(self.scaled(x, dims, |q| q * q));
        }
        let at = (self.axis, &self.pattern);
        match &self.square {
            Some(square) => axes::times(&x, dims, at, square, false),
            None => axes::times(&axes::times(&x, dims, at, self.q, false)?, dims, at, self.q, true),
        }
    }

    /// X ×ᵢ Q⁻ᵀ
    pub(super) fn solve(&self, x: Buffer<f64>, dims: &[usize]) -> Result<Buffer<f64>> {
        if let Pattern::Diagonal(_) = self.pattern {
            return Ok(self.scaled(x, dims, |q| 1.0 / q));
        }
        if let Some(inverse) = &self.inverse {
            return axes::times(&x, dims, (self.axis, &self.pattern), inverse, true);
        }
        let mut x = unfolded(&x, dims, self.axis);
        solve_transposed(self.q, self.pattern.size(), &mut x);
        Ok(folded(x, dims, self.axis))
    }

    /// Each entry of X by a function of its q.
    fn scaled(&self, mut x: Buffer<f64>, dims: &[usize], by: impl Fn(f64) -> f64) -> Buffer<f64> {
        let factors: Vec<f64> = self.q.iter().map(|q| by(*q)).collect();
        axes::scale(&mut x, dims, self.axis, &factors);
        x
    }

    /// out ← keep · out + X₍ᵢ₎ X₍ᵢ₎ᵀ, as far as Q is kept.
    pub(super) fn gram(&self, x: &[f64], dims: &[usize], keep: f64, out: &mut [f64]) {
        axes::gram(x, dims, (self.axis, &self.pattern), (keep, 1.0), out);
    }

    /// The change of a fit to A and B.
    pub(super) fn change(&self, both: [&[f64]; 2], dims: &[usize]) -> Change {
        let n = self.pattern.size();
        let k = both[0].len().checked_div(n).unwrap_or(0);
        if matches!(self.pattern, Pattern::Blocks(_)) && k.saturating_mul(ROWS_AGAINST_PRODUCTS) < n
        {
            return by_rows(&both.map(|x| unfolded(x, dims, self.axis)), self.q, (n, k));
        }
        self.change_by_moments(&both.map(|x| {
            let mut moment = self.pattern.zeros();
            self.gram(x, dims, 1.0, &mut moment);
            moment
        }))
    }

    /// The same from AAᵀ and BBᵀ.
    pub(super) fn change_by_moments(&self, [aa, bb]: &[Buffer<f64>; 2]) -> Change {
        if let Pattern::Blocks(_) = self.pattern {
            return by_products([aa, bb], self.q, self.pattern.size());
        }
        let bound = aa.iter().zip(&**bb).map(|(a, b)| a + b).fold(0.0, f64::max);
        let mut product = Buffer::unspecified(aa.len());
        elementwise::map2(aa, bb, &mut product, |a, b| a - b);
        elementwise::update2(&mut product, self.q, |difference, q| difference * q);
        Change { bound, product }
    }
}

/// ‖AAᵀ + BBᵀ‖, a lower bound, and triu(AAᵀ − BBᵀ) Q, from the two moments.
fn by_products([aa, bb]: [&[f64]; 2], q: &[f64], n: usize) -> Change {
    let mut sum = Buffer::unspecified(n * n);
    elementwise::map2(aa, bb, &mut sum, |a, b| a + b);
    let longest = (0..n).map(|i| dot(&sum[i * n..(i + 1) * n], &sum[i * n..(i + 1) * n]));
    let bound = spectral_bound(longest, |x| crate::algebra::dense::apply(&sum, x));
    let mut upper = sum;
    for (i, row) in upper.chunks_exact_mut(n.max(1)).enumerate() {
        row[..i].fill(0.0);
        row.iter_mut().enumerate().skip(i).for_each(|(j, x)| *x = aa[i * n + j] - bb[i * n + j]);
    }
    let mut product = Buffer::unspecified(n * n);
    gemm(1.0, Matrix::new(&upper, n, n), Matrix::new(q, n, n), 0.0, &mut product);
    Change { bound, product }
}

/// The same without a matrix of n² but Q.
fn by_rows([a, b]: &[Buffer<f64>; 2], q: &[f64], (n, k): (usize, usize)) -> Change {
    // The columns of M = C Cᵀ, C = [A B], have the squares cᵢᵀ (CᵀC) cᵢ.
    let width = 2 * k;
    let mut both = Buffer::unspecified(n * width);
    for (i, row) in both.chunks_exact_mut(width.max(1)).enumerate() {
        row[..k].copy_from_slice(&a[i * k..(i + 1) * k]);
        row[k..].copy_from_slice(&b[i * k..(i + 1) * k]);
    }
    let c = Matrix::new(&both, n, width);
    let mut inner = Buffer::unspecified(width * width);
    gemm(1.0, c.t(), c, 0.0, &mut inner);
    let mut through = Buffer::unspecified(n * width);
    gemm(1.0, c, Matrix::new(&inner, width, width), 0.0, &mut through);
    let square = |i: usize| (0..width).map(|j| c.get(i, j) * through[i * width + j]).sum::<f64>();
    let times = |x: &[f64]| {
        let (mut short, mut out) = (vec![0.0; width], vec![0.0; n]);
        gemm(1.0, c.t(), Matrix::new(x, n, 1), 0.0, &mut short);
        gemm(1.0, c, Matrix::new(&short, width, 1), 0.0, &mut out);
        out
    };
    let bound = spectral_bound((0..n).map(square), times);
    let mut sums = [(); 2].map(|()| Buffer::<f64>::zeros(k * n));
    let mut product = Buffer::zeros(n * n);
    for i in (0..n).rev() {
        let (row, out) = (&q[i * n + i..(i + 1) * n], &mut product[i * n + i..(i + 1) * n]);
        for ((x, sums), sign) in [a, b].into_iter().zip(&mut sums).zip([1.0, -1.0]) {
            for (c, x) in x[i * k..(i + 1) * k].iter().enumerate() {
                let sum = &mut sums[c * n + i..(c + 1) * n];
                let (x, signed) = (*x, sign * x);
                for ((sum, q), out) in sum.iter_mut().zip(row).zip(&mut *out) {
                    *sum += x * q;
                    *out += signed * *sum;
                }
            }
        }
    }
    Change { bound, product }
}

/// A lower bound of a symmetric matrix's largest eigenvalue: ‖M x‖/‖x‖ with x = M² e for the unit vector e of
/// the longest column. The squares are those of its columns.
fn spectral_bound(squares: impl Iterator<Item = f64>, times: impl Fn(&[f64]) -> Vec<f64>) -> f64 {
    let squares: Vec<f64> = squares.collect();
    let Some((at, _)) = squares.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)) else {
        return 0.0;
    };
    let unit: Vec<f64> = (0..squares.len()).map(|i| f64::from(u8::from(i == at))).collect();
    let x = times(&times(&unit));
    let length = dot(&x, &x).sqrt();
    if length == 0.0 {
        return 0.0;
    }
    let product = times(&x);
    dot(&product, &product).sqrt() / length
}

/// X ← Q⁻ᵀ X: forward substitution, Qᵀ being lower triangular; run by run, with each run's own inverse.
///
/// # Shape
/// q: `[n, n]`, upper triangular · x: `[n, k]`
fn solve_transposed(q: &[f64], n: usize, x: &mut [f64]) {
    let k = x.len().checked_div(n).unwrap_or(0);
    for start in (0..n).step_by(RUN) {
        let end = (start + RUN).min(n);
        let run = end - start;
        let inverse = inverse_of(q, n, start..end);
        let (solved, rest) = x.split_at_mut(end * k);
        let solved = &mut solved[start * k..];
        let right = solved.to_vec();
        let (inverse, right) = (Matrix::new(&inverse, run, run), Matrix::new(&right, run, k));
        gemm(1.0, inverse.t(), right, 0.0, solved);
        if end < n {
            let beside = Matrix::new(&q[start * n..end * n], run, n).columns(end, n);
            gemm(-1.0, beside.t(), Matrix::new(solved, run, k), 1.0, rest);
        }
    }
}

/// The inverse of the triangle of some rows and columns of Q, by back substitution.
fn inverse_of(q: &[f64], n: usize, run: Range<usize>) -> Vec<f64> {
    let (m, at) = (run.len(), |i: usize, j: usize| q[(run.start + i) * n + run.start + j]);
    let mut inverse = vec![0.0; m * m];
    for j in 0..m {
        for i in (0..=j).rev() {
            let known: f64 = (i + 1..=j).map(|k| at(i, k) * inverse[k * m + j]).sum();
            let unit = if i == j { 1.0 } else { 0.0 };
            inverse[i * m + j] = (unit - known) / at(i, i);
        }
    }
    inverse
}

/// X₍ᵢ₎ `[n, k]`: the axis in front.
fn unfolded(x: &[f64], dims: &[usize], axis: usize) -> Buffer<f64> {
    let mut out = Buffer::unspecified(x.len());
    if axis == 0 {
        out.copy_from_slice(x);
        return out;
    }
    let (n, inner) = (dims[axis], dims[axis + 1..].iter().product::<usize>());
    if inner == 1 {
        transpose(x, (x.len() / n.max(1), n), n, &mut out);
        return out;
    }
    let k = x.len() / n.max(1);
    for (s, slab) in x.chunks_exact((n * inner).max(1)).enumerate() {
        for (i, row) in slab.chunks_exact(inner.max(1)).enumerate() {
            out[i * k + s * inner..][..inner].copy_from_slice(row);
        }
    }
    out
}

/// The way back.
fn folded(x: Buffer<f64>, dims: &[usize], axis: usize) -> Buffer<f64> {
    if axis == 0 {
        return x;
    }
    let (n, inner) = (dims[axis], dims[axis + 1..].iter().product::<usize>());
    let (k, mut out) = (x.len() / n.max(1), Buffer::unspecified(x.len()));
    if inner == 1 {
        transpose(&x, (n, k), k, &mut out);
        return out;
    }
    for (s, slab) in out.chunks_exact_mut((n * inner).max(1)).enumerate() {
        for (i, row) in slab.chunks_exact_mut(inner.max(1)).enumerate() {
            row.copy_from_slice(&x[i * k + s * inner..][..inner]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use engine::{DType, Rng, Tensor};

    use super::*;
    use crate::algebra::dense::product;

    fn noise(numbers: usize, seed: u64) -> Vec<f64> {
        let noise = Tensor::normal([numbers], 0.0, 1.0, DType::F64, &mut Rng::new(seed));
        noise.to_f64_vec().unwrap()
    }

    fn triangle(n: usize) -> Vec<f64> {
        let noise = noise(n * n, 7);
        let entry = |at: usize| match (at / n).cmp(&(at % n)) {
            std::cmp::Ordering::Less => 0.3 * noise[at],
            std::cmp::Ordering::Equal => 1.0 + noise[at].abs(),
            std::cmp::Ordering::Greater => 0.0,
        };
        (0..n * n).map(entry).collect()
    }

    fn assert_close(got: &[f64], expected: &[f64]) {
        assert_eq!(got.len(), expected.len());
        let scale = expected.iter().fold(1.0_f64, |s, x| s.max(x.abs()));
        assert!(got.iter().zip(expected).all(|(x, y)| (x - y).abs() < 1e-10 * scale));
    }

    #[test]
    fn the_fit_by_rows_is_the_fit_by_products() {
        for (n, k) in [(1, 1), (5, 1), (9, 2), (40, 3)] {
            let both = [noise(n * k, 1), noise(n * k, 2)].map(Buffer::from);
            let q = triangle(n);
            let Change { bound, product: rows } = by_rows(&both, &q, (n, k));
            let moments = [&both[0], &both[1]].map(|x| product(x, (n, k), false, x, (n, k), true));
            let moments = [&*moments[0], &*moments[1]];
            let Change { bound: expected, product: products } = by_products(moments, &q, n);
            assert!(
                (bound - expected).abs() < 1e-10 * expected,
                "{n}, {k}: {bound} and {expected}"
            );
            assert_close(&rows, &products);
        }
    }

    #[test]
    fn the_bound_is_below_the_largest_eigenvalue_and_near_it() {
        let n = 12;
        let x = noise(n * 20, 3);
        let moment = product(&x, (n, 20), false, &x, (n, 20), true);
        let largest = kernels::linalg::symmetric_eigen(&moment, n).unwrap().values[n - 1];
        let squares = (0..n).map(|i| dot(&moment[i * n..(i + 1) * n], &moment[i * n..(i + 1) * n]));
        let bound = spectral_bound(squares, |x| crate::algebra::dense::apply(&moment, x));
        assert!(bound <= largest * (1.0 + 1e-12) && bound > 0.9 * largest, "{bound} of {largest}");
    }

    #[test]
    fn solving_undoes_the_transposed_product_along_every_axis_and_over_runs() {
        for (dims, axis) in
            [([130, 3, 1], 0), ([2, 70, 3], 1), ([2, 3, 65], 2), ([3, 4, 50], 1), ([9, 30, 5], 2)]
        {
            let n = dims[axis];
            let (pattern, q) = (Pattern::whole(n), triangle(n));
            let side = Side::to_fit(axis, &pattern, &q);
            let x = noise(dims.iter().product(), 4);
            let at = (axis, &pattern);
            let there = axes::times(&x, &dims, at, side.q, true).unwrap();
            assert_close(&side.solve(there, &dims).unwrap(), &x);
            let once = side.times(x.clone().into(), &dims).unwrap();
            let twice = axes::times(&once, &dims, at, side.q, true).unwrap();
            for numbers in [x.len(), n * n] {
                let side = Side::to_precondition(axis, &pattern, &q, numbers);
                assert_close(&side.twice(x.clone().into(), &dims).unwrap(), &twice);
            }
        }
        let pattern = Pattern::Diagonal(3);
        let side = Side::to_fit(0, &pattern, &[1.0, 2.0, 4.0]);
        assert_eq!(*side.solve(vec![1.0, 2.0, 4.0].into(), &[3]).unwrap(), [1.0; 3]);
        assert_eq!(*side.twice(vec![1.0; 3].into(), &[3]).unwrap(), [1.0, 4.0, 16.0]);
    }
}
