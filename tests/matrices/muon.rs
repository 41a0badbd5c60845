//! Muon's own rule: which matrices are made orthogonal.

use engine::{DType, Parameter, Parameters, Result, Tape, Tensor, Var, parameters};
use nn::CrossEntropy;
use optim::{Batch, Matrices, Muon, MuonConfig, Optimizer, build};

use crate::{noise, numbers};

/// A language model in small: a table, positions that are added, two hidden matrices, a readout.
struct Small {
    table: Parameter,
    positions: Parameter,
    first: Parameter,
    second: Parameter,
    readout: Parameter,
    bias: Parameter,
}
parameters!(Small { table, positions, first, second, readout, bias });

const TOKENS: [i64; 4] = [3, 0, 2, 3];

impl Small {
    fn new(dtype: DType) -> Self {
        let parameter = |t: Tensor| Parameter::new(t.to_dtype(dtype).unwrap());
        Self {
            table: parameter(noise([5, 4], 1)),
            positions: parameter(noise([4, 4], 2)),
            first: parameter(noise([4, 4], 3)),
            second: parameter(noise([4, 4], 4)),
            readout: parameter(noise([5, 4], 5)),
            bias: parameter(noise([5], 6)),
        }
    }

    fn forward(&self, tape: &Tape) -> Result<Var> {
        let tokens = Tensor::from_slice(&TOKENS, [4])?;
        let x = tape
            .input(tokens)
            .embedding(&tape.bind(&self.table))?
            .add(&tape.bind(&self.positions))?;
        let x = x.linear(&tape.bind(&self.first), None)?.tanh()?;
        // A matrix outside of layers, in a product.
        let x = x.matmul(&tape.bind(&self.second))?.tanh()?;
        x.linear(&tape.bind(&self.readout), Some(&tape.bind(&self.bias)))
    }

    fn step(&mut self, optimizer: &mut dyn Optimizer) -> f64 {
        let loss = CrossEntropy::new(&Tensor::from_slice(&TOKENS, [4]).unwrap());
        let forward = |model: &Self, tape: &Tape| model.forward(tape);
        optimizer.minimize(&mut Batch::new(self, forward, &loss).training(0)).unwrap()
    }
}

fn rules(optimizer: &dyn Optimizer, model: &Small) -> Vec<String> {
    optimizer.coverage(model).lines.into_iter().map(|line| line.rule).collect()
}

#[test]
fn by_name_only_hidden_matrices_are_made_orthogonal_and_coverage_says_what_the_others_are() {
    for dtype in [DType::F32, DType::F64] {
        let (mut model, mut muon) = (Small::new(dtype), build("muon", None).unwrap());
        assert!(rules(&*muon, &model)[0].ends_with("if the first pass shows a hidden matrix"));
        model.step(&mut *muon);
        let expected = [
            "AdamW, being an embedding: ",
            "AdamW, being no layer's, used by add: ",
            "orthogonal momentum, 4 × 4",
            "orthogonal momentum, 4 × 4",
            "AdamW, being the readout: ",
            "AdamW: ",
        ];
        for (rule, expected) in rules(&*muon, &model).iter().zip(expected) {
            assert!(rule.starts_with(expected), "{rule}, not {expected}");
        }
        let state = muon.state(&model).unwrap();
        for (path, kept) in
            [("table", "m"), ("positions", "v"), ("first", "momentum"), ("readout", "m")]
        {
            assert!(state.tensors.contains_key(&format!("{path}/{kept}")), "{path}/{kept}");
        }
    }
}

#[test]
fn the_table_and_the_readout_move_as_under_adamw() {
    let config = MuonConfig::default();
    let adam = optim::AdamConfig { rate: config.rate * config.auxiliary_ratio, ..config.adam };
    let (mut one, mut other) = (Small::new(DType::F64), Small::new(DType::F64));
    let (mut muon, mut adam) = (Muon::new(config).unwrap(), optim::Adam::new(adam).unwrap());
    let before = numbers(one.first.value());
    one.step(&mut muon);
    other.step(&mut adam);
    assert_eq!(numbers(one.table.value()), numbers(other.table.value()));
    assert_eq!(numbers(one.readout.value()), numbers(other.readout.value()));
    assert_eq!(numbers(one.bias.value()), numbers(other.bias.value()));
    assert_ne!(numbers(one.first.value()), numbers(other.first.value()));
    assert_ne!(numbers(one.first.value()), before);
}

#[test]
fn a_tied_table_is_a_table_and_what_all_matrices_means_is_an_option() {
    struct Tied(Small);
    impl Tied {
        fn forward(&self, tape: &Tape) -> Result<Var> {
            let tokens = Tensor::from_slice(&TOKENS, [4])?;
            let table = tape.bind(&self.0.table);
            let x = tape
                .input(tokens)
                .embedding(&table)?
                .linear(&tape.bind(&self.0.first), None)?
                .tanh()?;
            x.linear(&table, None)
        }
    }
    let mut tied = Tied(Small::new(DType::F64));
    for unused in [&mut tied.0.positions, &mut tied.0.second, &mut tied.0.readout, &mut tied.0.bias]
    {
        unused.set_trainable(false);
    }
    let loss = CrossEntropy::new(&Tensor::from_slice(&TOKENS, [4]).unwrap());
    let mut muon = Muon::new(MuonConfig::default()).unwrap();
    let tape = Tape::new();
    let outputs = tied.forward(&tape).unwrap();
    let pass = optim::backward(&tape, &outputs, &loss, &mut muon).unwrap();
    muon.step(&mut tied.0, &pass.gradients).unwrap();
    let told = rules(&muon, &tied.0);
    assert!(told[0].starts_with("AdamW, being an embedding"), "{told:?}");
    assert!(told[2].starts_with("orthogonal"), "{told:?}");

    let all = MuonConfig { matrices: Matrices::All, ..MuonConfig::default() };
    let (mut model, mut muon) = (Small::new(DType::F64), Muon::new(all).unwrap());
    model.step(&mut muon);
    let told = rules(&muon, &model);
    assert!(told[..5].iter().all(|rule| rule.starts_with("orthogonal")), "{told:?}");
}

#[test]
fn roles_outlive_a_resume_and_an_old_state_goes_on_as_it_was() {
    let resumed = |config: MuonConfig| {
        let (mut model, mut muon) = (Small::new(DType::F64), Muon::new(config).unwrap());
        model.step(&mut muon);
        let state = muon.state(&model).unwrap();
        let mut other = build("muon", None).unwrap();
        other.load_state(&model, &state).unwrap();
        let told = rules(&muon, &model);
        let values = |model: &Small| -> Vec<f64> {
            model.parameters().into_iter().flat_map(|(_, p)| numbers(p.value())).collect()
        };
        let start: Vec<Tensor> =
            model.parameters().into_iter().map(|(_, p)| p.value().clone()).collect();
        model.step(&mut muon);
        let went_on = values(&model);
        for ((_, p), value) in model.parameters_mut().into_iter().zip(start) {
            *p.value_mut() = value;
        }
        model.step(&mut *other);
        assert_eq!(values(&model), went_on);
        (told, rules(&*other, &model))
    };
    let (_, told) = resumed(MuonConfig::default());
    assert!(told[0].starts_with("AdamW") && told[2].starts_with("orthogonal"), "{told:?}");
    // Every matrix has a momentum in it.
    let (_, told) = resumed(MuonConfig { matrices: Matrices::All, ..MuonConfig::default() });
    assert!(told[..5].iter().all(|rule| rule.starts_with("orthogonal")), "{told:?}");
}

/// Two heads on one trunk, their outputs beside each other; before a frozen readout, a matrix is a hidden one.
struct Heads {
    trunk: Parameter,
    left: Parameter,
    right: Parameter,
}
parameters!(Heads { trunk, left, right });

#[test]
fn every_readout_of_a_model_with_several_heads_is_one_and_what_lies_before_a_frozen_one_is_hidden()
{
    let parameter = |seed| Parameter::new(noise([4, 4], seed));
    let mut model = Heads { trunk: parameter(1), left: parameter(2), right: parameter(3) };
    let forward = |model: &Heads, tape: &Tape| {
        let x = tape.input(noise([4, 4], 4)).linear(&tape.bind(&model.trunk), None)?.tanh()?;
        let [left, right] = [&model.left, &model.right].map(|w| x.linear(&tape.bind(w), None));
        Var::concat(&[&left?, &right?], 1)
    };
    let loss = CrossEntropy::new(&Tensor::from_slice(&TOKENS, [4]).unwrap());
    let rules = |model: &mut Heads| -> Vec<String> {
        let mut muon = Muon::new(MuonConfig::default()).unwrap();
        muon.minimize(&mut Batch::new(&mut *model, forward, &loss)).unwrap();
        muon.coverage(model).lines.into_iter().map(|line| line.rule).collect()
    };
    let told = rules(&mut model);
    assert!(told[0].starts_with("orthogonal"), "{told:?}");
    assert!(told[1..].iter().all(|rule| rule.starts_with("AdamW, being the readout")), "{told:?}");
    for head in [&mut model.left, &mut model.right] {
        head.set_trainable(false);
    }
    let told = rules(&mut model);
    assert!(told[0].starts_with("orthogonal"), "{told:?}");
}
