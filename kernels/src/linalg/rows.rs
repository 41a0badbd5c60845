//! The loops that factorisations run over rows, compiled for the vectors of this machine. They fuse each product with
//! its sum, on the calling thread, where those of `reduce` and `elementwise` give the same bits on every machine.

use crate::simd::{self, Machine, Vectorised};

/// The power of two at or below the largest entry, by which one divides exactly: so that no square of an entry that
/// counts is too large or too small. Of denormal numbers it is the least normal one.
pub(super) fn power_of_two(x: &[f64]) -> f64 {
    let largest = x.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
    f64::from_bits(largest.to_bits() & f64::INFINITY.to_bits()).max(f64::MIN_POSITIVE)
}

/// Numbers of a sum that are added side by side.
const LANES: usize = 16;

/// Rows that are subtracted in one pass over the row that they are subtracted from.
const TOGETHER: usize = 4;

/// Σ aᵢ·bᵢ
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    simd::run(Dot { a, b })
}

struct Dot<'a> {
    a: &'a [f64],
    b: &'a [f64],
}

impl Vectorised for Dot<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<M: Machine>(self) -> f64 {
        let (a, a_rest) = self.a.as_chunks::<LANES>();
        let (b, b_rest) = self.b.as_chunks::<LANES>();
        let mut sums = [0.0; LANES];
        for (a, b) in a.iter().zip(b) {
            for lane in 0..LANES {
                sums[lane] = M::mul_add(a[lane], b[lane], sums[lane]);
            }
        }
        let mut half = LANES / 2;
        while half > 0 {
            for lane in 0..half {
                sums[lane] += sums[lane + half];
            }
            half /= 2;
        }
        a_rest.iter().zip(b_rest).fold(sums[0], |sum, (&a, &b)| M::mul_add(a, b, sum))
    }
}

/// row ← row + Σₖ factorₖ·rowsₖ, where the rows begin `stride` apart.
pub(super) fn add_multiples(row: &mut [f64], factors: &[f64], rows: &[f64], stride: usize) {
    simd::run(AddMultiples { row, factors, rows, stride });
}

struct AddMultiples<'a> {
    row: &'a mut [f64],
    factors: &'a [f64],
    rows: &'a [f64],
    stride: usize,
}

impl Vectorised for AddMultiples<'_> {
    type Output = ();

    #[inline(always)]
    fn run<M: Machine>(self) {
        let Self { row, factors, rows, stride } = self;
        let length = row.len();
        let nth = |k: usize| &rows[k * stride..k * stride + length];
        let (groups, rest) = factors.as_chunks::<TOGETHER>();
        for (group, f) in groups.iter().enumerate() {
            let [a, b, c, d] = [0, 1, 2, 3].map(|k| nth(group * TOGETHER + k));
            for ((((x, a), b), c), d) in row.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                let near = M::mul_add(f[1], *b, M::mul_add(f[0], *a, *x));
                *x = M::mul_add(f[3], *d, M::mul_add(f[2], *c, near));
            }
        }
        for (k, &factor) in rest.iter().enumerate() {
            let other = nth(groups.len() * TOGETHER + k);
            row.iter_mut().zip(other).for_each(|(x, &y)| *x = M::mul_add(factor, y, *x));
        }
    }
}

/// (x, y) ← (c·x + s·y, c·y − s·x)
pub(super) fn rotate(x: &mut [f64], y: &mut [f64], c: f64, s: f64) {
    simd::run(Rotate { x, y, c, s });
}

struct Rotate<'a> {
    x: &'a mut [f64],
    y: &'a mut [f64],
    c: f64,
    s: f64,
}

impl Vectorised for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<M: Machine>(self) {
        let Self { x, y, c, s } = self;
        for (x, y) in x.iter_mut().zip(y) {
            (*x, *y) = (M::mul_add(c, *x, s * *y), M::mul_add(c, *y, -(s * *x)));
        }
    }
}

/// Two different rows of a matrix at once, so many numbers of each.
pub(super) fn pair(
    rows: &mut [f64],
    stride: usize,
    [i, j]: [usize; 2],
    length: usize,
) -> [&mut [f64]; 2] {
    let (first, second) = rows.split_at_mut(i.max(j) * stride);
    let above = &mut first[i.min(j) * stride..][..length];
    let below = &mut second[..length];
    if i < j { [above, below] } else { [below, above] }
}
