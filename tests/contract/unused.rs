//! A trainable parameter that the loss does not use: refused, unless it may be skipped.

use engine::{DType, Error, Parameter, Result, Tape, Tensor, Unused, Var, parameters};
use nn::CrossEntropy;
use optim::{Batch, Optimizer, build, known};

use super::models::{batch, noise};

/// A model with two branches, of which a pass takes one.
struct Branches {
    left: Parameter,
    left_bias: Parameter,
    right: Parameter,
}
parameters!(Branches { left, left_bias, right });

impl Branches {
    fn new() -> Self {
        Self {
            left: Parameter::new(noise([3, 4], 1)),
            left_bias: Parameter::new(noise([3], 2)),
            right: Parameter::new(noise([3, 4], 3)),
        }
    }

    fn logits(&self, tape: &Tape, x: &Tensor, left: bool) -> Result<Var> {
        let x = tape.input(x.clone());
        match left {
            true => x.linear(&tape.bind(&self.left), Some(&tape.bind(&self.left_bias))),
            false => x.linear(&tape.bind(&self.right), None),
        }
    }
}

fn minimize(
    model: &mut Branches,
    optimizer: &mut dyn Optimizer,
    (seed, left, unused): (u64, bool, Unused),
) -> Result<f64> {
    let (x, y) = batch(seed, DType::F64);
    let loss = CrossEntropy::new(&y);
    let forward = |model: &Branches, tape: &Tape| model.logits(tape, &x, left);
    optimizer.minimize(&mut Batch::new(model, forward, &loss).unused(unused))
}

fn numbers(p: &Parameter) -> Vec<f64> {
    p.value().to_f64_vec().unwrap()
}

#[test]
fn an_unused_parameter_is_refused_and_the_words_name_the_option() {
    for name in known() {
        let (mut model, mut optimizer) = (Branches::new(), build(name, None).unwrap());
        let refused = minimize(&mut model, &mut *optimizer, (0, true, Unused::Refuse)).unwrap_err();
        assert!(matches!(&refused, Error::MissingGradient { param } if param == "right"), "{name}");
        assert!(refused.to_string().contains("Unused::Skip"), "{refused}");
    }
}

#[test]
fn every_optimizer_skips_what_a_batch_does_not_use_and_what_it_keeps_of_it() {
    let of_right = |state: optim::State| {
        let tensors = state.tensors.into_iter().filter(|(key, _)| key.starts_with("right/"));
        tensors.map(|(key, t)| (key, t.to_f64_vec().unwrap())).collect::<Vec<_>>()
    };
    for name in known() {
        let (mut model, mut optimizer) = (Branches::new(), build(name, None).unwrap());
        let skip = |seed, left| (seed, left, Unused::Skip);
        minimize(&mut model, &mut *optimizer, skip(0, false)).unwrap();
        let (right, kept) = (numbers(&model.right), of_right(optimizer.state(&model).unwrap()));
        let left = numbers(&model.left);
        for seed in 1..4 {
            minimize(&mut model, &mut *optimizer, skip(seed, true)).unwrap();
        }
        assert_eq!(numbers(&model.right), right, "{name}: what is skipped moves");
        assert_ne!(numbers(&model.left), left, "{name}: what is used does not");
        if !["lbfgs", "hessian-free"].contains(&name) {
            let now = of_right(optimizer.state(&model).unwrap());
            assert_eq!(now, kept, "{name}: what is kept of it changes");
        }
        minimize(&mut model, &mut *optimizer, skip(4, false)).unwrap();
        assert_ne!(numbers(&model.right), right, "{name}: it is not taken up again");
    }
}
