//! Seconds-long runs of every optimizer on real data: they learn, they resume, they stop on NaN.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

use std::collections::BTreeMap;

use alcyon::nn::{checkpoint, data, layer, metric};
use alcyon::optim::{self, Batch, backward};
use alcyon::prelude::*;

/// The digits that fit a second-long run.
fn small_digits() -> (data::Dataset, data::Dataset) {
    let (train, test) = data::digits().unwrap();
    (train.range(0, 512).unwrap(), test)
}

/// Convolution, batch norm, linear: every kind of member a checkpoint must keep.
fn network(seed: u64) -> layer::Sequential {
    let rng = &mut Rng::new(seed);
    layer::Sequential::new()
        .then(layer::Conv2d::new(1, 4, Window { padding: (1, 1), ..Window::new((3, 3)) }, rng))
        .then(layer::BatchNorm2d::new(4))
        .then(layer::Relu)
        .then(layer::MaxPool2d::new(2))
        .then(layer::Flatten)
        .then(layer::Linear::new(64, 10, rng))
}

/// Trains for some steps from batch number `first` on; returns the last loss.
fn train(
    model: &mut layer::Sequential,
    optimizer: &mut dyn Optimizer,
    data: &data::Dataset,
    order: &mut Rng,
    steps: std::ops::Range<u64>,
) -> f64 {
    let loader = Loader::new(data, 64).unwrap();
    let mut batches = loader.epoch(order);
    let mut last = f64::NAN;
    for step in steps {
        let batch = match batches.next() {
            Some(batch) => batch.unwrap(),
            None => {
                batches = loader.epoch(order);
                batches.next().unwrap().unwrap()
            }
        };
        let loss = CrossEntropy::new(&batch.targets);
        let forward = |model: &layer::Sequential, tape: &Tape| {
            model.forward(&tape.input(batch.inputs.clone()))
        };
        let taken = optimizer.minimize(&mut Batch::new(model, forward, &loss).training(step));
        last = match taken {
            Err(Error::NotFinite { .. }) => return f64::NAN,
            taken => taken.unwrap(),
        };
    }
    last
}

fn bits(model: &layer::Sequential) -> Vec<(String, Vec<u64>)> {
    let of = |t: &Tensor| t.to_f64_vec().unwrap().into_iter().map(f64::to_bits).collect();
    let parameters = model.parameters().into_iter().map(|(path, p)| (path, of(p.value())));
    let buffers = model.buffers().into_iter().map(|(path, b)| (path, of(b.value())));
    parameters.chain(buffers).collect()
}

/// Optimizers that form the whole matrix of curvature at every step: not for a network of this size.
const WHOLE_MATRIX: [&str; 2] = ["natural-gradient", "newton"];

/// All others.
fn by_name() -> impl Iterator<Item = &'static str> {
    optim::known().into_iter().filter(|name| !WHOLE_MATRIX.contains(name))
}

#[test]
fn every_optimizer_by_name_learns_the_digits() {
    let (data, test) = small_digits();
    for name in by_name() {
        let rate = optim::build(name, None).unwrap().rate();
        // Default rates are for long runs: some are a hundred times too careful for sixty steps.
        let learned = [1.0, 10.0, 100.0].into_iter().any(|factor| {
            let mut model = network(0);
            let mut optimizer = optim::build(name, Some(factor * rate)).unwrap();
            let loss = train(&mut model, &mut *optimizer, &data, &mut Rng::new(1), 0..60);
            let guesses = model.predict(&test.inputs).unwrap();
            let accuracy = metric::accuracy(&guesses, &test.labels).unwrap();
            // Guessing is ln 10 = 2.30 and 10 %.
            loss < 2.0 && accuracy > 0.25
        });
        assert!(learned, "{name}");
    }
}

#[test]
fn a_run_that_was_saved_and_resumed_equals_an_uninterrupted_one_bit_for_bit() {
    let (data, _) = small_digits();
    let dir = tempfile::tempdir().unwrap();
    for name in by_name() {
        let new = || (network(3), optim::build(name, None).unwrap(), Rng::new(5));

        let (mut whole, mut optimizer, mut order) = new();
        train(&mut whole, &mut *optimizer, &data, &mut order, 0..8);
        train(&mut whole, &mut *optimizer, &data, &mut order, 8..16);

        let (mut half, mut optimizer, mut order) = new();
        train(&mut half, &mut *optimizer, &data, &mut order, 0..8);
        let file = dir.path().join(name);
        let state = optimizer.state(&half).unwrap();
        checkpoint::save(&file, &half, &state.tensors, &state.numbers).unwrap();
        let saved_order = order.state();
        drop((half, optimizer));

        let (mut resumed, mut optimizer) = (network(77), optim::build(name, None).unwrap());
        let found = checkpoint::load(&file, &mut resumed).unwrap();
        let state =
            State { optimizer: state.optimizer, numbers: found.metadata, tensors: found.extra };
        optimizer.load_state(&resumed, &state).unwrap();
        train(&mut resumed, &mut *optimizer, &data, &mut Rng::from_state(saved_order), 8..16);
        assert_eq!(bits(&resumed), bits(&whole), "{name}");
    }
}

#[test]
fn the_state_of_another_optimizer_is_refused_and_changes_nothing() {
    let (data, _) = small_digits();
    let mut model = network(0);
    let mut adam = optim::build("adam", None).unwrap();
    train(&mut model, &mut *adam, &data, &mut Rng::new(1), 0..2);
    let state = adam.state(&model).unwrap();
    for name in ["sgd", "kfac", "shampoo", "adafisher"] {
        let mut other = optim::build(name, None).unwrap();
        assert!(other.load_state(&model, &state).is_err(), "{name} took a state of adam");
    }
    let mut lying = state.clone();
    for tensor in lying.tensors.values_mut() {
        *tensor = Tensor::zeros([1, 1, 1], DType::F32);
    }
    assert!(adam.load_state(&model, &lying).is_err(), "shapes are checked");
    let after = adam.state(&model).unwrap();
    let values = |s: &State| -> BTreeMap<String, Vec<f64>> {
        s.tensors.iter().map(|(k, t)| (k.clone(), t.to_f64_vec().unwrap())).collect()
    };
    assert_eq!(values(&after), values(&state));
}

#[test]
fn an_unknown_optimizer_is_an_error_that_lists_the_known_ones() {
    let error = optim::build("adamm", None).err().unwrap().to_string();
    assert!(
        error.contains("adamm") && error.contains("adafisher") && error.contains("kfac"),
        "{error}"
    );
}

#[test]
fn a_parameter_without_a_gradient_is_named_before_anything_is_updated() {
    for name in optim::known() {
        let mut model = network(0);
        let before = bits(&model);
        let mut optimizer = optim::build(name, None).unwrap();
        let error = optimizer.step(&mut model, &Gradients::default());
        assert!(matches!(error, Err(Error::MissingGradient { .. })), "{name}: {error:?}");
        assert_eq!(bits(&model), before, "{name}");
    }
}

#[test]
fn a_loss_that_is_not_finite_is_traced_to_the_first_op_that_made_it() {
    let (data, _) = small_digits();
    let mut model = network(0);
    if let Some((_, weight)) = model.parameters_mut().first_mut() {
        weight.value_mut().make_mut::<f32>().unwrap()[0] = f32::INFINITY;
    }
    let tape = Tape::training(0);
    let logits = model.forward(&tape.input(data.inputs.narrow(0, 0, 8).unwrap())).unwrap();
    let loss = CrossEntropy::new(&data.labels.narrow(0, 0, 8).unwrap()).nll(&logits).unwrap();
    assert!(!loss.item().unwrap().is_finite());
    let found = tape.first_non_finite().unwrap().unwrap();
    assert!(matches!(found, Error::NotFinite { op: "parameter", .. }), "{found}");
}

#[test]
fn a_run_that_meets_a_loss_that_is_not_finite_leaves_its_last_checkpoint_intact() {
    let (data, _) = small_digits();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("last.safetensors");
    let (mut model, mut optimizer) = (network(3), optim::build("adam", None).unwrap());
    let mut saved = Vec::new();
    // An honest loop: a checkpoint after every good step, an end at the first bad one. A poisoned
    // row comes in the fourth.
    let report = (0..8).find_map(|step| {
        let rows = data.range(64 * step, 64).unwrap();
        let inputs = if step == 3 { rows.inputs.scale(f64::NAN).unwrap() } else { rows.inputs };
        let tape = Tape::training(step as u64);
        let logits = model.forward(&tape.input(inputs)).unwrap();
        let loss = CrossEntropy::new(&rows.labels);
        let pass = match backward(&tape, &logits, &loss, &mut *optimizer) {
            Ok(pass) => pass,
            Err(report) => return Some(report),
        };
        model.commit(tape.staged()).unwrap();
        drop((logits, tape));
        optimizer.step(&mut model, &pass.gradients).unwrap();
        let state = optimizer.state(&model).unwrap();
        checkpoint::save(&file, &model, &state.tensors, &state.numbers).unwrap();
        saved = bits(&model);
        None
    });
    assert!(matches!(report, Some(Error::NotFinite { op: "input", record: 0, .. })), "{report:?}");
    let mut restored = network(77);
    checkpoint::load(&file, &mut restored).unwrap();
    assert_eq!(bits(&restored), saved, "the file holds the third step");
    assert_eq!(bits(&model), saved, "and the model was not touched by the fourth");
}
