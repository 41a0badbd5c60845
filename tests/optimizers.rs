//! What holds for every optimizer that has a name: it descends, resumes exactly, treats parameters
//! alike whatever their order, and refuses what it cannot do before it changes anything.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use engine::parameter::{Member, MemberMut};
use engine::{
    DType, Error, Gradients, Parameter, Parameters, Result, Rng, Tape, Tensor, Var, parameters,
};
use nn::CrossEntropy;
use optim::{Optimizer, backward, build, known};

/// Two dense layers; the first is used twice.
struct Net {
    first: Parameter,
    first_bias: Parameter,
    second: Parameter,
    second_bias: Parameter,
}
parameters!(Net { first, first_bias, second, second_bias });

fn noise<const N: usize>(shape: [usize; N], seed: u64) -> Tensor {
    Tensor::normal(shape, 0.0, 0.6, DType::F64, &mut Rng::new(seed))
}

impl Net {
    fn new(dtype: DType) -> Self {
        let parameter = |t: Tensor| Parameter::new(t.to_dtype(dtype).unwrap());
        Self {
            first: parameter(noise([4, 4], 1)),
            first_bias: parameter(noise([4], 2)),
            second: parameter(noise([3, 4], 3)),
            second_bias: parameter(noise([3], 4)),
        }
    }
}

trait Forward: Parameters {
    fn logits(&self, tape: &Tape, x: &Tensor) -> Result<Var>;
}

impl Forward for Net {
    fn logits(&self, tape: &Tape, x: &Tensor) -> Result<Var> {
        let [w, b, v, c] = [&self.first, &self.first_bias, &self.second, &self.second_bias]
            .map(|parameter| tape.bind(parameter));
        let y = tape.input(x.clone()).linear(&w, Some(&b))?.tanh()?;
        y.linear(&w, Some(&b))?.tanh()?.linear(&v, Some(&c))
    }
}

/// The same model, its parameters listed from the last to the first.
struct Reversed(Net);

impl Parameters for Reversed {
    fn collect<'a>(&'a self, at: &str, out: &mut Vec<(String, Member<'a>)>) {
        self.0.collect(at, out);
        out.reverse();
    }

    fn collect_mut<'a>(&'a mut self, at: &str, out: &mut Vec<(String, MemberMut<'a>)>) {
        self.0.collect_mut(at, out);
        out.reverse();
    }
}

impl Forward for Reversed {
    fn logits(&self, tape: &Tape, x: &Tensor) -> Result<Var> {
        self.0.logits(tape, x)
    }
}

/// Labels that follow from the input, so that there is something to learn.
fn batch(seed: u64, dtype: DType) -> (Tensor, Tensor) {
    let x = noise([24, 4], 100 + seed);
    let values = x.to_vec::<f64>().unwrap();
    let label = |row: &[f64]| i64::from(row[0] > 0.0) + i64::from(row[1] > row[2]);
    let labels: Vec<i64> = values.chunks(4).map(label).collect();
    (x.to_dtype(dtype).unwrap(), Tensor::from_vec(labels, [24]).unwrap())
}

/// One step; the loss before it.
fn step(model: &mut impl Forward, optimizer: &mut dyn Optimizer, (x, y): &(Tensor, Tensor)) -> f64 {
    let tape = Tape::training(0);
    let logits = model.logits(&tape, x).unwrap();
    let pass = backward(&tape, &logits, &CrossEntropy::new(y), optimizer).unwrap();
    drop(tape);
    optimizer.step(model, &pass.gradients).unwrap();
    pass.loss.item().unwrap()
}

fn values(model: &impl Parameters) -> Vec<f64> {
    let mut all = model.parameters();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all.iter().flat_map(|(_, p)| p.value().to_f64_vec().unwrap()).collect()
}

fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

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
fn every_optimizer_resumes_to_the_last_bit() {
    for name in known() {
        for dtype in [DType::F32, DType::F64] {
            let (mut model, mut optimizer) = (Net::new(dtype), build(name, None).unwrap());
            (0..7).for_each(|seed| {
                step(&mut model, &mut *optimizer, &batch(seed, dtype));
            });
            let state = optimizer.state(&model).unwrap();
            let (mut copy, mut resumed) = (Net::new(dtype), build(name, Some(0.5)).unwrap());
            for ((_, to), (_, from)) in copy.parameters_mut().into_iter().zip(model.parameters()) {
                *to.value_mut() = from.value().clone();
            }
            resumed.load_state(&copy, &state).unwrap();
            assert_eq!(resumed.rate(), optimizer.rate(), "{name}");
            for seed in 7..20 {
                step(&mut model, &mut *optimizer, &batch(seed, dtype));
                step(&mut copy, &mut *resumed, &batch(seed, dtype));
            }
            assert_eq!(values(&copy), values(&model), "{name}");
        }
    }
}

#[test]
fn no_optimizer_minds_the_order_of_parameters() {
    for name in known() {
        let (mut straight, mut a) = (Net::new(DType::F64), build(name, None).unwrap());
        let (mut reversed, mut b) = (Reversed(Net::new(DType::F64)), build(name, None).unwrap());
        for seed in 0..5 {
            step(&mut straight, &mut *a, &batch(seed, DType::F64));
            step(&mut reversed, &mut *b, &batch(seed, DType::F64));
        }
        let apart = largest_difference(&values(&straight), &values(&reversed));
        // Sums over all parameters (K-FAC's clip) are in another order.
        assert!(apart < 1e-12, "{name}: {apart}");
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
        step(&mut model, &mut *optimizer, &batch(0, DType::F64));
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
