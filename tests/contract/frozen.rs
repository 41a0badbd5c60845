//! What `state` writes, `load_state` takes, whatever was frozen when; and a run goes on bit for bit.

use engine::{DType, Parameters};
use optim::{Optimizer, build, known};

use super::models::{Net, batch, step};
use super::{copy_values, everything};

/// Which parameters are trained in the first steps, and which from then on.
const CASES: [(&str, [bool; 4], [bool; 4]); 5] = [
    ("freeze, then unfreeze", [true, true, false, false], [true; 4]),
    ("unfreeze, then freeze", [true; 4], [true, true, false, false]),
    ("freeze all but one", [false, false, false, true], [true; 4]),
    ("one other than before", [true, false, false, false], [false, false, true, false]),
    ("a bias, then its weight", [true, false, true, false], [true; 4]),
];

fn train(model: &mut Net, trained: [bool; 4]) {
    for ((_, p), trained) in model.parameters_mut().into_iter().zip(trained) {
        p.set_trainable(trained);
    }
}

fn steps(model: &mut Net, optimizer: &mut dyn Optimizer, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        step(model, optimizer, &batch(seed, DType::F64));
    }
}

#[test]
fn every_optimizer_takes_back_what_it_has_saved_whatever_was_frozen_when() {
    for name in known() {
        for (case, first, then) in CASES {
            let (mut model, mut optimizer) = (Net::new(DType::F64), build(name, None).unwrap());
            train(&mut model, first);
            steps(&mut model, &mut *optimizer, 0..4);
            train(&mut model, then);
            let saved = optimizer.state(&model).unwrap();
            let (mut copy, mut resumed) = (Net::new(DType::F64), build(name, None).unwrap());
            copy_values(&mut copy, &model);
            train(&mut copy, then);
            if let Err(error) = resumed.load_state(&copy, &saved) {
                panic!("{name}, {case}: {error}");
            }
            assert_eq!(
                everything(&copy, &*resumed),
                everything(&model, &*optimizer),
                "{name}, {case}"
            );
            steps(&mut model, &mut *optimizer, 4..7);
            steps(&mut copy, &mut *resumed, 4..7);
            assert_eq!(
                everything(&copy, &*resumed),
                everything(&model, &*optimizer),
                "{name}, {case}: later"
            );
        }
    }
}

#[test]
fn a_state_saved_while_something_is_frozen_is_taken_by_a_model_that_trains_it() {
    for name in known() {
        let (mut model, mut optimizer) = (Net::new(DType::F64), build(name, None).unwrap());
        train(&mut model, [true, true, false, false]);
        steps(&mut model, &mut *optimizer, 0..4);
        let saved = optimizer.state(&model).unwrap();
        train(&mut model, [true; 4]);
        let mut resumed = build(name, None).unwrap();
        if let Err(error) = resumed.load_state(&model, &saved) {
            panic!("{name}: {error}");
        }
        steps(&mut model, &mut *resumed, 4..6);
    }
}
