//! A run's folder is a record: its settings are fixed, nothing damaged is used, and nothing that is whole is lost.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

#[path = "folder/contents.rs"]
mod contents;

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use alcyon_train::{
    Budget, Event, Every, Metrics, Outcome, Pace, Plan, Record, Run, Shuffled, Snapshots, Stop,
    Supervised, TickingClock, Trainer, metrics,
};
use contents::{contents, parts};
use engine::{Error, Parameters, Result, Rng};
use nn::Mlp;
use nn::data::{self, Loader};
use optim::Schedule;

/// One start of a program in a folder, and what it is asked for.
#[derive(Clone)]
struct Start<'a> {
    folder: &'a Path,
    plan: Plan,
    rate: f64,
    batch_size: usize,
    keep: usize,
    fresh: bool,
    extend: bool,
    /// Ends the process after so many steps, with nothing told.
    dies_after: Option<u64>,
    /// Asks for an end after so many.
    asks_after: Option<u64>,
    /// Renames the folder after so many.
    renames_after: Option<(u64, PathBuf)>,
}

/// What came of it.
struct Done {
    outcome: Result<Outcome>,
    weights: Vec<u64>,
    /// Names of damaged files that were told.
    damaged: Vec<String>,
}

/// Four steps an epoch, two epochs, a snapshot a step.
fn start(folder: &Path) -> Start<'_> {
    let plan = Plan { budget: Budget::epochs(2), evaluate: Every::Steps(2), ..Plan::default() };
    let (dies_after, asks_after) = (None, None);
    let (rate, batch_size) = (0.01, 32);
    Start {
        folder,
        plan,
        rate,
        batch_size,
        keep: 3,
        fresh: false,
        extend: false,
        dies_after,
        asks_after,
        renames_after: None,
    }
}

impl Start<'_> {
    fn run(&self) -> Done {
        let (train, test) = data::iris().unwrap();
        let batches = Shuffled::new(Loader::new(&train, self.batch_size).unwrap(), 1);
        let mut model = Mlp::new(&[4, 8, 3], &mut Rng::new(0));
        let mut optimizer = optim::build("adafisher", Some(self.rate)).unwrap();
        let settings = vec![("batch size".to_owned(), self.batch_size.to_string())];
        let mut record = Record::new(self.folder, "adafisher", settings);
        let (mut damaged, steps) = (Vec::new(), Cell::new(0));
        let mut listen = |event: &Event<'_>| match event {
            Event::Stepped(step) => {
                steps.set(step.step);
                if let Some((_, to)) = self.renames_after.as_ref().filter(|(n, _)| *n == step.step)
                {
                    fs::rename(self.folder, to).unwrap();
                }
                let cut = || Error::io("power", std::io::Error::other("cut"));
                if self.dies_after == Some(step.step) { Err(cut()) } else { Ok(()) }
            }
            Event::Damaged { file, .. } => {
                damaged.push(file.file_name().unwrap().to_string_lossy().into_owned());
                Ok(())
            }
            _ => Ok(()),
        };
        let task = Supervised::classification();
        let snapshots = Snapshots {
            steps: Some(1),
            seconds: None,
            keep: self.keep,
            ..Snapshots::new(self.folder)
        };
        let outcome = Trainer::new(&mut model, &mut *optimizer, &task, self.plan.clone())
            .unwrap()
            .clock(TickingClock::new(0.5))
            .snapshots(snapshots)
            .fresh(self.fresh)
            .extend(self.extend)
            .stop_when(|| self.asks_after.is_some_and(|n| steps.get() >= n))
            .observe(&mut record)
            .observe(&mut listen)
            .run(&batches, &Loader::new(&test, 16).unwrap());
        let bits = |(_, p): (String, &engine::Parameter)| {
            p.value().to_f64_vec().unwrap().into_iter().map(f64::to_bits).collect::<Vec<_>>()
        };
        let weights = model.parameters().into_iter().flat_map(bits).collect();
        Done { outcome, weights, damaged }
    }

    fn refused(&self) -> Error {
        self.run().outcome.unwrap_err()
    }
}

fn names(folder: &Path) -> Vec<String> {
    let name = |path: &PathBuf| path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
    contents(folder).keys().map(name).collect()
}

#[test]
fn another_setting_is_refused_with_each_difference_and_every_file_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(dir.path());
    first.run().outcome.unwrap();
    let before = contents(dir.path());
    let plan = first.plan.clone();
    let pace = Some(Pace::Steps(Schedule::cosine(0.01, 8)));
    let others = [
        (
            Start { rate: 0.5, ..first.clone() },
            vec!["course of the rate: constant 0.01 → constant 0.5"],
        ),
        (
            Start { batch_size: 16, ..first.clone() },
            vec!["batch size: 32 → 16", "batches: 4 an epoch"],
        ),
        (
            Start { plan: Plan { pace, ..plan.clone() }, ..first.clone() },
            vec!["→ cosine 0.01 to 0 in 8"],
        ),
        (
            Start { plan: Plan { seed: 3, ..plan.clone() }, rate: 1.0, ..first.clone() },
            vec!["seed: 0 → 3", "→ constant 1"],
        ),
        (
            Start { plan: Plan { clip_norm: Some(1.0), ..plan.clone() }, ..first.clone() },
            vec!["clipping: none → 1"],
        ),
        (
            Start { plan: Plan { average: Some(0.9), ..plan.clone() }, ..first.clone() },
            vec!["average of weights: none → 0.9"],
        ),
        (
            Start {
                plan: Plan { precision: alcyon_train::Precision::BF16, ..plan },
                ..first.clone()
            },
            vec!["precision: f32 → bf16"],
        ),
    ];
    for (other, said) in others {
        let refused = other.refused();
        assert!(matches!(refused, Error::Settings { .. }) && refused.asked_wrongly());
        let text = refused.to_string();
        for words in said.into_iter().chain(["--fresh", "--out"]) {
            assert!(text.contains(words), "{words} in {text}");
        }
        assert_eq!(contents(dir.path()), before, "{text}");
    }
    // What no step depends on may change.
    let free = Plan { patience: Some(9), log_every: 5, ..first.plan.clone() };
    Start { plan: free, ..first }.run().outcome.unwrap();
    let segments = Run::read(dir.path()).unwrap().about.segments;
    assert_eq!(segments.len(), 2);
    let changed: Vec<&str> = segments[1].changed.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(changed, ["patience", "rows of metrics"]);
}

#[test]
fn a_run_that_saved_nothing_yet_has_its_settings_already() {
    let dir = tempfile::tempdir().unwrap();
    let first = Start { dies_after: Some(1), ..start(dir.path()) };
    first.refused();
    assert!(parts(dir.path()).is_empty());
    let before = contents(dir.path());
    let refused = Start { rate: 0.5, ..first.clone() }.refused();
    assert!(matches!(refused, Error::Settings { .. }), "{refused}");
    assert_eq!(contents(dir.path()), before);
    assert_eq!(start(dir.path()).run().outcome.unwrap().place.step, 8);
}

#[test]
fn a_longer_budget_goes_on_and_under_a_stretched_schedule_only_when_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let stretched = Some(Pace::over_budget(Schedule::cosine(0.01, 1000), 1000));
    // Its warm-up is over when the budget becomes another one: no rate changes.
    let warmed = Some(Pace::over_budget(Schedule::constant(0.01).warm_up(100), 1000));
    let longer = |start: &Start<'_>| Plan { budget: Budget::epochs(4), ..start.plan.clone() };
    for (trial, pace) in [None, warmed, stretched].into_iter().enumerate() {
        let (folder, told) = (dir.path().join(trial.to_string()), trial == 2);
        let plan = Plan { pace, ..start(&folder).plan };
        let first = Start { plan, ..start(&folder) };
        first.run().outcome.unwrap();
        let more = Start { plan: longer(&first), ..first.clone() };
        if told {
            let text = more.refused().to_string();
            assert!(text.contains("--extend") && text.contains("2 epochs → 4 epochs"), "{text}");
        }
        let more = Start { extend: told, dies_after: Some(10), ..more };
        more.refused();
        // The same command again goes on; the one before it does no longer.
        let again = Start { extend: false, dies_after: None, ..more };
        assert_eq!(again.run().outcome.unwrap().place.step, 16);
        let segments = Run::read(&folder).unwrap().about.segments;
        let ends: Vec<(u64, u64)> = segments.iter().map(|s| (s.from, s.to)).collect();
        assert_eq!(ends, [(0, 8), (8, 10), (9, 16)]);
        assert_eq!(segments[1].changed[0].2, "4 epochs");
        if told {
            assert!(matches!(first.refused(), Error::Settings { stretched: true, .. }));
        }
    }
}

#[test]
fn a_second_run_in_the_folder_is_told_who_has_it_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (train, test) = data::iris().unwrap();
    let (mut model, task) = (Mlp::new(&[4, 3], &mut Rng::new(0)), Supervised::classification());
    let mut optimizer = optim::build("sgd", None).unwrap();
    let mut refused = Vec::new();
    let mut second = |event: &Event<'_>| {
        if let Event::Stepped(_) = event {
            let before = contents(dir.path());
            refused.push(start(dir.path()).refused());
            assert_eq!(contents(dir.path()), before);
        }
        Ok(())
    };
    let mut metrics = Metrics::new(dir.path());
    let plan = Plan { budget: Budget::steps(2), ..Plan::default() };
    Trainer::new(&mut model, &mut *optimizer, &task, plan)
        .unwrap()
        .observe(&mut metrics)
        .observe(&mut second)
        .run(&Loader::new(&train, 30).unwrap(), &Loader::new(&test, 30).unwrap())
        .unwrap();
    for error in &refused {
        let own = format!("process {} on ", std::process::id());
        assert!(matches!(error, Error::InUse { holder, .. } if holder.contains(&own)), "{error}");
    }
    assert_eq!(refused.len(), 2);
}

#[test]
fn only_snapshots_that_are_whole_count_and_damaged_ones_are_kept_and_told() {
    for (keep, torn) in [(1, 1), (3, 3), (3, 2)] {
        let dir = tempfile::tempdir().unwrap();
        // The last snapshot is of step 6.
        let first = Start { keep, dies_after: Some(7), ..start(dir.path()) };
        first.refused();
        let whole = parts(dir.path());
        assert_eq!(whole.len(), keep);
        for part in whole.iter().rev().take(torn) {
            let bytes = fs::read(part).unwrap();
            fs::write(part, &bytes[..bytes.len() / 2]).unwrap();
        }
        let again = Start { dies_after: None, ..first };
        if torn == keep {
            // All torn: refused with their names, and nothing has moved.
            let before = contents(dir.path());
            for _ in 0..2 {
                let text = again.refused().to_string();
                assert!(text.contains("--fresh") && text.contains("step-0000000006"), "{text}");
                assert_eq!(contents(dir.path()), before);
            }
            let fresh = Start { fresh: true, ..again.clone() };
            assert_eq!(fresh.run().outcome.unwrap().place.step, 8);
            assert!(!names(dir.path()).iter().any(|name| name.contains("damaged")));
            continue;
        }
        let done = again.run();
        assert_eq!(done.outcome.unwrap().place.step, 8);
        assert_eq!(done.damaged.len(), 2 * torn, "manifest and part of each");
        let kept = names(dir.path()).iter().filter(|name| name.contains(".damaged")).count();
        assert_eq!(kept, 2 * torn);
        assert_eq!(parts(dir.path()).len(), keep, "as many whole ones as ever");
    }
}

#[test]
fn whatever_bit_of_a_snapshot_is_flipped_the_older_one_is_used_to_the_same_end() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let expected = start(&whole).run();
    let folder = dir.path().join("flipped");
    for (trial, in_manifest) in (0..24).map(|n| (n, n % 4 == 3)) {
        let again = Start { fresh: true, dies_after: Some(7), ..start(&folder) };
        again.refused();
        let manifest = folder.join("snapshots/step-0000000006.json");
        let file = if in_manifest { manifest } else { parts(&folder).pop().unwrap() };
        let mut bytes = fs::read(&file).unwrap();
        // From the first byte to the last, every time another bit.
        let at = trial * (bytes.len() - 1) / 23;
        bytes[at] ^= 1 << (trial % 8);
        fs::write(&file, bytes).unwrap();
        let done = start(&folder).run();
        done.outcome.unwrap();
        assert_eq!(done.damaged.len(), 2, "byte {at} of {}", file.display());
        assert_eq!(done.weights, expected.weights, "byte {at} of {}", file.display());
    }
}

#[test]
fn damaged_lines_of_metrics_are_kept_beside_and_the_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    start(&whole).run().outcome.unwrap();
    let timeless = |folder: &Path| {
        let rows = metrics::read_jsonl(&folder.join("metrics.jsonl")).unwrap();
        rows.into_iter().map(|row| metrics::Row { seconds: 0.0, ..row }).collect::<Vec<_>>()
    };
    for (trial, tail) in [&[0; 64][..], b"text\n", b"\xff\xfe\n", b"{}\n"].into_iter().enumerate() {
        let folder = dir.path().join(trial.to_string());
        Start { dies_after: Some(7), ..start(&folder) }.refused();
        for name in ["metrics.jsonl", "factors.jsonl"] {
            let mut bytes = fs::read(folder.join(name)).unwrap();
            bytes.extend(tail);
            fs::write(folder.join(name), bytes).unwrap();
        }
        let done = start(&folder).run();
        done.outcome.unwrap();
        assert_eq!(done.damaged, ["metrics.jsonl", "factors.jsonl"]);
        assert_eq!(fs::read(folder.join("metrics.jsonl.damaged")).unwrap(), tail);
        assert_eq!(timeless(&folder), timeless(&whole));
        assert_eq!(Run::read(&folder).unwrap().factors, Run::read(&whole).unwrap().factors);
    }
}

#[test]
fn a_run_that_is_asked_to_stop_saves_says_so_and_goes_on_to_the_same_end() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parted) = (dir.path().join("whole"), dir.path().join("parted"));
    let expected = start(&whole).run();
    for step in [1, 3, 5] {
        let outcome = Start { asks_after: Some(step), ..start(&parted) }.run().outcome.unwrap();
        assert_eq!((outcome.stop, outcome.place.step), (Stop::Asked, step));
        assert_eq!(Run::read(&parted).unwrap().about.ended, "interrupted");
    }
    let done = start(&parted).run();
    assert_eq!(done.weights, expected.weights);
    let rows = |folder: &Path| Run::read(folder).unwrap().rows.len();
    assert_eq!(rows(&parted), rows(&whole));
    let segments = Run::read(&parted).unwrap().about.segments;
    let told: Vec<(u64, u64, &str)> =
        segments.iter().map(|s| (s.from, s.to, s.ended.as_str())).collect();
    let end = (5, 8, "the budget was used up");
    let parts = [(0, 1, "interrupted"), (1, 3, "interrupted"), (3, 5, "interrupted"), end];
    assert_eq!(told, parts);
}

#[test]
fn what_dead_processes_left_is_removed_and_nothing_else_is() {
    let dir = tempfile::tempdir().unwrap();
    Start { dies_after: Some(7), ..start(dir.path()) }.refused();
    let shelf = dir.path().join("snapshots");
    // Temporary files; a part whose manifest was not written any more; half a removal.
    let gone = [
        dir.path().join(".tmpAb3dE6"),
        shelf.join(".tmp012345"),
        shelf.join("step-0000000007-0-00000000.safetensors"),
        shelf.join("step-0000000002-0-00000000.safetensors"),
    ];
    let others =
        [dir.path().join(".tmp-mine"), dir.path().join("notes.txt"), shelf.join("notes.txt")];
    gone.iter().chain(&others).for_each(|file| fs::write(file, "x").unwrap());
    let done = start(dir.path()).run();
    done.outcome.unwrap();
    assert!(done.damaged.is_empty(), "{:?}", done.damaged);
    assert!(gone.iter().all(|file| !file.exists()) && others.iter().all(|file| file.exists()));
}

#[test]
fn a_best_model_that_is_damaged_is_kept_aside_and_the_next_one_is_written() {
    let dir = tempfile::tempdir().unwrap();
    Start { dies_after: Some(7), ..start(dir.path()) }.refused();
    let file = dir.path().join("best.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    let done = start(dir.path()).run();
    assert_eq!(done.damaged, ["best.safetensors"]);
    assert_eq!(done.outcome.unwrap().best().unwrap().step, 8);
    nn::checkpoint::load(&file, &mut Mlp::new(&[4, 8, 3], &mut Rng::new(1))).unwrap();
    // Of a run that is over nobody evaluates again: its best stays known.
    fs::remove_file(&file).unwrap();
    assert_eq!(start(dir.path()).run().outcome.unwrap().best().unwrap().step, 8);
}

#[test]
fn a_damaged_record_is_kept_aside_and_the_snapshot_still_knows_the_settings() {
    let dir = tempfile::tempdir().unwrap();
    Start { dies_after: Some(7), ..start(dir.path()) }.refused();
    let file = dir.path().join("run.json");
    let text = fs::read_to_string(&file).unwrap().replace("0.01", "0.02");
    fs::write(&file, text).unwrap();
    let refused = Start { rate: 0.02, ..start(dir.path()) }.refused();
    assert!(matches!(refused, Error::Settings { .. }), "{refused}");
    let done = start(dir.path()).run();
    assert_eq!((done.outcome.unwrap().place.step, done.damaged), (8, vec!["run.json".to_owned()]));
    assert!(
        Run::read(dir.path())
            .unwrap()
            .about
            .settings
            .get("course of the rate")
            .unwrap()
            .ends_with("0.01")
    );
}

#[test]
fn a_run_of_another_version_is_refused_by_its_format_and_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = dir.path().join("snapshots");
    fs::create_dir_all(&shelf).unwrap();
    fs::write(shelf.join("step-0000000006.safetensors"), "as before formats").unwrap();
    let text = start(dir.path()).refused().to_string();
    assert!(text.contains("format 1") && text.contains("--fresh"), "{text}");
    fs::remove_dir_all(&shelf).unwrap();
    // A later version's: nothing that it saved is taken for a leftover.
    Start { dies_after: Some(3), ..start(dir.path()) }.refused();
    let body = "{ \"format\": 3, ";
    let later = format!("{body}\"proof\":\"{:08x}\"}}\n", crc32fast::hash(body.as_bytes()));
    fs::write(shelf.join("step-0000000009.json"), later).unwrap();
    fs::write(shelf.join("step-0000000009-0-00000000.safetensors"), "later").unwrap();
    let before = contents(dir.path());
    let text = start(dir.path()).refused().to_string();
    assert!(text.contains("format 3") && text.contains("step-0000000009.json"), "{text}");
    assert_eq!(contents(dir.path()), before);
    fs::remove_dir_all(&shelf).unwrap();
    let old = r#"{ "name": "adam", "settings": [["rate", "0.1"]], "references": [], "score": "accuracy",
        "parameters": 7, "coverage": [], "state_bytes": 0, "ended": "" }"#;
    fs::write(dir.path().join("run.json"), old).unwrap();
    let refused = start(dir.path()).refused();
    assert!(matches!(refused, Error::Format { .. }) && refused.asked_wrongly(), "{refused}");
    let text = refused.to_string();
    for words in ["run.json", "format 1", "the version that wrote it", "--fresh", "--out"] {
        assert!(text.contains(words), "{words} in {text}");
    }
    assert_eq!(Run::read(dir.path()).unwrap().about.settings.get("rate"), Some("0.1"));
    assert_eq!(fs::read_to_string(dir.path().join("run.json")).unwrap(), old);
    Start { fresh: true, ..start(dir.path()) }.run().outcome.unwrap();
}

#[test]
fn files_of_somebody_else_with_a_runs_names_are_not_written_over() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["best.safetensors", "metrics.csv", "report.html"] {
        let folder = dir.path().join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(name), "a year's work").unwrap();
        fs::write(folder.join("picture.png"), "nobody minds").unwrap();
        let before = contents(&folder);
        for fresh in [false, true] {
            let refused = Start { fresh, ..start(&folder) }.refused();
            assert!(
                matches!(&refused, Error::Foreign { files, .. } if files == &[name]),
                "{refused}"
            );
            assert!(refused.asked_wrongly() && refused.to_string().contains("--out"), "{refused}");
            assert_eq!(contents(&folder), before);
        }
        fs::remove_file(folder.join(name)).unwrap();
        start(&folder).run().outcome.unwrap();
        assert!(folder.join("picture.png").exists());
    }
}

#[test]
fn a_folder_that_is_renamed_while_its_run_goes_on_is_not_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    let expected = start(&dir.path().join("whole")).run();
    let renamed = Start { renames_after: Some((3, new.clone())), ..start(&old) };
    let refused = renamed.refused();
    assert!(
        matches!(refused, Error::Io { .. }) && refused.to_string().contains("old"),
        "{refused}"
    );
    assert!(!old.exists());
    let done = start(&new).run();
    assert_eq!((done.weights, done.outcome.unwrap().place.step), (expected.weights, 8));
    let steps = Run::read(&new).unwrap().rows.into_iter().map(|row| row.step).collect::<Vec<_>>();
    assert!(steps.is_sorted() && (1..=8).all(|step| steps.contains(&step)), "{steps:?}");
}

#[test]
fn snapshots_that_were_taken_away_are_missed() {
    let dir = tempfile::tempdir().unwrap();
    start(dir.path()).run().outcome.unwrap();
    fs::remove_dir_all(dir.path().join("snapshots")).unwrap();
    let before = contents(dir.path());
    let text = start(dir.path()).refused().to_string();
    assert!(text.contains("no file of step 8") && text.contains("--fresh"), "{text}");
    assert_eq!(contents(dir.path()), before);
}
