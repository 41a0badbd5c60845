//! Several Fisher matrices from the same sweeps are those of sweeps of their own.

use engine::{
    DType, Geometry, Likelihood, Parameter, Result, Rng, Tape, Tensor, Var, Window, parameters,
};
use optim::Fisher;
use optim::curvature::{Fishers, Kronecker, KroneckerFactors, RecordedBatch, Share, record_all};

use super::models::{REORDERED, Softmax, assert_close, noise};

const DRAWS: usize = 5;
const WANTED: [Fisher; 3] = [Fisher::Empirical, Fisher::Sampled { draws: DRAWS }, Fisher::Exact];

/// A grouped convolution, a norm, and a dense layer; with batch norm its examples see each other.
struct Model {
    kernel: Parameter,
    kernel_bias: Parameter,
    scale: Parameter,
    shift: Parameter,
    dense: Parameter,
    batch_norm: bool,
}
parameters!(Model { kernel, kernel_bias, scale, shift, dense });

const CLASSES: usize = 3;

impl Model {
    fn new(batch_norm: bool) -> Self {
        Self {
            kernel: Parameter::new(noise([4, 1, 2, 2], 1)),
            kernel_bias: Parameter::new(noise([4], 2)),
            scale: Parameter::new(noise([4], 3)),
            shift: Parameter::new(noise([4], 4)),
            dense: Parameter::new(noise([CLASSES, 16], 5)),
            batch_norm,
        }
    }

    fn outputs(&self, tape: &Tape, x: &Tensor) -> Result<Var> {
        let geometry = Geometry { window: Window::new((2, 2)), groups: 2 };
        let (kernel, bias) = (tape.bind(&self.kernel), tape.bind(&self.kernel_bias));
        let (scale, shift) = (tape.bind(&self.scale), tape.bind(&self.shift));
        let y = tape.input(x.clone()).conv2d(&kernel, Some(&bias), geometry)?;
        let y = if self.batch_norm {
            y.batch_norm(&scale, &shift, 1e-3)?.0
        } else {
            y.group_norm(2, Some(&scale), Some(&shift), 1e-3)?
        };
        y.tanh()?.flatten(1)?.linear(&tape.bind(&self.dense), None)
    }

    fn weights(&self) -> [&Parameter; 3] {
        [&self.kernel, &self.scale, &self.dense]
    }
}

fn images(n: usize) -> Tensor {
    noise([n, 2, 3, 3], 9)
}

fn folded(batches: &[&RecordedBatch], model: &Model) -> Vec<Kronecker> {
    let mut factors = KroneckerFactors::new(batches[0].fisher(), Share::Expand);
    batches.iter().for_each(|batch| batch.replay(&mut factors).unwrap());
    factors.fold().unwrap();
    model.weights().iter().map(|weight| factors.of(weight).unwrap().clone()).collect()
}

fn assert_same(got: &[Kronecker], expected: &[Kronecker], what: &str) {
    for (got, expected) in got.iter().zip(expected) {
        assert_close(&got.a, &expected.a, REORDERED, what);
        assert_close(&got.g, &expected.g, REORDERED, what);
    }
}

fn together(model: &Model, x: &Tensor, labels: &Softmax) -> Fishers {
    let tape = Tape::new();
    let y = model.outputs(&tape, x).unwrap();
    record_all(&tape, &y, labels, x.shape()[0], &WANTED, &mut Rng::new(7)).unwrap()
}

#[test]
fn three_matrices_from_as_many_sweeps_as_outputs_are_those_of_nine() {
    for batch_norm in [false, true] {
        let (model, x, labels) = (Model::new(batch_norm), images(6), Softmax::labels(6, CLASSES));
        let all = together(&model, &x, &labels);
        // With batch norm one sweep shows that they cannot be shared.
        let alone = 1 + DRAWS + CLASSES;
        assert_eq!(all.sweeps, if batch_norm { 1 + alone } else { CLASSES });
        let tape = Tape::new();
        let y = model.outputs(&tape, &x).unwrap();
        let rng = &mut Rng::new(7);
        for (batch, fisher) in all.batches.iter().zip(WANTED) {
            let one = RecordedBatch::new(&tape, &y, &labels, 6, fisher, rng).unwrap();
            let what = format!("{fisher:?}, batch norm {batch_norm}");
            assert_same(&folded(&[batch], &model), &folded(&[&one], &model), &what);
        }
        // They are three different matrices.
        let [empirical, sampled, exact] = [0, 1, 2].map(|i| folded(&[&all.batches[i]], &model));
        assert!(empirical[2].g != sampled[2].g && sampled[2].g != exact[2].g);
    }
}

#[test]
fn two_micro_batches_make_the_matrices_of_the_whole_batch() {
    let (model, x) = (Model::new(false), images(6));
    let labels = Softmax::labels(6, CLASSES);
    let whole = together(&model, &x, &labels);
    let halves = [0, 1].map(|half| {
        let part = x.narrow(0, 3 * half, 3).unwrap().contiguous().unwrap();
        together(&model, &part, &Softmax(labels.0[3 * half..3 * half + 3].to_vec()))
    });
    // Draws are others in the halves.
    for at in [0, 2] {
        let parts = [&halves[0].batches[at], &halves[1].batches[at]];
        let expected = folded(&[&whole.batches[at]], &model);
        assert_same(&folded(&parts, &model), &expected, &format!("{:?}", WANTED[at]));
    }
}

#[test]
fn one_matrix_that_is_cheaper_by_itself_is_swept_for_by_itself() {
    let (model, x, labels) = (Model::new(false), images(4), Softmax::labels(4, CLASSES));
    let tape = Tape::new();
    let y = model.outputs(&tape, &x).unwrap();
    let rng = &mut Rng::new(0);
    let all = record_all(&tape, &y, &labels, 4, &[Fisher::Empirical], rng).unwrap();
    assert_eq!(all.sweeps, 1);
    assert_eq!((labels.terms(), x.dtype()), (4, DType::F64));
}
