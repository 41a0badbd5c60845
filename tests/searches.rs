//! Optimizers that look before they leap look no more often than they have to. How often a batch is evaluated is
//! counted where the model is.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

use std::cell::Cell;

use engine::{DType, Parameter, Result, Tape, Tensor, Var};
use nn::Mse;
use optim::{AdaptiveKfac, AdaptiveKfacConfig, Batch, Lbfgs, LbfgsConfig, Optimizer, build};

/// Starts, and what SciPy 1.17.1 makes of them: `minimize(rosen, start, jac=rosen_der, method="L-BFGS-B")` with its
/// defaults (10 pairs; ends where no entry of the gradient is above 10⁻⁵, or the value falls by less than
/// 2.22·10⁻⁹) ends with a value below 10⁻¹¹ after so many evaluations.
const SCIPY: [([f64; 2], usize); 4] =
    [([-1.2, 1.0], 44), ([-1.0, -1.0], 33), ([0.0, 2.0], 27), ([2.0, 0.0], 22)];

/// (1 − x)² + 100 (y − x²)², as the squares of two residuals.
fn valley(point: &Parameter, tape: &Tape) -> Result<Var> {
    let point = tape.bind(point);
    let (x, y) = (point.narrow(0, 0, 1)?, point.narrow(0, 1, 1)?);
    let first = x.neg()?.shift(1.0)?;
    let second = y.sub(&x.mul(&x)?)?.scale(10.0)?;
    Var::concat(&[&first, &second], 0)?.reshape([1, 2])?.scale(2.0_f64.sqrt())
}

fn loss(dtype: DType) -> Mse {
    Mse::half_sum(&Tensor::zeros([1, 2], dtype))
}

fn at(start: [f64; 2], dtype: DType) -> Parameter {
    Parameter::new(Tensor::from_slice(&start, [2]).unwrap().to_dtype(dtype).unwrap())
}

/// The evaluations of `steps` calls, each with the same batch.
fn evaluations(optimizer: &mut dyn Optimizer, point: &mut Parameter, steps: usize) -> usize {
    let count = Cell::new(0);
    let forward = |point: &Parameter, tape: &Tape| {
        count.set(count.get() + 1);
        valley(point, tape)
    };
    let loss = loss(point.value().dtype());
    let mut batch = Batch::new(point, forward, &loss);
    (0..steps).for_each(|_| _ = optimizer.minimize(&mut batch).unwrap());
    count.get()
}

#[test]
fn lbfgs_finds_the_minimum_of_the_valley_with_no_more_evaluations_than_scipy() {
    for iterations in [1, 100] {
        let mut all = [0, 0];
        for (start, theirs) in SCIPY {
            let config = LbfgsConfig {
                iterations,
                tolerance_grad: 1e-5,
                tolerance_change: 2.22e-9,
                ..LbfgsConfig::default()
            };
            let (mut point, mut lbfgs) = (at(start, DType::F64), Lbfgs::new(config).unwrap());
            let calls = if iterations == 1 { 60 } else { 1 };
            let ours = evaluations(&mut lbfgs, &mut point, calls);
            let end = point.value().to_vec::<f64>().unwrap();
            let value = (1.0 - end[0]).powi(2) + 100.0 * (end[1] - end[0] * end[0]).powi(2);
            println!(
                "{start:?}, {iterations} a call: {ours} evaluations, SciPy {theirs}; {value:e}"
            );
            assert!(lbfgs.is_done() && value < 1e-11, "{start:?} ends at {value:e}");
            // The last steps of two searches differ by one evaluation or two, either way.
            assert!(ours <= theirs + 1, "{start:?}: {ours} evaluations, SciPy's are {theirs}");
            all = [all[0] + ours, all[1] + theirs];
        }
        assert!(all[0] <= all[1], "{} evaluations in all, SciPy's are {}", all[0], all[1]);
    }
}

/// Evaluations by two equal optimizers in twenty steps of the valley, down the same way to the bit: of one whose
/// batch is known to come again, and of one whose batches are new.
fn evaluations_of_one_batch_and_of_new_ones(mut both: [Box<dyn Optimizer>; 2]) -> [usize; 2] {
    let loss = loss(DType::F64);
    let count = Cell::new(0);
    let forward = |point: &Parameter, tape: &Tape| {
        count.set(count.get() + 1);
        valley(point, tape)
    };
    let [a, b] = &mut both;
    let [mut one, mut other] = [at([-1.2, 1.0], DType::F64), at([-1.2, 1.0], DType::F64)];
    let mut batch = Batch::new(&mut one, forward, &loss);
    let known: Vec<f64> = (0..20).map(|_| a.minimize(&mut batch).unwrap()).collect();
    let of_known = count.replace(0);
    let step = |_| b.minimize(&mut Batch::new(&mut other, forward, &loss)).unwrap();
    let anew: Vec<f64> = (0..20).map(step).collect();
    assert_eq!(known, anew);
    assert_eq!(one.value().to_vec::<f64>().unwrap(), other.value().to_vec::<f64>().unwrap());
    [of_known, count.get()]
}

#[test]
fn a_point_of_the_same_batch_is_not_evaluated_again_and_one_of_another_is() {
    let [known, anew] =
        evaluations_of_one_batch_and_of_new_ones([0; 2].map(|_| build("lbfgs", None).unwrap()));
    // The first points of 19 calls.
    assert_eq!(anew - known, 19);
}

#[test]
fn adaptive_kfac_begins_a_step_of_a_batch_that_comes_again_where_it_has_looked() {
    let config =
        AdaptiveKfacConfig { adapt_every: 1, damping: 1.0, ..AdaptiveKfacConfig::default() };
    let new = |_| -> Box<dyn Optimizer> { Box::new(AdaptiveKfac::new(config.clone()).unwrap()) };
    // Two evaluations a step, and one from the third step on: in the second, the batch comes again.
    assert_eq!(evaluations_of_one_batch_and_of_new_ones([0; 2].map(new)), [22, 40]);
}

#[test]
fn what_has_converged_costs_one_look_a_step_or_two() {
    for dtype in [DType::F64, DType::F32] {
        for name in ["lbfgs", "hessian-free", "natural-gradient", "newton"] {
            let (mut point, mut optimizer) = (at([-1.2, 1.0], dtype), build(name, None).unwrap());
            evaluations(&mut *optimizer, &mut point, 300);
            let end = point.value().to_f64_vec().unwrap();
            assert!((end[0] - 1.0).abs() < 2e-3, "{name} in {dtype} ends at {end:?}");
            let after = evaluations(&mut *optimizer, &mut point, 10);
            println!("{name} in {dtype}: {after} evaluations in ten steps");
            assert!(after <= 30, "{name} in {dtype}: {after} evaluations in ten steps");
        }
    }
}

#[test]
fn a_state_of_more_pairs_than_are_kept_leaves_the_newest_and_one_that_announces_more_than_it_has_is_refused()
 {
    let of = |history| Lbfgs::new(LbfgsConfig { history, ..LbfgsConfig::default() }).unwrap();
    let (mut point, mut ten, mut two) = (at([-1.2, 1.0], DType::F64), of(10), of(2));
    evaluations(&mut ten, &mut point, 8);
    let mut state = ten.state(&point).unwrap();
    assert!(state.numbers["pairs"].parse::<usize>().unwrap() > 4);
    two.load_state(&point, &state).unwrap();
    for _ in 0..3 {
        let kept = two.state(&point).unwrap();
        assert_eq!(kept.numbers["pairs"], "2");
        evaluations(&mut two, &mut point, 1);
    }
    state.numbers.insert("pairs".into(), u64::MAX.to_string());
    assert!(two.load_state(&point, &state).unwrap_err().to_string().contains("pairs"));
}
