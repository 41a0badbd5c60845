//! AdaFisher's update: Adam's, divided by a curvature that is a product of two vectors.

use std::ops::Range;

use super::correction;
use crate::float::Float;
use crate::parallel;
use crate::sizes::elements;

/// AdaFisher (Gomes et al. 2024): Adam with the diagonal Kronecker factors of the Fisher matrix in
/// place of squared gradients.
///
/// m ← βm + (1 − β)(g + κθ);   θ ← θ − α·(m/(1 − βᵗ) / F + κ′θ), or √F in place of F.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaFisher {
    /// α
    pub rate: f64,
    /// β
    pub beta: f64,
    /// λ, added to F; in units of the loss's curvature.
    pub damping: f64,
    /// κ, added to the gradient.
    pub coupled_decay: f64,
    /// κ′, shrinks the parameter (AdaFisherW).
    pub decoupled_decay: f64,
    /// t, counted from 1.
    pub step: u64,
    /// Whether to divide by √F instead of F.
    pub root: bool,
}

/// The diagonal F that [`adafisher`] divides by, as the vectors that it is a product of.
#[derive(Clone, Copy, Debug)]
pub enum Curvature<'a, T> {
    /// F\[o, p\] = s\[o\]·h\[p\] + λ, for a weight \[out, in\].
    Outer {
        /// The mean square of each output gradient.
        s: &'a [T],
        /// The mean square of each input.
        h: &'a [T],
    },
    /// F\[c\] = s\[c\]·h\[c\] + λ, for a scale.
    Product {
        /// The mean square of each output gradient.
        s: &'a [T],
        /// The mean square of each input.
        h: &'a [T],
    },
    /// F\[o\] = s\[o\]·h + λ, for a bias.
    Column {
        /// The mean square of each output gradient.
        s: &'a [T],
        /// The mean square of the input that is always one.
        h: T,
    },
    /// F = the number, without λ: no curvature is known.
    Constant(T),
}

/// One step of [`AdaFisher`]. F is computed where it is used and never stored.
///
/// # Shape
/// theta, grad, m: \[out·in\] for [`Curvature::Outer`], as long as `s` for the others
///
/// # Example
/// ```
/// use alcyon_kernels::step::{AdaFisher, Curvature, adafisher};
/// let rule = AdaFisher { rate: 1.0, beta: 0.5, damping: 1.0, coupled_decay: 0.0,
///     decoupled_decay: 0.0, step: 1, root: false };
/// let (mut theta, mut m) = ([0.0; 4], [0.0; 4]);
/// let curvature = Curvature::Outer { s: &[1.0, 3.0], h: &[1.0, 0.0] };
/// adafisher(&mut theta, &[4.0; 4], &mut m, curvature, &rule);
/// assert_eq!(m, [2.0; 4]);
/// assert_eq!(theta, [-2.0, -4.0, -1.0, -4.0]); // −4 / (s·h + 1)
/// ```
pub fn adafisher<T: Float>(
    theta: &mut [T],
    grad: &[T],
    m: &mut [T],
    curvature: Curvature<'_, T>,
    rule: &AdaFisher,
) {
    let n = theta.len();
    assert_eq!((grad.len(), m.len()), (n, n), "adafisher: lengths");
    let damping = T::of(rule.damping);
    match curvature {
        Curvature::Outer { s, h } => {
            let all = elements("adafisher", [s.len(), h.len()]);
            assert_eq!(n, all, "adafisher: lengths of the outer factors");
            walk(theta, grad, m, rule, h.len(), |o, columns| {
                let s = s[o];
                h[columns].iter().map(move |&h| s * h + damping)
            });
        }
        Curvature::Product { s, h } => {
            assert_eq!((s.len(), h.len()), (n, n), "adafisher: lengths of the factors");
            walk(theta, grad, m, rule, n, |_, all| {
                s[all.clone()].iter().zip(&h[all]).map(move |(&s, &h)| s * h + damping)
            });
        }
        Curvature::Column { s, h } => {
            assert_eq!(s.len(), n, "adafisher: length of the column");
            walk(theta, grad, m, rule, n, |_, all| s[all].iter().map(move |&s| s * h + damping));
        }
        Curvature::Constant(f) => walk(theta, grad, m, rule, n, |_, _| std::iter::repeat(f)),
    }
}

/// [`adafisher`] by the definition: F is built first, then each formula is one pass.
pub fn reference_adafisher<T: Float>(
    theta: &mut [T],
    grad: &[T],
    m: &mut [T],
    curvature: Curvature<'_, T>,
    rule: &AdaFisher,
) {
    let damped = |f: T| f + T::of(rule.damping);
    let f: Vec<T> = match curvature {
        Curvature::Outer { s, h } => {
            s.iter().flat_map(|&s| h.iter().map(move |&h| damped(s * h))).collect()
        }
        Curvature::Product { s, h } => s.iter().zip(h).map(|(&s, &h)| damped(s * h)).collect(),
        Curvature::Column { s, h } => s.iter().map(|&s| damped(s * h)).collect(),
        Curvature::Constant(f) => vec![f; theta.len()],
    };
    let beta = T::of(rule.beta);
    for i in 0..theta.len() {
        m[i] = beta * m[i] + (T::ONE - beta) * (grad[i] + T::of(rule.coupled_decay) * theta[i]);
        let mean = m[i] / T::of(correction(rule.beta, rule.step));
        let scale = if rule.root { f[i].sqrt() } else { f[i] };
        theta[i] -= T::of(rule.rate) * (mean / scale + T::of(rule.decoupled_decay) * theta[i]);
    }
}

/// The update, over rows of `width`, with `f(row, columns)` giving a stretch of F.
fn walk<T: Float, F: Iterator<Item = T>>(
    theta: &mut [T],
    grad: &[T],
    m: &mut [T],
    rule: &AdaFisher,
    width: usize,
    f: impl Fn(usize, Range<usize>) -> F + Sync,
) {
    if rule.root {
        walk_rows(theta, grad, m, rule, width, |row, columns| f(row, columns).map(T::sqrt));
    } else {
        walk_rows(theta, grad, m, rule, width, f);
    }
}

fn walk_rows<T: Float, F: Iterator<Item = T>>(
    theta: &mut [T],
    grad: &[T],
    m: &mut [T],
    rule: &AdaFisher,
    width: usize,
    f: impl Fn(usize, Range<usize>) -> F + Sync,
) {
    let (beta, fresh) = (T::of(rule.beta), T::of(1.0 - rule.beta));
    let size = T::of(rule.rate / correction(rule.beta, rule.step));
    let coupled = T::of(rule.coupled_decay);
    let kept = T::of(1.0 - rule.rate * rule.decoupled_decay);
    parallel::pieces_of(
        [theta, m],
        1,
        #[inline(always)]
        |start, [theta, m]| {
            // Copies: a loop that writes cannot change them.
            let (beta, fresh, size, coupled, kept) = (beta, fresh, size, coupled, kept);
            // A piece may begin and end within a row.
            let mut at = 0;
            while at < theta.len() {
                let (row, from) = ((start + at) / width, (start + at) % width);
                let count = (width - from).min(theta.len() - at);
                let grad = &grad[start + at..start + at + count];
                let values = theta[at..at + count].iter_mut().zip(&mut m[at..at + count]);
                for (((theta, m), &g), f) in values.zip(grad).zip(f(row, from..from + count)) {
                    *m = beta * *m + fresh * (g + coupled * *theta);
                    *theta = kept * *theta - size * *m / f;
                }
                at += count;
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, noise};

    #[test]
    fn adafisher_agrees_with_the_twin_that_builds_the_curvature() {
        for (out, width) in [(0, 3), (1, 1), (5, 7), (12, 1), (1, 12), (301, 299)] {
            for root in [false, true] {
                let positive =
                    |n, seed| noise::<f64>(n, seed).iter().map(|x| x * x).collect::<Vec<_>>();
                let (s, h) = (positive(out, 1), positive(width, 2));
                let s2 = positive(out, 3);
                let cases = [
                    (out * width, Curvature::Outer { s: &s, h: &h }),
                    (out, Curvature::Product { s: &s, h: &s2 }),
                    (out, Curvature::Column { s: &s, h: 0.3 }),
                    (out, Curvature::Constant(0.7)),
                ];
                for (n, curvature) in cases {
                    let (mut theta, mut m) = (noise::<f64>(n, 4), vec![0.0; n]);
                    let (mut want, mut want_m) = (theta.clone(), m.clone());
                    for step in 1..4 {
                        let rule = AdaFisher {
                            rate: 0.01,
                            beta: 0.9,
                            damping: 1e-2,
                            coupled_decay: 0.1,
                            decoupled_decay: 0.2,
                            step,
                            root,
                        };
                        let g = noise::<f64>(n, 10 + step);
                        adafisher(&mut theta, &g, &mut m, curvature, &rule);
                        reference_adafisher(&mut want, &g, &mut want_m, curvature, &rule);
                    }
                    assert_close(&theta, &want, 1e-13);
                    assert_close(&m, &want_m, 1e-13);
                }
            }
        }
    }
}
