//! The number of threads changes no bit of a result: every kernel that sums or splits its work, at sizes
//! at which it does so, in pools of one, two and three threads.
#![allow(clippy::unwrap_used, reason = "helpers of tests may do as tests do")]

mod convolutions;
mod loops;
mod products;

use alcyon_kernels::Float;
use rayon::prelude::*;

/// A kernel at one size, as a function that returns the bits of all that it wrote.
struct Case {
    name: String,
    run: Box<dyn Fn() -> Vec<u64> + Sync>,
}

fn case(name: impl Into<String>, run: impl Fn() -> Vec<u64> + Sync + 'static) -> Case {
    Case { name: name.into(), run: Box::new(run) }
}

/// Reproducible numbers in (−1, 1): fractions of multiples of an irrational number, scrambled.
fn noise<T: Float>(len: usize, seed: u64) -> Vec<T> {
    let number = |i: u64| {
        let bits = (i + (seed << 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let bits = (bits ^ (bits >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        T::of((bits >> 11) as f64 / (1_u64 << 52) as f64 - 1.0)
    };
    (0..len as u64).map(number).collect()
}

/// An output that no kernel may read.
fn unwritten<T: Float>(len: usize) -> Vec<T> {
    vec![T::of(f64::NAN); len]
}

fn bits<T: Float>(outputs: &[&[T]]) -> Vec<u64> {
    outputs.iter().flat_map(|out| out.iter().map(|x| x.to_f64().to_bits())).collect()
}

/// The names of the cases that do not give the same bits in every pool, or in one pool twice.
fn changed(cases: &[Case]) -> Vec<&str> {
    let pools = [1, 2, 2, 3]
        .map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap());
    let differs = |case: &&Case| {
        let want = pools[0].install(|| (case.run)());
        pools[1..].iter().any(|pool| pool.install(|| (case.run)()) != want)
    };
    cases.iter().filter(differs).map(|case| &case.name[..]).collect()
}

#[test]
fn threads_do_not_change_products() {
    assert_eq!(changed(&products::cases()), [""; 0]);
}

#[test]
fn threads_do_not_change_convolutions_nor_pools() {
    assert_eq!(changed(&convolutions::cases()), [""; 0]);
}

#[test]
fn threads_do_not_change_loops() {
    assert_eq!(changed(&loops::cases()), [""; 0]);
}

#[test]
fn a_sum_with_a_piece_for_each_thread_is_noticed() {
    let x = noise::<f32>(100_000, 1);
    let by_thread = move || {
        let piece = x.len().div_ceil(rayon::current_num_threads());
        let sums: Vec<f32> = x.par_chunks(piece).map(|x| x.iter().sum()).collect();
        bits(&[&[sums.into_iter().sum::<f32>()]])
    };
    assert_eq!(changed(&[case("by thread", by_thread)]), ["by thread"]);
}
