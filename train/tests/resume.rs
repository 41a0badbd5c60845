//! A run that was cut off anywhere, and resumed, has the bits of one that was not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

use std::fs;
use std::path::Path;

use alcyon_train::{
    Budget, Event, Every, Outcome, Pace, Plan, Shuffled, Snapshots, Supervised, TickingClock,
    Trainer,
};
use engine::{Error, Gradients, Parameters, Result, Rng, Tensor, Window};
use nn::data::{self, Loader};
use nn::layer::{BatchNorm2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, Relu, Sequential};
use optim::{Coverage, Optimizer, Schedule, State};

/// Dropout draws, batch norm keeps running means: whatever a snapshot could forget.
fn network(seed: u64) -> Sequential {
    let rng = &mut Rng::new(seed);
    Sequential::new()
        .then(Conv2d::new(1, 4, Window { padding: (1, 1), ..Window::new((3, 3)) }, rng))
        .then(BatchNorm2d::new(4))
        .then(Relu)
        .then(MaxPool2d::new(2))
        .then(Flatten)
        .then(Dropout::new(0.2))
        .then(Linear::new(64, 10, rng))
}

fn bits(model: &Sequential) -> Vec<u64> {
    let of = |t: &Tensor| t.to_f64_vec().unwrap().into_iter().map(f64::to_bits).collect::<Vec<_>>();
    let parameters = model.parameters().into_iter().flat_map(|(_, p)| of(p.value()));
    parameters.chain(model.buffers().into_iter().flat_map(|(_, b)| of(b.value()))).collect()
}

/// Three epochs of five batches, of which two or three make a step.
fn plan() -> Plan {
    Plan {
        budget: Budget::epochs(3),
        pace: Some(Pace::Steps(Schedule::cosine(0.01, 9))),
        accumulate: 2,
        clip_norm: Some(1.0),
        average: Some(0.9),
        evaluate: Every::Steps(2),
        seed: 5,
        ..Plan::default()
    }
}

/// Trains in a folder, until the process "dies" after a step; what was skipped on resuming.
fn run(
    model: &mut Sequential,
    name: &str,
    folder: &Path,
    plan: Plan,
    dies_after: Option<u64>,
) -> (Result<Outcome>, Vec<String>) {
    let (train, test) = data::digits().unwrap();
    let (train, test) = (train.range(0, 80).unwrap(), test.range(0, 40).unwrap());
    let batches = Shuffled::new(Loader::new(&train, 16).unwrap(), 9);
    let mut optimizer = optim::build(name, None).unwrap();
    let mut skipped = Vec::new();
    let mut listen = |event: &Event<'_>| match event {
        Event::Stepped(step) if Some(step.step) == dies_after => {
            Err(Error::io("power", std::io::Error::other("cut")))
        }
        Event::Damaged { file, .. } => {
            skipped.push(file.file_name().unwrap().to_string_lossy().into_owned());
            Ok(())
        }
        _ => Ok(()),
    };
    let task = Supervised::classification();
    let outcome = Trainer::new(model, &mut *optimizer, &task, plan)
        .unwrap()
        .clock(TickingClock::new(0.5))
        .snapshots(Snapshots { steps: Some(2), seconds: None, keep: 2, ..Snapshots::new(folder) })
        .observe(&mut listen)
        .run(&batches, &Loader::new(&test, 16).unwrap());
    (outcome, skipped)
}

#[test]
fn a_run_cut_off_after_any_step_and_resumed_has_the_bits_of_an_uninterrupted_one() {
    for name in ["adafisher", "kfac", "adamw"] {
        let dir = tempfile::tempdir().unwrap();
        let mut whole = network(3);
        let expected = run(&mut whole, name, &dir.path().join("whole"), plan(), None).0.unwrap();
        assert_eq!((expected.place.step, expected.place.epoch), (9, 3));
        for died in 1..=9 {
            let folder = dir.path().join(died.to_string());
            let lost = run(&mut network(3), name, &folder, plan(), Some(died)).0;
            assert!(matches!(lost, Err(Error::Io { .. })));
            // Another start: everything has to come from the snapshot (or, before the first, from the seed).
            let mut resumed = network(if died > 2 { 77 } else { 3 });
            let outcome = run(&mut resumed, name, &folder, plan(), None).0.unwrap();
            assert_eq!(bits(&resumed), bits(&whole), "{name}, cut off after {died}");
            assert_eq!(outcome, expected, "{name}, cut off after {died}");
        }
    }
}

#[test]
fn a_finished_run_that_is_started_again_does_nothing_and_a_longer_budget_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = network(3);
    run(&mut model, "adam", dir.path(), plan(), None).0.unwrap();
    let finished = bits(&model);
    let mut again = network(4);
    let outcome = run(&mut again, "adam", dir.path(), plan(), None).0.unwrap();
    assert_eq!((bits(&again), outcome.place.step), (finished.clone(), 9));
    let longer = Plan { budget: Budget::epochs(4), ..plan() };
    assert_eq!(run(&mut again, "adam", dir.path(), longer, None).0.unwrap().place.step, 12);
    assert_ne!(bits(&again), finished);
}

#[test]
fn a_torn_snapshot_is_skipped_for_the_one_before_it_and_observers_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut whole = network(3);
    run(&mut whole, "adafisher", &dir.path().join("whole"), plan(), None).0.unwrap();
    for torn in [0, 7, 2000] {
        let folder = dir.path().join(torn.to_string());
        assert!(run(&mut network(3), "adafisher", &folder, plan(), Some(7)).0.is_err());
        let newest = Snapshots::new(&folder).files().unwrap().pop().unwrap();
        let bytes = fs::read(&newest).unwrap();
        fs::write(&newest, &bytes[..torn.min(bytes.len() - 1)]).unwrap();
        let mut resumed = network(77);
        let (outcome, skipped) = run(&mut resumed, "adafisher", &folder, plan(), None);
        assert_eq!(outcome.unwrap().place.step, 9);
        let part = newest.file_name().unwrap().to_str().unwrap();
        assert_eq!(skipped, ["step-0000000006.json", part]);
        assert_eq!(bits(&resumed), bits(&whole));
    }
}

#[test]
fn the_last_snapshots_stay_and_the_best_model_is_kept_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    run(&mut network(3), "adam", dir.path(), plan(), None).0.unwrap();
    let snapshots = Snapshots::new(dir.path());
    let names: Vec<String> = snapshots
        .files()
        .unwrap()
        .iter()
        .map(|f| f.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert!(
        names[0].starts_with("step-0000000008-0-") && names[1].starts_with("step-0000000009-0-")
    );
    assert_eq!(names.len(), 2);
    nn::checkpoint::load(&dir.path().join("best.safetensors"), &mut network(8)).unwrap();
}

#[test]
fn a_run_with_another_optimizer_model_or_seed_is_refused_and_changes_neither_model_nor_folder() {
    let dir = tempfile::tempdir().unwrap();
    run(&mut network(3), "adam", dir.path(), plan(), None).0.unwrap();
    let written = || fs::read(dir.path().join("run.json")).unwrap();
    let before = written();
    let names = |refused: Result<Outcome>| match refused {
        Err(Error::Settings { differences, .. }) => {
            differences.into_iter().map(|(name, ..)| name).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let other = run(&mut network(3), "sgd", dir.path(), plan(), None).0;
    assert_eq!(names(other), ["optimizer", "its constants"]);
    let other = run(&mut network(3), "adam", dir.path(), Plan { seed: 6, ..plan() }, None).0;
    assert_eq!(names(other), ["seed"]);
    let mut wider = network(3).then(Linear::new(10, 10, &mut Rng::new(0)));
    let weights = bits(&wider);
    assert_eq!(names(run(&mut wider, "adam", dir.path(), plan(), None).0), ["parameters"]);
    assert_eq!(bits(&wider), weights);
    assert_eq!(written(), before);
}

/// An optimizer like another one that does not understand what it saved.
struct Forgetful(Box<dyn Optimizer>);

impl Optimizer for Forgetful {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn step(&mut self, model: &mut dyn Parameters, grads: &Gradients) -> Result<()> {
        self.0.step(model, grads)
    }
    fn rate(&self) -> f64 {
        self.0.rate()
    }
    fn set_rate(&mut self, rate: f64) {
        self.0.set_rate(rate);
    }
    fn coverage(&self, model: &dyn Parameters) -> Coverage {
        self.0.coverage(model)
    }
    fn state(&self, model: &dyn Parameters) -> Result<State> {
        self.0.state(model)
    }
    fn load_state(&mut self, _: &dyn Parameters, _: &State) -> Result<()> {
        Err(Error::io("state", std::io::Error::other("not understood")))
    }
}

#[test]
fn a_snapshot_that_an_optimizer_cannot_take_is_refused_with_the_ways_out() {
    let dir = tempfile::tempdir().unwrap();
    let (train, test) = data::iris().unwrap();
    let start = |steps| {
        let mut model = nn::Mlp::new(&[4, 3], &mut Rng::new(0));
        let mut optimizer = Forgetful(optim::build("adam", None).unwrap());
        let plan = Plan { budget: Budget::steps(steps), ..Plan::default() };
        Trainer::new(&mut model, &mut optimizer, &Supervised::classification(), plan)
            .unwrap()
            .snapshots(Snapshots::new(dir.path()))
            .run(&Loader::new(&train, 30).unwrap(), &Loader::new(&test, 30).unwrap())
    };
    start(2).unwrap();
    let before = fs::read(dir.path().join("run.json")).unwrap();
    let refused = start(3).unwrap_err();
    assert!(matches!(refused, Error::Resume { .. }) && refused.asked_wrongly());
    let text = refused.to_string();
    assert!(text.contains("not understood") && text.contains("--fresh"), "{text}");
    assert_eq!(fs::read(dir.path().join("run.json")).unwrap(), before);
}

#[test]
fn snapshots_by_the_clock_are_written_when_it_is_time() {
    let dir = tempfile::tempdir().unwrap();
    let (train, test) = data::iris().unwrap();
    let mut model = nn::Mlp::new(&[4, 3], &mut Rng::new(0));
    let mut optimizer = optim::build("sgd", None).unwrap();
    let mut saved = Vec::new();
    let mut step = 0;
    let mut listen = |event: &Event<'_>| {
        match event {
            Event::Stepped(s) => step = s.step,
            Event::Saved { .. } => saved.push(step),
            _ => {}
        }
        Ok(())
    };
    let task = Supervised::classification();
    let plan = Plan { budget: Budget::steps(10), evaluate: Every::Steps(0), ..Plan::default() };
    // Each step looks at the clock three times: before, after, and to ask whether it is time.
    let snapshots = Snapshots { seconds: Some(9.0), ..Snapshots::new(dir.path()) };
    Trainer::new(&mut model, &mut *optimizer, &task, plan)
        .unwrap()
        .clock(TickingClock::new(1.0))
        .snapshots(snapshots)
        .observe(&mut listen)
        .run(&Loader::new(&train, 30).unwrap(), &Loader::new(&test, 30).unwrap())
        .unwrap();
    assert_eq!(saved, [3, 6, 9, 10]);
}
