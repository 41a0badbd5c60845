//! Snapshots: all that a run needs to go on as if it had never stopped.
//!
//! | file in `snapshots/` | what |
//! |---|---|
//! | `step-0000000300.json` | the manifest: step, settings, and of each part its name, length and checksum |
//! | `step-0000000300-0-1f2e3d4c.safetensors` | a part: its number, and its checksum |
//!
//! A part is a safetensors file: the model's parameters and buffers under their own paths, so that
//! it is a checkpoint like any other; the optimizer's moments and factors, and the average of the weights,
//! beside them; and in the header the optimizer's counters and generators and the [`Place`]. The order of
//! the data and the masks of dropout need no state: they are functions of seeds and places. Today there is one
//! part; several processes would write one each.
//!
//! A snapshot is there when its manifest is: parts are written first, each whole. It counts when the manifest and
//! all its parts have the checksums that they should have (`stock.rs`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use engine::{Error, Parameters, Result, Tensor};
use nn::checkpoint::{self, Checkpoint};
use optim::{Optimizer, State};
use serde::{Deserialize, Serialize};

use crate::disk::{make_folder, remove, write_whole};
use crate::{Average, Place, Settings, seal};

/// Keys of the header and of tensors: whose they are.
const PLACE: &str = "train/place";
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
    /// How many of the last ones that are whole stay; at least 1.
    pub keep: usize,
}

impl Snapshots {
    /// Every minute; the last three stay.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), steps: None, seconds: Some(60.0), keep: 3 }
    }

    /// The parts of the snapshots that are whole, oldest first. All of them are read for it.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder is there and cannot be read.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let folder = self.shelf();
        let whole = crate::stock::Stock::of(&folder)?.whole;
        Ok(whole.iter().flat_map(|manifest| manifest.paths(&folder)).collect())
    }

    /// The folder of the snapshots themselves.
    pub(crate) fn shelf(&self) -> PathBuf {
        self.folder.join("snapshots")
    }

    /// Writes one, proves it, and removes those of `whole` that are too many with it. Returns its manifest's path.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder does not let it; [`Error::File`] when what was written does not read back.
    pub(crate) fn save(&self, run: &Snapshot<'_>, whole: &mut Vec<Manifest>) -> Result<PathBuf> {
        let folder = self.shelf();
        // A run's folder that has another name by now is not made again: its lock and record went with it.
        fs::metadata(&self.folder).map_err(|e| Error::io(&self.folder, e))?;
        make_folder(&folder)?;
        let manifest = run.write(&folder)?;
        manifest.prove(&folder)?;
        let file = Manifest::path(&folder, manifest.step);
        let (again, older): (Vec<_>, Vec<_>) =
            whole.drain(..).partition(|old| old.step == manifest.step);
        // Of one that was saved again only the parts are left.
        let left = again.iter().flat_map(|old| &old.parts).filter(|p| !manifest.parts.contains(p));
        left.map(|part| folder.join(&part.file)).try_for_each(|part| remove(&part))?;
        *whole = older;
        whole.push(manifest);
        while whole.len() > self.keep.max(1) {
            whole.remove(0).remove(&folder)?;
        }
        Ok(file)
    }
}

/// What a snapshot is made of.
pub(crate) struct Snapshot<'a> {
    pub(crate) model: &'a dyn Parameters,
    pub(crate) optimizer: &'a dyn Optimizer,
    pub(crate) average: Option<&'a Average>,
    pub(crate) place: &'a Place,
    pub(crate) settings: &'a Settings,
}

impl Snapshot<'_> {
    fn write(&self, folder: &Path) -> Result<Manifest> {
        let step = self.place.step;
        let file = Manifest::path(folder, step);
        let bytes = self.encoded(&file)?;
        let part = Part::of(step, 0, &bytes);
        write_whole(&folder.join(&part.file), &bytes)?;
        let manifest = Manifest { step, settings: self.settings.clone(), parts: vec![part] };
        write_whole(&file, &seal::closed(&file, &manifest)?)?;
        Ok(manifest)
    }

    fn encoded(&self, file: &Path) -> Result<Vec<u8>> {
        let state = self.optimizer.state(self.model)?;
        let place = serde_json::to_string(self.place).map_err(|e| Error::io(file, e.into()))?;
        let mut header =
            BTreeMap::from([(PLACE.to_owned(), place), (NAME.to_owned(), state.optimizer)]);
        let own = |(key, number)| (format!("{OPTIMIZER}{key}"), number);
        header.extend(state.numbers.into_iter().map(own));
        let mut extra: BTreeMap<String, Tensor> =
            state.tensors.into_iter().map(|(key, t)| (format!("{OPTIMIZER}{key}"), t)).collect();
        let means = self.average.into_iter().flat_map(Average::values);
        extra.extend(means.map(|(path, t)| (format!("{AVERAGE}{path}"), t.clone())));
        checkpoint::encoded(file, self.model, &extra, &header)
    }
}

/// What a snapshot consists of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) step: u64,
    /// What it was made with.
    pub(crate) settings: Settings,
    pub(crate) parts: Vec<Part>,
}

/// One file of a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) file: String,
    bytes: u64,
    crc32: String,
}

impl Part {
    fn of(step: u64, number: usize, bytes: &[u8]) -> Self {
        let crc32 = seal::crc32(bytes);
        let file = Self::name(step, number, &crc32);
        Self { file, bytes: bytes.len() as u64, crc32 }
    }

    fn name(step: u64, number: usize, crc32: &str) -> String {
        format!("step-{step:010}-{number}-{crc32}.safetensors")
    }

    /// Whether a file of so many bytes with this checksum is this one.
    fn check(&self, path: &Path, bytes: u64, crc32: &str) -> Result<()> {
        if bytes == self.bytes && crc32 == self.crc32 {
            return Ok(());
        }
        let expected = format!("{} bytes of checksum {}", self.bytes, self.crc32);
        let got = format!("{bytes} of {crc32}");
        Err(Error::File { file: path.to_owned(), expected, got })
    }
}

impl Manifest {
    pub(crate) fn path(folder: &Path, step: u64) -> PathBuf {
        folder.join(format!("step-{step:010}.json"))
    }

    pub(crate) fn paths(&self, folder: &Path) -> Vec<PathBuf> {
        self.parts.iter().map(|part| folder.join(&part.file)).collect()
    }

    /// Reads one. Its parts have the names that parts are given: with others, what is removed and set aside with
    /// a snapshot could lie anywhere.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let manifest: Self = seal::open(file, &fs::read(file).map_err(|e| Error::io(file, e))?)?;
        for (number, part) in manifest.parts.iter().enumerate() {
            let sum = part.crc32.len() == 8 && part.crc32.bytes().all(|b| b.is_ascii_hexdigit());
            let name = Part::name(manifest.step, number, &part.crc32);
            if !sum || part.file != name {
                let (expected, got) = (format!("a part named {name}"), part.file.clone());
                return Err(Error::File { file: file.to_owned(), expected, got });
            }
        }
        Ok(manifest)
    }

    /// Whether every part has its length and its checksum. Reads them a piece at a time.
    pub(crate) fn prove(&self, folder: &Path) -> Result<()> {
        for part in &self.parts {
            let path = folder.join(&part.file);
            let refused = |e| Error::io(&path, e);
            let mut file = File::open(&path).map_err(refused)?;
            let (mut sum, mut length) = (crc32fast::Hasher::new(), 0);
            let mut piece = vec![0; 1 << 20];
            loop {
                match file.read(&mut piece).map_err(refused)? {
                    0 => break,
                    n => {
                        sum.update(&piece[..n]);
                        length += n as u64;
                    }
                }
            }
            part.check(&path, length, &format!("{:08x}", sum.finalize()))?;
        }
        Ok(())
    }

    /// Removes a snapshot: the manifest first, so that what is left of a removal is no damaged snapshot.
    fn remove(&self, folder: &Path) -> Result<()> {
        remove(&Self::path(folder, self.step))?;
        self.paths(folder).iter().try_for_each(|part| remove(part))
    }
}

/// A snapshot that was read, and is in no run yet.
pub(crate) struct Found {
    checkpoint: Checkpoint,
    pub(crate) place: Place,
}

impl Found {
    /// Reads a snapshot, and proves the bytes that it takes.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::File`] when it is not whole, or no snapshot.
    pub(crate) fn read(folder: &Path, manifest: &Manifest) -> Result<Self> {
        let whole = |expected: &str, got: String| Error::File {
            file: Manifest::path(folder, manifest.step),
            expected: expected.into(),
            got,
        };
        let [part] = &manifest.parts[..] else {
            return Err(whole("a snapshot of one part", manifest.parts.len().to_string()));
        };
        let path = folder.join(&part.file);
        let bytes = fs::read(&path).map_err(|e| Error::io(&path, e))?;
        part.check(&path, bytes.len() as u64, &seal::crc32(&bytes))?;
        let checkpoint = Checkpoint::decoded(&path, &bytes)?;
        let place = checkpoint.metadata.get(PLACE).map_or("", String::as_str);
        let place: Place =
            serde_json::from_str(place).map_err(|e| whole("a place", e.to_string()))?;
        if !place.is_of(manifest.step) {
            let expected = format!("the place of step {}", manifest.step);
            return Err(whole(&expected, format!("{place:?}")));
        }
        Ok(Self { checkpoint, place })
    }

    /// Puts everything where it was.
    ///
    /// # Errors
    /// When it is another model's or another optimizer's; the model is unchanged then.
    pub(crate) fn restore(
        self,
        model: &mut dyn Parameters,
        optimizer: &mut dyn Optimizer,
        average: Option<&mut Average>,
    ) -> Result<Place> {
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
