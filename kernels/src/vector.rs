//! One loop, compiled for several instruction sets; the widest that this machine has runs.
//!
//! A binary for any x86-64 machine may only use vectors of four `f32`; most machines have eight or
//! sixteen lanes. So the body of a loop is compiled for each, and the choice is made when it starts. The
//! results do not depend on the choice: a lane does what the scalar would do, sums have their order
//! written down, and no multiplication is fused with an addition unless the formula says so. (The loops of
//! products, which live by fusing, are in `simd.rs`.)

/// Runs `body`, compiled for the instruction set of this machine.
///
/// Only what is inlined into `body`, and `body` itself, is compiled with it: hence the attribute in the
/// example. A call costs a few nanoseconds: put a whole loop inside.
///
/// # Example
/// ```
/// let mut x = [1.0_f32, 2.0, 3.0];
/// alcyon_kernels::vector::vectorized(#[inline(always)] || x.iter_mut().for_each(|x| *x *= 2.0));
/// assert_eq!(x, [2.0, 4.0, 6.0]);
/// ```
#[inline(always)]
pub fn vectorized<R>(body: impl FnOnce() -> R) -> R {
    #[cfg(test)]
    if tests::BASELINE.get() {
        return body();
    }
    #[cfg(target_arch = "x86_64")]
    match x86::width() {
        // SAFETY: this machine has the features that the function is compiled with.
        x86::Width::Avx512 => return unsafe { x86::avx512(body) },
        // SAFETY: as above.
        x86::Width::Avx2 => return unsafe { x86::avx2(body) },
        x86::Width::Any => {}
    }
    body()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::sync::OnceLock;

    /// The vectors that this machine has.
    #[derive(Clone, Copy)]
    pub(super) enum Width {
        /// Those that every x86-64 machine has.
        Any,
        Avx2,
        Avx512,
    }

    /// Looked up once.
    #[inline]
    pub(super) fn width() -> Width {
        static WIDTH: OnceLock<Width> = OnceLock::new();
        *WIDTH.get_or_init(|| {
            macro_rules! has {
                ($($feature:tt)*) => { $(is_x86_feature_detected!($feature))&&* };
            }
            let avx2 = has!("avx2" "fma" "bmi1" "bmi2" "f16c" "lzcnt" "popcnt");
            match avx2 && has!("avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl") {
                true => Width::Avx512,
                false if avx2 => Width::Avx2,
                false => Width::Any,
            }
        })
    }

    #[target_feature(enable = "avx2,fma,bmi1,bmi2,f16c,lzcnt,popcnt")]
    pub(super) fn avx2<R>(body: impl FnOnce() -> R) -> R {
        body()
    }

    #[target_feature(enable = "avx2,fma,bmi1,bmi2,f16c,lzcnt,popcnt")]
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
    pub(super) fn avx512<R>(body: impl FnOnce() -> R) -> R {
        body()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use crate::oracle::{noise, unwritten};
    use crate::{Float, elementwise, norm, reduce, softmax, step};

    thread_local! {
        pub(super) static BASELINE: Cell<bool> = const { Cell::new(false) };
    }

    /// Asserts that `f` gives the same bits compiled for any machine and compiled for this one. The
    /// numbers are few, so that all is done on the calling thread.
    #[track_caller]
    fn assert_same_bits_for_any_instruction_set<T: Float>(f: impl Fn() -> Vec<T>) {
        let run = |baseline| {
            BASELINE.set(baseline);
            let bits: Vec<u64> = f().into_iter().map(|x| x.to_f64().to_bits()).collect();
            BASELINE.set(false);
            bits
        };
        assert!(run(true) == run(false), "the instruction set changed the result");
    }

    #[track_caller]
    fn assert_same_map(x: &[f32], f: impl Fn(f32) -> f32 + Sync) {
        assert_same_bits_for_any_instruction_set(|| {
            let mut out = unwritten(x.len());
            elementwise::map(x, &mut out, &f);
            out
        });
    }

    #[test]
    fn wide_vectors_do_not_change_formulas_and_sums() {
        let (rows, width) = (7, 77);
        let (x, g) = (noise::<f32>(rows * width, 1), noise::<f32>(rows * width, 2));
        assert_same_map(&x, |x| (10.0 * x).exp());
        assert_same_map(&x, |x| x.tanh() * x.sigmoid());
        assert_same_map(&x, |x| x.abs().ln());
        assert_same_map(&x, |x| x * 0.3 + x * x);
        assert_same_bits_for_any_instruction_set(|| vec![reduce::sum(&x), reduce::dot(&x, &g)]);
        assert_same_bits_for_any_instruction_set(|| {
            let (mut y, mut dx) = (unwritten(x.len()), unwritten(x.len()));
            softmax::softmax(&x, width, &mut y);
            softmax::softmax_backward(&y, &g, width, &mut dx);
            y.into_iter().chain(dx).collect()
        });
        assert_same_bits_for_any_instruction_set(|| {
            let (mut mean, mut rstd) = (unwritten(rows), unwritten(rows));
            let (mut y, mut dx, mut dscale) =
                (unwritten(x.len()), unwritten(x.len()), unwritten(width));
            norm::layer_norm(&x, width, 1e-5, None, None, &mut y, &mut mean, &mut rstd);
            let dscale_out = Some(&mut dscale[..]);
            norm::layer_norm_backward(&x, &g, width, &mean, &rstd, None, &mut dx, dscale_out, None);
            [y, dx, dscale].concat()
        });
        assert_same_bits_for_any_instruction_set(|| {
            let (mut theta, mut m, mut v) = (x.clone(), vec![0.0; x.len()], vec![0.0; x.len()]);
            let rule = step::Adam {
                rate: 0.1,
                beta1: 0.9,
                beta2: 0.99,
                epsilon: 1e-8,
                weight_decay: 0.1,
                decoupled: true,
                step: 3,
            };
            step::adam(&mut theta, &g, &mut m, &mut v, None, &rule);
            theta
        });
    }
}
