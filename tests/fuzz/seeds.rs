//! Files of the corpus that our own writers write: to be written anew when a format has changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use alcyon::nn::{Mlp, checkpoint};
use alcyon::optim::{build, known};
use alcyon::prelude::{DType, Linear, Loader, Rng, Tensor};
use alcyon::train::{Budget, Plan, Record, Shuffled, Supervised, TickingClock, Trainer};

use crate::targets::{snapshot, state};

#[test]
#[ignore = "writes files of the corpus anew"]
fn our_own_writers_write_what_the_corpus_has_of_them() {
    weights();
    known().into_iter().for_each(state_of);
    let dir = tempfile::tempdir().unwrap();
    snapshot_in(&dir.path().join("snapshot"));
    run_in(&dir.path().join("run"));
}

fn put(target: &str, name: &str, bytes: &[u8]) {
    fs::write(format!("tests/fuzz/corpus/{target}/{name}"), bytes).unwrap();
}

fn weights() {
    let (file, model) = (Path::new("model"), Linear::new(3, 2, &mut Rng::new(1)));
    let kinds = [DType::F16, DType::BF16, DType::F64, DType::I64];
    let extra = kinds.map(|dtype| (format!("m/{dtype}"), Tensor::ones([1, 2], dtype))).into();
    let metadata = BTreeMap::from([("step".to_owned(), "3".to_owned())]);
    put("weights", "linear", &checkpoint::encoded(file, &model, &extra, &metadata).unwrap());
}

fn state_of(name: &str) {
    let (mut model, mut optimizer) =
        (Linear::new(3, 2, &mut Rng::new(0)), build(name, None).unwrap());
    for _ in 0..2 {
        state::step(&mut model, &mut *optimizer).unwrap();
    }
    let state = optimizer.state(&model).unwrap();
    let mut numbers = state.numbers;
    numbers.insert("optimizer".into(), name.into());
    let nothing = alcyon::prelude::Sequential::new();
    let bytes = checkpoint::encoded(Path::new(name), &nothing, &state.tensors, &numbers).unwrap();
    put("state", name, &bytes);
}

fn snapshot_in(folder: &Path) {
    snapshot::train(&mut Linear::new(3, 2, &mut Rng::new(0)), folder, 2).unwrap();
    let shelf = folder.join("snapshots");
    let manifest = fs::read_to_string(shelf.join("step-0000000002.json")).unwrap();
    let name = manifest.split('"').find(|word| word.ends_with(".safetensors")).unwrap().to_owned();
    let part = fs::read(shelf.join(&name)).unwrap();
    let sum = name.trim_end_matches(".safetensors").rsplit('-').next().unwrap();
    let manifest = manifest
        .replace(sum, "@crc32")
        .replace(&format!("\"bytes\": {}", part.len()), "\"bytes\": @bytes");
    assert!(manifest.contains("@bytes"), "{manifest}");
    let record = fs::read(folder.join("run.json")).unwrap();
    put("snapshot", "whole", &[manifest.as_bytes(), b"\0", &record, b"\0", &part].concat());
    put("snapshot", "without_a_record", &[manifest.as_bytes(), b"\0\0", &part].concat());
}

fn run_in(folder: &Path) {
    let (train, test) = alcyon::nn::data::iris().unwrap();
    let mut model = Mlp::new(&[4, 2, 3], &mut Rng::new(0));
    let mut optimizer = build("kfac", None).unwrap();
    let mut record = Record::new(folder, "kfac", vec![("data".into(), "iris".into())]);
    let plan = Plan { budget: Budget::epochs(3), log_every: 2, ..Plan::default() };
    Trainer::new(&mut model, &mut *optimizer, &Supervised::classification(), plan)
        .unwrap()
        .clock(TickingClock::new(0.5))
        .observe(&mut record)
        .run(&Shuffled::new(Loader::new(&train, 64).unwrap(), 0), &Loader::new(&test, 16).unwrap())
        .unwrap();
    let [about, rows, factors] = ["run.json", "metrics.jsonl", "factors.jsonl"]
        .map(|name| fs::read(folder.join(name)).unwrap());
    put("run", "kfac", &[&about[..], b"\0", &rows, b"\0", &factors].concat());
    put(
        "run",
        "table",
        &[&about[..], b"\0", &fs::read(folder.join("metrics.csv")).unwrap()].concat(),
    );
}
