//! What an observer of a backward sweep is told: a record for every use of a layer, whose rows
//! multiply to the very gradient; a word about every use outside of layers; and nothing else.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test fails it")]

use std::collections::HashMap;
use std::fs;

use engine::ops::OPS;
use engine::{
    Buffer, DType, Error, Geometry, Layer, LayerObserver, LayerRecord, Norm, ParamId, Parameter,
    Parameters, Product, Result, Rng, Sample, Tape, Tensor, Var, Window,
};

/// The same sums in another order, in f64.
const REORDERED: f64 = 1e-12;

/// Keeps all that it is told.
#[derive(Default)]
struct Witness {
    records: Vec<LayerRecord>,
    unlayered: Vec<(ParamId, &'static str)>,
}

impl LayerObserver for Witness {
    fn observe(&mut self, record: &LayerRecord) -> Result<()> {
        self.records.observe(record)
    }
    fn unlayered(&mut self, param: ParamId, op: &'static str) -> Result<()> {
        self.unlayered.push((param, op));
        Ok(())
    }
}

fn noise<const N: usize>(shape: [usize; N], seed: u64) -> Tensor {
    Tensor::normal(shape, 0.0, 1.0, DType::F64, &mut Rng::new(seed))
}

fn parameter<const N: usize>(shape: [usize; N], seed: u64) -> Parameter {
    Parameter::new(noise(shape, seed))
}

fn numbers(t: &Tensor) -> Vec<f64> {
    t.to_f64_vec().unwrap()
}

fn assert_close(got: &[f64], expected: &[f64], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (a, b) in got.iter().zip(expected) {
        assert!((a - b).abs() <= REORDERED * b.abs().max(1.0), "{what}: {a} and {b}");
    }
}

/// ⟨c, y⟩ for a fixed random c: a loss whose gradient with respect to y is c.
fn project(y: &Var) -> (Var, Tensor) {
    let c = Tensor::normal(*y.shape(), 0.0, 1.0, DType::F64, &mut Rng::new(99));
    (y.mul(&Var::constant(&c)).unwrap().sum_all().unwrap(), c)
}

/// The gradients that a record's rows say its weight and its bias have.
fn from_rows(record: &LayerRecord) -> (Vec<f64>, Vec<f64>) {
    let (mut weight, mut bias) = (Vec::new(), Vec::new());
    for rows in record.rows().unwrap() {
        assert_eq!(rows.a.shape()[0], rows.g.shape()[0], "as many rows on either side");
        assert_eq!(rows.a.shape()[0] % rows.examples.max(1), 0, "whole examples");
        let gradient = rows.gradient().unwrap();
        let flat = numbers(&gradient);
        match rows.product {
            Product::Outer => {
                let width = gradient.shape()[1];
                let inputs = width - usize::from(record.bias.is_some());
                for row in flat.chunks(width.max(1)) {
                    weight.extend(&row[..inputs]);
                    bias.extend(&row[inputs..]);
                }
            }
            Product::Hadamard => {
                let (scale, shift) = flat.split_at(flat.len() / 2);
                weight.extend(scale);
                bias.extend(shift);
            }
            Product::Transposed => weight.extend(flat),
            Product::Lookup { vocabulary } => {
                assert_eq!(gradient.shape()[0], vocabulary);
                weight.extend(flat);
            }
        }
    }
    (weight, bias)
}

/// Whether the sample made records. Its first input is watched, the others are parameters.
fn rows_multiply_to_the_gradient(name: &str, sample: &Sample) -> bool {
    let tape = Tape::training(0);
    let parameters: Vec<Parameter> =
        sample.inputs[1..].iter().map(|t| Parameter::new(t.clone())).collect();
    let mut inputs = vec![tape.watch(sample.inputs[0].clone())];
    inputs.extend(parameters.iter().map(|p| tape.bind(p)));
    let (loss, _) = project(&(sample.call)(&inputs).unwrap());
    let mut records: Vec<LayerRecord> = Vec::new();
    let grads = tape.backward_observed(&loss, &mut records).unwrap();
    for record in &records {
        let (weight, bias) = from_rows(record);
        assert_close(&weight, &numbers(grads.get(record.weight).unwrap()), name);
        if let Some(id) = record.bias {
            assert_close(&bias, &numbers(grads.get(id).unwrap()), name);
        }
    }
    !records.is_empty()
}

#[test]
fn the_rows_of_every_layer_op_multiply_to_the_gradient_of_its_weight_and_bias() {
    let mut seen: Vec<&str> = Vec::new();
    for spec in OPS {
        for (i, sample) in (spec.samples)().iter().enumerate() {
            let name = format!("{} sample {i}", spec.name);
            if rows_multiply_to_the_gradient(&name, sample) && !seen.contains(&spec.name) {
                seen.push(spec.name);
            }
        }
    }
    // Which ops say that they are layers stands in their files.
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/engine/src/ops");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut layers: Vec<String> = files
        .filter(|file| fs::read_to_string(file).unwrap().contains("fn layer(&self)"))
        .map(|file| file.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    layers.sort_unstable();
    seen.sort_unstable();
    assert_eq!(seen, layers);
    assert!(seen.contains(&"linear"));
}

#[test]
fn a_single_example_without_a_batch_axis_is_one_example() {
    let tape = Tape::new();
    let (w, table) = (parameter([3, 4], 1), parameter([5, 3], 2));
    let index = tape.input(Tensor::scalar(2.0, DType::I64));
    let y = tape.input(noise([4], 3)).linear(&tape.bind(&w), None).unwrap();
    let y = y.mul(&index.embedding(&tape.bind(&table)).unwrap()).unwrap();
    let mut records: Vec<LayerRecord> = Vec::new();
    tape.backward_observed(&project(&y).0, &mut records).unwrap();
    assert_eq!(records.len(), 2);
    for record in &records {
        let rows = &record.rows().unwrap()[0];
        assert_eq!((rows.examples, rows.g.shape()[0]), (1, 1));
    }
}

#[test]
fn a_weight_used_twice_gives_two_records_and_one_gradient() {
    let tape = Tape::new();
    let (w, b) = (parameter([3, 3], 1), parameter([3], 2));
    let x = tape.input(noise([4, 3], 3));
    let layer = |x: &Var| x.linear(&tape.bind(&w), Some(&tape.bind(&b))).unwrap();
    let (loss, _) = project(&layer(&layer(&x).relu().unwrap()));
    let mut witness = Witness::default();
    let grads = tape.backward_observed(&loss, &mut witness).unwrap();

    let [second, first] = &witness.records[..] else { panic!("two uses, two records") };
    assert_eq!((first.weight, first.bias), (second.weight, second.bias));
    assert_eq!(numbers(&first.input), numbers(&x.value()));
    let ((w1, b1), (w2, b2)) = (from_rows(first), from_rows(second));
    let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a + b).collect::<Vec<_>>();
    assert_close(&sum(&w1, &w2), &numbers(grads.of(&w).unwrap()), "weight");
    assert_close(&sum(&b1, &b2), &numbers(grads.of(&b).unwrap()), "bias");
    assert_eq!(grads.len(), 2);
    assert!(witness.unlayered.is_empty(), "both uses are layers");
}

#[test]
fn a_use_outside_of_layers_is_told_with_its_op_and_a_use_in_a_layer_is_not() {
    let tape = Tape::new();
    let (table, w, b) = (parameter([5, 3], 1), parameter([3, 3], 2), parameter([3], 3));
    let tokens = tape.input(Tensor::from_slice(&[4_i64, 0, 4], [3]).unwrap());
    let (bound_table, bound_w) = (tape.bind(&table), tape.bind(&w));
    // The table is read as an embedding, and again, transposed, to score every word.
    let hidden = tokens.embedding(&bound_table).unwrap();
    let hidden = hidden.linear(&bound_w, Some(&tape.bind(&b))).unwrap();
    let logits = hidden.matmul(&bound_table.transpose(0, 1).unwrap()).unwrap();
    let penalty = bound_w.mul(&bound_w).unwrap().sum_all().unwrap();
    let loss = project(&logits).0.add(&penalty).unwrap();
    let mut witness = Witness::default();
    let grads = tape.backward_observed(&loss, &mut witness).unwrap();

    let told = |op| -> Vec<ParamId> {
        witness.unlayered.iter().filter(|(_, o)| *o == op).map(|(id, _)| *id).collect()
    };
    assert_eq!(told("mul"), [w.id(), w.id()], "the penalty has the weight on both sides");
    assert_eq!(told("permute"), [table.id()]);
    assert_eq!(witness.unlayered.len(), 3);
    let layers: Vec<(Layer, ParamId)> =
        witness.records.iter().map(|r| (r.layer, r.weight)).collect();
    assert_eq!(layers, [(Layer::Dense, w.id()), (Layer::Lookup, table.id())]);
    // What was told is what the rows lack.
    let (from_layers, _) = from_rows(&witness.records[0]);
    let rest: Vec<f64> = numbers(w.value()).iter().map(|w| 2.0 * w).collect();
    let all: Vec<f64> = from_layers.iter().zip(rest).map(|(a, b)| a + b).collect();
    assert_close(&all, &numbers(grads.of(&w).unwrap()), "weight with a penalty");
}

/// A small net with one layer of every kind that takes images.
struct Net {
    filter: Parameter,
    scale: Parameter,
    shift: Parameter,
    weight: Parameter,
    bias: Parameter,
}

engine::parameters!(Net { filter, scale, shift, weight, bias });

const GEOMETRY: Geometry = Geometry { window: Window::new((2, 2)), groups: 2 };

impl Net {
    fn new() -> Self {
        Self {
            filter: parameter([4, 1, 2, 2], 1),
            scale: parameter([4], 2),
            shift: parameter([4], 3),
            weight: parameter([3, 16], 4),
            bias: parameter([3], 5),
        }
    }

    fn logits(&self, tape: &Tape, x: &Var) -> Var {
        let h = x.conv2d(&tape.bind(&self.filter), None, GEOMETRY).unwrap();
        let (scale, shift) = (tape.bind(&self.scale), tape.bind(&self.shift));
        let (h, _, _) = h.batch_norm(&scale, &shift, 1e-3).unwrap();
        let h = h.relu().unwrap().reshape([3, 16]).unwrap();
        h.linear(&tape.bind(&self.weight), Some(&tape.bind(&self.bias))).unwrap()
    }
}

#[test]
fn records_come_from_the_last_layer_to_the_first() {
    let (tape, net) = (Tape::training(0), Net::new());
    let logits = net.logits(&tape, &tape.input(noise([3, 2, 3, 3], 6)));
    let mut records: Vec<LayerRecord> = Vec::new();
    tape.backward_observed(&project(&logits).0, &mut records).unwrap();
    let order: Vec<_> = records.iter().map(|r| (r.layer, r.weight, r.bias)).collect();
    let expected = [
        (Layer::Dense, net.weight.id(), Some(net.bias.id())),
        (Layer::ScaleShift(Norm::Batch), net.scale.id(), Some(net.shift.id())),
        (Layer::Conv2d(GEOMETRY), net.filter.id(), None),
    ];
    assert_eq!(order, expected);
    assert_eq!(records[2].rows().unwrap().len(), 2, "a convolution has rows for every group");
    for mean in numbers(&records[1].normalized().unwrap().mean(&[0, 2, 3]).unwrap()) {
        assert!(mean.abs() < REORDERED);
    }
    assert!(matches!(records[0].normalized(), Err(Error::Shape { .. })));
}

#[test]
fn a_sweep_from_the_outputs_gives_the_same_records_and_no_gradient_of_a_parameter() {
    let (tape, net) = (Tape::training(0), Net::new());
    let x = tape.watch(noise([3, 2, 3, 3], 6));
    let logits = net.logits(&tape, &x);
    let (loss, seed) = project(&logits);
    let (mut whole, mut swept): (Vec<LayerRecord>, Vec<LayerRecord>) = Default::default();
    let grads = tape.backward_observed(&loss, &mut whole).unwrap();
    let records_before = tape.len();
    let from_sweep = tape.sweep(&logits, seed, &mut swept).unwrap();

    assert_eq!(whole.len(), swept.len());
    for (a, b) in whole.iter().zip(&swept) {
        assert_eq!((a.layer, a.weight, a.bias), (b.layer, b.weight, b.bias));
        assert_eq!(numbers(&a.input), numbers(&b.input));
        assert_eq!(numbers(&a.output_grad), numbers(&b.output_grad));
    }
    assert_eq!(grads.len(), net.parameters().len());
    assert!(from_sweep.is_empty());
    assert_eq!(numbers(from_sweep.of_var(&x).unwrap()), numbers(grads.of_var(&x).unwrap()));
    assert_eq!(tape.len(), records_before, "a sweep writes nothing down");
    let wrong = tape.sweep(&logits, noise([3], 1), &mut swept);
    assert!(matches!(wrong, Err(Error::Shape { op: "sweep", .. })));
}

#[test]
fn frozen_parameters_get_no_gradient_and_a_layer_without_a_trainable_one_no_record() {
    let mut net = Net::new();
    for frozen in [&mut net.scale, &mut net.shift, &mut net.weight] {
        frozen.set_trainable(false);
    }
    let tape = Tape::training(0);
    let logits = net.logits(&tape, &tape.input(noise([3, 2, 3, 3], 6)));
    let penalty = tape.bind(&net.scale).sum_all().unwrap();
    let loss = project(&logits).0.add(&penalty).unwrap();
    let mut witness = Witness::default();
    let grads = tape.backward_observed(&loss, &mut witness).unwrap();
    let weights: Vec<ParamId> = witness.records.iter().map(|r| r.weight).collect();
    assert_eq!(weights, [net.weight.id(), net.filter.id()], "its bias is trained");
    assert!(witness.unlayered.is_empty(), "a frozen parameter may be used anywhere");
    let trained: HashMap<String, bool> =
        net.parameters().into_iter().map(|(path, p)| (path, grads.of(p).is_some())).collect();
    for (path, has_gradient) in trained {
        assert_eq!(has_gradient, path == "filter" || path == "bias", "{path}");
    }
}

#[test]
fn gradients_are_asked_for_on_the_tape_that_recorded_them() {
    let net = Net::new();
    let other = Tape::new();
    let dropped = {
        let tape = Tape::training(0);
        net.logits(&tape, &tape.input(noise([3, 2, 3, 3], 6))).sum_all().unwrap()
    };
    let mut records: Vec<LayerRecord> = Vec::new();
    assert!(matches!(dropped.relu(), Err(Error::TapeGone)));
    assert!(matches!(other.backward(&dropped), Err(Error::TapeGone)));

    let tape = Tape::new();
    let here = tape.watch(noise([2], 1)).sum_all().unwrap();
    let there = other.watch(noise([2], 1)).sum_all().unwrap();
    assert!(matches!(here.add(&there), Err(Error::TapeMismatch { op: "add" })));
    assert!(matches!(tape.backward(&there), Err(Error::TapeMismatch { .. })));
    let seed = Tensor::scalar(1.0, DType::F64);
    let swept = tape.sweep(&there, seed, &mut records);
    assert!(matches!(swept, Err(Error::TapeMismatch { op: "sweep" })));

    let off = Tape::off();
    let unrecorded = off.watch(noise([2], 1)).sum_all().unwrap();
    assert!(matches!(off.backward(&unrecorded), Err(Error::NotRecorded { .. })));
    assert!(matches!(tape.backward(&here.detach()), Err(Error::NotRecorded { .. })));
    assert!(records.is_empty());
}

struct Counter {
    steps: Buffer,
}

engine::parameters!(Counter { steps });

#[test]
fn staged_updates_are_applied_once_however_often_the_tape_is_swept() {
    let mut model = Counter { steps: Buffer::new(Tensor::scalar(5.0, DType::F64)) };
    let tape = Tape::training(0);
    let x = tape.watch(noise([2], 1));
    for _ in 0..2 {
        // Two uses in one pass: the second starts from what the first proposed.
        tape.stage(&model.steps, tape.latest(&model.steps).shift(1.0).unwrap());
    }
    let loss = x.mul(&x).unwrap().sum_all().unwrap();
    tape.backward(&loss).unwrap();
    tape.backward_recorded(&loss).unwrap();
    assert_eq!(model.steps.value().item().unwrap(), 5.0, "nothing changes before the commit");
    model.commit(tape.staged()).unwrap();
    assert_eq!(model.steps.value().item().unwrap(), 7.0);
    model.commit(tape.staged()).unwrap();
    assert_eq!(model.steps.value().item().unwrap(), 7.0, "nothing was left behind");

    tape.stage(&model.steps, noise([3], 1));
    match model.commit(tape.staged()) {
        Err(Error::InLayer { path, .. }) => assert_eq!(path, "steps"),
        other => panic!("{other:?}"),
    }
}
