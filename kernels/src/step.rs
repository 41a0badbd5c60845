//! Parameter updates in one pass over memory: SGD, Adam and AdaFisher.
//!
//! Each reads the gradient and its state once and writes state and parameter once. Gradients carry
//! the 1/N of the mean loss. Hyper-parameters are `f64` and are converted once per call, so that
//! bias corrections 1 − βᵗ do not lose digits in `f32`.

use crate::float::Float;
use crate::parallel;

/// SGD with momentum, as PyTorch defines it.
///
/// g ← g + κθ;   b ← g at the first step, later b ← μb + (1 − τ)g;
/// θ ← θ − α·(g + μb if Nesterov, else b), or θ − αg without momentum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// α
    pub rate: f64,
    /// μ
    pub momentum: f64,
    /// τ
    pub dampening: f64,
    /// Whether to look ahead (Nesterov 1983, in the form of Sutskever et al. 2013).
    pub nesterov: bool,
    /// κ, coupled: added to the gradient.
    pub weight_decay: f64,
    /// Whether this is the first step, when the buffer is written but not read.
    pub first: bool,
}

/// One step of [`Sgd`]. Without a buffer there is no momentum.
///
/// # Example
/// ```
/// use alcyon_kernels::step::{Sgd, sgd};
/// let rule = Sgd { rate: 0.1, momentum: 0.9, dampening: 0.0, nesterov: false, weight_decay: 0.0, first: false };
/// let (mut theta, mut buffer) = ([1.0], [10.0]);
/// sgd(&mut theta, &[1.0], Some(&mut buffer), &rule);
/// assert_eq!((theta, buffer), ([0.0], [10.0])); // b = 0.9·10 + 1
/// ```
pub fn sgd<T: Float>(theta: &mut [T], grad: &[T], buffer: Option<&mut [T]>, rule: &Sgd) {
    assert_eq!(theta.len(), grad.len(), "sgd: lengths");
    let (rate, decay) = (T::of(rule.rate), T::of(rule.weight_decay));
    let Some(buffer) = buffer else {
        return parallel::pieces(theta, 1, |start, theta| {
            for (theta, &g) in theta.iter_mut().zip(&grad[start..]) {
                *theta -= rate * (g + decay * *theta);
            }
        });
    };
    let (momentum, fresh) = (T::of(rule.momentum), T::of(1.0 - rule.dampening));
    let Sgd { nesterov, first, .. } = *rule;
    parallel::pieces_of([theta, buffer], 1, |start, [theta, buffer]| {
        let grad = &grad[start..start + theta.len()];
        for ((theta, buffer), &g) in theta.iter_mut().zip(buffer).zip(grad) {
            let g = g + decay * *theta;
            *buffer = if first { g } else { momentum * *buffer + fresh * g };
            *theta -= rate * if nesterov { g + momentum * *buffer } else { *buffer };
        }
    });
}

/// Adam (Kingma & Ba 2015), AdamW (Loshchilov & Hutter 2019) and AMSGrad (Reddi et al. 2018), as
/// PyTorch defines them.
///
/// θ ← (1 − ακ)θ if decoupled, else g ← g + κθ;   m ← β₁m + (1 − β₁)g;   v ← β₂v + (1 − β₂)g²;
/// θ ← θ − α/(1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε), with max over time of v in place of v for AMSGrad.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// α
    pub rate: f64,
    /// β₁
    pub beta1: f64,
    /// β₂
    pub beta2: f64,
    /// ε
    pub epsilon: f64,
    /// κ
    pub weight_decay: f64,
    /// Whether the decay shrinks the parameter (AdamW) instead of joining the gradient.
    pub decoupled: bool,
    /// t, counted from 1.
    pub step: u64,
}

/// One step of [`Adam`]; with `vmax`, of AMSGrad. State begins at zero.
///
/// # Example
/// ```
/// use alcyon_kernels::step::{Adam, adam};
/// let rule = Adam { rate: 0.5, beta1: 0.5, beta2: 0.5, epsilon: 0.0, weight_decay: 0.0, decoupled: false, step: 1 };
/// let (mut theta, mut m, mut v) = ([1.0_f64], [0.0], [0.0]);
/// adam(&mut theta, &[4.0], &mut m, &mut v, None, &rule);
/// assert_eq!((m, v), ([2.0], [8.0]));
/// assert!((theta[0] - 0.5).abs() < 1e-15); // the first step has length α
/// ```
pub fn adam<T: Float>(
    theta: &mut [T],
    grad: &[T],
    m: &mut [T],
    v: &mut [T],
    vmax: Option<&mut [T]>,
    rule: &Adam,
) {
    assert_eq!(theta.len(), grad.len(), "adam: lengths");
    let (rate, decay) = (T::of(rule.rate), T::of(rule.weight_decay));
    let kept = if rule.decoupled { T::of(1.0 - rule.rate * rule.weight_decay) } else { T::ONE };
    let coupled = if rule.decoupled { T::ZERO } else { decay };
    let (beta1, fresh1) = (T::of(rule.beta1), T::of(1.0 - rule.beta1));
    let (beta2, fresh2) = (T::of(rule.beta2), T::of(1.0 - rule.beta2));
    let size = rate / T::of(correction(rule.beta1, rule.step));
    let (root, epsilon) = (T::of(correction(rule.beta2, rule.step).sqrt()), T::of(rule.epsilon));
    let advance = |theta: T, g: T, m: &mut T, v: &mut T| {
        let g = g + coupled * theta;
        *m = beta1 * *m + fresh1 * g;
        *v = beta2 * *v + fresh2 * g * g;
    };
    let moved = |theta: T, m: T, v: T| kept * theta - size * m / (v.sqrt() / root + epsilon);
    match vmax {
        None => parallel::pieces_of([theta, m, v], 1, |start, [theta, m, v]| {
            let grad = &grad[start..start + theta.len()];
            for (((theta, m), v), &g) in theta.iter_mut().zip(m).zip(v).zip(grad) {
                advance(*theta, g, m, v);
                *theta = moved(*theta, *m, *v);
            }
        }),
        Some(vmax) => parallel::pieces_of([theta, m, v, vmax], 1, |start, [theta, m, v, vmax]| {
            let grad = &grad[start..start + theta.len()];
            let state = m.iter_mut().zip(v).zip(vmax);
            for ((theta, ((m, v), vmax)), &g) in theta.iter_mut().zip(state).zip(grad) {
                advance(*theta, g, m, v);
                *vmax = vmax.max(*v);
                *theta = moved(*theta, *m, *vmax);
            }
        }),
    }
}

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
            assert_eq!(n, s.len() * h.len(), "adafisher: lengths of the outer factors");
            walk(theta, grad, m, rule, h.len(), |o, p| s[o] * h[p] + damping);
        }
        Curvature::Product { s, h } => {
            assert_eq!((s.len(), h.len()), (n, n), "adafisher: lengths of the factors");
            walk(theta, grad, m, rule, n, |_, c| s[c] * h[c] + damping);
        }
        Curvature::Column { s, h } => {
            assert_eq!(s.len(), n, "adafisher: length of the column");
            walk(theta, grad, m, rule, n, |_, o| s[o] * h + damping);
        }
        Curvature::Constant(f) => walk(theta, grad, m, rule, n, |_, _| f),
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

/// The update with F given by row and column, over rows of `width`.
fn walk<T: Float>(
    theta: &mut [T],
    grad: &[T],
    m: &mut [T],
    rule: &AdaFisher,
    width: usize,
    f: impl Fn(usize, usize) -> T + Sync,
) {
    if rule.root {
        walk_rows(theta, grad, m, rule, width, |o, p| f(o, p).sqrt());
    } else {
        walk_rows(theta, grad, m, rule, width, f);
    }
}

fn walk_rows<T: Float>(
    theta: &mut [T],
    grad: &[T],
    m: &mut [T],
    rule: &AdaFisher,
    width: usize,
    f: impl Fn(usize, usize) -> T + Sync,
) {
    let (beta, fresh) = (T::of(rule.beta), T::of(1.0 - rule.beta));
    let size = T::of(rule.rate / correction(rule.beta, rule.step));
    let coupled = T::of(rule.coupled_decay);
    let kept = T::of(1.0 - rule.rate * rule.decoupled_decay);
    parallel::pieces_of([theta, m], 1, |start, [theta, m]| {
        // A piece may begin and end within a row.
        let mut at = 0;
        while at < theta.len() {
            let (row, from) = ((start + at) / width, (start + at) % width);
            let count = (width - from).min(theta.len() - at);
            let grad = &grad[start + at..start + at + count];
            let values = theta[at..at + count].iter_mut().zip(&mut m[at..at + count]);
            for ((p, (theta, m)), &g) in (from..from + count).zip(values).zip(grad) {
                *m = beta * *m + fresh * (g + coupled * *theta);
                *theta = kept * *theta - size * *m / f(row, p);
            }
            at += count;
        }
    });
}

/// 1 − βᵗ, the weight of t terms of a moving average that began at zero.
fn correction(beta: f64, step: u64) -> f64 {
    1.0 - beta.powf(step as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, noise, unwritten};
    use crate::parallel::GRAIN;

    const LENGTHS: [usize; 5] = [0, 1, 7, 12, 2 * GRAIN + 5];

    /// θ after three steps of a rule in plain scalar arithmetic, against the fused kernel.
    fn three_steps(
        n: usize,
        mut fused: impl FnMut(&mut [f64], &[f64], u64),
        plain: impl Fn(f64, &[f64]) -> f64,
    ) {
        let (start, grads) = (noise::<f64>(n, 1), [2, 3, 4].map(|seed| noise::<f64>(n, seed)));
        let mut theta = start.clone();
        for (t, g) in (1..).zip(&grads) {
            fused(&mut theta, g, t);
        }
        let want: Vec<f64> =
            (0..n).map(|i| plain(start[i], &[0, 1, 2].map(|t| grads[t][i]))).collect();
        assert_close(&theta, &want, 1e-13);
    }

    #[test]
    fn sgd_follows_its_recurrence() {
        for (n, nesterov, dampening) in
            LENGTHS.iter().flat_map(|&n| [(n, false, 0.2), (n, true, 0.0)])
        {
            let rule = Sgd {
                rate: 0.1,
                momentum: 0.9,
                dampening,
                nesterov,
                weight_decay: 0.01,
                first: true,
            };
            let mut buffer = unwritten(n); // must not be read at the first step
            three_steps(
                n,
                |theta, g, t| sgd(theta, g, Some(&mut buffer), &Sgd { first: t == 1, ..rule }),
                |mut x, grads| {
                    let mut b = 0.0;
                    for (t, g) in grads.iter().enumerate() {
                        let g = g + 0.01 * x;
                        b = if t == 0 { g } else { 0.9 * b + (1.0 - dampening) * g };
                        x -= 0.1 * if nesterov { g + 0.9 * b } else { b };
                    }
                    x
                },
            );
            three_steps(
                n,
                |theta, g, _| sgd(theta, g, None, &rule),
                |x, grads| grads.iter().fold(x, |x, g| x - 0.1 * (g + 0.01 * x)),
            );
        }
    }

    #[test]
    fn adam_follows_its_recurrence() {
        for n in LENGTHS {
            for (decoupled, amsgrad) in [(false, false), (true, false), (false, true)] {
                let rule = Adam {
                    rate: 0.1,
                    beta1: 0.9,
                    beta2: 0.7,
                    epsilon: 1e-3,
                    weight_decay: 0.1,
                    decoupled,
                    step: 0,
                };
                let (mut m, mut v, mut vmax) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
                three_steps(
                    n,
                    |theta, g, step| {
                        let vmax = amsgrad.then_some(&mut vmax[..]);
                        adam(theta, g, &mut m, &mut v, vmax, &Adam { step, ..rule });
                    },
                    |mut x, grads| {
                        let (mut m, mut v, mut top) = (0.0, 0.0, 0.0_f64);
                        for (t, g) in (1..).zip(grads) {
                            let g = if decoupled { *g } else { g + 0.1 * x };
                            x *= if decoupled { 1.0 - 0.1 * 0.1 } else { 1.0 };
                            m = 0.9 * m + 0.1 * g;
                            v = 0.7 * v + 0.3 * g * g;
                            top = top.max(v);
                            let v_hat = if amsgrad { top } else { v } / (1.0 - 0.7_f64.powi(t));
                            x -= 0.1 * (m / (1.0 - 0.9_f64.powi(t))) / (v_hat.sqrt() + 1e-3);
                        }
                        x
                    },
                );
            }
        }
    }

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
