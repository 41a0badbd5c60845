//! The exact Fisher of examples with several terms (tokens): two terms of one example have independent labels, so
//! nothing that training sees may hold a product of two.

use engine::{DType, Error, Parameter, Rng, Tape, Tensor, Var};
use nn::CrossEntropy;
use optim::curvature::{ExactBlock, KroneckerFactors, RecordedBatch, Share};
use optim::{Ekfac, EkfacConfig, Fisher, Kfac, KfacConfig, Optimizer, Tnt, TntConfig, backward};

use crate::models::{REORDERED, assert_close, noise};

const EXAMPLES: usize = 2;

/// `[N, T, 4]` logits of a layer; each token sees the mean of all, so every term has a gradient in every row.
fn mixing(tape: &Tape, weight: &Parameter, places: usize) -> Var {
    let x = tape.input(noise([EXAMPLES, places, 5], 1));
    let tokens = x.linear(&tape.bind(weight), None).unwrap().tanh().unwrap();
    let mean = tokens.mean(&[1]).unwrap().reshape([EXAMPLES, 1, 4]).unwrap();
    tokens.add(&mean).unwrap()
}

fn loss(places: usize) -> CrossEntropy {
    let label = |i: usize| ((i * 5 + 1) % 4) as f64;
    CrossEntropy::new(&Tensor::from_fn([EXAMPLES, places], DType::I64, label))
}

/// The block itself: one sweep for each column and place.
fn exact(weight: &Parameter, places: usize) -> (Tape, RecordedBatch, ExactBlock) {
    let tape = Tape::new();
    let y = mixing(&tape, weight, places);
    let rng = &mut Rng::new(0);
    let loss = loss(places);
    let batch = RecordedBatch::new(&tape, &y, &loss, EXAMPLES, Fisher::Exact, rng).unwrap();
    let block = ExactBlock::new(&[&batch], &[weight]).unwrap();
    (tape, batch, block)
}

/// One step of an optimizer on the batch.
fn stepped<O: Optimizer>(mut optimizer: O, places: usize) -> (O, Parameter) {
    let mut weight = Parameter::new(noise([4, 5], 3));
    let tape = Tape::new();
    let y = mixing(&tape, &weight, places);
    let pass = backward(&tape, &y, &loss(places), &mut optimizer).unwrap();
    optimizer.step(&mut weight, &pass.gradients).unwrap();
    (optimizer, weight)
}

#[test]
fn ekfac_and_tnt_have_the_trace_of_the_exact_block_however_many_tokens_there_are() {
    for places in [1, 5, 64] {
        let weight = Parameter::new(noise([4, 5], 3));
        let (_tape, _, block) = exact(&weight, places);
        let mut config = EkfacConfig::default();
        config.step.fisher = Fisher::Exact;
        let (ekfac, weight) = stepped(Ekfac::new(config).unwrap(), places);
        let s: f64 = ekfac.kept(&weight, "s").unwrap().iter().sum();
        assert_close(&[s], &[block.trace()], REORDERED, "EKFAC");
        let mut config = TntConfig::default();
        config.step.fisher = Fisher::Exact;
        let (tnt, weight) = stepped(Tnt::new(config).unwrap(), places);
        let trace: f64 = tnt.kept(&weight, "dd").unwrap().iter().step_by(5).sum();
        assert_close(&[trace], &[block.trace()], REORDERED, "TNT");
    }
}

#[test]
fn k_fac_s_factors_in_training_are_those_of_the_recorded_batch() {
    for share in [Share::Expand, Share::Reduce] {
        let config = KfacConfig { fisher: Fisher::Exact, share, ..KfacConfig::default() };
        let (kfac, trained) = stepped(Kfac::new(config).unwrap(), 5);
        let weight = Parameter::new(noise([4, 5], 3));
        let (_tape, batch, _) = exact(&weight, 5);
        let mut factors = KroneckerFactors::new(Fisher::Exact, share);
        batch.replay(&mut factors).unwrap();
        factors.fold().unwrap();
        let (got, expected) = (kfac.factors().of(&trained).unwrap(), factors.of(&weight).unwrap());
        assert_close(&got.a, &expected.a, REORDERED, "A");
        assert_close(&got.g, &expected.g, REORDERED, "G");
    }
}

#[test]
fn outputs_that_hide_which_tokens_are_of_one_example_are_refused_for_the_exact_fisher() {
    let mut weight = Parameter::new(noise([4, 5], 3));
    let config = KfacConfig { fisher: Fisher::Exact, ..KfacConfig::default() };
    let mut kfac = Kfac::new(config).unwrap();
    let tape = Tape::new();
    let y = mixing(&tape, &weight, 5).reshape([EXAMPLES * 5, 4]).unwrap();
    let labels = Tensor::from_fn([EXAMPLES * 5], DType::I64, |i| (i % 4) as f64);
    let refused = backward(&tape, &y, &CrossEntropy::new(&labels), &mut kfac).unwrap_err();
    assert!(
        matches!(refused, Error::Argument { op: "exact Fisher", name: "outputs", .. }),
        "{refused}"
    );
    // Nothing of it stays.
    let pass = {
        let tape = Tape::new();
        backward(&tape, &mixing(&tape, &weight, 5), &loss(5), &mut kfac).unwrap()
    };
    kfac.step(&mut weight, &pass.gradients).unwrap();
    let (other, trained) = stepped(Kfac::new(kfac.config().clone()).unwrap(), 5);
    assert_eq!(kfac.factors().of(&weight).unwrap().g, other.factors().of(&trained).unwrap().g);
}
