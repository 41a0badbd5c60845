//! Optimizers that treat entries by themselves, against the paper's formulas written out number by
//! number, with all corrections where the paper has them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

use engine::{DType, Gradients, Parameter, Rng, Tensor};
use optim::{
    AdaBeliefConfig, AdaBoundConfig, AdaGradConfig, AdafactorConfig, LambConfig, LarsConfig,
    LionConfig, NAdamConfig, Optimizer, RAdamConfig, RmsPropConfig, ScheduleFreeConfig,
};
use optim::{PerParameter, Rule};

const STEPS: usize = 12;
/// The same operations in another order.
const ROUNDING: f64 = 1e-13;

/// Twelve gradients of five entries, one of them always zero.
fn gradients() -> Vec<Vec<f64>> {
    let all = Tensor::normal([STEPS, 5], 0.0, 1.0, DType::F64, &mut Rng::new(5));
    let all = all.to_vec::<f64>().unwrap();
    all.chunks(5).map(|g| vec![g[0], 10.0 * g[1], 0.1 * g[2], g[3] + 1.0, 0.0]).collect()
}

const START: [f64; 5] = [0.5, -1.0, 2.0, 0.25, 1.5];

/// Where a rule goes, and the optimizer.
fn path<R: Rule>(rule: R) -> (Vec<Vec<f64>>, PerParameter<R>, Parameter) {
    let mut optimizer = PerParameter::new(rule).unwrap();
    let mut parameter = Parameter::new(Tensor::from_slice(&START, [5]).unwrap());
    let mut all = Vec::new();
    for g in gradients() {
        let mut grads = Gradients::default();
        grads.set(&parameter, Tensor::from_vec(g, [5]).unwrap());
        optimizer.step(&mut parameter, &grads).unwrap();
        all.push(parameter.value().to_vec::<f64>().unwrap());
    }
    (all, optimizer, parameter)
}

/// Compares with a formula: from step t (1, 2, …), θ and g to the new θ.
fn agrees<R: Rule>(rule: R, mut formula: impl FnMut(i32, &[f64], &[f64]) -> Vec<f64>) {
    let name = rule.name();
    let (path, ..) = path(rule);
    let mut theta = START.to_vec();
    for (t, (g, got)) in gradients().iter().zip(&path).enumerate() {
        theta = formula(t as i32 + 1, &theta, g);
        for (i, (x, y)) in got.iter().zip(&theta).enumerate() {
            assert!((x - y).abs() < ROUNDING, "{name}, step {}, entry {i}: {x} and {y}", t + 1);
        }
    }
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// m̂ and v̂ of Adam, kept outside.
#[derive(Default)]
struct Moments {
    m: [f64; 5],
    v: [f64; 5],
}

impl Moments {
    fn advance(&mut self, g: &[f64], beta1: f64, beta2: f64) {
        for ((m, v), g) in self.m.iter_mut().zip(&mut self.v).zip(g) {
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
        }
    }
}

#[test]
fn adagrad_and_rmsprop_divide_by_roots_of_sums_and_averages() {
    let mut s = [0.1; 5];
    let config = AdaGradConfig { rate: 0.3, epsilon: 1e-6, start: 0.1, weight_decay: 0.01 };
    agrees(config, |_, theta, g| {
        (0..5)
            .map(|i| {
                let g = g[i] + 0.01 * theta[i];
                s[i] += g * g;
                theta[i] - 0.3 * g / (s[i].sqrt() + 1e-6)
            })
            .collect()
    });
    for (momentum, centered) in [(0.0, false), (0.8, false), (0.0, true), (0.8, true)] {
        let (mut v, mut a, mut b) = ([0.0; 5], [0.0; 5], [0.0; 5]);
        let (rate, decay, epsilon, weight_decay) = (0.03, 0.9, 1e-5, 0.01);
        let config = RmsPropConfig { rate, decay, epsilon, momentum, weight_decay, centered };
        agrees(config, |_, theta, g| {
            (0..5)
                .map(|i| {
                    let g = g[i] + 0.01 * theta[i];
                    v[i] = 0.9 * v[i] + 0.1 * g * g;
                    a[i] = 0.9 * a[i] + 0.1 * g;
                    let under: f64 = if centered { v[i] - a[i] * a[i] } else { v[i] };
                    b[i] = momentum * b[i] + g / (under.sqrt() + 1e-5);
                    theta[i] - 0.03 * b[i]
                })
                .collect()
        });
    }
}

/// θ (1 − α κ) and g, or θ and g + κ θ.
fn decayed(decoupled: bool, (rate, kappa): (f64, f64), theta: f64, g: f64) -> (f64, f64) {
    if decoupled { (theta * (1.0 - rate * kappa), g) } else { (theta, g + kappa * theta) }
}

/// r of Liu et al. 2020 for β₂ = 0.9, and ρ.
fn rectification(t: i32) -> (f64, f64) {
    let (power, longest) = (0.9_f64.powi(t), 19.0);
    let rho = longest - 2.0 * f64::from(t) * power / (1.0 - power);
    let r = (rho - 4.0) * (rho - 2.0) * longest / ((longest - 4.0) * (longest - 2.0) * rho);
    (r.sqrt(), rho)
}

#[test]
fn radam_waits_until_its_second_moment_can_be_trusted() {
    for (threshold, decoupled) in [(5.0, true), (4.0, true), (5.0, false)] {
        let config = RAdamConfig {
            rate: 0.1,
            beta1: 0.8,
            beta2: 0.9,
            epsilon: 1e-6,
            weight_decay: 0.05,
            decoupled,
            threshold,
        };
        let mut moments = Moments::default();
        let mut rectified = Vec::new();
        agrees(config, |t, theta, g| {
            let decayed = |i: usize| self::decayed(decoupled, (0.1, 0.05), theta[i], g[i]);
            let all: Vec<f64> = (0..5).map(|i| decayed(i).1).collect();
            moments.advance(&all, 0.8, 0.9);
            let (r, rho) = rectification(t);
            rectified.push(rho > threshold);
            (0..5)
                .map(|i| {
                    let m = moments.m[i] / (1.0 - 0.8_f64.powi(t));
                    let v = (moments.v[i] / (1.0 - 0.9_f64.powi(t))).sqrt() + 1e-6;
                    decayed(i).0 - 0.1 * if rho > threshold { r * m / v } else { m }
                })
                .collect()
        });
        let first = rectified.iter().position(|rectified| *rectified);
        assert_eq!(first, Some(if threshold == 4.0 { 4 } else { 5 }), "both branches are taken");
    }
}

#[test]
fn at_its_usual_decays_radam_is_rectified_from_the_sixth_step_on_and_the_papers_from_the_fifth() {
    let first = |threshold| {
        let config = RAdamConfig { threshold, ..RAdamConfig::default() };
        (1..20).find(|&t| config.rectification(t).is_some())
    };
    assert_eq!((first(5.0), first(4.0)), (Some(6), Some(5)));
}

#[test]
fn nadam_looks_ahead_with_a_momentum_that_grows() {
    for decoupled in [true, false] {
        let config = NAdamConfig {
            rate: 0.1,
            beta1: 0.8,
            beta2: 0.9,
            epsilon: 1e-8,
            momentum_decay: 0.1,
            weight_decay: 0.05,
            decoupled,
        };
        let mu = |t: i32| 0.8 * (1.0 - 0.5 * 0.96_f64.powf(0.1 * f64::from(t)));
        let mut moments = Moments::default();
        agrees(config, |t, theta, g| {
            let decayed = |i: usize| self::decayed(decoupled, (0.1, 0.05), theta[i], g[i]);
            let all: Vec<f64> = (0..5).map(|i| decayed(i).1).collect();
            moments.advance(&all, 0.8, 0.9);
            let product = |last: i32| (1..=last).map(mu).product::<f64>();
            (0..5)
                .map(|i| {
                    let m = mu(t + 1) * moments.m[i] / (1.0 - product(t + 1))
                        + (1.0 - mu(t)) * all[i] / (1.0 - product(t));
                    let v = moments.v[i] / (1.0 - 0.9_f64.powi(t));
                    decayed(i).0 - 0.1 * m / (v.sqrt() + 1e-8)
                })
                .collect()
        });
    }
}

#[test]
fn adabelief_divides_by_the_deviation_from_the_mean() {
    for rectify in [false, true] {
        let (rate, beta1, beta2, epsilon, weight_decay) = (0.1, 0.8, 0.9, 1e-4, 0.01);
        let config = AdaBeliefConfig { rate, beta1, beta2, epsilon, weight_decay, rectify };
        let (mut m, mut s) = ([0.0; 5], [0.0; 5]);
        agrees(config, |t, theta, g| {
            let (r, rho) = rectification(t);
            (0..5)
                .map(|i| {
                    m[i] = 0.8 * m[i] + 0.2 * g[i];
                    s[i] = 0.9 * s[i] + 0.1 * (g[i] - m[i]).powi(2) + 1e-4;
                    let mean = m[i] / (1.0 - 0.8_f64.powi(t));
                    let deviation = (s[i] / (1.0 - 0.9_f64.powi(t))).sqrt() + 1e-4;
                    let step = match rectify {
                        false => mean / deviation,
                        true if rho > 5.0 => r * mean / deviation,
                        true => mean,
                    };
                    theta[i] * (1.0 - 0.1 * 0.01) - 0.1 * step
                })
                .collect()
        });
    }
}

#[test]
fn adabound_stays_between_its_bounds() {
    for (amsbound, decoupled) in [(false, false), (true, false), (false, true), (true, true)] {
        let config = AdaBoundConfig {
            rate: 0.01,
            final_ratio: 20.0,
            beta1: 0.8,
            beta2: 0.9,
            epsilon: 1e-8,
            closing: 0.5,
            amsbound,
            weight_decay: 0.05,
            decoupled,
        };
        let (mut moments, mut largest) = (Moments::default(), [0.0_f64; 5]);
        let mut clipped = 0;
        agrees(config, |t, theta, g| {
            let decayed = |i: usize| self::decayed(decoupled, (0.01, 0.05), theta[i], g[i]);
            let all: Vec<f64> = (0..5).map(|i| decayed(i).1).collect();
            moments.advance(&all, 0.8, 0.9);
            let time = 0.5 * f64::from(t);
            let (low, high) = (0.2 * (1.0 - 1.0 / (time + 1.0)), 0.2 * (1.0 + 1.0 / time));
            let size = 0.01 * (1.0 - 0.9_f64.powi(t)).sqrt() / (1.0 - 0.8_f64.powi(t));
            (0..5)
                .map(|i| {
                    largest[i] = largest[i].max(moments.v[i]);
                    let v = if amsbound { largest[i] } else { moments.v[i] };
                    let eta = size / (v.sqrt() + 1e-8);
                    clipped += usize::from(eta < low || eta > high);
                    decayed(i).0 - eta.clamp(low, high) * moments.m[i]
                })
                .collect()
        });
        assert!(clipped > 0 && clipped < 5 * STEPS, "{clipped} of {} are clipped", 5 * STEPS);
    }
}

#[test]
fn lion_walks_along_signs() {
    let config = LionConfig { rate: 0.01, beta1: 0.8, beta2: 0.95, weight_decay: 0.1 };
    let mut m = [0.0; 5];
    agrees(config, |_, theta, g| {
        (0..5)
            .map(|i| {
                let c: f64 = 0.8 * m[i] + 0.2 * g[i];
                m[i] = 0.95 * m[i] + 0.05 * g[i];
                let sign = f64::from(u8::from(c > 0.0)) - f64::from(u8::from(c < 0.0));
                theta[i] - 0.01 * (sign + 0.1 * theta[i])
            })
            .collect()
    });
}

#[test]
fn lamb_and_lars_step_in_proportion_to_the_parameter_or_spare_vectors() {
    for vectors in [true, false] {
        let config = LambConfig {
            rate: 0.1,
            beta1: 0.8,
            beta2: 0.9,
            epsilon: 1e-6,
            weight_decay: 0.05,
            bound: 2.0,
            vectors,
        };
        let mut moments = Moments::default();
        agrees(config, |t, theta, g| {
            moments.advance(g, 0.8, 0.9);
            let adam = |i: usize| {
                let m = moments.m[i] / (1.0 - 0.8_f64.powi(t));
                m / ((moments.v[i] / (1.0 - 0.9_f64.powi(t))).sqrt() + 1e-6)
            };
            let kappa = if vectors { 0.05 } else { 0.0 };
            let r: Vec<f64> = (0..5).map(|i| adam(i) + kappa * theta[i]).collect();
            let ratio = if vectors { norm(theta).min(2.0) / norm(&r) } else { 1.0 };
            theta.iter().zip(&r).map(|(x, r)| x - 0.1 * ratio * r).collect()
        });
        let (trust, momentum, weight_decay) = (0.01, 0.7, 0.1);
        let config = LarsConfig { rate: 0.2, trust, momentum, weight_decay, vectors };
        let mut b = [0.0; 5];
        agrees(config, |_, theta, g| {
            let (local, kappa) = match vectors {
                true => (0.01 * norm(theta) / (norm(g) + 0.1 * norm(theta)), 0.1),
                false => (1.0, 0.0),
            };
            (0..5)
                .map(|i| {
                    b[i] = 0.7 * b[i] + 0.2 * local * (g[i] + kappa * theta[i]);
                    theta[i] - b[i]
                })
                .collect()
        });
    }
}

#[test]
fn adafactor_takes_steps_of_its_rate_or_relative_ones() {
    let rms = |x: &[f64]| norm(x) / 5.0_f64.sqrt();
    for (relative_step, relative_size) in
        [(true, true), (false, true), (true, false), (false, false)]
    {
        let options =
            AdafactorConfig { relative_step, relative_size, ..AdafactorConfig::default() };
        let mut v = [0.0; 5];
        // Large enough for 1/√t to be smaller from the third step on.
        agrees(AdafactorConfig { rate: 0.6, ..options }, |t, theta, g| {
            let (t, fresh) = (f64::from(t), f64::from(t).powf(-0.8));
            let mut update = [0.0; 5];
            for i in 0..5 {
                v[i] += fresh * (g[i] * g[i] + 1e-30 - v[i]);
                update[i] = g[i] / f64::sqrt(v[i]);
            }
            let rate = if relative_step { f64::min(0.6, 1.0 / t.sqrt()) } else { 0.6 };
            let size = if relative_size { rate * rms(theta).max(1e-3) } else { rate };
            let cut = rms(&update).max(1.0);
            theta.iter().zip(update).map(|(x, u)| x - size * u / cut).collect()
        });
    }
}

#[test]
fn schedule_free_is_three_sequences_of_which_the_model_holds_one() {
    for adaptive in [true, false] {
        let config = ScheduleFreeConfig {
            rate: 0.1,
            beta1: 0.8,
            beta2: 0.9,
            epsilon: 1e-6,
            weight_decay: 0.05,
            warm_up: 4,
            adaptive,
        };
        let (mut x, mut z, mut v) = (START, START, [0.0; 5]);
        let mut weights = 0.0;
        agrees(config, |t, y, g| {
            let rate = 0.1 * (f64::from(t) / 4.0).min(1.0);
            weights += rate * rate;
            let c = rate * rate / weights;
            (0..5)
                .map(|i| {
                    v[i] = 0.9 * v[i] + 0.1 * g[i] * g[i];
                    let root = (v[i] / (1.0 - 0.9_f64.powi(t))).sqrt() + 1e-6;
                    let d = if adaptive { g[i] / root } else { g[i] };
                    z[i] -= rate * (d + 0.05 * y[i]);
                    x[i] = (1.0 - c) * x[i] + c * z[i];
                    0.2 * z[i] + 0.8 * x[i]
                })
                .collect()
        });
        let (_, optimizer, parameter) = path(config);
        let average = optimizer.average(&parameter).unwrap().unwrap().to_vec::<f64>().unwrap();
        for (got, x) in average.iter().zip(x) {
            assert!((got - x).abs() < ROUNDING, "{got} and {x}");
        }
    }
}
