//! Snapshots: all that a run needs to go on as if it had never stopped.
//!
//! A snapshot is one safetensors file: the model's parameters and buffers under their own paths, so that
//! it is a checkpoint like any other; the optimizer's moments and factors, and the average of the weights,
//! beside them; and in the header the optimizer's counters and generators and the [`Place`]. The order of
//! the data and the masks of dropout need no state: they are functions of seeds and places.
//!
//! Files are written atomically (a temporary file, flushed, renamed) and named after their step.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use engine::{Error, Parameters, Result, Tensor};
use nn::checkpoint::{self, Checkpoint};
use optim::{Optimizer, State};

use crate::{Average, Place};

/// Keys of the header and of tensors: whose they are.
const PLACE: &str = "train/place";
const SEED: &str = "train/seed";
const OPTIMIZER: &str = "optimizer/";
const NAME: &str = "train/optimizer";
const AVERAGE: &str = "average/";

/// When and where snapshots are written.
///
/// # Example
/// ```
/// use alcyon_train::Snapshots;
/// let every_five_minutes =
///     Snapshots { seconds: Some(300.0), keep: 2, ..Snapshots::new("runs/first") };
/// assert_eq!(every_five_minutes.steps, None);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshots {
    /// The run's folder: files go to `snapshots/` in it, and the best model to `best.safetensors`. It
    /// is made if it is not there.
    pub folder: PathBuf,
    /// Steps between snapshots. The end of a run is always saved.
    pub steps: Option<u64>,
    /// Seconds between snapshots, on the wall.
    pub seconds: Option<f64>,
    /// How many of the last ones stay; at least 1.
    pub keep: usize,
}

impl Snapshots {
    /// Every minute; the last three stay.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), steps: None, seconds: Some(60.0), keep: 3 }
    }

    /// The files there are, oldest first.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder is there and cannot be read.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let folder = self.folder.join("snapshots");
        let entries = match fs::read_dir(&folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|e| Error::io(&folder, e))?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| Error::io(&folder, e))?.path();
            if step_of(&path).is_some() {
                files.push(path);
            }
        }
        files.sort_by_key(|path| step_of(path));
        Ok(files)
    }

    /// Writes one and removes those that are too old.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder does not let it.
    pub(crate) fn save(&self, run: &Snapshot<'_>) -> Result<PathBuf> {
        let folder = self.folder.join("snapshots");
        fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
        let file = folder.join(format!("step-{:010}.safetensors", run.place.step));
        run.write(&file)?;
        let files = self.files()?;
        for old in &files[..files.len().saturating_sub(self.keep.max(1))] {
            fs::remove_file(old).map_err(|e| Error::io(old, e))?;
        }
        Ok(file)
    }

    /// Writes the best model so far, by itself.
    pub(crate) fn save_best(&self, model: &dyn Parameters) -> Result<()> {
        fs::create_dir_all(&self.folder).map_err(|e| Error::io(&self.folder, e))?;
        let file = self.folder.join("best.safetensors");
        checkpoint::save(&file, model, &BTreeMap::new(), &BTreeMap::new())
    }
}

/// The step in a file's name.
fn step_of(file: &Path) -> Option<u64> {
    let name = file.file_name()?.to_str()?;
    name.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok()
}

/// What a snapshot is made of.
pub(crate) struct Snapshot<'a> {
    pub(crate) model: &'a dyn Parameters,
    pub(crate) optimizer: &'a dyn Optimizer,
    pub(crate) average: Option<&'a Average>,
    pub(crate) place: &'a Place,
    pub(crate) seed: u64,
}

impl Snapshot<'_> {
    fn write(&self, file: &Path) -> Result<()> {
        let state = self.optimizer.state(self.model)?;
        let place = serde_json::to_string(self.place).map_err(|e| Error::io(file, e.into()))?;
        let mut header = BTreeMap::from([
            (PLACE.to_owned(), place),
            (SEED.to_owned(), self.seed.to_string()),
            (NAME.to_owned(), state.optimizer),
        ]);
        let own = |(key, number)| (format!("{OPTIMIZER}{key}"), number);
        header.extend(state.numbers.into_iter().map(own));
        let mut extra: BTreeMap<String, Tensor> =
            state.tensors.into_iter().map(|(key, t)| (format!("{OPTIMIZER}{key}"), t)).collect();
        let means = self.average.into_iter().flat_map(Average::values);
        extra.extend(means.map(|(path, t)| (format!("{AVERAGE}{path}"), t.clone())));
        checkpoint::save(file, self.model, &extra, &header)
    }
}

/// A snapshot that was read, and is in no run yet.
pub(crate) struct Found {
    checkpoint: Checkpoint,
    pub(crate) place: Place,
    seed: u64,
}

impl Found {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::File`] when it is torn, or no snapshot.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let checkpoint = Checkpoint::read(file)?;
        let entry = |key: &str| checkpoint.metadata.get(key).map_or("", String::as_str);
        let misfit = |got: String| Error::File {
            file: file.to_owned(),
            expected: "a snapshot of a run".into(),
            got,
        };
        let place = serde_json::from_str(entry(PLACE)).map_err(|e| misfit(e.to_string()))?;
        let seed = entry(SEED).parse().map_err(|_| misfit("no seed".into()))?;
        Ok(Self { checkpoint, place, seed })
    }

    /// Puts everything where it was.
    ///
    /// # Errors
    /// When it is another model's, another optimizer's, or another seed's; the model is unchanged then.
    pub(crate) fn restore(
        self,
        model: &mut dyn Parameters,
        optimizer: &mut dyn Optimizer,
        average: Option<&mut Average>,
        seed: u64,
    ) -> Result<Place> {
        if self.seed != seed {
            let (op, name, expected) = ("resume", "seed", "that of the snapshot");
            let got = format!("{seed}, not {}", self.seed);
            return Err(Error::Argument { op, name, expected, got });
        }
        self.checkpoint.check(model)?;
        let of = |prefix: &str| -> BTreeMap<String, Tensor> {
            let all = self.checkpoint.extra.iter();
            all.filter_map(|(k, t)| Some((k.strip_prefix(prefix)?.to_owned(), t.clone()))).collect()
        };
        let number =
            |(k, n): (&String, &String)| Some((k.strip_prefix(OPTIMIZER)?.to_owned(), n.clone()));
        let state = State {
            optimizer: self.checkpoint.metadata.get(NAME).cloned().unwrap_or_default(),
            numbers: self.checkpoint.metadata.iter().filter_map(number).collect(),
            tensors: of(OPTIMIZER),
        };
        optimizer.load_state(model, &state)?;
        if let Some(average) = average {
            average.restore(of(AVERAGE))?;
        }
        self.checkpoint.restore(model)?;
        Ok(self.place)
    }
}
