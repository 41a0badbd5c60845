//! A symmetric matrix made tridiagonal, A = Q·T·Qᵀ, by reflections from the last row up (Golub & Van Loan 2013,
//! section 8.3).
//!
//! A step reads the matrix once: the same pass takes the last reflection into account and multiplies by the vector
//! of the next one, on the lower triangle alone, four rows at a time.

use super::reflections::{BLOCK, Order, Reflection, reflect_all, reflection};
use super::rows::dot;
use crate::pool::Buffer;
use crate::simd::{self, Machine, Vectorised};

/// Rows, and columns, of a block of a pass.
const SIDE: usize = 4;

/// T, and the reflections H₁H₂…: Q = Hₙ₋₁…H₂H₁.
pub(super) struct Tridiagonal {
    /// The diagonal of T.
    pub(super) diagonal: Vec<f64>,
    /// Beside it.
    pub(super) beside: Vec<f64>,
    /// The vector of Hᵢ is the row i up to the diagonal.
    vectors: Buffer<f64>,
    taus: Vec<f64>,
}

impl Tridiagonal {
    /// Of the lower triangle of a matrix \[n, n\].
    pub(super) fn of(mut a: Buffer<f64>, n: usize) -> Self {
        let mut taus = vec![0.0; n];
        let mut beside = vec![0.0; n.saturating_sub(1)];
        // Of the last reflection: A is still to lose v·wᵀ + w·vᵀ.
        let (mut v, mut w, mut y) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
        for i in (1..n).rev() {
            let (above, row) = a.split_at_mut(i * n);
            let row = &mut row[..=i];
            for (j, x) in row.iter_mut().enumerate() {
                *x -= v[i] * w[j] + w[i] * v[j];
            }
            let x = &mut row[..i];
            let Reflection { tau, beta } = reflection(x, i - 1);
            (taus[i], beside[i - 1]) = (tau, beta);
            let y = &mut y[..i];
            y.fill(0.0);
            simd::run(Pass { a: above, stride: n, v: &v[..i], w: &w[..i], x, y });
            // w = τAx − (τ²/2)(xᵀAx)x
            let half = 0.5 * tau * tau * dot(x, y);
            for ((w, y), x) in w.iter_mut().zip(y).zip(&*x) {
                *w = tau * *y - half * x;
            }
            v[..i].copy_from_slice(x);
        }
        if n > 0 {
            // A matrix [1, 1] has no reflection; else the last one still has to change its entry.
            a[0] -= 2.0 * v[0] * w[0] * f64::from(u8::from(n > 1));
        }
        let diagonal = a.iter().step_by(n + 1).copied().collect();
        Self { diagonal, beside, vectors: a, taus }
    }

    /// Rows ← rows·Qᵀ: eigenvectors of T become eigenvectors of A.
    pub(super) fn back(&self, rows: &mut [f64], n: usize) {
        for from in (1..n).step_by(BLOCK) {
            let to = n.min(from + BLOCK);
            let length = to - 1;
            let mut v = Buffer::zeros((to - from) * length);
            for (i, v) in (from..to).zip(v.chunks_exact_mut(length)) {
                v[..i].copy_from_slice(&self.vectors[i * n..i * n + i]);
            }
            reflect_all((rows, n), n, &v, &self.taus[from..to], Order::Forward);
        }
    }
}

/// A ← A − v·wᵀ − w·vᵀ and y ← y + A·x, of the lower triangle of a symmetric matrix.
struct Pass<'a> {
    a: &'a mut [f64],
    stride: usize,
    v: &'a [f64],
    w: &'a [f64],
    x: &'a [f64],
    y: &'a mut [f64],
}

impl Vectorised for Pass<'_> {
    type Output = ();

    #[inline(always)]
    fn run<M: Machine>(self) {
        let Self { a, stride, v, w, x, y } = self;
        let n = x.len();
        for top in (0..n).step_by(SIDE) {
            let height = SIDE.min(n - top);
            let rows = &mut a[top * stride..];
            if height == SIDE {
                let of = |z: &[f64]| [z[top], z[top + 1], z[top + 2], z[top + 3]];
                let (own_v, own_w, own_x) = (of(v), of(w), of(x));
                let sums = four_rows::<M>(rows, stride, top, [own_v, own_w, own_x], [v, w, x], y);
                (0..SIDE).for_each(|r| y[top + r] += sums[r]);
            }
            // The block on the diagonal, and the last rows where they are fewer than four.
            for i in top..top + height {
                let from = if height == SIDE { top } else { 0 };
                let row = &mut rows[(i - top) * stride..(i - top) * stride + i + 1];
                let mut sum = 0.0;
                for j in from..i {
                    row[j] -= v[i] * w[j] + w[i] * v[j];
                    y[j] += x[i] * row[j];
                    sum += x[j] * row[j];
                }
                row[i] -= 2.0 * v[i] * w[i];
                y[i] += sum + row[i] * x[i];
            }
        }
    }
}

/// A pass over four rows, `top` columns of each; the products of these rows with x.
#[inline(always)]
fn four_rows<M: Machine>(
    rows: &mut [f64],
    stride: usize,
    top: usize,
    [own_v, own_w, own_x]: [[f64; SIDE]; 3],
    [v, w, x]: [&[f64]; 3],
    y: &mut [f64],
) -> [f64; SIDE] {
    let (first, rest) = rows.split_at_mut(stride);
    let (second, rest) = rest.split_at_mut(stride);
    let (third, fourth) = rest.split_at_mut(stride);
    let rows = [first, second, third, fourth].map(|row| row[..top].as_chunks_mut::<SIDE>().0);
    let [v, w, x] = [v, w, x].map(|z| z[..top].as_chunks::<SIDE>().0);
    let y = y[..top].as_chunks_mut::<SIDE>().0;
    let mut sums = [[0.0; SIDE]; SIDE];
    for at in 0..top / SIDE {
        // By value: what is only in registers may be done four lanes at a time.
        let (v, w, x, mut products) = (v[at], w[at], x[at], y[at]);
        for r in 0..SIDE {
            let mut a = rows[r][at];
            for lane in 0..SIDE {
                a[lane] = M::mul_add(-own_v[r], w[lane], a[lane]);
                a[lane] = M::mul_add(-own_w[r], v[lane], a[lane]);
            }
            for lane in 0..SIDE {
                products[lane] = M::mul_add(own_x[r], a[lane], products[lane]);
                sums[r][lane] = M::mul_add(x[lane], a[lane], sums[r][lane]);
            }
            rows[r][at] = a;
        }
        y[at] = products;
    }
    sums.map(|[a, b, c, d]| (a + c) + (b + d))
}
