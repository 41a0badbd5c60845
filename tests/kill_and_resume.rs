//! Twenty times kill −9, and nothing lost beyond the last snapshot: the example `train_image` as a process.
//!
//! It takes a minute and builds the example, so it is asked for by name:
//! `cargo test --test kill_and_resume -- --ignored`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use alcyon::train::{Snapshots, metrics};
use safetensors::SafeTensors;

const KILLS: u64 = 20;
/// 400 rows in batches of 16: 25 steps an epoch, twelve epochs.
const STEPS: u64 = 300;

/// The example, built with the profile of this test.
fn example() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let profile = own.parent().and_then(Path::parent).unwrap();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--example", "train_image"]);
    if profile.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success());
    profile.join("examples/train_image")
}

/// A run in a folder; the same command every time.
fn start(example: &Path, folder: &Path) -> Child {
    let mut command = Command::new(example);
    command.args(["--optimizer", "adafisher", "--train-rows", "400", "--test-rows", "100"]);
    command.args(["--batch-size", "16", "--epochs", "12", "--average", "0.9"]);
    command.args(["--save-steps", "1", "--keep", "2", "--evaluate-every", "20"]);
    command.arg("--out").arg(folder);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// The step of the newest snapshot.
fn saved(folder: &Path) -> u64 {
    let files = Snapshots::new(folder).files().unwrap();
    let step = |file: &PathBuf| {
        let name = file.file_stem()?.to_str()?.strip_prefix("step-")?.to_owned();
        name.parse().ok()
    };
    files.last().and_then(step).unwrap_or(0)
}

/// Every tensor of the last snapshot: weights, statistics, factors, moments, averages.
fn tensors(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(Snapshots::new(folder).files().unwrap().last().unwrap()).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect()
}

#[test]
#[ignore = "takes a minute, and builds an example"]
fn a_run_that_is_killed_twenty_times_ends_with_the_bits_of_one_that_is_not() {
    let example = example();
    let dir = tempfile::tempdir().unwrap();
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    assert!(start(&example, &whole).wait().unwrap().success());
    assert_eq!(saved(&whole), STEPS);
    for kill in 0..KILLS {
        let before = saved(&killed);
        let mut child = start(&example, &killed);
        // Now in its first moments, now after some steps, and never at the same place in a step.
        if kill % 3 > 0 {
            let begun = Instant::now();
            while saved(&killed) < before + kill % 3 && begun.elapsed() < Duration::from_secs(60) {
                std::thread::sleep(Duration::from_micros(300));
            }
        }
        std::thread::sleep(Duration::from_micros(1700 * kill));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(saved(&killed) >= before, "kill {kill} lost a snapshot");
        assert!(saved(&killed) < STEPS, "killed {kill} times, and too late");
    }
    assert!(start(&example, &killed).wait().unwrap().success());
    assert_eq!(saved(&killed), STEPS);
    assert_eq!(tensors(&killed), tensors(&whole));
    for name in ["metrics.jsonl", "metrics.csv"] {
        let read = |folder: &Path| match name {
            "metrics.csv" => metrics::read_csv(&folder.join(name)).unwrap(),
            _ => metrics::read_jsonl(&folder.join(name)).unwrap(),
        };
        // Times differ; nothing else does, and nothing stands there twice.
        let rows = |folder: &Path| {
            let timeless = |row: metrics::Row| metrics::Row { seconds: 0.0, ..row };
            read(folder).into_iter().map(timeless).collect::<Vec<_>>()
        };
        assert_eq!(rows(&killed), rows(&whole), "{name}");
    }
    assert!(killed.join("report.html").is_file());
}
