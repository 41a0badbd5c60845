//! What holds for every optimizer that has a name: it descends, leaves alone what is frozen, tells what it
//! covers, and refuses what it cannot do before it changes anything. More is in `battery.rs`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

#[path = "battery/models.rs"]
#[allow(dead_code, reason = "the battery uses the rest")]
mod models;

use engine::{DType, Error, Gradients, Parameters, Tensor};
use models::{Net, batch, step, values};
use optim::{build, known};

#[test]
fn every_optimizer_descends() {
    for name in known() {
        let (mut model, mut optimizer) = (Net::new(DType::F32), build(name, None).unwrap());
        let data = batch(0, DType::F32);
        let losses: Vec<f64> = (0..200).map(|_| step(&mut model, &mut *optimizer, &data)).collect();
        assert!(losses[199] < 0.97 * losses[0], "{name}: {} to {}", losses[0], losses[199]);
    }
}

#[test]
fn no_optimizer_moves_what_is_frozen_or_moves_at_all_without_gradients() {
    for name in known() {
        let (mut model, mut optimizer) = (Net::new(DType::F64), build(name, None).unwrap());
        let before = values(&model);
        let error = optimizer.step(&mut model, &Gradients::default()).unwrap_err();
        assert!(matches!(error, Error::MissingGradient { .. }), "{name}: {error}");
        assert_eq!(values(&model), before, "{name}");

        model.second.set_trainable(false);
        let frozen = model.second.value().to_f64_vec().unwrap();
        for seed in 0..2 {
            step(&mut model, &mut *optimizer, &batch(seed, DType::F64));
        }
        assert_eq!(model.second.value().to_f64_vec().unwrap(), frozen, "{name}");
        assert_ne!(values(&model), before, "{name}");
    }
}

#[test]
fn a_gradient_of_another_shape_or_dtype_is_refused_with_the_path_of_its_parameter() {
    for name in known() {
        let (mut model, mut optimizer) = (Net::new(DType::F64), build(name, None).unwrap());
        let before = values(&model);
        for wrong in [Tensor::zeros([3], DType::F64), Tensor::zeros([4, 4], DType::F32)] {
            let mut grads = Gradients::default();
            for (path, p) in model.parameters() {
                let zeros = Tensor::ones(*p.value().shape(), DType::F64);
                grads.set(p, if path == "first" { wrong.clone() } else { zeros });
            }
            let error = optimizer.step(&mut model, &grads).unwrap_err().to_string();
            assert!(error.starts_with("first: step: expected "), "{name}: {error}");
            assert_eq!(values(&model), before, "{name}");
        }
    }
}

#[test]
fn every_optimizer_covers_every_parameter_and_counts_its_state() {
    for name in known() {
        let (mut model, mut optimizer) = (Net::new(DType::F32), build(name, None).unwrap());
        step(&mut model, &mut *optimizer, &batch(0, DType::F32));
        let coverage = optimizer.coverage(&model);
        let listed: Vec<&str> = coverage.lines.iter().map(|line| line.param.as_str()).collect();
        assert_eq!(listed, ["first", "first_bias", "second", "second_bias"], "{name}");
        let saved: usize =
            optimizer.state(&model).unwrap().tensors.values().map(Tensor::bytes).sum();
        assert!(coverage.state_bytes() >= saved, "{name}: {saved} bytes saved\n{coverage}");
        assert!(coverage.lines.iter().all(|line| !line.rule.is_empty()), "{name}");
    }
}

#[test]
fn no_optimizer_takes_a_saved_rate_or_damping_that_is_none() {
    for name in known() {
        let (mut model, mut optimizer) = (Net::new(DType::F64), build(name, None).unwrap());
        step(&mut model, &mut *optimizer, &batch(0, DType::F64));
        let (state, rate) = (optimizer.state(&model).unwrap(), optimizer.rate());
        let quantities = |key: &&String| ["rate", "damping"].iter().any(|end| key.ends_with(end));
        for key in state.numbers.keys().filter(quantities) {
            for bad in ["NaN", "inf", "-0.1"] {
                let mut state = state.clone();
                state.numbers.insert(key.clone(), bad.to_owned());
                let error = optimizer.load_state(&model, &state).unwrap_err().to_string();
                assert!(error.contains(key) && error.contains(bad), "{name}: {error}");
                assert_eq!(optimizer.rate(), rate, "{name}");
            }
        }
    }
}

#[test]
fn no_optimizer_takes_the_state_of_another() {
    for name in known() {
        let (mut model, mut optimizer) = (Net::new(DType::F64), build(name, None).unwrap());
        step(&mut model, &mut *optimizer, &batch(0, DType::F64));
        let mut state = optimizer.state(&model).unwrap();
        state.optimizer = "nobody".to_owned();
        let error = optimizer.load_state(&model, &state).unwrap_err();
        assert!(matches!(error, Error::Unknown { .. }), "{name}: {error}");
        let mut state = optimizer.state(&model).unwrap();
        state.tensors.insert("elsewhere/m".to_owned(), Tensor::zeros([2], DType::F64));
        assert!(optimizer.load_state(&model, &state).is_err(), "{name}");
    }
}
