//! Where memory is scarce nothing ends the process: a size that a file, a shape or a setting has is refused with
//! `Error::OutOfMemory`, or with the error of the file that cannot be read.
//!
//! Each case runs in a process of its own, whose address space may grow by less and less; one that is ended by
//! its allocator has failed.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]
#![allow(clippy::print_stdout, reason = "the child tells what came of it")]

#[path = "scarce/cases.rs"]
mod cases;

use std::fs;
use std::path::Path;
use std::process::Command;

use alcyon::kernels::pool;
use cases::{CASES, Case};

const MIB: u64 = 1 << 20;

/// How much more a case may take, from plenty to hardly anything.
const LIMITS: [u64; 7] = [64, 32, 16, 8, 4, 2, 1];

/// What the child says before its outcomes.
const MARK: &str = "scarce: ";

/// The bytes that this process has mapped.
fn mapped() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().unwrap() << 10
}

/// Bounds what this process may map; none for no bound.
fn limit(bytes: Option<u64>) {
    let soft = bytes.map_or_else(|| "unlimited".into(), |bytes| bytes.to_string());
    let own = std::process::id().to_string();
    let set = Command::new("prlimit").args(["--pid", &own, &format!("--as={soft}:")]).status();
    assert!(set.unwrap().success());
}

#[test]
#[ignore = "it is the child of the other test"]
fn child_that_has_little_memory() {
    let (Ok(name), Ok(dir)) = (std::env::var("ALCYON_CASE"), std::env::var("ALCYON_DIR")) else {
        return;
    };
    let case = CASES.iter().find(|case| case.name == name).unwrap();
    let case = (case.prepare)(Path::new(&dir));
    let run = || case().map_or_else(|e| e.to_string(), |()| "done".to_owned());
    // Threads and tables are there before memory is scarce.
    println!("\n{MARK}{}", run());
    for more in LIMITS {
        pool::clear();
        println!("\n{MARK}(at {more} MiB)");
        limit(Some(mapped() + more * MIB));
        let outcome = run();
        // To lift the bound takes memory, too.
        pool::clear();
        limit(None);
        println!("\n{MARK}{outcome}");
    }
}

/// What came of a case without a bound and with each.
fn outcomes(case: &Case) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "child_that_has_little_memory", "--ignored", "--nocapture"]);
    child.env("ALCYON_CASE", case.name).env("ALCYON_DIR", dir.path()).env("RUST_BACKTRACE", "0");
    // What is freed goes back to the system at once: else it would be there when memory is scarce.
    for setting in ["MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"] {
        child.env(setting, "65536");
    }
    child.env("MALLOC_ARENA_MAX", "1").env("MALLOC_TOP_PAD_", "0");
    let child = child.output().unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    let lines = said.lines().filter_map(|line| line.strip_prefix(MARK));
    let told: Vec<String> = lines.map(str::to_owned).collect();
    let error = String::from_utf8_lossy(&child.stderr).into_owned();
    let mut all: Vec<String> = told.into_iter().filter(|line| !line.starts_with("(at")).collect();
    if !child.status.success() {
        all.push(format!("ended by {}: {}", child.status, error.trim()));
    }
    all
}

#[test]
fn no_size_of_a_file_a_shape_or_a_setting_ends_the_process_where_memory_is_scarce() {
    let mut wrong = Vec::new();
    for case in CASES {
        let all = outcomes(case);
        let refused = |outcome: &String| outcome.contains("out of memory");
        let whole = all.len() == 1 + LIMITS.len() && all[0] == "done";
        let told = all.iter().all(|outcome| outcome == "done" || refused(outcome));
        // A case that is never refused takes too little to say anything.
        if !(whole && told && all.last().is_some_and(refused)) {
            wrong.push(format!("{}: {all:#?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
