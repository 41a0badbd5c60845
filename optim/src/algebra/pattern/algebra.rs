//! Products, inverses and eigenvectors of matrices of which a [`Pattern`] is kept.
//!
//! A matrix M `[n, n]` is its blocks one after another, each row-major, or its diagonal. What is not kept is 0,
//! so sums, products and inverses of matrices of one pattern have that pattern.

use engine::{Error, Result, Shape};
use kernels::gemm::{Matrix, gemm};
use kernels::pool::Buffer;
use kernels::{elementwise, linalg, parallel, reduce, second_moment};

use super::Pattern;
use crate::algebra::axes::{copy, scratch};
use crate::algebra::dense::failed;

impl Pattern {
    /// The shape of a tensor of what is kept: `[n, n]` of a whole matrix, else a vector.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::Blocks(sizes) if sizes.len() == 1 => Shape::from([sizes[0], sizes[0]]),
            _ => Shape::from([self.numbers()]),
        }
    }

    /// 0
    pub(crate) fn zeros(&self) -> Buffer<f64> {
        Buffer::zeros(self.numbers())
    }

    /// I
    pub(crate) fn identity(&self) -> Buffer<f64> {
        let mut out = self.zeros();
        self.shift(&mut out, 1.0);
        out
    }

    /// M ← M + by · I
    pub(crate) fn shift(&self, m: &mut [f64], by: f64) {
        self.each_of_the_diagonal(|at| m[at] += by);
    }

    /// tr M
    pub(crate) fn trace(&self, m: &[f64]) -> f64 {
        let mut sum = 0.0;
        self.each_of_the_diagonal(|at| sum += m[at]);
        sum
    }

    /// The places of the diagonal, from the first to the last.
    fn each_of_the_diagonal(&self, mut visit: impl FnMut(usize)) {
        match self {
            Self::Diagonal(n) => (0..*n).for_each(visit),
            Self::Blocks(sizes) => {
                let mut start = 0;
                for n in sizes {
                    (0..*n).for_each(|i| visit(start + i * (n + 1)));
                    start += n * n;
                }
            }
        }
    }

    /// M X, or Mᵀ X.
    ///
    /// # Shape
    /// x, result: `[n, columns]`
    pub(crate) fn left(
        &self,
        m: &[f64],
        x: &[f64],
        columns: usize,
        transposed: bool,
    ) -> Buffer<f64> {
        let mut out = Buffer::unspecified(x.len());
        self.left_into(m, x, columns, transposed, &mut out);
        out
    }

    /// [`Pattern::left`] into memory that is there.
    pub(crate) fn left_into(
        &self,
        m: &[f64],
        x: &[f64],
        columns: usize,
        transposed: bool,
        out: &mut [f64],
    ) {
        let width = columns.max(1);
        let Self::Blocks(sizes) = self else {
            return parallel::rows(out, width, width, |i, out| {
                let (m, x) = (m[i], &x[i * width..(i + 1) * width]);
                out.iter_mut().zip(x).for_each(|(out, x)| *out = m * x);
            });
        };
        let (mut m, mut x, mut out) = (m, x, out);
        for &n in sizes {
            let (block, rest) = m.split_at(n * n);
            let (part, after) = x.split_at(n * columns);
            let (to, tail) = out.split_at_mut(n * columns);
            let block = Matrix::new(block, n, n);
            let block = if transposed { block.t() } else { block };
            gemm(1.0, block, Matrix::new(part, n, columns), 0.0, to);
            (m, x, out) = (rest, after, tail);
        }
    }

    /// X M, or X Mᵀ.
    ///
    /// # Shape
    /// x, result: `[rows, n]`
    pub(crate) fn right(&self, m: &[f64], x: &[f64], rows: usize, transposed: bool) -> Buffer<f64> {
        let mut out = Buffer::unspecified(x.len());
        self.right_into(m, x, rows, transposed, &mut out);
        out
    }

    /// [`Pattern::right`] into memory that is there.
    pub(crate) fn right_into(
        &self,
        m: &[f64],
        x: &[f64],
        rows: usize,
        transposed: bool,
        out: &mut [f64],
    ) {
        let n = self.size();
        let Self::Blocks(sizes) = self else {
            return parallel::rows(out, n, n, |i, out| {
                let x = &x[i * n..(i + 1) * n];
                out.iter_mut().zip(x).zip(m).for_each(|((out, x), m)| *out = x * m);
            });
        };
        let (whole, mut m) = (Matrix::new(x, rows, n), m);
        for (range, &size) in self.ranges().into_iter().zip(sizes) {
            let (block, rest) = m.split_at(size * size);
            m = rest;
            let block = Matrix::new(block, size, size);
            let block = if transposed { block.t() } else { block };
            if size == n {
                return gemm(1.0, whole, block, 0.0, out);
            }
            let mut part = Buffer::unspecified(rows * size);
            gemm(1.0, whole.columns(range.start, range.end), block, 0.0, &mut part);
            for (out, part) in out.chunks_exact_mut(n.max(1)).zip(part.chunks_exact(size.max(1))) {
                out[range.clone()].copy_from_slice(part);
            }
        }
    }

    /// A B of two matrices of this pattern, either of them transposed first.
    pub(crate) fn times(&self, (a, a_t): (&[f64], bool), (b, b_t): (&[f64], bool)) -> Buffer<f64> {
        let mut out = self.zeros();
        let Self::Blocks(sizes) = self else {
            out.iter_mut().zip(a).zip(b).for_each(|((out, a), b)| *out = a * b);
            return out;
        };
        let mut start = 0;
        for &n in sizes {
            let range = start..start + n * n;
            start = range.end;
            let [a, b] = [(a, a_t), (b, b_t)].map(|(x, transposed)| {
                let x = Matrix::new(&x[range.clone()], n, n);
                if transposed { x.t() } else { x }
            });
            gemm(1.0, a, b, 0.0, &mut out[range]);
        }
        out
    }

    /// out ← keep · out + gain · xᵀ x, as far as it is kept.
    ///
    /// # Shape
    /// x: `[rows, n]`
    pub(crate) fn gram(&self, x: &[f64], rows: usize, (keep, gain): (f64, f64), out: &mut [f64]) {
        let n = self.size();
        scale(out, keep);
        if let Self::Diagonal(_) = self {
            let mut squares = Buffer::unspecified(n);
            second_moment::column_squares(x, rows, n, &mut squares);
            return add(out, gain, &squares);
        }
        if let Self::Blocks(sizes) = self
            && sizes.len() == 1
        {
            let mut sum = Buffer::unspecified(n * n);
            second_moment::gram(x, rows, n, &mut sum);
            return add(out, gain, &sum);
        }
        let (x, mut out) = (Matrix::new(x, rows, n), out);
        for range in self.ranges() {
            let (block, rest) = out.split_at_mut(range.len() * range.len());
            let part = x.columns(range.start, range.end);
            gemm(gain, part.t(), part, 1.0, block);
            out = rest;
        }
    }

    /// out ← keep · out + gain · x xᵀ, as far as it is kept.
    ///
    /// # Shape
    /// x: `[n, columns]`
    pub(crate) fn row_gram(
        &self,
        x: &[f64],
        columns: usize,
        (keep, gain): (f64, f64),
        out: &mut [f64],
    ) {
        scale(out, keep);
        let Self::Blocks(sizes) = self else {
            let mut squares = Buffer::unspecified(out.len());
            reduce::square_sum_axis(x, out.len(), columns, 1, &mut squares);
            return add(out, gain, &squares);
        };
        let (mut x, mut out) = (x, out);
        for &n in sizes {
            let (part, after) = x.split_at(n * columns);
            let (block, rest) = out.split_at_mut(n * n);
            let part = Matrix::new(part, n, columns);
            gemm(gain, part, part.t(), 1.0, block);
            (x, out) = (after, rest);
        }
    }

    /// M⁻¹ of a positive definite matrix.
    ///
    /// # Errors
    /// [`Error::Linalg`] when it is not one.
    pub(crate) fn inverse(&self, m: &[f64]) -> Result<Buffer<f64>> {
        if let Self::Diagonal(_) = self {
            if let Some(at) = m.iter().position(|x| x.is_nan() || *x <= 0.0) {
                let reason = format!("the diagonal's entry {at} is {}, not positive", m[at]);
                return Err(Error::Linalg { routine: "inverse", reason });
            }
            let mut out = Buffer::unspecified(m.len());
            elementwise::map(m, &mut out, |x| 1.0 / x);
            return Ok(out);
        }
        self.block_by_block(m, |block, n| {
            linalg::cholesky_inverse(block, n).map_err(|e| failed(&e))
        })
    }

    /// The eigenvectors of a symmetric matrix as columns, those of the largest eigenvalues last (block by
    /// block); of a diagonal, the axes as they are.
    ///
    /// # Errors
    /// [`Error::Linalg`]
    pub(crate) fn eigenvectors(&self, m: &[f64]) -> Result<Buffer<f64>> {
        if let Self::Diagonal(_) = self {
            return Ok(self.identity());
        }
        self.block_by_block(m, |block, n| {
            Ok(linalg::symmetric_eigen(block, n).map_err(|e| failed(&e))?.vectors)
        })
    }

    /// A matrix of this pattern from a function of each block.
    pub(crate) fn block_by_block(
        &self,
        m: &[f64],
        of: impl Fn(&[f64], usize) -> Result<Vec<f64>>,
    ) -> Result<Buffer<f64>> {
        let Self::Blocks(sizes) = self else { return copy(m) };
        let mut all = scratch(m.len())?;
        let (mut m, mut out) = (m, &mut *all);
        for &n in sizes {
            let (block, tail) = m.split_at(n * n);
            let (to, after) = out.split_at_mut(n * n);
            to.copy_from_slice(&of(block, n)?);
            (m, out) = (tail, after);
        }
        Ok(all)
    }
}

fn scale(out: &mut [f64], keep: f64) {
    if keep != 1.0 {
        elementwise::update(out, |x| keep * x);
    }
}

fn add(out: &mut [f64], gain: f64, new: &[f64]) {
    elementwise::update2(out, new, |out, new| out + gain * new);
}

#[cfg(test)]
mod tests {
    use engine::{DType, Rng, Tensor};

    use super::*;
    use crate::algebra::dense::product;
    use crate::curvature::block::factor::Factor;

    const N: usize = 5;

    fn noise(numbers: usize, seed: u64) -> Vec<f64> {
        let noise = Tensor::normal([numbers], 0.0, 1.0, DType::F64, &mut Rng::new(seed));
        noise.to_f64_vec().unwrap()
    }

    fn written_out(pattern: &Pattern, m: &[f64]) -> Vec<f64> {
        Factor::new(pattern.clone(), m).unwrap().to_matrix()
    }

    fn assert_close(got: &[f64], expected: &[f64], what: &str) {
        assert_eq!(got.len(), expected.len(), "{what}");
        for (x, y) in got.iter().zip(expected) {
            assert!(
                (x - y).abs() < 1e-12 * y.abs().max(1.0),
                "{what}: {got:?} is not {expected:?}"
            );
        }
    }

    #[test]
    fn what_is_done_with_a_pattern_is_done_with_the_matrix_written_out() {
        for pattern in [Pattern::whole(N), Pattern::Blocks(vec![2, 1, 2]), Pattern::Diagonal(N)] {
            let what = pattern.to_string();
            let (a, b) = (noise(pattern.numbers(), 1), noise(pattern.numbers(), 2));
            let (wide_a, wide_b) = (written_out(&pattern, &a), written_out(&pattern, &b));
            let x = noise(3 * N, 3);
            for t in [false, true] {
                let left = product(&wide_a, (N, N), t, &x, (N, 3), false);
                assert_close(&pattern.left(&a, &x, 3, t), &left, &what);
                let right = product(&x, (3, N), false, &wide_a, (N, N), t);
                assert_close(&pattern.right(&a, &x, 3, t), &right, &what);
                let both = product(&wide_a, (N, N), t, &wide_b, (N, N), !t);
                let times = pattern.times((&a, t), (&b, !t));
                assert_close(&written_out(&pattern, &times), &both, &what);
            }
            let trace: f64 = wide_a.iter().step_by(N + 1).sum();
            assert_close(&[pattern.trace(&a)], &[trace], &what);
            assert_close(
                &written_out(&pattern, &pattern.identity()),
                &crate::algebra::dense::identity(N),
                &what,
            );

            let (mut gram, mut of_rows) = (pattern.identity(), pattern.identity());
            pattern.gram(&x, 3, (0.5, 2.0), &mut gram);
            let turned: Vec<f64> = (0..3 * N).map(|at| x[at % 3 * N + at / 3]).collect();
            pattern.row_gram(&turned, 3, (0.5, 2.0), &mut of_rows);
            assert_close(&of_rows, &gram, &what);
            let whole = product(&x, (3, N), true, &x, (3, N), false);
            let kept = written_out(&pattern, &vec![1.0; pattern.numbers()]);
            let expected: Vec<f64> = (0..N * N)
                .map(|at| {
                    let one = if at % (N + 1) == 0 { 0.5 } else { 0.0 };
                    kept[at] * (one + 2.0 * whole[at])
                })
                .collect();
            assert_close(&written_out(&pattern, &gram), &expected, &what);

            let back = pattern.times((&gram, false), (&pattern.inverse(&gram).unwrap(), false));
            assert_close(&back, &pattern.identity(), &what);
            let q = pattern.eigenvectors(&gram).unwrap();
            let turned =
                pattern.times((&pattern.times((&q, true), (&gram, false)), false), (&q, false));
            let wide = written_out(&pattern, &turned);
            assert!((0..N * N).all(|at| at % (N + 1) == 0 || wide[at].abs() < 1e-12), "{what}");
        }
    }

    #[test]
    fn a_diagonal_that_is_not_positive_has_no_inverse() {
        for bad in [0.0, -1.0, f64::NAN] {
            let refused = Pattern::Diagonal(2).inverse(&[1.0, bad]);
            assert!(matches!(refused, Err(Error::Linalg { .. })));
        }
    }
}
