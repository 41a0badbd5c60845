//! Sums over pairs of numbers, in f64 and in the order of [`reduce`](super).

use super::{LANES, in_blocks, join};
use crate::float::Float;

/// Σᵢ f(a\[i\], b\[i\]), in f64 whatever the slices hold.
///
/// # Example
/// ```
/// use alcyon_kernels::reduce::sum_of;
/// assert_eq!(sum_of(&[1.0_f32, 2.0], &[3.0, 4.0], |a, b| a * b), 11.0);
/// ```
#[must_use]
pub fn sum_of<T: Float, U: Float>(
    a: &[T],
    b: &[U],
    f: impl Fn(f64, f64) -> f64 + Sync + Send,
) -> f64 {
    assert_eq!(a.len(), b.len(), "sum_of: lengths");
    in_blocks(
        a.len(),
        #[inline(always)]
        |from, to| lanes2(&a[from..to], &b[from..to], |a: T, b: U| f(a.to_f64(), b.to_f64())),
    )
}

/// Σᵢ f(aᵢ, bᵢ) in lanes.
#[inline(always)]
pub(crate) fn lanes2<T: Float, U: Float, S: Float>(a: &[T], b: &[U], f: impl Fn(T, U) -> S) -> S {
    let mut lanes = [S::ZERO; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_chunks.remainder().iter().zip(b_chunks.remainder());
    for (a, b) in a_chunks.zip(b_chunks) {
        for (lane, (&a, &b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += f(a, b);
        }
    }
    for (lane, (&a, &b)) in lanes.iter_mut().zip(rest) {
        *lane += f(a, b);
    }
    join(lanes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_same_bits_for_any_number_of_threads, noise};

    #[test]
    fn a_sum_over_pairs_agrees_with_the_definition_on_any_number_of_threads() {
        let (a, b) = (noise::<f32>(70_001, 1), noise::<f64>(70_001, 2));
        let term = |a: f64, b: f64| a / (b * b + 1.0);
        for n in [0, 1, 15, 16, 17, 16_384, 16_385, 70_001] {
            let plain: f64 = a[..n].iter().zip(&b).map(|(&a, &b)| term(f64::from(a), b)).sum();
            let got = sum_of(&a[..n], &b[..n], term);
            assert!((got - plain).abs() < 1e-10, "{n}: {got} is not {plain}");
        }
        assert_same_bits_for_any_number_of_threads(|| vec![sum_of(&a, &b, term)]);
    }
}
