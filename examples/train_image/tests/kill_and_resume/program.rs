//! `train_image` as a process: started, killed, and what it leaves behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use alcyon::train::{Row, Run};
use safetensors::SafeTensors;

use crate::contents::{contents, parts};

/// How a process ended, and what it said.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) said: String,
}

impl Ended {
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

/// A run of so many steps in a folder; the same command every time. A step is milliseconds.
pub(crate) struct Program {
    pub(crate) steps: u64,
}

impl Program {
    pub(crate) fn start(&self, folder: &Path, more: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_train_image"));
        command.args(["--model", "mlp", "--optimizer", "adafisher", "--average", "0.9"]);
        command.args(["--train-rows", "400", "--test-rows", "100"]);
        command.args(["--save-steps", "1", "--keep", "3", "--evaluate-every", "20"]);
        if !more.contains(&"--batch-size") {
            command.args(["--batch-size", "16"]);
        }
        command.args(["--steps", &self.steps.to_string()]).arg("--out").arg(folder).args(more);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Starts it and waits for its end.
    pub(crate) fn run(&self, folder: &Path, more: &[&str]) -> Ended {
        end(self.start(folder, more))
    }
}

/// Waits for a process.
pub(crate) fn end(child: Child) -> Ended {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { status: output.status, said: text(&output.stdout) + &text(&output.stderr) }
}

/// Sends a signal by its name.
pub(crate) fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    // A process that has ended has nothing to hear.
    let _ = Command::new("kill").args([&format!("-{name}"), &id]).stderr(Stdio::null()).status();
}

/// The step of the newest snapshot that is whole; 0 for none.
pub(crate) fn saved(folder: &Path) -> u64 {
    let step = |file: &PathBuf| {
        let name = file.file_name()?.to_str()?.strip_prefix("step-")?.to_owned();
        name.split('-').next()?.parse().ok()
    };
    parts(folder).last().and_then(step).unwrap_or(0)
}

/// Every tensor of the last snapshot: weights, statistics, factors, moments, averages.
pub(crate) fn tensors(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(parts(folder).last().unwrap()).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect()
}

/// The rows of metrics up to a step. Times differ; nothing else does.
pub(crate) fn rows(folder: &Path, step: u64) -> Vec<Row> {
    let rows = Run::read(folder).unwrap().rows.into_iter().filter(|row| row.step <= step);
    rows.map(|row| Row { seconds: 0.0, ..row }).collect()
}

/// Makes a folder anew with the files of another one.
pub(crate) fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    for (path, bytes) in contents(from) {
        let path = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}
