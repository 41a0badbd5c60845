//! Models and optimizers in a file, in the safetensors format.
//!
//! Parameters and buffers stand under their paths in the model, as PyTorch's `state_dict` has them,
//! so files go both ways; [`Checkpoint::translate`] is for files with other names. Other tensors (an optimizer's moments) stand under `extra/`, and
//! counters and names in the header, under one key, so that equal states give equal bytes.
//!
//! Writing is atomic: a temporary file in the same folder is written, flushed to the disk and
//! renamed. Reading verifies everything before it changes anything.

mod numbers;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use engine::parameter::{Member, MemberMut};
use engine::{Device, Error, Parameters, Result, Shape, Tensor, room};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use self::numbers::{Taken, from_bytes, to_bytes};

use crate::data::file::regular;
use crate::data::limits::SAFETENSORS_HEADER;

/// What tensors that are not the model's are filed under.
const EXTRA: &str = "extra/";
/// The key of the header's metadata.
const METADATA: &str = "alcyon";
/// Last parts of names that files of PyTorch models may have or lack: a counter that nothing reads, and
/// tables that follow from shapes.
const INCIDENTAL: [&str; 3] = ["num_batches_tracked", "relative_position_index", "position_ids"];
/// A file's contents: read whole, and not yet in any model.
///
/// # Example
/// ```
/// use alcyon_nn::{Checkpoint, Linear, Module, checkpoint};
/// use engine::{DType, Rng, Tensor};
/// # let dir = tempfile::tempdir().unwrap();
/// let file = dir.path().join("model.safetensors");
/// let (trained, mut fresh) = (Linear::new(2, 1, &mut Rng::new(0)), Linear::new(2, 1, &mut Rng::new(1)));
/// checkpoint::save(&file, &trained, &Default::default(), &[("epoch".into(), "3".into())].into())?;
/// let checkpoint = Checkpoint::read(&file)?;
/// checkpoint.restore(&mut fresh)?;
/// let x = Tensor::ones([1, 2], DType::F32);
/// assert_eq!(fresh.predict(&x)?.item()?, trained.predict(&x)?.item()?);
/// assert_eq!(checkpoint.metadata["epoch"], "3");
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Checkpoint {
    file: PathBuf,
    model: BTreeMap<String, Tensor>,
    /// Those of `model` that have another dtype in the file, and which.
    converted: BTreeMap<String, String>,
    /// Tensors that are not the model's, by name: an optimizer's state.
    pub extra: BTreeMap<String, Tensor>,
    /// Counters, generator states and names, as text.
    pub metadata: BTreeMap<String, String>,
    /// Tensors of the file that were not read, and what they are: their dtype is one that tensors do not have,
    /// or they have too many axes. A model that needs one of them is refused.
    pub left_out: BTreeMap<String, String>,
}

/// Writes a model, further tensors and metadata to a file, atomically: after a crash the file is
/// the old one or the new one.
///
/// # Errors
/// [`Error::Io`] when the folder does not let it; [`Error::Argument`] when two members of the
/// model have one path.
pub fn save(
    file: &Path,
    model: &dyn Parameters,
    extra: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    write_whole(file, &encoded(file, model, extra, metadata)?)
}

/// The bytes that [`save`] writes, for whoever has to know them first. Errors name `file`.
///
/// # Errors
/// [`Error::Argument`] when two members of the model have one path.
pub fn encoded(
    file: &Path,
    model: &dyn Parameters,
    extra: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    let mut tensors: BTreeMap<String, Tensor> =
        extra.iter().map(|(name, t)| (format!("{EXTRA}{name}"), t.clone())).collect();
    for (path, value) in members(model) {
        if path.starts_with(EXTRA) || tensors.insert(path.clone(), value.clone()).is_some() {
            return Err(Error::Argument {
                op: "checkpoint",
                name: "paths",
                expected: "all different, and not below extra/",
                got: path,
            });
        }
    }
    encode(file, &tensors, metadata)
}

/// Reads a file into a model: [`Checkpoint::read`] and [`Checkpoint::restore`].
///
/// # Errors
/// As those; the model is unchanged then.
pub fn load(file: &Path, model: &mut dyn Parameters) -> Result<Checkpoint> {
    let checkpoint = Checkpoint::read(file)?;
    checkpoint.restore(model)?;
    Ok(checkpoint)
}

impl Checkpoint {
    /// Reads a file. Memory is bounded by the file's length, whatever its header says
    /// ([`limits`](crate::data::limits)). Integers of other sizes than 64 bits, and booleans, become I64.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read; [`Error::File`] when it is not a whole safetensors file.
    pub fn read(file: &Path) -> Result<Self> {
        let (mut bytes, mut opened) = (Vec::new(), regular(file)?);
        opened.read_to_end(&mut bytes).map_err(|e| Error::io(file, e))?;
        Self::decoded(file, &bytes)
    }

    /// The contents of a file that has been read.
    ///
    /// # Errors
    /// [`Error::File`] as [`Checkpoint::read`].
    pub fn decoded(file: &Path, bytes: &[u8]) -> Result<Self> {
        decode(file, bytes)
    }

    /// The same file with the model's tensors under other names, in other layouts, or (None) left
    /// out: how a file that another program wrote comes to fit.
    ///
    /// # Errors
    /// Those of `each`; [`Error::File`] when two tensors get one name.
    ///
    /// # Example
    /// ```
    /// use alcyon_nn::{Checkpoint, Linear, checkpoint};
    /// use engine::Rng;
    /// # let dir = tempfile::tempdir().unwrap();
    /// let file = dir.path().join("model.safetensors");
    /// checkpoint::save(&file, &Linear::new(2, 3, &mut Rng::new(0)), &[].into(), &[].into())?;
    /// let transposed = Checkpoint::read(&file)?.translate(|name, value| match name {
    ///     "weight" => Ok(Some((name.to_owned(), value.transpose(0, 1)?))),
    ///     _ => Ok(None),
    /// })?;
    /// transposed.restore(&mut Linear::new(3, 2, &mut Rng::new(1)).without_bias())?;
    /// # Ok::<(), engine::Error>(())
    /// ```
    pub fn translate(
        mut self,
        mut each: impl FnMut(&str, Tensor) -> Result<Option<(String, Tensor)>>,
    ) -> Result<Self> {
        let mut converted = std::mem::take(&mut self.converted);
        for (old, value) in std::mem::take(&mut self.model) {
            let Some((name, value)) = each(&old, value)? else { continue };
            if self.model.contains_key(&name) {
                return Err(misfit(&self.file, "a name for each tensor", &format!("{name} twice")));
            }
            self.converted.extend(converted.remove(&old).map(|was| (name.clone(), was)));
            self.model.insert(name, value);
        }
        Ok(self)
    }

    /// Whether the model's members are exactly those of the file, with the same shapes and dtypes. Names
    /// that end in `num_batches_tracked`, `relative_position_index` or `position_ids` may be missing or
    /// too many; and so may what no model here can have: [`Checkpoint::unused`] lists it.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] naming all that is missing, unexpected or misshapen; else
    /// [`Error::DType`], located.
    pub fn check(&self, model: &dyn Parameters) -> Result<()> {
        let differences = self.differences(model);
        self.refuse(differences)?;
        self.check_dtypes(model)
    }

    /// Writes the file's values into a model, on the device where it is.
    ///
    /// # Errors
    /// As [`Checkpoint::check`], and of the device; the model is unchanged then.
    pub fn restore(&self, model: &mut dyn Parameters) -> Result<()> {
        self.check(model)?;
        self.write(model)
    }

    /// Writes the file's values into the members of a model that it has values for, and says which it has
    /// none for: those stay as they are. For a network with another readout, or pretrained tables;
    /// [`Checkpoint::translate`] leaves out what is not wanted.
    ///
    /// # Errors
    /// As [`Checkpoint::check`], but for what is missing.
    ///
    /// # Example
    /// ```
    /// use alcyon_nn::{Checkpoint, Mlp, checkpoint};
    /// use engine::Rng;
    /// # let dir = tempfile::tempdir().unwrap();
    /// let file = dir.path().join("pretrained.safetensors");
    /// checkpoint::save(&file, &Mlp::new(&[4, 8, 10], &mut Rng::new(0)), &[].into(), &[].into())?;
    /// let mut model = Mlp::new(&[4, 8, 3], &mut Rng::new(1)); // three classes in place of ten
    /// let body = Checkpoint::read(&file)?.translate(|name, value| {
    ///     Ok((!name.starts_with("layers.1.")).then(|| (name.to_owned(), value)))
    /// })?;
    /// assert_eq!(body.restore_part(&mut model)?, ["layers.1.weight", "layers.1.bias"]);
    /// # Ok::<(), engine::Error>(())
    /// ```
    pub fn restore_part(&self, model: &mut dyn Parameters) -> Result<Vec<String>> {
        let Differences { missing, unexpected, misshapen } = self.differences(model);
        self.refuse(Differences { missing: Vec::new(), unexpected, misshapen })?;
        self.check_dtypes(model)?;
        self.write(model)?;
        Ok(missing)
    }

    /// What the file has and a model does not take, and is no reason to refuse it: tensors of
    /// [`left_out`](Self::left_out), and those of dtypes that no member of a model has (integers of other
    /// sizes than 64 bits, booleans) under names that the model lacks. Each with its dtype and shape there.
    ///
    /// # Example
    /// ```
    /// use alcyon_nn::{Checkpoint, Linear, checkpoint};
    /// use engine::Rng;
    /// # let dir = tempfile::tempdir().unwrap();
    /// let file = dir.path().join("model.safetensors");
    /// let mut model = Linear::new(2, 3, &mut Rng::new(0));
    /// checkpoint::save(&file, &model, &[].into(), &[].into())?;
    /// let checkpoint = checkpoint::load(&file, &mut model)?;
    /// assert!(checkpoint.unused(&model).is_empty()); // a counter would be listed: "steps (I32 [1])"
    /// # Ok::<(), engine::Error>(())
    /// ```
    #[must_use]
    pub fn unused(&self, model: &dyn Parameters) -> Vec<String> {
        let members = members(model);
        let known = |name: &String| members.iter().any(|(path, _)| path == name);
        let lacking = self.converted.iter().filter(|(name, _)| !known(name));
        let all = lacking.chain(&self.left_out).map(|(name, what)| format!("{name} ({what})"));
        all.collect()
    }

    fn differences(&self, model: &dyn Parameters) -> Differences {
        let members = members(model);
        let (mut missing, mut misshapen) = (Vec::new(), Vec::new());
        let incidental =
            |name: &str| INCIDENTAL.contains(&name.rsplit_once('.').map_or(name, |(_, last)| last));
        for (path, value) in &members {
            match self.model.get(path) {
                None if incidental(path) => {}
                None => missing.push(path.clone()),
                Some(got) if got.shape() != value.shape() => {
                    misshapen.push((path.clone(), *value.shape(), *got.shape()));
                }
                Some(_) => {}
            }
        }
        let known = |name: &String| {
            incidental(name)
                || self.converted.contains_key(name)
                || members.iter().any(|(path, _)| path == name)
        };
        let unexpected = self.model.keys().filter(|n| !known(n)).cloned().collect();
        Differences { missing, unexpected, misshapen }
    }

    fn refuse(&self, differences: Differences) -> Result<()> {
        let Differences { mut missing, unexpected, misshapen } = differences;
        for path in &mut missing {
            if let Some(why) = self.left_out.get(path) {
                *path = format!("{path} (in the file as {why})");
            }
        }
        if missing.is_empty() && unexpected.is_empty() && misshapen.is_empty() {
            return Ok(());
        }
        Err(Error::Checkpoint { file: self.file.clone(), missing, unexpected, misshapen })
    }

    fn check_dtypes(&self, model: &dyn Parameters) -> Result<()> {
        for (path, value) in members(model) {
            let got = self.model.get(&path).map_or(value.dtype(), Tensor::dtype);
            if got != value.dtype() {
                let expected = value.dtype().to_string();
                return Err(Error::DType { op: "checkpoint", expected, got }.in_layer(&path));
            }
        }
        Ok(())
    }

    /// Every value that the file has, on the device where the member is; they fit. A member without
    /// numbers (meta device) gets them in main memory.
    fn write(&self, model: &mut dyn Parameters) -> Result<()> {
        let mut values = Vec::new();
        for (path, member) in members(model) {
            let on = |value: &Tensor| match member.device() {
                Device::Meta => Ok(value.clone()),
                device => value.to_device(device),
            };
            values.push(self.model.get(&path).map(on).transpose()?);
        }
        let mut members = Vec::new();
        model.collect_mut("", &mut members);
        for ((_, member), value) in members.into_iter().zip(values) {
            let Some(value) = value else { continue };
            match member {
                MemberMut::Parameter(p) => *p.value_mut() = value,
                MemberMut::Buffer(b) => *b.value_mut() = value,
            }
        }
        Ok(())
    }
}

/// Where a file and a model differ: the lists of [`Error::Checkpoint`].
struct Differences {
    missing: Vec<String>,
    unexpected: Vec<String>,
    misshapen: Vec<(String, Shape, Shape)>,
}

/// All parameters and buffers.
fn members(model: &dyn Parameters) -> Vec<(String, &Tensor)> {
    let mut members = Vec::new();
    model.collect("", &mut members);
    let value = |(path, member)| match member {
        Member::Parameter(p) => (path, p.value()),
        Member::Buffer(b) => (path, b.value()),
    };
    members.into_iter().map(value).collect()
}

fn encode(
    file: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    let refused = |e: &dyn std::fmt::Display| misfit(file, "tensors that fit the format", e);
    let mut bytes = Vec::new();
    for tensor in tensors.values() {
        bytes.push(to_bytes(tensor)?);
    }
    let mut views = Vec::new();
    for ((name, tensor), (dtype, bytes)) in tensors.iter().zip(&bytes) {
        let view = TensorView::new(*dtype, tensor.shape().to_vec(), bytes);
        views.push((name, view.map_err(|e| refused(&e))?));
    }
    let metadata = serde_json::to_string(metadata).map_err(|e| refused(&e))?;
    let header = HashMap::from([(METADATA.to_owned(), metadata)]);
    // The crate's own copy of them all.
    room::expect("checkpoint", bytes.iter().map(|(_, bytes)| bytes.len()).sum())?;
    safetensors::serialize(views, Some(header)).map_err(|e| refused(&e))
}

fn decode(file: &Path, bytes: &[u8]) -> Result<Checkpoint> {
    let broken = |e: &dyn std::fmt::Display| misfit(file, "a whole safetensors file", e);
    let announced = bytes.first_chunk().map_or(0, |size| u64::from_le_bytes(*size));
    if announced > SAFETENSORS_HEADER && announced < bytes.len() as u64 {
        let expected = format!("a header of at most {SAFETENSORS_HEADER} bytes");
        return Err(misfit(file, &expected, &announced));
    }
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| broken(&e))?;
    let metadata = match header.metadata().as_ref().and_then(|m| m.get(METADATA)) {
        Some(text) => serde_json::from_str(text).map_err(|e| broken(&e))?,
        None => BTreeMap::new(),
    };
    let (mut model, mut extra) = (BTreeMap::new(), BTreeMap::new());
    let (mut converted, mut left_out) = (BTreeMap::new(), BTreeMap::new());
    for (name, view) in SafeTensors::deserialize(bytes).map_err(|e| broken(&e))?.tensors() {
        let what = || format!("{:?} {:?}", view.dtype(), view.shape());
        match (from_bytes(&view)?, name.strip_prefix(EXTRA)) {
            (None, _) => drop(left_out.insert(name, what())),
            (Some(taken), Some(name)) => drop(extra.insert(name.to_owned(), taken.tensor)),
            (Some(Taken { tensor, converted: is_converted }), None) => {
                converted.extend(is_converted.then(|| (name.clone(), what())));
                model.insert(name, tensor);
            }
        }
    }
    Ok(Checkpoint { file: file.to_owned(), model, converted, extra, metadata, left_out })
}

/// Writes a file whole: after a crash it is the old one or the new one. A link stays a link,
/// also one to a file that is not there yet; an old file's permissions stay. A process that
/// dies meanwhile leaves a file named `.tmp` and six letters beside it.
///
/// # Errors
/// [`Error::Io`] when the folder does not let it.
pub fn write_whole(file: &Path, bytes: &[u8]) -> Result<()> {
    let refused = |e| Error::io(file, e);
    let target = fs::canonicalize(file)
        .or_else(|_| Ok(file.with_file_name(fs::read_link(file)?)))
        .unwrap_or_else(|_: std::io::Error| file.to_owned());
    let file = target.as_path();
    let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        // As any new file, by the user's mask, and not private as temporary files are.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut temporary = builder.tempfile_in(folder).map_err(refused)?;
    if let Ok(old) = fs::metadata(file) {
        temporary.as_file().set_permissions(old.permissions()).map_err(refused)?;
    }
    temporary.write_all(bytes).map_err(refused)?;
    temporary.as_file().sync_all().map_err(refused)?;
    temporary.persist(file).map_err(|e| refused(e.error))?;
    // The rename itself is on the disk when the folder is.
    #[cfg(unix)]
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(refused)?;
    Ok(())
}

fn misfit(file: &Path, expected: &str, got: &dyn std::fmt::Display) -> Error {
    Error::File { file: file.to_owned(), expected: expected.into(), got: got.to_string() }
}

#[cfg(test)]
mod tests;
