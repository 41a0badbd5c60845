//! Every op of the registry against finite differences, first and second order, in f64; and a few
//! truths about gradients that hold for all of them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

use engine::ops::OPS;
use engine::{DType, Error, Tape, Tensor, Var, gradcheck};

/// Central differences in f64 lose about two thirds of the digits.
const FIRST: f64 = 1e-7;
/// The same again, on derivatives that are larger.
const SECOND: f64 = 1e-6;

fn is_empty(x: &[Tensor]) -> bool {
    x.iter().all(|t| t.numel() == 0)
}

#[test]
fn first_derivatives_agree_with_finite_differences_for_every_sample_of_every_op() {
    for spec in OPS {
        for (i, sample) in (spec.samples)().iter().enumerate() {
            let check = gradcheck::first_order(&sample.inputs, &sample.call)
                .unwrap_or_else(|e| panic!("{} sample {i}: {e}", spec.name));
            assert!(check.error < FIRST, "{} sample {i}: {check:?}", spec.name);
            assert!(check.entries > 0 || is_empty(&sample.inputs), "{} sample {i}", spec.name);
        }
    }
}

#[test]
fn second_derivatives_agree_with_finite_differences_wherever_an_op_claims_them() {
    for spec in OPS {
        for (i, sample) in (spec.samples)().iter().enumerate() {
            let check = gradcheck::second_order(&sample.inputs, &sample.call);
            if sample.twice {
                let check = check.unwrap_or_else(|e| panic!("{} sample {i}: {e}", spec.name));
                assert!(check.error < SECOND, "{} sample {i}: {check:?}", spec.name);
            } else {
                let refused = matches!(check, Err(Error::NotTwiceDifferentiable { .. }));
                assert!(refused, "{} sample {i}: {check:?}", spec.name);
            }
        }
    }
}

#[test]
fn hessian_vector_products_are_the_change_of_the_gradient_along_the_vector() {
    for spec in OPS {
        for (i, sample) in (spec.samples)().iter().enumerate() {
            let check = gradcheck::hessian_vector(&sample.inputs, &sample.call);
            if sample.twice {
                let check = check.unwrap_or_else(|e| panic!("{} sample {i}: {e}", spec.name));
                assert!(check.error < SECOND, "{} sample {i}: {check:?}", spec.name);
                assert!(check.entries > 0 || is_empty(&sample.inputs), "{} sample {i}", spec.name);
            } else {
                let refused = matches!(check, Err(Error::NotTwiceDifferentiable { .. }));
                assert!(refused, "{} sample {i}: {check:?}", spec.name);
            }
        }
    }
}

#[test]
fn an_input_used_twice_gets_the_sum_of_both_gradients() {
    for spec in OPS {
        for (i, sample) in (spec.samples)().iter().enumerate() {
            let gradients = |uses: usize| -> Vec<Vec<f64>> {
                let tape = Tape::training(0);
                let x: Vec<Var> = sample.inputs.iter().map(|t| tape.watch(t.clone())).collect();
                let mut loss = tape.input(Tensor::scalar(0.0, DType::F64));
                let weights = (sample.call)(&x).unwrap();
                for _ in 0..uses {
                    // Random ops draw anew at each call; the first output stands for all.
                    loss = loss.add(&weights.sum_all().unwrap()).unwrap();
                }
                let grads = tape.backward(&loss).unwrap();
                x.iter().filter_map(|x| grads.of_var(x)).map(|g| g.to_f64_vec().unwrap()).collect()
            };
            for (once, twice) in gradients(1).iter().flatten().zip(gradients(2).iter().flatten()) {
                assert!(
                    (2.0 * once - twice).abs() <= 1e-12 * once.abs(),
                    "{} sample {i}",
                    spec.name
                );
            }
        }
    }
}

#[test]
fn f32_agrees_with_f64_for_every_sample_of_every_op() {
    for spec in OPS {
        for (i, sample) in (spec.samples)().iter().enumerate() {
            let run = |dtype: DType| -> Vec<f64> {
                let tape = Tape::training(0);
                let cast = |t: &Tensor| {
                    if t.dtype().is_float() { t.to_dtype(dtype).unwrap() } else { t.clone() }
                };
                let x: Vec<Var> = sample.inputs.iter().map(|t| tape.watch(cast(t))).collect();
                let y = (sample.call)(&x).unwrap();
                let grads = tape.backward(&y.sum_all().unwrap()).unwrap();
                let mut all = y.to_f64_vec().unwrap();
                all.extend(
                    x.iter().filter_map(|x| grads.of_var(x)).flat_map(|g| g.to_f64_vec().unwrap()),
                );
                all
            };
            let (narrow, wide) = (run(DType::F32), run(DType::F64));
            assert_eq!(narrow.len(), wide.len(), "{} sample {i}", spec.name);
            for (a, b) in narrow.iter().zip(&wide) {
                assert!(
                    (a - b).abs() <= 2e-5 * b.abs().max(1.0),
                    "{} sample {i}: {a} and {b}",
                    spec.name
                );
            }
        }
    }
}
