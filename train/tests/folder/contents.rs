//! What is in a run's folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::Snapshots;

/// Every file of a run but the lock, with its bytes.
pub(crate) fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(contents(&path)),
            false if path.ends_with("run.lock") => {}
            false => drop(all.insert(path.clone(), fs::read(&path).unwrap())),
        }
    }
    all
}

/// The parts of the snapshots that are whole, oldest first.
pub(crate) fn parts(folder: &Path) -> Vec<PathBuf> {
    Snapshots::new(folder).files().unwrap()
}
