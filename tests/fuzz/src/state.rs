//! States of optimizers: tensors and numbers under names, as a snapshot has them.

use std::path::Path;

use alcyon::nn::Checkpoint;
use alcyon::optim::{Batch, Optimizer, State, build};
use alcyon::prelude::{CrossEntropy, Linear, Module, Result, Rng, Tape, Tensor};

use super::weights::numbers;

/// A state is refused with nothing changed, or taken as it is; and with one that was taken a step is taken or refused.
pub fn state(bytes: &[u8]) -> bool {
    let file = Path::new("state.safetensors");
    let Ok(read) = Checkpoint::decoded(file, bytes) else { return false };
    let mut counters = read.metadata;
    let name = counters.remove("optimizer").unwrap_or_else(|| "adam".into());
    let Ok(mut optimizer) = build(&name, None) else { return false };
    let state = State { optimizer: name, numbers: counters, tensors: read.extra };
    let mut model = Linear::new(3, 2, &mut Rng::new(0));
    step(&mut model, &mut *optimizer).unwrap();
    let before = optimizer.state(&model).unwrap();
    let loaded = optimizer.load_state(&model, &state);
    let after = optimizer.state(&model).unwrap();
    match &loaded {
        Ok(()) => {
            let _ = optimizer.coverage(&model);
            let weights = numbers(&model);
            if step(&mut model, &mut *optimizer).is_err() {
                assert_eq!(numbers(&model), weights, "a refused step has moved the model");
            }
            let now = optimizer.state(&model).unwrap();
            assert!(optimizer.load_state(&model, &now).is_ok(), "what it writes it does not take");
        }
        Err(_) => assert!(same(&before, &after), "a refused state has changed the optimizer"),
    }
    loaded.is_ok()
}

/// A step on four examples, which keep their layers' rows.
pub fn step(model: &mut Linear, optimizer: &mut dyn Optimizer) -> Result<f64> {
    let x = Tensor::from_fn([4, 3], alcyon::prelude::DType::F32, |i| (i as f64).sin());
    let y = Tensor::from_slice(&[0_i64, 1, 1, 0], [4])?;
    let loss = CrossEntropy::new(&y);
    let forward = |model: &Linear, tape: &Tape| model.forward(&tape.input(x.clone()));
    optimizer.minimize(&mut Batch::new(model, forward, &loss).training(0))
}

fn same(a: &State, b: &State) -> bool {
    let bits =
        |t: &Tensor| t.to_f64_vec().unwrap().into_iter().map(f64::to_bits).collect::<Vec<_>>();
    let alike = |((k, x), (l, y)): ((&String, &Tensor), (&String, &Tensor))| {
        k == l && x.shape() == y.shape() && x.dtype() == y.dtype() && bits(x) == bits(y)
    };
    a.numbers == b.numbers
        && a.tensors.len() == b.tensors.len()
        && a.tensors.iter().zip(&b.tensors).all(alike)
}
