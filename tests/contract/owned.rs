//! Gradients of parameters that the model does not own are refused: such a parameter would never move, and nobody
//! would say so.

use engine::{DType, Error, Parameter, Parameters, Result, Tape, Tensor, Var, parameters};
use nn::CrossEntropy;
use optim::{Batch, backward, build, known};

use super::models::{Forward, Tied, batch, noise, step, values};

/// Two layers, of which the list of fields names the first.
struct Forgetful {
    first: Parameter,
    second: Parameter,
}
parameters!(Forgetful { first });

impl Forgetful {
    fn new() -> Self {
        Self { first: Parameter::new(noise([4, 4], 1)), second: Parameter::new(noise([3, 4], 2)) }
    }
}

impl Forward for Forgetful {
    fn logits(&self, tape: &Tape, x: &Tensor) -> Result<Var> {
        let hidden = tape.input(x.clone()).linear(&tape.bind(&self.first), None)?.tanh()?;
        hidden.linear(&tape.bind(&self.second), None)
    }
}

#[test]
fn a_field_forgotten_in_the_list_of_parameters_is_refused_by_its_shape_and_op() {
    for name in known() {
        let (mut model, mut optimizer) = (Forgetful::new(), build(name, None).unwrap());
        let before = values(&model);
        let (x, y) = batch(0, DType::F64);
        let loss = CrossEntropy::new(&y);
        let forward = |model: &Forgetful, tape: &Tape| model.logits(tape, &x);
        let error = optimizer.minimize(&mut Batch::new(&mut model, forward, &loss)).unwrap_err();
        let named = matches!(error, Error::Unowned { shape, op: "linear" } if shape == engine::Shape::from([3, 4]));
        assert!(named, "{name}: {error}");
        assert_eq!(values(&model), before, "{name}");
        let words = error.to_string();
        assert!(words.contains("parameters!") && words.contains("Tape::fixed"), "{words}");
    }
}

#[test]
fn a_fixed_teacher_is_a_constant_however_it_binds_its_parameters() {
    let (mut student, teacher) = (Tied::new(), Forgetful::new());
    let mut adam = build("adam", None).unwrap();
    let (x, _) = batch(0, DType::F64);
    let tape = Tape::training(0);
    let wanted = tape.fixed(|| teacher.logits(&tape, &x)).unwrap();
    let error = student.logits(&tape, &x).unwrap().sub(&wanted).unwrap();
    let loss = error.square().unwrap().mean_all().unwrap();
    let grads = tape.backward(&loss).unwrap();
    assert_eq!(grads.len(), 2, "a tied weight is one parameter of the student, the teacher none");
    adam.step(&mut student, &grads).unwrap();
}

#[test]
fn two_models_in_turns_are_stepped_by_what_is_split_off_or_by_fixing_the_other() {
    let generator = || Parameter::new(noise([4, 4], 7));
    let critic = || Parameter::new(noise([3, 4], 8));
    let (x, y) = batch(0, DType::F64);
    let score = |tape: &Tape, made: &Var, critic: &Parameter| made.linear(&tape.bind(critic), None);
    let make = |tape: &Tape, generator: &Parameter| {
        tape.input(x.clone()).linear(&tape.bind(generator), None)?.tanh()
    };
    // The same loss is stepped on by both.
    let (mut g, mut c) = (generator(), critic());
    let [mut of_g, mut of_c] = ["adam", "kfac"].map(|name| build(name, None).unwrap());
    for _ in 0..3 {
        let tape = Tape::new();
        let logits = score(&tape, &make(&tape, &g).unwrap(), &c).unwrap();
        let pass = backward(&tape, &logits, &CrossEntropy::new(&y), &mut *of_c).unwrap();
        let mut rest = pass.gradients;
        assert!(matches!(of_g.step(&mut g, &rest), Err(Error::Unowned { .. })));
        let own = rest.split_off(&c);
        of_c.step(&mut c, &own).unwrap();
        of_g.step(&mut g, &rest).unwrap();
    }
    // In turns: whose turn it is not is fixed.
    let (g_before, c_before) = (values(&g), values(&c));
    let tape = Tape::new();
    let made = make(&tape, &g).unwrap();
    let logits = tape.fixed(|| score(&tape, &made, &c)).unwrap();
    let pass = backward(&tape, &logits, &CrossEntropy::new(&y), &mut *of_g).unwrap();
    of_g.step(&mut g, &pass.gradients).unwrap();
    let tape = Tape::new();
    let made = tape.fixed(|| make(&tape, &g)).unwrap();
    let logits = score(&tape, &made, &c).unwrap();
    let pass = backward(&tape, &logits, &CrossEntropy::new(&y), &mut *of_c).unwrap();
    of_c.step(&mut c, &pass.gradients).unwrap();
    assert!(values(&g) != g_before && values(&c) != c_before);
}

#[test]
fn one_parameter_may_be_a_constant_in_one_place_of_a_pass_and_trained_in_another() {
    let w = Parameter::new(Tensor::scalar(3.0, DType::F64));
    let tape = Tape::new();
    let here = tape.bind(&w);
    let there = tape.fixed(|| Ok(tape.bind(&w))).unwrap();
    let again = tape.bind(&w);
    let loss = here.mul(&there).unwrap().add(&again).unwrap();
    let grads = tape.backward(&loss).unwrap();
    assert_eq!(grads.of(&w).unwrap().item().unwrap(), 4.0, "w̄ w + w");
    assert!(w.parameters().len() == 1 && grads.check_owned(&w).is_ok());
}

#[test]
fn a_frozen_parameter_and_a_tied_one_are_nobody_elses() {
    for name in known() {
        let (mut model, mut optimizer) = (Tied::new(), build(name, None).unwrap());
        model.table.set_trainable(false);
        step(&mut model, &mut *optimizer, &batch(0, DType::F64));
        model.table.set_trainable(true);
        step(&mut model, &mut *optimizer, &batch(1, DType::F64));
    }
}
