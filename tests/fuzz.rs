//! The targets of the fuzzer, run over its corpus and over what becomes of it when it is changed at random.
//!
//! The fuzzer itself needs a nightly Rust and goes on for as long as one lets it: `scripts/fuzz.sh` (decision 0055).
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

#[path = "fuzz/mutation.rs"]
mod mutation;
#[path = "fuzz/seeds.rs"]
mod seeds;
#[cfg(target_os = "linux")]
#[path = "process/status.rs"]
mod status;
#[path = "fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::path::PathBuf;

use proptest::prelude::ProptestConfig;
use proptest::test_runner::TestRunner;

use mutation::{Input, mutated};
use targets::TARGETS;

/// The files of a target's corpus, by name.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = fs::read_dir(format!("tests/fuzz/corpus/{target}")).unwrap();
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

#[test]
fn every_promise_holds_for_its_corpus_of_which_something_is_accepted() {
    let mut bytes = 0;
    for (name, target) in TARGETS {
        let files = corpus(name);
        let accepted = |(file, bytes): &&(PathBuf, Vec<u8>)| {
            println!("{}", file.display()); // Shown if it fails.
            target(bytes)
        };
        assert!(files.iter().filter(accepted).count() > 0, "{name}: its corpus has rotted");
        bytes += files.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    }
    assert!(bytes < 200_000, "a corpus is small files: {bytes} bytes");
}

#[test]
fn every_promise_holds_for_what_becomes_of_its_corpus() {
    let mut broken = Vec::new();
    for (name, target) in TARGETS {
        let seeds: Vec<Vec<u8>> = corpus(name).into_iter().map(|(_, bytes)| bytes).collect();
        let config =
            ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() };
        let promise = |Input(bytes): Input| {
            target(&bytes);
            Ok(())
        };
        let kept = TestRunner::new(config).run(&mutated(seeds), promise);
        broken.extend(kept.err().map(|broken| format!("{name}: {broken}")));
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    #[cfg(target_os = "linux")]
    {
        let peak = status::bytes("VmHWM:").unwrap();
        assert!(peak < MOST_MEMORY, "{} MiB for small files", peak >> 20);
    }
}

/// The most that any reader may take for a small file (`data::limits`), and as much for this program.
#[cfg(target_os = "linux")]
const MOST_MEMORY: u64 = 768 << 20;

#[test]
fn every_target_is_a_program_of_the_fuzzer_and_has_no_files_of_another() {
    let manifest = fs::read_to_string("tests/fuzz/Cargo.toml").unwrap();
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("[[bin]]\nname = \"{name}\"\n")), "{name}");
        let program = fs::read_to_string(format!("tests/fuzz/fuzz_targets/{name}.rs")).unwrap();
        assert!(program.contains(&format!("alcyon_fuzz::{name}(bytes)")), "{name}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
    assert_eq!(fs::read_dir("tests/fuzz/corpus").unwrap().count(), TARGETS.len());
}
