//! A run's folder while a process has it: locked, and its record `run.json` written whole.

use std::path::{Path, PathBuf};
use std::{fs, io};

use engine::{Error, Result};

use crate::disk::{files, is_leftover, make_folder, remove, write_whole};
use crate::lock::Lock;
use crate::{About, seal};

/// A folder in which nobody else writes.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    lock: Lock,
    /// What was written down about the run in it; none in a new one.
    pub(crate) before: Option<About>,
    /// Why that cannot be read.
    pub(crate) damaged: Option<Error>,
}

/// Files that a run of today writes, beside its snapshots and its record.
const WRITTEN: [&str; 5] =
    ["metrics.jsonl", "metrics.csv", "factors.jsonl", "best.safetensors", "report.html"];

/// A run's record is its first file and its last one: without one, and without a snapshot, these files are
/// somebody else's.
fn refuse_foreign(path: &Path) -> Result<()> {
    let name = |file: PathBuf| Some(file.file_name()?.to_str()?.to_owned());
    let names = |folder: &Path| Ok::<_, Error>(files(folder)?.into_iter().filter_map(name));
    if names(&path.join("snapshots"))?.any(|name| name.starts_with("step-")) {
        return Ok(());
    }
    let files: Vec<String> = names(path)?.filter(|name| WRITTEN.contains(&name.as_str())).collect();
    if files.is_empty() {
        return Ok(());
    }
    Err(Error::Foreign { folder: path.to_owned(), files })
}

impl Folder {
    /// Makes the folder if it is not there, takes its lock, and reads its record.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::Foreign`], [`Error::Io`].
    pub(crate) fn open(path: &Path) -> Result<Self> {
        make_folder(path)?;
        let lock = Lock::take(path)?;
        let file = path.join("run.json");
        let (before, damaged) = match fs::read(&file) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                refuse_foreign(path)?;
                (None, None)
            }
            Err(e) => return Err(Error::io(&file, e)),
            Ok(bytes) => match seal::open(&file, &bytes) {
                Ok(about) => (Some(about), None),
                Err(error) => (None, Some(error)),
            },
        };
        Ok(Self { path: path.to_owned(), lock, before, damaged })
    }

    /// Says who has it, and removes what dead processes left.
    pub(crate) fn enter(&mut self) -> Result<()> {
        self.lock.sign().map_err(|e| Error::io(self.path.join("run.lock"), e))?;
        let mut left = files(&self.path)?.into_iter().filter(|file| is_leftover(file));
        left.try_for_each(|file| remove(&file))
    }

    /// Removes the run in it; the record last, so that half a removal is still that run.
    pub(crate) fn clear(&self) -> Result<()> {
        for file in files(&self.path.join("snapshots"))? {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("step-") || is_leftover(&file) {
                remove(&file)?;
            }
        }
        for file in files(&self.path)? {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let (own, kept) =
                name.split_once(".damaged").map_or((name, false), |(own, _)| (own, true));
            if WRITTEN.contains(&own) || kept && own == "run.json" {
                remove(&file)?;
            }
        }
        remove(&self.path.join("run.json"))
    }

    /// Writes the record.
    pub(crate) fn write(&self, about: &About) -> Result<()> {
        let file = self.path.join("run.json");
        write_whole(&file, &seal::closed(&file, about)?)
    }
}
