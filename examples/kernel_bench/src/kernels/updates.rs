//! Steps of optimizers on one weight, always by the same gradient: a number moves by less than a hundredth a
//! run, so none grows out of proportion however long it is timed.

use alcyon::kernels::cuda::step::{self as there_step, Moving};
use alcyon::kernels::step::{self, AdaFisher, Adam, Curvature, Sgd, ladder};
use alcyon::kernels::{Float, cuda};
use alcyon::prelude::*;

use crate::case::{At, Case, There, numbers};

const RATE: f64 = 1e-3;

pub(crate) fn sgd<T: Float>(at: &At<'_>) -> Result<Case> {
    let n = at.shape[0];
    let (theta, grad) = (numbers::<T>(n, 0), numbers::<T>(n, 1));
    let rule = Sgd {
        rate: RATE,
        momentum: 0.9,
        dampening: 0.0,
        nesterov: false,
        weight_decay: 0.0,
        first: false,
    };
    let (same, mut slow, mut buffer) = (grad.clone(), vec![T::ZERO; n], vec![T::ZERO; n]);
    let grad_there = There::new(at, &grad)?;
    let mut buffer_there = There::<T>::room(at, n)?;
    let reference = move |theta: &mut [T]| {
        for ((theta, b), &g) in theta.iter_mut().zip(&mut slow).zip(&same) {
            *b = T::of(rule.momentum) * *b + g;
            *theta -= T::of(rule.rate) * *b;
        }
    };
    Case::new::<T>(4 * n, 5 * n)
        .cpu_from("reference", theta.clone(), reference)
        .cpu_from("threads", theta.clone(), move |theta| {
            step::sgd(theta, &grad, Some(&mut buffer), &rule);
        })
        .cuda_from(at, &theta, move |gpu, theta| {
            let buffer = buffer_there.slice_mut();
            let state = vec![&buffer];
            there_step::sgd(
                gpu,
                &[Moving { theta, grad: grad_there.slice(), state, step: 9, verdict: None }],
                &rule,
            )
        })
}

pub(crate) fn adam<T: Float>(at: &At<'_>) -> Result<Case> {
    let n = at.shape[0];
    let (theta, grad) = (numbers::<T>(n, 0), numbers::<T>(n, 1));
    let (beta1, beta2, epsilon, weight_decay) = (0.9, 0.999, 1e-8, 0.01);
    let rule = Adam { rate: RATE, beta1, beta2, epsilon, weight_decay, decoupled: true, step: 9 };
    let mut case = Case::new::<T>(13 * n, 7 * n);
    type Rung<T> = fn(&mut [T], &[T], &mut [T], &mut [T], &Adam);
    let rungs: [(&str, Rung<T>); 4] = [
        ("reference", ladder::reference_adam),
        ("one_pass", ladder::one_pass_adam),
        ("wide", ladder::wide_adam),
        ("threads", |theta, g, m, v, rule| step::adam(theta, g, m, v, None, rule)),
    ];
    for (name, rung) in rungs {
        let (grad, mut m, mut v) = (grad.clone(), vec![T::ZERO; n], vec![T::ZERO; n]);
        case = case.cpu_from(name, theta.clone(), move |theta| {
            rung(theta, &grad, &mut m, &mut v, &rule);
        });
    }
    let grad_there = There::new(at, &grad)?;
    let mut state_there = [There::<T>::room(at, n)?, There::<T>::room(at, n)?];
    case.cuda_from(at, &theta, move |gpu, theta| {
        let [m, v] = &mut state_there;
        let (m, v) = (m.slice_mut(), v.slice_mut());
        let state = vec![&m, &v];
        there_step::adam(
            gpu,
            &[Moving { theta, grad: grad_there.slice(), state, step: 9, verdict: None }],
            &rule,
        )
    })
}

pub(crate) fn adafisher<T: Float>(at: &At<'_>) -> Result<Case> {
    let &[outputs, inputs] = at.shape else { return Ok(Case::new::<T>(0, 0)) };
    let n = outputs * inputs;
    let (theta, grad) = (numbers::<T>(n, 0), numbers::<T>(n, 1));
    let (s, h) = (vec![T::of(0.3); outputs], vec![T::of(0.7); inputs]);
    let (beta, damping) = (0.9, 1e-3);
    let (coupled_decay, decoupled_decay) = (0.0, 0.0);
    let rule = AdaFisher {
        rate: RATE,
        beta,
        damping,
        coupled_decay,
        decoupled_decay,
        step: 9,
        root: false,
    };
    let mut case = Case::new::<T>(9 * n, 5 * n);
    type Rung<T> = fn(&mut [T], &[T], &mut [T], (&[T], &[T]), &AdaFisher);
    let rungs: [(&str, Rung<T>); 4] = [
        ("reference", |theta, g, m, (s, h), rule| {
            step::reference_adafisher(theta, g, m, Curvature::Outer { s, h }, rule);
        }),
        ("one_pass", ladder::one_pass_adafisher),
        ("wide", ladder::wide_adafisher),
        ("threads", |theta, g, m, (s, h), rule| {
            step::adafisher(theta, g, m, Curvature::Outer { s, h }, rule);
        }),
    ];
    for (name, rung) in rungs {
        let (grad, s, h, mut m) = (grad.clone(), s.clone(), h.clone(), vec![T::ZERO; n]);
        case = case.cpu_from(name, theta.clone(), move |theta| {
            rung(theta, &grad, &mut m, (&s, &h), &rule);
        });
    }
    let there = [There::new(at, &grad)?, There::new(at, &s)?, There::new(at, &h)?];
    let mut m_there = There::<T>::room(at, n)?;
    case.cuda_from(at, &theta, move |gpu, theta| {
        let m = m_there.slice_mut();
        let moving =
            [Moving { theta, grad: there[0].slice(), state: vec![&m], step: 9, verdict: None }];
        let curvature = [there_step::Curvature::Outer(there[1].slice(), there[2].slice())];
        cuda::step::adafisher(gpu, &moving, &curvature, &rule)
    })
}
