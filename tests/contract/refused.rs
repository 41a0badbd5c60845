//! A step that is refused, or skipped by the caller, equals bit for bit a run without that batch.

use engine::{DType, Error, Gradients, Parameters, Tape, Tensor};
use nn::CrossEntropy;
use optim::{Batch, Fisher, Optimizer, backward, build, known};

use super::everything;
use super::models::{Forward, Mixed, Net, batch, step};

/// A forward pass whose loss is finite and whose gradient of `second_bias` is not: √(0 b) is 0, and its slope is 0
/// times infinity.
fn broken_step(model: &mut Net, optimizer: &mut dyn Optimizer, seed: u64) -> Error {
    let (x, y) = batch(seed, DType::F64);
    let loss = CrossEntropy::new(&y);
    let forward = |model: &Net, tape: &Tape| {
        let broken = tape.bind(&model.second_bias).scale(0.0)?.sqrt()?;
        model.logits(tape, &x)?.add(&broken)
    };
    optimizer.minimize(&mut Batch::new(model, forward, &loss).training(0)).unwrap_err()
}

/// Gradients of a batch, by a pass that feeds the optimizer.
fn pass<M: Forward>(model: &M, optimizer: &mut dyn Optimizer, seed: u64) -> Gradients {
    let (x, y) = batch(seed, DType::F64);
    let tape = Tape::training(0);
    let logits = model.logits(&tape, &x).unwrap();
    backward(&tape, &logits, &CrossEntropy::new(&y), optimizer).unwrap().gradients
}

/// Steps on batches `0..before`, something that is to leave no trace, and four more steps.
fn run<M: Forward>(
    mut model: M,
    name: &str,
    before: u64,
    between: impl FnOnce(&mut M, &mut dyn Optimizer),
) -> super::Everything {
    let mut optimizer = build(name, None).unwrap();
    for seed in 0..before {
        step(&mut model, &mut *optimizer, &batch(seed, DType::F64));
    }
    between(&mut model, &mut *optimizer);
    for seed in 10..14 {
        step(&mut model, &mut *optimizer, &batch(seed, DType::F64));
    }
    everything(&model, &*optimizer)
}

#[test]
fn a_refused_step_leaves_no_trace_in_any_optimizer() {
    for name in known() {
        for before in [0, 2] {
            let without = run(Net::new(DType::F64), name, before, |_, _| {});
            let refused = run(Net::new(DType::F64), name, before, |model, optimizer| {
                let error = broken_step(model, optimizer, 5);
                assert!(matches!(error, Error::InLayer { .. }), "{name}: {error}");
            });
            assert_eq!(refused, without, "{name} after {before} steps");
        }
    }
}

#[test]
fn a_step_that_the_caller_skips_leaves_no_trace_once_it_is_discarded() {
    for name in known().into_iter().filter(|name| !build(name, None).unwrap().needs_problem()) {
        for before in [0, 2] {
            let without = run(Mixed::new(), name, before, |_, _| {});
            let skipped = run(Mixed::new(), name, before, |model, optimizer| {
                // Two micro-batches, and no step.
                pass(model, optimizer, 5);
                pass(model, optimizer, 6);
                optimizer.discard();
            });
            assert_eq!(skipped, without, "{name} after {before} steps");
        }
    }
}

#[test]
fn a_backward_pass_that_fails_half_way_leaves_the_micro_batches_before_it_and_no_trace_of_its_own()
{
    // The outputs of four tokens, flattened, are refused by the exact Fisher in the middle of a sweep; drawn
    // labels have been drawn by then, so the generator must go back as well.
    for name in known().into_iter().filter(|name| !build(name, None).unwrap().needs_problem()) {
        let run = |fails: bool| {
            let (mut model, mut optimizer) = (Net::new(DType::F64), build(name, None).unwrap());
            step(&mut model, &mut *optimizer, &batch(0, DType::F64));
            let first = pass(&model, &mut *optimizer, 1);
            if fails {
                // A loss that does not belong to these outputs fails after labels are drawn; one on a tape that
                // has been swept fails before.
                let (x, y) = batch(2, DType::F64);
                let tape = Tape::training(0);
                let logits = model.logits(&tape, &x).unwrap();
                let loss = nn::CrossEntropy::new(&y);
                let bad = Halfway(&loss);
                assert!(backward(&tape, &logits, &bad, &mut *optimizer).is_err(), "{name}");
            }
            let mut sum = pass(&model, &mut *optimizer, 3);
            sum.accumulate(&first).unwrap();
            sum.scale(0.5).unwrap();
            optimizer.step(&mut model, &sum).unwrap();
            step(&mut model, &mut *optimizer, &batch(4, DType::F64));
            everything(&model, &*optimizer)
        };
        assert_eq!(run(true), run(false), "{name}");
    }
}

/// A loss that draws labels as another does, and whose own gradient cannot be taken.
struct Halfway<'a>(&'a nn::CrossEntropy);

impl engine::Likelihood for Halfway<'_> {
    fn terms(&self) -> usize {
        self.0.terms()
    }

    fn nll(&self, outputs: &engine::Var) -> engine::Result<engine::Var> {
        // Not on the tape: every sweep from it is refused.
        Ok(self.0.nll(outputs)?.detach())
    }

    fn sampled_seed(&self, outputs: &Tensor, rng: &mut engine::Rng) -> engine::Result<Tensor> {
        self.0.sampled_seed(outputs, rng)
    }

    fn exact_seeds(&self, outputs: &Tensor) -> engine::Result<Vec<Tensor>> {
        self.0.exact_seeds(outputs)
    }
}

#[test]
fn k_fac_that_cannot_invert_names_the_layer_and_its_factors_are_as_before() {
    use optim::{Kfac, KfacConfig};
    let mut model = Net::new(DType::F64);
    // One row makes a factor of rank one, which nothing damps.
    let config = KfacConfig { damping: 0.0, fisher: Fisher::Empirical, ..KfacConfig::default() };
    let mut kfac = Kfac::new(config).unwrap();
    let before = everything(&model, &kfac);
    let (x, y) = batch(0, DType::F64);
    let (x, y) = (x.narrow(0, 0, 1).unwrap(), y.narrow(0, 0, 1).unwrap());
    let loss = CrossEntropy::new(&y.contiguous().unwrap());
    let x = x.contiguous().unwrap();
    let forward = |model: &Net, tape: &Tape| model.logits(tape, &x);
    let error = kfac.minimize(&mut Batch::new(&mut model, forward, &loss)).unwrap_err();
    assert!(
        matches!(&error, Error::InLayer { path, .. } if path.starts_with("first") || path.starts_with("second")),
        "{error}"
    );
    assert!(error.to_string().contains("factor"), "{error}");
    assert_eq!(everything(&model, &kfac), before);
    assert!(model.parameters().iter().all(|(_, p)| kfac.factors().of(p).is_none()));
}
