//! A folder for the readers that want one: made once for each thread, in memory where the system has such a place.

use std::fs;
use std::path::{Path, PathBuf};

/// A folder that goes away with its thread.
pub(crate) struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let dir = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir());
        Self { dir: dir.unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file in it, and the folders above it.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let file = self.path().join(name);
        if let Err(first) = fs::write(&file, bytes) {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, bytes).unwrap_or_else(|_| panic!("{}: {first}", file.display()));
        }
        file
    }

    /// Other names for a file.
    pub(crate) fn link(&self, from: &str, names: &[&str]) {
        for name in names.iter().map(|name| self.path().join(name)) {
            if !name.exists() {
                fs::create_dir_all(name.parent().unwrap()).unwrap();
                fs::hard_link(self.path().join(from), name).unwrap();
            }
        }
    }
}

/// Parts of an input, for those who read several files: cut at NUL, the first into the first.
pub(crate) fn parts<const N: usize>(bytes: &[u8]) -> [&[u8]; N] {
    let mut parts = bytes.splitn(N, |&b| b == 0);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}
