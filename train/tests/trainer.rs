//! What the loop promises: micro-batches make a batch, budgets end, patience is lost, errors are told.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

use alcyon_train::{
    Batches, Budget, Event, Every, Outcome, Pace, Plan, Score, Shuffled, Stop, Stream, Supervised,
    Task, TickingClock, Trainer, evaluate,
};
use engine::{DType, Error, Parameters, Rng, Tensor};
use nn::data::{self, Batch, Dataset, Loader};
use nn::{Mlp, Module};
use optim::Schedule;

fn iris() -> (Dataset, Dataset) {
    let (train, test) = data::iris().unwrap();
    let wide = |data: Dataset| {
        let inputs = data.inputs.to_dtype(DType::F64).unwrap();
        Dataset::new(&data.name, &inputs, &data.labels, data.classes).unwrap()
    };
    (wide(train), wide(test))
}

fn model() -> Mlp {
    Mlp::new(&[4, 8, 3], &mut Rng::new(3)).to_dtype(DType::F64).unwrap()
}

fn weights(model: &Mlp) -> Vec<f64> {
    model.parameters().iter().flat_map(|(_, p)| p.value().to_vec::<f64>().unwrap()).collect()
}

/// The same order in every epoch, so that other batch sizes see the same rows.
fn in_order(data: &Dataset, size: usize) -> Loader {
    Loader::new(data, size).unwrap()
}

/// Trains by a plan with a clock that takes a second a step; the events in words.
fn run(
    model: &mut Mlp,
    name: &str,
    plan: Plan,
    batches: &dyn Batches,
) -> (Result<Outcome, Error>, Vec<String>) {
    let mut optimizer = optim::build(name, None).unwrap();
    let task = Supervised::classification();
    let mut told = Vec::new();
    let mut listen = |event: &Event<'_>| {
        told.push(match event {
            Event::Stepped(step) => format!("step {} rate {}", step.step, step.rate),
            Event::Evaluated { evaluation, .. } => format!("evaluated {}", evaluation.step),
            Event::Failed { place, .. } => format!("failed after {}", place.step),
            other => format!("{other:?}").split('(').next().unwrap().to_owned(),
        });
        Ok(())
    };
    let outcome = Trainer::new(model, &mut *optimizer, &task, plan)
        .unwrap()
        .clock(TickingClock::new(1.0))
        .observe(&mut listen)
        .run(batches, &in_order(&iris().1, 7));
    (outcome, told)
}

#[test]
fn small_batches_make_the_step_of_a_large_one() {
    let data = iris().0.range(0, 100).unwrap();
    // 100 rows: 3 large batches, the last of 20; small ones of 10, so its gradients are of unequal parts.
    for name in ["sgd", "adam", "adafisher", "kfac"] {
        let plan = Plan { budget: Budget::epochs(3), ..Plan::default() };
        let clipped = Plan { clip_norm: Some(0.05), ..plan.clone() };
        for plan in [plan, clipped] {
            let (mut large, mut small) = (model(), model());
            let outcome = run(&mut large, name, plan.clone(), &in_order(&data, 40)).0.unwrap();
            assert_eq!(outcome.place.step, 9);
            let parts = Plan { accumulate: 4, ..plan };
            let outcome = run(&mut small, name, parts, &in_order(&data, 10)).0.unwrap();
            assert_eq!(outcome.place.step, 9);
            for (large, small) in weights(&large).iter().zip(weights(&small)) {
                assert!((large - small).abs() < 1e-12, "{name}: {large} and {small}");
            }
        }
    }
}

#[test]
fn parts_of_unequal_size_count_by_their_terms() {
    // Batches of 30 and 10 rows make the gradient of all 40, not the mean of two means.
    struct Two(Dataset);
    impl Batches for Two {
        fn count(&self) -> usize {
            2
        }
        fn epoch(&self, _: u64, from: usize) -> Stream<'_> {
            let part = |(start, count): (usize, usize)| {
                let rows = self.0.range(start, count)?;
                Ok(Batch { inputs: rows.inputs, targets: rows.labels })
            };
            Box::new([(0, 30), (30, 10)].into_iter().skip(from).map(part))
        }
    }
    let data = iris().0.range(0, 40).unwrap();
    let plan = Plan { budget: Budget::steps(2), ..Plan::default() };
    let (mut whole, mut parts) = (model(), model());
    run(&mut whole, "sgd", plan.clone(), &in_order(&data, 40)).0.unwrap();
    run(&mut parts, "sgd", Plan { accumulate: 2, ..plan }, &Two(data)).0.unwrap();
    for (whole, parts) in weights(&whole).iter().zip(weights(&parts)) {
        assert!((whole - parts).abs() < 1e-12, "{whole} and {parts}");
    }
}

#[test]
fn a_run_ends_with_the_first_limit_and_is_evaluated_there() {
    let batches = in_order(&iris().0, 24); // five an epoch
    let mut plan = Plan { budget: Budget::epochs(2), log_every: 100, ..Plan::default() };
    let (_, told) = run(&mut model(), "sgd", plan.clone(), &batches);
    assert_eq!(told, ["Started", "evaluated 5", "evaluated 10", "Finished"]);
    plan.budget.steps = Some(7);
    let (_, told) = run(&mut model(), "sgd", plan.clone(), &batches);
    assert_eq!(told, ["Started", "evaluated 5", "evaluated 7", "Finished"]);
    plan.budget.seconds = Some(3.0);
    let (outcome, told) = run(&mut model(), "sgd", plan.clone(), &batches);
    assert_eq!(told, ["Started", "evaluated 3", "Finished"]);
    assert_eq!(outcome.unwrap().stop, Stop::Budget);
    plan.evaluate = Every::Steps(2);
    let (_, told) = run(&mut model(), "sgd", plan, &batches);
    assert_eq!(told, ["Started", "evaluated 2", "evaluated 3", "Finished"]);
}

#[test]
fn calibrated_seconds_become_the_steps_that_fill_them() {
    let batches = in_order(&iris().0, 24);
    let budget = Budget { calibrate: 3, ..Budget::seconds(12.0) };
    let plan = Plan { budget, ..Plan::default() };
    let outcome = run(&mut model(), "sgd", plan, &batches).0.unwrap();
    assert_eq!((outcome.place.step, outcome.place.calibrated), (12, Some(12)));
}

#[test]
fn a_stretched_schedule_ends_where_the_budget_does() {
    let pace = Pace::over_budget(Schedule::linear(1.0, 0.0, 1000), 1000);
    let plan = Plan { budget: Budget::steps(4), pace: Some(pace), ..Plan::default() };
    let (_, told) = run(&mut model(), "sgd", plan, &in_order(&iris().0, 24));
    let steps: Vec<&String> = told.iter().filter(|event| event.starts_with("step")).collect();
    assert_eq!(steps, ["step 1 rate 1", "step 2 rate 0.75", "step 3 rate 0.5", "step 4 rate 0.25"]);
}

#[test]
fn patience_is_lost_after_evaluations_without_a_better_one() {
    // A rate of 0 learns nothing: the first evaluation is the best, and two more are as good.
    let plan = Plan {
        budget: Budget::epochs(50),
        pace: Some(Pace::Steps(Schedule::constant(0.0))),
        patience: Some(2),
        ..Plan::default()
    };
    let outcome = run(&mut model(), "sgd", plan, &in_order(&iris().0, 24)).0.unwrap();
    assert_eq!((outcome.stop, outcome.place.epoch), (Stop::Patience, 3));
    assert_eq!(outcome.best().unwrap().step, 5);
}

#[test]
fn evaluations_see_the_average_of_the_weights_and_training_does_not() {
    let (batches, test) = (in_order(&iris().0, 24), in_order(&iris().1, 7));
    let plan = Plan { budget: Budget::steps(9), evaluate: Every::Steps(0), ..Plan::default() };
    let (mut plain, mut averaged) = (model(), model());
    run(&mut plain, "sgd", plan.clone(), &batches).0.unwrap();
    let decay = 0.875;
    let outcome =
        run(&mut averaged, "sgd", Plan { average: Some(decay), ..plan.clone() }, &batches);
    assert_eq!(weights(&plain), weights(&averaged));
    // By hand: nine runs, each one step longer, give the points on the way.
    let mut mean = weights(&model());
    for steps in 1..=9 {
        let mut model = model();
        let plan = Plan { budget: Budget::steps(steps), ..plan.clone() };
        run(&mut model, "sgd", plan, &batches).0.unwrap();
        for (mean, w) in mean.iter_mut().zip(weights(&model)) {
            *mean = decay * *mean + (1.0 - decay) * w;
        }
    }
    let mut at = 0;
    for (_, p) in averaged.parameters_mut() {
        let n = p.value().numel();
        let shape = *p.value().shape();
        *p.value_mut() = Tensor::from_slice(&mean[at..at + n], shape).unwrap();
        at += n;
    }
    let (loss, _) = evaluate(&averaged, &Supervised::classification(), &test).unwrap();
    assert!((outcome.0.unwrap().last.unwrap().loss - loss).abs() < 1e-12);
}

#[test]
fn a_loss_that_is_not_finite_is_an_error_that_names_the_op_and_observers_hear_of_it() {
    let mut poisoned = iris().0;
    let bad = Tensor::from_fn(poisoned.inputs.shape(), DType::F64, |i| {
        if i == 4 * 60 { f64::NAN } else { 1.0 }
    });
    poisoned.inputs = bad;
    let mut model = model();
    let (outcome, told) = run(&mut model, "adam", Plan::default(), &in_order(&poisoned, 24));
    assert!(matches!(outcome, Err(Error::NotFinite { op: "input", .. })), "{outcome:?}");
    assert_eq!(told.last().unwrap(), "failed after 2");
    assert!(weights(&model).iter().all(|w| w.is_finite()));
}

#[test]
fn optimizers_that_look_twice_refuse_gradients_that_were_accumulated() {
    let plan = Plan { accumulate: 2, ..Plan::default() };
    let refused = run(&mut model(), "sam", plan, &in_order(&iris().0, 24)).0;
    assert!(matches!(refused, Err(Error::Argument { name: "optimizer", .. })), "{refused:?}");
    assert!(run(&mut model(), "sam", Plan::default(), &in_order(&iris().0, 24)).0.is_ok());
}

#[test]
fn an_epoch_without_batches_is_refused() {
    let none = iris().0.range(0, 0).unwrap();
    let refused = run(&mut model(), "sgd", Plan::default(), &in_order(&none, 24)).0;
    assert!(matches!(refused, Err(Error::Argument { name: "batches", .. })));
}

#[test]
fn an_evaluation_of_batches_is_that_of_all_rows() {
    let (_, test) = iris();
    let model = model();
    let whole = evaluate(&model, &Supervised::classification(), &in_order(&test, 30)).unwrap();
    let parts = evaluate(&model, &Supervised::classification(), &in_order(&test, 7)).unwrap();
    assert!((whole.0 - parts.0).abs() < 1e-15 && whole.1 == parts.1);
    let perplexity = evaluate(&model, &Supervised::language_model(), &in_order(&test, 30)).unwrap();
    assert_eq!(perplexity.1, whole.0.exp());
    assert_eq!(Task::<Mlp>::score(&Supervised::language_model()), Score::Perplexity);
}

#[test]
fn every_epoch_has_an_order_of_its_own() {
    let batches = Shuffled::new(in_order(&iris().0, 24), 1);
    let targets = |epoch| {
        let all = batches.epoch(epoch, 0).flat_map(|b| b.unwrap().targets.to_vec::<i64>().unwrap());
        all.collect::<Vec<i64>>()
    };
    assert_ne!(targets(0), targets(1));
    assert_eq!(targets(1), targets(1));
}
