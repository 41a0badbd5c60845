//! Snapshots, as a run finds them that goes on: a manifest, the run's record, and the part that the manifest names.

#[allow(dead_code, reason = "the parts of a folder's snapshots are asked for elsewhere")]
#[path = "../../../train/tests/folder/contents.rs"]
mod contents;

use std::fs;
use std::path::Path;

use alcyon::nn::data::Dataset;
use alcyon::prelude::{DType, Linear, Loader, Result, Rng, Sgd, SgdConfig, Tensor};
use alcyon::train::{
    Budget, Outcome, Plan, Shuffled, Snapshots, Supervised, TickingClock, Trainer,
};

use self::contents::contents;
use super::scratch::{Scratch, parts};
use super::weights::numbers;

thread_local!(static SCRATCH: Scratch = Scratch::new());

/// What is no run's own stays as it is, whatever a manifest names; a run goes on to its end, or refuses, names its
/// folder, and has changed neither the model nor a file. Checksums are made right first: `@bytes` and `@crc32` in the
/// manifest are those of the part.
pub fn snapshot(bytes: &[u8]) -> bool {
    SCRATCH.with(|scratch| {
        let folder = scratch.path().join("run");
        let _ = fs::remove_dir_all(&folder);
        let [manifest, record, part] = parts(bytes);
        let sum = format!("{:08x}", crc32fast::hash(part));
        let manifest = String::from_utf8_lossy(manifest)
            .replace("@bytes", &part.len().to_string())
            .replace("@crc32", &sum);
        scratch.write(&format!("run/snapshots/step-0000000002-0-{sum}.safetensors"), part);
        scratch.write("run/snapshots/step-0000000002.json", &proved(&manifest));
        if !record.is_empty() {
            scratch.write("run/run.json", &proved(&String::from_utf8_lossy(record)));
        }
        let others = ["keep.txt", "run/notes.txt", "run/snapshots/notes.txt"];
        let others = others.map(|name| scratch.write(name, b"notes"));
        let before = contents(&folder);

        let mut model = Linear::new(3, 2, &mut Rng::new(0));
        let weights = numbers(&model);
        let outcome = train(&mut model, &folder, 3);
        for other in &others {
            assert_eq!(fs::read(other).ok().as_deref(), Some(&b"notes"[..]), "{}", other.display());
        }
        // A step that fails, with numbers from the snapshot, is an error of its own.
        if matches!(&outcome, Err(error) if error.to_string().contains(&*folder.to_string_lossy()))
        {
            assert_eq!(numbers(&model), weights, "a refused run has moved the model");
            assert_eq!(contents(&folder), before, "a refused run has changed its folder");
        }
        outcome.is_ok()
    })
}

/// Trains on ten examples, or goes on, until so many steps have been taken.
pub fn train(model: &mut Linear, folder: &Path, steps: u64) -> Result<Outcome> {
    let inputs = Tensor::from_fn([10, 3], DType::F32, |i| (i as f64).sin());
    let labels = Tensor::from_slice(&[0_i64, 1, 1, 0, 1, 0, 0, 1, 0, 1], [10])?;
    let data = Dataset::new("ten", &inputs, &labels, 2)?;
    let mut optimizer = Sgd::new(SgdConfig::default())?;
    let plan = Plan { budget: Budget::steps(steps), ..Plan::default() };
    let snapshots = Snapshots { seconds: None, keep: 1, ..Snapshots::new(folder) };
    Trainer::new(model, &mut optimizer, &Supervised::classification(), plan)?
        .clock(TickingClock::new(0.5))
        .snapshots(snapshots)
        .run(&Shuffled::new(Loader::new(&data, 4)?, 1), &Loader::new(&data, 4)?)
}

/// The text with the checksum that it should have, where it says one.
fn proved(text: &str) -> Vec<u8> {
    const PROOF: &str = "\"proof\":\"";
    let Some((body, _)) = text.rsplit_once(PROOF) else { return text.into() };
    format!("{body}{PROOF}{:08x}\"}}\n", crc32fast::hash(body.as_bytes())).into()
}
