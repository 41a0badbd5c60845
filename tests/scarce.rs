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
#[path = "process/status.rs"]
mod status;

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use alcyon::kernels::pool;
use alcyon::prelude::{DType, Tensor};

const MIB: u64 = 1 << 20;

/// How much more a case may take, from plenty to hardly anything.
const LIMITS: [u64; 7] = [64, 32, 16, 8, 4, 2, 1];

/// What the child says before its outcomes.
const MARK: &str = "scarce: ";

/// Bounds what this process may map. A shell does it, which is started while there is memory: to start a process
/// takes some.
struct Bounds(Child);

impl Bounds {
    fn new() -> Self {
        let script = r#"while read -r most; do prlimit --pid "$PPID" --as="$most:" && echo; done"#;
        let mut shell = Command::new("sh");
        Self(
            shell
                .args(["-c", script])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap(),
        )
    }

    /// The line is made by the caller: none is made where there is no memory for it.
    fn set(&mut self, line: &str) {
        self.0.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
        self.0.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    }
}

impl Drop for Bounds {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

#[test]
#[ignore = "it is the child of the other test"]
fn child_that_has_little_memory() {
    let (Ok(name), Ok(dir)) = (std::env::var("ALCYON_CASE"), std::env::var("ALCYON_DIR")) else {
        return;
    };
    let case = cases::prepared(&name, Path::new(&dir));
    let run = || case().map_or_else(|e| e.to_string(), |()| "done".to_owned());
    let mut bounds = Bounds::new();
    // Threads and tables are there before memory is scarce, and what the library of products keeps for each thread.
    rayon::broadcast(|_| {
        for dtype in [DType::F32, DType::F64] {
            let x = Tensor::ones([256, 256], dtype);
            let turned = x.transpose(0, 1).unwrap();
            for (a, b) in [(&x, &x), (&turned, &x), (&x, &turned)] {
                assert!(a.matmul(b).is_ok());
            }
        }
    });
    println!("\n{MARK}{}", run());
    for more in LIMITS {
        pool::clear();
        println!("\n{MARK}(at {more} MiB)");
        bounds.set(&format!("{}\n", status::bytes("VmSize:").unwrap() + more * MIB));
        let outcome = run();
        bounds.set("unlimited\n");
        println!("\n{MARK}{outcome}");
    }
}

/// What came of a case without a bound and with each.
fn outcomes(name: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "child_that_has_little_memory", "--ignored", "--nocapture"]);
    child.env("ALCYON_CASE", name).env("ALCYON_DIR", dir.path()).env("RUST_BACKTRACE", "0");
    // What is large and freed goes back to the system at once: else it would be there when memory is scarce. What
    // is small, the words of an error, is refused nowhere in Rust: the heap has some room for that.
    child.env("MALLOC_MMAP_THRESHOLD_", "65536").env("MALLOC_ARENA_MAX", "1");
    for setting in ["MALLOC_TOP_PAD_", "MALLOC_TRIM_THRESHOLD_"] {
        child.env(setting, MIB.to_string());
    }
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
    for name in cases::names() {
        let all = outcomes(name);
        let refused = |outcome: &String| outcome.contains("out of memory");
        let whole = all.len() == 1 + LIMITS.len() && all[0] == "done";
        let told = all.iter().all(|outcome| outcome == "done" || refused(outcome));
        // A case that is never refused takes too little to say anything.
        if !(whole && told && all.last().is_some_and(refused)) {
            wrong.push(format!("{name}: {all:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
