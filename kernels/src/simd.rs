//! Loops compiled twice: for any machine of the architecture, and for the vector instructions that
//! this machine turns out to have when it runs.
//!
//! A plain x86-64 build may use vectors of four f32 and no fused multiply–add. A loop that is worth
//! more is a [`Vectorised`]: [`run`] compiles it again for AVX2 and FMA and picks at run time. On
//! other architectures (NEON is part of every 64-bit ARM) there is one version.
//!
//! # Why not `vector`
//! [`vectorized`](crate::vector::vectorized) compiles a closure as it stands, and every machine gives the
//! same bits. A product has to fuse its multiplications with its additions, which doubles its speed and
//! changes a rounding, and to turn blocks in registers: its loop has to *ask* what the machine can do. So
//! it is generic over a [`Machine`], which a closure cannot be.

use bytemuck::NoUninit;

use crate::float::Float;

/// A loop that is worth wide vectors. The fields are its arguments.
pub(crate) trait Vectorised {
    /// What it returns.
    type Output;
    /// The loop itself. It has to be `#[inline(always)]`, with all that it calls: only what ends
    /// up inside of the wide copy is compiled for wide vectors.
    fn run<M: Machine>(self) -> Self::Output;
}

/// What a loop may ask about the machine that it is compiled for.
pub(crate) trait Machine {
    /// a · b + c, by one instruction where there is one; never by a library call.
    fn mul_add<T: Float>(a: T, b: T, c: T) -> T;

    /// The transpose of a block.
    #[inline(always)]
    fn transpose<T: NoUninit>(block: &[[T; 8]; 8]) -> [[T; 8]; 8] {
        std::array::from_fn(|i| std::array::from_fn(|j| block[j][i]))
    }
}

#[derive(Debug)]
struct Any;

impl Machine for Any {
    #[inline(always)]
    fn mul_add<T: Float>(a: T, b: T, c: T) -> T {
        if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
            a.mul_add(b, c)
        } else {
            a * b + c
        }
    }
}

/// Runs `work` with the widest vectors that the machine has.
#[inline]
pub(crate) fn run<W: Vectorised>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        // SAFETY: the line above has made sure that the machine has both features.
        return unsafe { avx2::run(work) };
    }
    work.run::<Any>()
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256, _mm256_permute2f128_ps, _mm256_shuffle_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    };
    use std::mem::transmute_copy;

    use super::{Float, Machine, NoUninit, Vectorised};

    #[derive(Debug)]
    struct Avx2;

    impl Machine for Avx2 {
        #[inline(always)]
        fn mul_add<T: Float>(a: T, b: T, c: T) -> T {
            a.mul_add(b, c)
        }

        #[inline(always)]
        fn transpose<T: NoUninit>(block: &[[T; 8]; 8]) -> [[T; 8]; 8] {
            if size_of::<T>() != size_of::<f32>() {
                return super::Any::transpose(block);
            }
            // SAFETY: 64 values of four bytes (compared above), all of them initialised since T is `NoUninit`,
            // are eight registers, and back: values of T, moved as they are, and T is `Copy`. `run` below is the
            // only way to get here, and its caller has seen AVX2.
            unsafe { transmute_copy(&turned(transmute_copy(block))) }
        }
    }

    /// In three rounds: pairs of numbers, pairs of pairs, halves.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    fn turned(r: [__m256; 8]) -> [__m256; 8] {
        let low = |i: usize| _mm256_unpacklo_ps(r[i], r[i + 1]);
        let high = |i: usize| _mm256_unpackhi_ps(r[i], r[i + 1]);
        let p = [low(0), high(0), low(2), high(2), low(4), high(4), low(6), high(6)];
        let first = |i: usize| _mm256_shuffle_ps::<0x44>(p[i], p[i + 2]);
        let last = |i: usize| _mm256_shuffle_ps::<0xee>(p[i], p[i + 2]);
        let q = [first(0), last(0), first(1), last(1), first(4), last(4), first(5), last(5)];
        let top = |i: usize| _mm256_permute2f128_ps::<0x20>(q[i], q[i + 4]);
        let bottom = |i: usize| _mm256_permute2f128_ps::<0x31>(q[i], q[i + 4]);
        [top(0), top(1), top(2), top(3), bottom(0), bottom(1), bottom(2), bottom(3)]
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn run<W: Vectorised>(work: W) -> W::Output {
        work.run::<Avx2>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dot<'a>(&'a [f32], &'a [f32]);

    impl Vectorised for Dot<'_> {
        type Output = f32;
        #[inline(always)]
        fn run<M: Machine>(self) -> f32 {
            self.0.iter().zip(self.1).fold(0.0, |sum, (&a, &b)| M::mul_add(a, b, sum))
        }
    }

    struct Transpose<'a, T>(&'a [[T; 8]; 8]);

    impl<T: Float> Vectorised for Transpose<'_, T> {
        type Output = [[T; 8]; 8];
        #[inline(always)]
        fn run<M: Machine>(self) -> [[T; 8]; 8] {
            M::transpose(self.0)
        }
    }

    fn transposes<T: Float>() {
        let block: [[T; 8]; 8] =
            std::array::from_fn(|i| std::array::from_fn(|j| T::of((8 * i + j) as f64)));
        let got = run(Transpose(&block));
        assert!((0..64).all(|i| got[i % 8][i / 8] == block[i / 8][i % 8]), "{got:?}");
    }

    #[test]
    fn rows_become_columns() {
        transposes::<f32>();
        transposes::<f64>();
    }

    #[test]
    fn every_copy_of_a_loop_computes_the_same_up_to_one_rounding() {
        let x: Vec<f32> = (0..100).map(|i| i as f32 / 7.0).collect();
        let (wide, any) = (run(Dot(&x, &x)), Dot(&x, &x).run::<Any>());
        assert!((wide - any).abs() <= 1e-5 * any, "{wide} {any}");
    }
}
