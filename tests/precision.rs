//! Training with products in 16 bits.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

use std::path::Path;

use alcyon::nn::{data, layer};
use alcyon::optim;
use alcyon::optim::curvature::{KroneckerFactors, Share};
use alcyon::prelude::*;
use alcyon::train::{
    Budget, Event, Every, LossScale, Outcome, Plan, Precision, Score, Shuffled, Snapshots,
    Supervised, Task, Trainer,
};

fn network() -> layer::Sequential {
    let rng = &mut Rng::new(3);
    layer::Sequential::new()
        .then(layer::Conv2d::new(1, 4, Window { padding: (1, 1), ..Window::new((3, 3)) }, rng))
        .then(layer::BatchNorm2d::new(4))
        .then(layer::Relu)
        .then(layer::Flatten)
        .then(layer::Linear::new(256, 10, rng))
}

fn bits(model: &dyn Parameters) -> Vec<u64> {
    let of = |t: &Tensor| t.to_f64_vec().unwrap().into_iter().map(f64::to_bits).collect::<Vec<_>>();
    let parameters = model.parameters().into_iter().flat_map(|(_, p)| of(p.value()));
    parameters.chain(model.buffers().into_iter().flat_map(|(_, b)| of(b.value()))).collect()
}

/// Digits, and the number that gradients are multiplied by: large ones overflow f16 on the way back.
struct Digits(f64);

impl Task<layer::Sequential> for Digits {
    fn outputs(&self, model: &layer::Sequential, tape: &Tape, batch: &data::Batch) -> Result<Var> {
        let outputs = model.forward(&tape.input(batch.inputs.clone()))?;
        // y + (c − 1)(y − y), of which the second y is a constant.
        outputs.add(&outputs.sub(&outputs.detach())?.scale(self.0 - 1.0)?)
    }

    fn loss(&self, batch: &data::Batch) -> Box<dyn Likelihood> {
        Task::<Sequential>::loss(&Supervised::classification(), batch)
    }

    fn score(&self) -> Score {
        Score::Accuracy
    }
}

/// Trains until the process "dies" after a step; the steps that were skipped.
fn run(
    model: &mut layer::Sequential,
    name: &str,
    task: &Digits,
    plan: Plan,
    (folder, dies_after): (Option<&Path>, Option<u64>),
) -> (Result<Outcome>, Vec<u64>) {
    let (train, test) = data::digits().unwrap();
    let (train, test) = (train.range(0, 256).unwrap(), test.range(0, 64).unwrap());
    let batches = Shuffled::new(Loader::new(&train, 32).unwrap(), 9);
    let mut optimizer = optim::build(name, None).unwrap();
    let mut skipped = Vec::new();
    let mut listen = |event: &Event<'_>| match event {
        Event::Stepped(step) if Some(step.step) == dies_after => {
            Err(Error::io("power", std::io::Error::other("cut")))
        }
        Event::Overflowed { step, .. } => {
            skipped.push(*step);
            Ok(())
        }
        _ => Ok(()),
    };
    let mut trainer =
        Trainer::new(model, &mut *optimizer, task, plan).unwrap().observe(&mut listen);
    if let Some(folder) = folder {
        let snapshots = Snapshots::new(folder);
        trainer = trainer.snapshots(Snapshots { steps: Some(2), seconds: None, ..snapshots });
    }
    (trainer.run(&batches, &Loader::new(&test, 32).unwrap()), skipped)
}

fn plan(precision: Precision, epochs: u64) -> Plan {
    let (budget, evaluate) = (Budget::epochs(epochs), Every::Epochs(0));
    Plan { precision, budget, evaluate, seed: 5, ..Plan::default() }
}

#[test]
fn a_network_learns_as_much_in_sixteen_bits_as_in_f32_and_its_parameters_stay_f32() {
    for name in ["adamw", "adafisher"] {
        let loss = |precision, epochs| {
            let mut model = network();
            let outcome =
                run(&mut model, name, &Digits(1.0), plan(precision, epochs), (None, None));
            for (path, p) in model.parameters() {
                assert_eq!(p.value().dtype(), DType::F32, "{path}");
            }
            outcome.0.unwrap().last.unwrap().loss
        };
        let (untrained, trained) = (loss(Precision::F32, 0), loss(Precision::F32, 12));
        assert!(trained < 0.8 * untrained, "{name}: {untrained} to {trained}");
        for precision in [Precision::BF16, Precision::F16] {
            let half = loss(precision, 12);
            // A tenth of the way is the noise of rounding; not to learn would be all of it.
            let far = (half - trained).abs() / (untrained - trained);
            assert!(far < 0.1 && half != trained, "{name} {precision}: {half}, f32 {trained}");
        }
    }
}

#[test]
fn a_run_in_sixteen_bits_that_was_cut_off_and_resumed_has_the_bits_of_one_that_was_not() {
    // In f16 steps are skipped at first, so the scale and its count are part of what is saved.
    let cases = [
        ("adafisher", Precision::BF16, 1.0),
        ("kfac", Precision::BF16, 1.0),
        ("adamw", Precision::F16, 64.0),
        ("kfac", Precision::F16, 64.0),
        ("adafisher", Precision::F16, 64.0),
    ];
    for (name, precision, louder) in cases {
        let (dir, task) = (tempfile::tempdir().unwrap(), Digits(louder));
        let plan = || plan(precision, 1);
        let mut whole = network();
        let (expected, skipped) = run(&mut whole, name, &task, plan(), (None, None));
        let expected = expected.unwrap();
        assert_eq!(precision == Precision::F16, !skipped.is_empty(), "{skipped:?}");
        for died in [2, 3, 5] {
            let folder = dir.path().join(died.to_string());
            let lost = run(&mut network(), name, &task, plan(), (Some(&folder), Some(died))).0;
            assert!(matches!(lost, Err(Error::Io { .. })), "{lost:?}");
            let mut resumed = network();
            let outcome = run(&mut resumed, name, &task, plan(), (Some(&folder), None)).0.unwrap();
            assert_eq!(bits(&resumed), bits(&whole), "{name}, cut off after {died}");
            assert_eq!(outcome.place.loss_scale, expected.place.loss_scale);
        }
    }
}

#[test]
fn gradients_beyond_f16_skip_their_steps_and_halve_the_scale_until_it_fits() {
    let task = Digits(64.0);
    let mut model = network();
    let start: Vec<u64> = bits(&model);
    let plan = |steps| Plan {
        budget: Budget { steps: Some(steps), ..Budget::epochs(9) },
        ..plan(Precision::F16, 9)
    };
    let (outcome, skipped) = run(&mut model, "adamw", &task, plan(1), (None, None));
    assert_eq!((skipped, outcome.unwrap().place.step), (vec![1], 1));
    assert_eq!(bits(&model), start, "a skipped step changes no weight and no running mean");
    let (outcome, skipped) = run(&mut model, "adamw", &task, plan(20), (None, None));
    let scale = outcome.unwrap().place.loss_scale;
    assert_eq!(scale.skipped as usize, skipped.len());
    assert_eq!(scale.factor, LossScale::default().factor / 2_f64.powi(skipped.len() as i32));
    assert!(skipped.len() < 15 && scale.good > 0, "{scale:?}");
    assert_ne!(bits(&model), start);
}

/// K-FAC's and AdaFisher's factors of one layer whose numbers 16 bits hold, its output rounded by autocast or
/// by casts that are written out around f32.
fn factors(half: DType, autocast: bool) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let mut rng = Rng::new(2);
    let mut of = |shape: [usize; 2]| {
        let x = Tensor::normal(shape, 0.0, 1.0, DType::F32, &mut rng);
        x.to_dtype(half).unwrap().to_dtype(DType::F32).unwrap()
    };
    let (x, weight) = (of([6, 5]), Parameter::new(of([4, 5])));
    let loss = CrossEntropy::new(&Tensor::from_slice(&[0_i64, 3, 1, 2, 2, 0], [6]).unwrap());
    let forward = |tape: &Tape| {
        let layer = || tape.input(x.clone()).linear(&tape.bind(&weight), None);
        let y = match autocast {
            true => tape.autocast(half, layer).unwrap(),
            false => layer().unwrap().to_dtype(half).unwrap(),
        };
        y.to_dtype(DType::F32).unwrap()
    };
    let tape = Tape::new();
    let mut kronecker = KroneckerFactors::new(Fisher::Empirical, Share::Expand);
    let nll = loss.nll(&forward(&tape)).unwrap();
    tape.backward_observed(&nll, &mut kronecker).unwrap();
    kronecker.finish(loss.terms()).unwrap();
    kronecker.fold().unwrap();
    let block = kronecker.of(&weight).unwrap();
    let mut adafisher = AdaFisher::new(AdaFisherConfig::default()).unwrap();
    let tape = Tape::new();
    optim::backward(&tape, &forward(&tape), &loss, &mut adafisher).unwrap();
    assert!(adafisher.refresh());
    (block.a.clone(), block.g.clone(), adafisher.curvature_and_damping(&weight).unwrap().0)
}

#[test]
fn factors_of_a_layer_in_sixteen_bits_are_those_of_f32_on_the_rounded_numbers_bit_for_bit() {
    for half in [DType::F16, DType::BF16] {
        let (a, g, f) = factors(half, true);
        assert!(a.iter().chain(&g).chain(&f).any(|&x| x != 0.0));
        assert_eq!((a, g, f), factors(half, false), "{half}");
    }
}
