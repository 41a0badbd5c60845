//! The ladders to [`adam`](super::adam()) and [`adafisher`](super::adafisher()): each rung does one thing
//! more than the one before.
//!
//! | rung                  | changes                                                           | gain |
//! |-----------------------|-------------------------------------------------------------------|------|
//! | [`reference_adam`]    | each formula is a pass over memory, as separate ops would do it   | 1    |
//! | [`one_pass_adam`]     | every number is read once and written once                        | 2.8 |
//! | [`wide_adam`]         | the loop compiled for the vectors of this machine                 | 4.4 |
//! | [`adam`](super::adam()) | pieces shared out among threads                                 | 6.7 |
//!
//! | rung                      | changes                                                       | gain |
//! |---------------------------|---------------------------------------------------------------|------|
//! | [`reference_adafisher`](super::reference_adafisher) | F is built, then divided by         | 1    |
//! | [`one_pass_adafisher`]    | F\[o, p\] = s\[o\]·h\[p\] + λ where it is used, never stored  | 3.9 |
//! | [`wide_adafisher`]        | the loop compiled for the vectors of this machine             | 6.8 |
//! | [`adafisher`](super::adafisher()) | pieces shared out among threads                       | 8.6 |
//!
//! The gains over the first rungs: `kernel/adam` and `kernel/adafisher` of `benches/kernels.rs`, a
//! weight of 4096 × 256 f32, the medians of three runs on an EPYC 7003 (AVX2), two cores, 2026-11-22.

use super::{AdaFisher, Adam, AdamConstants, correction};
use crate::float::Float;
use crate::vector::vectorized;

/// [`adam`](super::adam()) by the definition, one formula after the other.
///
/// # Example
/// ```
/// use alcyon_kernels::step::{Adam, ladder::reference_adam};
/// let rule = Adam { rate: 0.5, beta1: 0.5, beta2: 0.5, epsilon: 0.0, weight_decay: 0.0, decoupled: false, step: 1 };
/// let (mut theta, mut m, mut v) = ([1.0_f64], [0.0], [0.0]);
/// reference_adam(&mut theta, &[4.0], &mut m, &mut v, &rule);
/// assert_eq!((m, v), ([2.0], [8.0]));
/// assert!((theta[0] - 0.5).abs() < 1e-15); // the first step has length α
/// ```
pub fn reference_adam<T: Float>(
    theta: &mut [T],
    grad: &[T],
    m: &mut [T],
    v: &mut [T],
    rule: &Adam,
) {
    check("reference_adam", theta.len(), &[grad, m, v]);
    let (beta1, beta2, decay) = (T::of(rule.beta1), T::of(rule.beta2), T::of(rule.weight_decay));
    let coupled = if rule.decoupled { T::ZERO } else { decay };
    // PASS 1: g ← g + κθ.
    let g: Vec<T> = grad.iter().zip(&*theta).map(|(&g, &theta)| g + coupled * theta).collect();
    // PASS 2: m ← β₁m + (1 − β₁)g.
    m.iter_mut().zip(&g).for_each(|(m, &g)| *m = beta1 * *m + (T::ONE - beta1) * g);
    // PASS 3: v ← β₂v + (1 − β₂)g².
    v.iter_mut().zip(&g).for_each(|(v, &g)| *v = beta2 * *v + (T::ONE - beta2) * g * g);
    // PASS 4: θ ← (1 − ακ)θ.
    if rule.decoupled {
        theta.iter_mut().for_each(|theta| *theta *= T::ONE - T::of(rule.rate) * decay);
    }
    // PASS 5: θ ← θ − α · m/(1 − β₁ᵗ) / (√(v/(1 − β₂ᵗ)) + ε).
    let [first, second] = [rule.beta1, rule.beta2].map(|beta| T::of(correction(beta, rule.step)));
    for ((theta, &m), &v) in theta.iter_mut().zip(&*m).zip(&*v) {
        *theta -= T::of(rule.rate) * (m / first) / ((v / second).sqrt() + T::of(rule.epsilon));
    }
}

/// [`reference_adam`] in one pass over memory.
pub fn one_pass_adam<T: Float>(theta: &mut [T], grad: &[T], m: &mut [T], v: &mut [T], rule: &Adam) {
    check("one_pass_adam", theta.len(), &[grad, m, v]);
    adam_loop(theta, grad, m, v, AdamConstants::new(rule));
}

/// [`one_pass_adam`] with the widest vectors of this machine.
pub fn wide_adam<T: Float>(theta: &mut [T], grad: &[T], m: &mut [T], v: &mut [T], rule: &Adam) {
    check("wide_adam", theta.len(), &[grad, m, v]);
    let constants = AdamConstants::new(rule);
    vectorized(
        #[inline(always)]
        || adam_loop(theta, grad, m, v, constants),
    );
}

#[inline(always)]
fn adam_loop<T: Float>(
    theta: &mut [T],
    grad: &[T],
    m: &mut [T],
    v: &mut [T],
    constants: AdamConstants<T>,
) {
    for (((theta, m), v), &g) in theta.iter_mut().zip(m).zip(v).zip(grad) {
        (*m, *v) = constants.moments(*theta, g, *m, *v);
        *theta = constants.moved(*theta, *m, *v);
    }
}

/// [`adafisher`](super::adafisher()) of a weight \[out, in\] in one pass, with F computed where it is used.
///
/// # Shape
/// theta, grad, m: \[out, in\] · s: \[out\] · h: \[in\]
pub fn one_pass_adafisher<T: Float>(
    theta: &mut [T],
    grad: &[T],
    m: &mut [T],
    (s, h): (&[T], &[T]),
    rule: &AdaFisher,
) {
    check("one_pass_adafisher", s.len() * h.len(), &[theta, grad, m]);
    adafisher_loop(theta, grad, m, (s, h), rule);
}

/// [`one_pass_adafisher`] with the widest vectors of this machine.
pub fn wide_adafisher<T: Float>(
    theta: &mut [T],
    grad: &[T],
    m: &mut [T],
    (s, h): (&[T], &[T]),
    rule: &AdaFisher,
) {
    check("wide_adafisher", s.len() * h.len(), &[theta, grad, m]);
    vectorized(
        #[inline(always)]
        || adafisher_loop(theta, grad, m, (s, h), rule),
    );
}

#[inline(always)]
fn adafisher_loop<T: Float>(
    theta: &mut [T],
    grad: &[T],
    m: &mut [T],
    (s, h): (&[T], &[T]),
    rule: &AdaFisher,
) {
    let (beta, damping, coupled) =
        (T::of(rule.beta), T::of(rule.damping), T::of(rule.coupled_decay));
    let size = T::of(rule.rate / correction(rule.beta, rule.step));
    let kept = T::of(1.0 - rule.rate * rule.decoupled_decay);
    let width = h.len().max(1);
    let rows = theta.chunks_exact_mut(width).zip(m.chunks_exact_mut(width));
    for (((theta, m), grad), &s) in rows.zip(grad.chunks_exact(width)).zip(s) {
        for (((theta, m), &g), &h) in theta.iter_mut().zip(m).zip(grad).zip(h) {
            *m = beta * *m + (T::ONE - beta) * (g + coupled * *theta);
            let f = s * h + damping;
            *theta = kept * *theta - size * *m / if rule.root { f.sqrt() } else { f };
        }
    }
}

fn check<T>(kernel: &str, len: usize, arrays: &[&[T]]) {
    assert!(arrays.iter().all(|a| a.len() == len), "{kernel}: lengths");
}

#[cfg(test)]
mod tests {
    use super::super::{Curvature, adafisher, adam, reference_adafisher};
    use super::*;
    use crate::oracle::{assert_close, noise};
    use proptest::prelude::*;

    type AdamRung<T> = fn(&mut [T], &[T], &mut [T], &mut [T], &Adam);
    type FisherRung<T> = fn(&mut [T], &[T], &mut [T], (&[T], &[T]), &AdaFisher);

    fn top_adam<T: Float>(theta: &mut [T], g: &[T], m: &mut [T], v: &mut [T], rule: &Adam) {
        adam(theta, g, m, v, None, rule);
    }

    /// θ, m and v after three steps.
    fn three_adam_steps<T: Float>(n: usize, decoupled: bool, rung: AdamRung<T>) -> [Vec<T>; 3] {
        let (mut theta, mut m, mut v) = (noise(n, 1), vec![T::ZERO; n], vec![T::ZERO; n]);
        for step in 1..4 {
            let (rate, beta1, beta2, epsilon, weight_decay) = (0.01, 0.9, 0.99, 1e-3, 0.1);
            let rule = Adam { rate, beta1, beta2, epsilon, weight_decay, decoupled, step };
            rung(&mut theta, &noise(n, 10 + step), &mut m, &mut v, &rule);
        }
        [theta, m, v]
    }

    /// θ and m after three steps of a weight \[out, in\].
    fn three_adafisher_steps<T: Float>(
        (out, width): (usize, usize),
        root: bool,
        rung: FisherRung<T>,
    ) -> [Vec<T>; 2] {
        let square = |len, seed| noise::<T>(len, seed).iter().map(|&x| x * x).collect::<Vec<_>>();
        let (s, h) = (square(out, 1), square(width, 2));
        let n = out * width;
        let (mut theta, mut m) = (noise(n, 3), vec![T::ZERO; n]);
        for step in 1..4 {
            let (rate, beta, damping, coupled_decay, decoupled_decay) = (0.01, 0.9, 0.1, 0.1, 0.2);
            let rule =
                AdaFisher { rate, beta, damping, coupled_decay, decoupled_decay, step, root };
            rung(&mut theta, &noise(n, 10 + step), &mut m, (&s, &h), &rule);
        }
        [theta, m]
    }

    fn agree<T: Float>(sizes: (usize, usize), other: bool, tolerance: f64) {
        let want = three_adam_steps::<T>(sizes.0 * sizes.1, other, reference_adam);
        for rung in [one_pass_adam, wide_adam, top_adam] {
            let got = three_adam_steps(sizes.0 * sizes.1, other, rung);
            got.iter().zip(&want).for_each(|(got, want)| assert_close(got, want, tolerance));
        }
        let want = three_adafisher_steps::<T>(sizes, other, |theta, g, m, (s, h), rule| {
            reference_adafisher(theta, g, m, Curvature::Outer { s, h }, rule);
        });
        let top: FisherRung<T> = |theta, g, m, (s, h), rule| {
            adafisher(theta, g, m, Curvature::Outer { s, h }, rule);
        };
        for rung in [one_pass_adafisher, wide_adafisher, top] {
            let got = three_adafisher_steps(sizes, other, rung);
            got.iter().zip(&want).for_each(|(got, want)| assert_close(got, want, tolerance));
        }
    }

    proptest! {
        #[test]
        fn every_rung_agrees_with_the_reference(
            out in 0_usize..20, width in 1_usize..40, other: bool,
        ) {
            agree::<f64>((out, width), other, 1e-13);
            agree::<f32>((out, width), other, 1e-5);
        }
    }
}
