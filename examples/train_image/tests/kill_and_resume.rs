//! `train_image` as a process that is killed, damaged and disturbed: nothing is lost that was promised,
//! nothing damaged is trained on, and what is refused says the way out.
//!
//! Here a few of each; all of them take some minutes, are asked for by name, and end with a table:
//! `cargo test -p train_image -- --ignored --nocapture`.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]
#![allow(clippy::print_stdout, reason = "the long test ends with a table")]

#[path = "../../../train/tests/folder/contents.rs"]
mod contents;
#[path = "kill_and_resume/program.rs"]
mod program;
#[path = "kill_and_resume/trials.rs"]
mod trials;

use std::time::Duration;

use alcyon::train::Snapshots;
use contents::contents;
use program::{Program, end, saved, signal};
use trials::Draws;

#[test]
fn a_run_that_is_killed_damaged_or_disturbed_a_few_times_ends_as_if_it_were_not() {
    let (dir, draws) = (tempfile::tempdir().unwrap(), &mut Draws(0));
    let program = Program { steps: 24 };
    trials::kills(&program, &dir.path().join("kills"), 2, draws);
    trials::damage(&program, &dir.path().join("damage"), 3, 3, draws);
    trials::company(&program, &dir.path().join("company"), 1);
}

#[test]
#[ignore = "takes some minutes"]
fn sixty_kills_two_hundred_flips_and_sixty_tears_lose_nothing_that_was_promised() {
    let (dir, draws) = (tempfile::tempdir().unwrap(), &mut Draws(1));
    let long = Program { steps: 200 };
    let short = Program { steps: 24 };
    let mut table = trials::kills(&long, &dir.path().join("kills"), 20, draws);
    table.extend(trials::damage(&short, &dir.path().join("damage"), 200, 60, draws));
    table.extend(trials::company(&short, &dir.path().join("company"), 5));
    trials::print(&table);
}

#[test]
fn another_setting_is_refused_in_the_folder_of_a_run_and_the_same_command_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program { steps: 3 };
    assert!(program.run(dir.path(), &[]).status.success());
    let before = contents(dir.path());
    let others: [(&[&str], &[&str]); 8] = [
        (&["--rate", "0.5"], &["learning rate: ", " → 0.5"]),
        (&["--batch-size", "128"], &["batch size: 16 → 128"]),
        (&["--schedule", "linear"], &["schedule: cosine → linear"]),
        (&["--augment", "crop"], &["augmentation: none → crop"]),
        (&["--precision", "bf16"], &["precision: f32 → bf16"]),
        (&["--seed", "3", "--clip", "1"], &["seed: 0 → 3", "clipping: none → 1"]),
        (&["--epochs", "2"], &["budget: 3 steps → 2 epochs or 3 steps", "--extend"]),
        (&["--rate", "-1"], &["--rate must be positive, got -1"]),
    ];
    for (asked, said) in others {
        let ended = program.run(dir.path(), asked);
        assert_eq!(ended.code(), Some(2), "{asked:?}: {}", ended.said);
        for words in said {
            assert!(ended.said.contains(words), "{words} in {}", ended.said);
        }
        assert!(asked[1] == "-1" || ended.said.contains("--fresh") && ended.said.contains("--out"));
        assert!(contents(dir.path()) == before, "{asked:?} has written");
    }
    assert!(program.run(dir.path(), &["--log-every", "2"]).status.success());
    assert!(program.run(dir.path(), &["--fresh", "--rate", "0.5"]).status.success());
}

#[test]
fn the_first_signal_ends_a_run_with_a_snapshot_and_the_second_one_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program { steps: 1_000_000 };
    let running = || {
        let before = saved(dir.path());
        let child = program.start(dir.path(), &[]);
        while saved(dir.path()) <= before {
            std::thread::sleep(Duration::from_millis(2));
        }
        child
    };
    for (name, code) in [("HUP", 129), ("INT", 130), ("TERM", 143)] {
        if name == "HUP" && ignores_hangups() {
            println!("skipped: under nohup a run goes on when it is hung up, as it should");
            continue;
        }
        let child = running();
        signal(&child, name);
        let ended = end(child);
        assert_eq!(ended.code(), Some(code), "{}", ended.said);
        assert!(ended.said.contains("to go on:"), "{}", ended.said);
    }
    // Stopped meanwhile, so that it has no time to end between the two.
    let child = running();
    ["STOP", "INT", "TERM", "CONT"].iter().for_each(|name| signal(&child, name));
    let ended = end(child);
    assert!([Some(130), Some(143)].contains(&ended.code()), "{}", ended.said);
    assert!(!ended.said.contains("to go on:"), "{}", ended.said);
}

/// Whether this process ignores hangups (`nohup`), and so does whatever it starts.
fn ignores_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).map(str::trim);
    ignored.is_some_and(|mask| u64::from_str_radix(mask, 16).is_ok_and(|mask| mask & 1 == 1))
}
