//! One loop, compiled for several instruction sets; the widest that this machine has runs.
//!
//! A binary for any x86-64 machine may only use vectors of four `f32`; most machines have eight or
//! sixteen lanes. So the body of a loop is compiled for each, and the choice is made when it starts. The
//! results do not depend on the choice: a lane does what the scalar would do, sums have their order
//! written down, and no multiplication is fused with an addition unless the formula says so.

use pulp::Arch;

/// Runs `body`, compiled for the instruction set of this machine.
///
/// Only what is inlined into `body` is compiled with it. A call costs a few nanoseconds: put a whole
/// loop inside.
///
/// # Example
/// ```
/// let mut x = [1.0_f32, 2.0, 3.0];
/// alcyon_kernels::vector::vectorized(|| x.iter_mut().for_each(|x| *x *= 2.0));
/// assert_eq!(x, [2.0, 4.0, 6.0]);
/// ```
#[inline(always)]
pub fn vectorized<R>(body: impl FnOnce() -> R) -> R {
    #[cfg(test)]
    if tests::BASELINE.get() {
        return body();
    }
    Arch::new().dispatch(body)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    thread_local! {
        pub(super) static BASELINE: Cell<bool> = const { Cell::new(false) };
    }

    /// Asserts that `f` gives the same bits compiled for any machine and compiled for this one. Runs on
    /// the calling thread alone.
    #[track_caller]
    pub(crate) fn assert_same_bits_for_any_instruction_set<T: crate::Float>(
        f: impl Fn() -> Vec<T> + Sync,
    ) {
        let run = |baseline| {
            BASELINE.set(baseline);
            let bits = f().into_iter().map(|x| x.to_f64().to_bits()).collect::<Vec<_>>();
            BASELINE.set(false);
            bits
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert!(pool.install(|| run(true) == run(false)), "the instruction set changed the result");
    }
}
