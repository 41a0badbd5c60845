//! Parameter updates in one pass over memory: SGD, Adam and AdaFisher.
//!
//! Each reads the gradient and its state once and writes state and parameter once. Gradients carry
//! the 1/N of the mean loss. Hyper-parameters are `f64` and are converted once per call, so that
//! bias corrections 1 − βᵗ do not lose digits in `f32`. How Adam and AdaFisher became fast is in
//! [`ladder`], rung by rung.

mod adafisher;
pub mod ladder;

pub use adafisher::{AdaFisher, Curvature, adafisher, reference_adafisher};

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
            let (rate, decay) = (rate, decay); // copies: a loop that writes cannot change them
            for (theta, &g) in theta.iter_mut().zip(&grad[start..]) {
                *theta -= rate * (g + decay * *theta);
            }
        });
    };
    let (momentum, fresh) = (T::of(rule.momentum), T::of(1.0 - rule.dampening));
    let Sgd { nesterov, first, .. } = *rule;
    parallel::pieces_of([theta, buffer], 1, |start, [theta, buffer]| {
        let (rate, decay, momentum, fresh) = (rate, decay, momentum, fresh);
        let grad = &grad[start..start + theta.len()];
        for ((theta, buffer), &g) in theta.iter_mut().zip(buffer).zip(grad) {
            let g = g + decay * *theta;
            let b = if first { g } else { momentum * *buffer + fresh * g };
            *theta -= rate * if nesterov { g + momentum * b } else { b };
            *buffer = b;
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
    let constants = AdamConstants::new(rule);
    match vmax {
        None => parallel::pieces_of([theta, m, v], 1, |start, [theta, m, v]| {
            let local = constants; // a copy: a loop that writes cannot change it
            let grad = &grad[start..start + theta.len()];
            for (((theta, m), v), &g) in theta.iter_mut().zip(m).zip(v).zip(grad) {
                (*m, *v) = local.moments(*theta, g, *m, *v);
                *theta = local.moved(*theta, *m, *v);
            }
        }),
        Some(vmax) => parallel::pieces_of([theta, m, v, vmax], 1, |start, [theta, m, v, vmax]| {
            let local = constants;
            let grad = &grad[start..start + theta.len()];
            let state = m.iter_mut().zip(v).zip(vmax);
            for ((theta, ((m, v), vmax)), &g) in theta.iter_mut().zip(state).zip(grad) {
                (*m, *v) = local.moments(*theta, g, *m, *v);
                *vmax = vmax.max(*v);
                *theta = local.moved(*theta, *m, *vmax);
            }
        }),
    }
}

/// What is the same for all elements in a step of [`Adam`], in their type.
#[derive(Clone, Copy)]
struct AdamConstants<T> {
    kept: T,
    coupled: T,
    beta1: T,
    fresh1: T,
    beta2: T,
    fresh2: T,
    size: T,
    epsilon: T,
}

impl<T: Float> AdamConstants<T> {
    fn new(rule: &Adam) -> Self {
        let (decay, root) = (rule.weight_decay, correction(rule.beta2, rule.step).sqrt());
        Self {
            kept: if rule.decoupled { T::of(1.0 - rule.rate * decay) } else { T::ONE },
            coupled: if rule.decoupled { T::ZERO } else { T::of(decay) },
            beta1: T::of(rule.beta1),
            fresh1: T::of(1.0 - rule.beta1),
            beta2: T::of(rule.beta2),
            fresh2: T::of(1.0 - rule.beta2),
            // Both sides of the fraction times √(1 − β₂ᵗ): one division an element, not two.
            size: T::of(rule.rate * root / correction(rule.beta1, rule.step)),
            epsilon: T::of(rule.epsilon * root),
        }
    }

    #[inline(always)]
    fn moments(&self, theta: T, g: T, m: T, v: T) -> (T, T) {
        let g = g + self.coupled * theta;
        (self.beta1 * m + self.fresh1 * g, self.beta2 * v + self.fresh2 * g * g)
    }

    #[inline(always)]
    fn moved(&self, theta: T, m: T, v: T) -> T {
        self.kept * theta - self.size * m / (v.sqrt() + self.epsilon)
    }
}

/// 1 − βᵗ, the weight of t terms of a moving average that began at zero.
pub(crate) fn correction(beta: f64, step: u64) -> f64 {
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
}
