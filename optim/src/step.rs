//! The fused updates of one parameter, as plain loops.

use engine::FloatElement as Float;

/// Stochastic gradient descent with momentum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sgd {
    pub(crate) rate: f64,
    pub(crate) momentum: f64,
    pub(crate) dampening: f64,
    pub(crate) nesterov: bool,
    pub(crate) weight_decay: f64,
    pub(crate) first: bool,
}

pub(crate) fn sgd<T: Float>(theta: &mut [T], grad: &[T], buffer: Option<&mut [T]>, rule: &Sgd) {
    let of = <T as kernels::Float>::of;
    let (rate, momentum, decay) = (of(rule.rate), of(rule.momentum), of(rule.weight_decay));
    let fresh = if rule.first { T::ONE } else { of(1.0 - rule.dampening) };
    let Some(buffer) = buffer else {
        theta.iter_mut().zip(grad).for_each(|(x, &g)| *x -= rate * (g + decay * *x));
        return;
    };
    for ((x, &g), b) in theta.iter_mut().zip(grad).zip(buffer) {
        let g = g + decay * *x;
        *b = momentum * *b + fresh * g;
        *x -= rate * if rule.nesterov { g + momentum * *b } else { *b };
    }
}

/// Adam, and AdamW where `decoupled`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Adam {
    pub(crate) rate: f64,
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    pub(crate) epsilon: f64,
    pub(crate) weight_decay: f64,
    pub(crate) decoupled: bool,
    pub(crate) step: u64,
}

pub(crate) fn adam<T: Float>(
    theta: &mut [T],
    grad: &[T],
    m: &mut [T],
    v: &mut [T],
    mut vmax: Option<&mut [T]>,
    rule: &Adam,
) {
    let of = <T as kernels::Float>::of;
    let t = rule.step as f64;
    let (b1, b2, epsilon) = (of(rule.beta1), of(rule.beta2), of(rule.epsilon));
    let rate = of(rule.rate / (1.0 - rule.beta1.powf(t)));
    let root = of((1.0 - rule.beta2.powf(t)).sqrt());
    let coupled = of(if rule.decoupled { 0.0 } else { rule.weight_decay });
    let kept = of(if rule.decoupled { 1.0 - rule.rate * rule.weight_decay } else { 1.0 });
    for i in 0..theta.len() {
        let g = grad[i] + coupled * theta[i];
        m[i] = b1 * m[i] + (T::ONE - b1) * g;
        v[i] = b2 * v[i] + (T::ONE - b2) * g * g;
        let largest = match &mut vmax {
            Some(vmax) => {
                vmax[i] = kernels::Float::max(vmax[i], v[i]);
                vmax[i]
            }
            None => v[i],
        };
        theta[i] = kept * theta[i] - rate * m[i] / (largest.sqrt() / root + epsilon);
    }
}

/// AdaFisher's update.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdaFisher {
    pub(crate) rate: f64,
    pub(crate) beta: f64,
    pub(crate) damping: f64,
    pub(crate) coupled_decay: f64,
    pub(crate) decoupled_decay: f64,
    pub(crate) step: u64,
    pub(crate) root: bool,
}

/// F, as it is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Curvature<'a, T> {
    /// F\[o, p\] = s\[o\] h\[p\] + λ
    Outer { s: &'a [T], h: &'a [T] },
    /// F\[c\] = s\[c\] h\[c\] + λ
    Product { s: &'a [T], h: &'a [T] },
    /// F\[o\] = s\[o\] h + λ
    Column { s: &'a [T], h: T },
    /// F
    Constant(T),
}

pub(crate) fn adafisher<T: Float>(
    theta: &mut [T],
    grad: &[T],
    m: &mut [T],
    curvature: Curvature<'_, T>,
    rule: &AdaFisher,
) {
    let of = <T as kernels::Float>::of;
    let (beta, damping) = (of(rule.beta), of(rule.damping));
    let (coupled, decoupled) = (of(rule.coupled_decay), of(rule.decoupled_decay));
    let (rate, correction) = (of(rule.rate), of(1.0 - rule.beta.powf(rule.step as f64)));
    for i in 0..theta.len() {
        let f = match curvature {
            Curvature::Outer { s, h } => s[i / h.len()] * h[i % h.len()] + damping,
            Curvature::Product { s, h } => s[i] * h[i] + damping,
            Curvature::Column { s, h } => s[i] * h + damping,
            Curvature::Constant(f) => f,
        };
        let f = if rule.root { f.sqrt() } else { f };
        m[i] = beta * m[i] + (T::ONE - beta) * (grad[i] + coupled * theta[i]);
        theta[i] -= rate * (m[i] / correction / f + decoupled * theta[i]);
    }
}
