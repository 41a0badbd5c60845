//! What holds for every optimizer that has a name: it descends, resumes exactly, treats parameters
//! alike whatever their order, and refuses what it cannot do before it changes anything.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

use engine::parameter::{Member, MemberMut};
use engine::{
    DType, Error, Geometry, Gradients, Parameter, Parameters, Result, Rng, Tape, Tensor, Var,
    Window, parameters,
};
use nn::CrossEntropy;
use optim::{Batch, Optimizer, backward, build, known};

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
fn step<M: Forward>(
    model: &mut M,
    optimizer: &mut dyn Optimizer,
    (x, y): &(Tensor, Tensor),
) -> f64 {
    let loss = CrossEntropy::new(y);
    let forward = |model: &M, tape: &Tape| model.logits(tape, x);
    optimizer.minimize(&mut Batch::new(model, forward, &loss).training(0)).unwrap()
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
        // Sums over all parameters (K-FAC's clip, products of vectors) are in another order.
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

#[test]
fn f32_and_f64_go_the_same_way() {
    for name in known().into_iter().filter(|name| !TURNED.contains(name)) {
        let (mut single, mut a) = (Net::new(DType::F32), build(name, None).unwrap());
        let (mut double, mut b) = (Net::new(DType::F64), build(name, None).unwrap());
        let start = values(&double);
        for seed in 0..3 {
            step(&mut single, &mut *a, &batch(seed, DType::F32));
            step(&mut double, &mut *b, &batch(seed, DType::F64));
        }
        let (single, double) = (values(&single), values(&double));
        let way =
            |end: &[f64]| -> Vec<f64> { end.iter().zip(&start).map(|(x, y)| x - y).collect() };
        let (short, long) = (way(&single), way(&double));
        let apart: Vec<f64> = short.iter().zip(&long).map(|(x, y)| x - y).collect();
        let length = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
        assert!(
            length(&apart) < SINGLE * length(&long) + 1e-6,
            "{name}: {} of {}",
            length(&apart),
            length(&long)
        );
    }
}

/// What single precision may do to the way of three steps, relative to its length.
const SINGLE: f64 = 0.01;

/// Optimizers that turn into eigenvectors: those of an eigenvalue that occurs twice (0, at the first
/// gradient of a softmax layer) are any, and rounding chooses.
const TURNED: [&str; 3] = ["soap", "eshampoo", "splus"];

/// Optimizers whose random probe is another for every micro-batch: only their mean is the same.
const PROBED: [&str; 3] = ["adahessian", "sophia", "sophia-h"];

#[test]
fn two_micro_batches_are_one_batch() {
    for name in known() {
        let (mut whole, mut a) = (Net::new(DType::F64), build(name, None).unwrap());
        let (mut parts, mut b) = (Net::new(DType::F64), build(name, None).unwrap());
        if a.needs_problem() || PROBED.contains(&name) || TURNED.contains(&name) {
            continue;
        }
        for seed in 0..3 {
            let (x, y) = batch(seed, DType::F64);
            step(&mut whole, &mut *a, &(x.clone(), y.clone()));
            let mut sum = Gradients::default();
            for half in 0..2 {
                let (x, y) =
                    (x.narrow(0, 12 * half, 12).unwrap(), y.narrow(0, 12 * half, 12).unwrap());
                let tape = Tape::training(0);
                let logits = parts.logits(&tape, &x).unwrap();
                let loss = CrossEntropy::new(&y.contiguous().unwrap());
                let pass = backward(&tape, &logits, &loss, &mut *b).unwrap();
                sum.accumulate(&pass.gradients).unwrap();
            }
            sum.scale(0.5).unwrap();
            b.step(&mut parts, &sum).unwrap();
        }
        let apart = largest_difference(&values(&whole), &values(&parts));
        // Shampoo's roots of matrices that are nearly singular magnify rounding.
        let tolerance = if name == "shampoo" { 1e-7 } else { 1e-11 };
        assert!(apart < tolerance, "{name}: {apart}");
    }
}

#[test]
fn a_gradient_of_zero_does_no_harm() {
    for name in known() {
        let (mut model, mut optimizer) = (Net::new(DType::F32), build(name, None).unwrap());
        if optimizer.needs_problem() {
            continue;
        }
        step(&mut model, &mut *optimizer, &batch(0, DType::F32));
        for _ in 0..50 {
            let mut zeros = Gradients::default();
            for (_, p) in model.parameters() {
                zeros.set(p, Tensor::zeros(*p.value().shape(), DType::F32));
            }
            optimizer.step(&mut model, &zeros).unwrap();
        }
        step(&mut model, &mut *optimizer, &batch(1, DType::F32));
        assert!(values(&model).iter().all(|x| x.is_finite()), "{name}");
    }
}

/// Two layers of one unit each, and a first one that is dead: its ReLU never opens.
struct Thin {
    first: Parameter,
    first_bias: Parameter,
    second: Parameter,
    second_bias: Parameter,
    last: Parameter,
    last_bias: Parameter,
}
parameters!(Thin { first, first_bias, second, second_bias, last, last_bias });

impl Thin {
    fn new(first_bias: f64) -> Self {
        let parameter = |t: Tensor| Parameter::new(t.to_dtype(DType::F32).unwrap());
        Self {
            first: parameter(noise([1, 4], 1)),
            first_bias: parameter(Tensor::full([1], first_bias, DType::F64)),
            second: parameter(noise([1, 1], 3)),
            second_bias: parameter(noise([1], 4)),
            last: parameter(noise([3, 1], 5)),
            last_bias: parameter(noise([3], 6)),
        }
    }
}

impl Forward for Thin {
    fn logits(&self, tape: &Tape, x: &Tensor) -> Result<Var> {
        let [w, b, v, c, u, d] = [
            &self.first,
            &self.first_bias,
            &self.second,
            &self.second_bias,
            &self.last,
            &self.last_bias,
        ]
        .map(|parameter| tape.bind(parameter));
        let y = tape.input(x.clone()).linear(&w, Some(&b))?.relu()?;
        y.linear(&v, Some(&c))?.tanh()?.linear(&u, Some(&d))
    }
}

#[test]
fn layers_of_one_unit_and_dead_layers_are_survived() {
    for name in known() {
        for first_bias in [0.5, -100.0] {
            let (mut model, mut optimizer) = (Thin::new(first_bias), build(name, None).unwrap());
            for seed in 0..25 {
                let loss = step(&mut model, &mut *optimizer, &batch(seed, DType::F32));
                assert!(loss.is_finite(), "{name} at step {seed}");
            }
            assert!(values(&model).iter().all(|x| x.is_finite()), "{name}");
        }
    }
}

/// A convolution, a norm, an embedding and a layer: every kind of parameter there is.
struct Mixed {
    kernel: Parameter,
    kernel_bias: Parameter,
    scale: Parameter,
    shift: Parameter,
    table: Parameter,
    last: Parameter,
}
parameters!(Mixed { kernel, kernel_bias, scale, shift, table, last });

impl Mixed {
    fn new() -> Self {
        Self {
            kernel: Parameter::new(noise([2, 1, 2, 2], 1)),
            kernel_bias: Parameter::new(noise([2], 2)),
            scale: Parameter::new(Tensor::ones([2], DType::F64)),
            shift: Parameter::new(noise([2], 3)),
            table: Parameter::new(noise([5, 2], 4)),
            last: Parameter::new(noise([3, 2], 5)),
        }
    }
}

impl Forward for Mixed {
    fn logits(&self, tape: &Tape, x: &Tensor) -> Result<Var> {
        let n = x.shape()[0];
        let geometry = Geometry { window: Window::new((2, 2)), groups: 1 };
        let image = tape.input(x.reshape([n, 1, 2, 2])?);
        let (kernel, bias) = (tape.bind(&self.kernel), tape.bind(&self.kernel_bias));
        let seen = image.conv2d(&kernel, Some(&bias), geometry)?.tanh()?.flatten(1)?;
        let words: Vec<i64> = (0..n as i64).map(|i| i % 5).collect();
        let words = tape.input(Tensor::from_vec(words, [n])?).embedding(&tape.bind(&self.table))?;
        let (scale, shift) = (tape.bind(&self.scale), tape.bind(&self.shift));
        let both = seen.add(&words)?.layer_norm(Some(&scale), Some(&shift), 1e-2)?;
        both.linear(&tape.bind(&self.last), None)
    }
}

#[test]
fn every_kind_of_parameter_moves_under_every_optimizer_and_has_its_rule() {
    for name in known() {
        let (mut model, mut optimizer) = (Mixed::new(), build(name, None).unwrap());
        let value = |model: &Mixed| -> Vec<(String, Vec<f64>)> {
            let all = model.parameters().into_iter();
            all.map(|(path, p)| (path, p.value().to_f64_vec().unwrap())).collect()
        };
        let before = value(&model);
        let losses: Vec<f64> =
            (0..5).map(|_| step(&mut model, &mut *optimizer, &batch(3, DType::F64))).collect();
        assert!(losses.iter().all(|loss| loss.is_finite()), "{name}: {losses:?}");
        for ((path, before), (_, after)) in before.iter().zip(value(&model)) {
            assert_ne!(*before, after, "{name} does not move {path}");
        }
        let coverage = optimizer.coverage(&model);
        assert_eq!(coverage.lines.len(), 6, "{name}");
        assert!(
            coverage.lines.iter().all(|line| !line.rule.contains("no layer")),
            "{name}\n{coverage}"
        );
    }
}
