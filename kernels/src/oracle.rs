//! Numbers and comparisons for the tests of the kernels.

use crate::Float;

/// `len` reproducible numbers in (−1, 1), different for every `seed`.
pub(crate) fn noise<T: Float>(len: usize, seed: u64) -> Vec<T> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d;
    let mut next = || {
        // SplitMix64 (Steele, Lea & Flood 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        T::of(((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
    };
    (0..len).map(|_| next()).collect()
}

/// An output that no kernel may read: all NaN.
pub(crate) fn unwritten<T: Float>(len: usize) -> Vec<T> {
    vec![T::of(f64::NAN); len]
}

/// Asserts |got − want| ≤ tolerance · max(1, |want|) everywhere; NaN never passes.
#[track_caller]
pub(crate) fn assert_close<T: Float>(got: &[T], want: &[T], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "lengths");
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let (g, w) = (g.to_f64(), w.to_f64());
        assert!((g - w).abs() <= tolerance * w.abs().max(1.0), "element {i}: got {g}, want {w}");
    }
}

/// Runs `f` with one thread and with four and asserts that the results have the same bits.
#[track_caller]
pub(crate) fn assert_same_bits_for_any_number_of_threads<T: Float>(f: impl Fn() -> Vec<T> + Sync) {
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| f().iter().map(|x| x.to_f64().to_bits()).collect::<Vec<_>>())
    };
    assert!(with(1) == with(4), "the number of threads changed the result");
}

/// Central differences of a scalar function of `x`, one element at a time (f64).
pub(crate) fn finite_differences(x: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let step = 1e-5;
    let mut x = x.to_vec();
    let mut gradient = Vec::with_capacity(x.len());
    for i in 0..x.len() {
        let middle = x[i];
        x[i] = middle + step;
        let above = f(&x);
        x[i] = middle - step;
        let below = f(&x);
        x[i] = middle;
        gradient.push((above - below) / (2.0 * step));
    }
    gradient
}

/// Σ aᵢbᵢ in f64.
pub(crate) fn inner_product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
