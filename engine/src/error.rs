//! The one error type: data, not strings. `Display` says *op — expected — got — where*.

mod debug;
mod lists;
mod runs;

use std::path::PathBuf;
use std::sync::Arc;

use runs::WAYS_OUT;

use crate::{DType, Device, Shape};

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in any of Alcyon's crates. A new failure is a new variant.
///
/// Both `{}` and `{:?}` are its sentence, so `fn main() -> Result<()>` prints that; `{:#?}` shows the fields.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The shapes given to an op do not fit together.
    #[error("{op}: expected {expected}, got {}", lists::shapes(got))]
    Shape {
        /// The op.
        op: &'static str,
        /// What it expects, in the letters of its documentation.
        expected: String,
        /// The shapes that came.
        got: Vec<Shape>,
    },
    /// An axis that the tensor does not have.
    #[error("{op}: axis {axis} is out of range for a tensor of rank {rank}")]
    Axis {
        /// The op.
        op: &'static str,
        /// The axis asked for; negative ones count from the end.
        axis: isize,
        /// The number of axes.
        rank: usize,
    },
    /// A dtype that the op does not take there.
    #[error("{op}: expected dtype {expected}, got {got}")]
    DType {
        /// The op.
        op: &'static str,
        /// What it expects.
        expected: String,
        /// What came.
        got: DType,
    },
    /// Two inputs of one op live on different devices.
    #[error("{op}: inputs on two devices, {left} and {right}")]
    Device {
        /// The op.
        op: &'static str,
        /// The first input's device.
        left: Device,
        /// The other one.
        right: Device,
    },
    /// An index, label or token outside its range.
    #[error("{op}: index {index} at position {at} is out of range 0..{bound}")]
    Index {
        /// The op.
        op: &'static str,
        /// The offending index.
        index: i64,
        /// Where it stands in the flattened index tensor.
        at: usize,
        /// Indices must be below this.
        bound: usize,
    },
    /// A target that is none of the loss.
    #[error("{op}: expected {expected}, got {got} at position {at}")]
    Target {
        /// The loss.
        op: &'static str,
        /// What it expects there.
        expected: &'static str,
        /// What came.
        got: f64,
        /// Which entry of the flattened targets, or which row.
        at: usize,
    },
    /// An integer that `f64` cannot hold.
    #[error("{op}: {value} is no f64; `to_vec::<i64>` reads it")]
    Inexact {
        /// The call.
        op: &'static str,
        /// The integer.
        value: i64,
    },
    /// There is no memory for what an op makes: the system refuses it, or all tensors together would be
    /// larger than the machine's memory.
    #[error("{op}: out of memory: no {bytes} bytes")]
    OutOfMemory {
        /// The op.
        op: &'static str,
        /// What it asked for.
        bytes: usize,
    },
    /// An option outside its range.
    #[error("{op}: {name} must be {expected}, got {got}")]
    Argument {
        /// The op, optimizer or function.
        op: &'static str,
        /// The option.
        name: &'static str,
        /// Its range.
        expected: &'static str,
        /// What came.
        got: String,
    },
    /// A name that is not among the known ones.
    #[error("unknown {what} `{got}`; known: {}", lists::names(known))]
    Unknown {
        /// The kind of thing: optimizer, data set, preset …
        what: &'static str,
        /// The name given.
        got: String,
        /// All names that would work.
        known: Vec<String>,
    },
    /// The op cannot run on this device.
    #[error("{op}: no kernel for device {device}")]
    NoKernel {
        /// The op.
        op: &'static str,
        /// The device.
        device: Device,
    },
    /// A device that cannot be opened.
    #[error("no device cuda:{ordinal}: {reason}")]
    NoDevice {
        /// Its number.
        ordinal: usize,
        /// Why not.
        reason: String,
    },
    /// A CUDA device failed, or has no memory left.
    #[cfg(feature = "cuda")]
    #[error("{op}: {source}")]
    Cuda {
        /// The op, or what else was being done.
        op: &'static str,
        /// What happened.
        source: kernels::cuda::CudaError,
    },
    /// The tape that a `Var` points into has been dropped.
    #[error("the tape of this Var has been dropped")]
    TapeGone,
    /// The numbers on the tape have been freed by a sweep.
    #[error(
        "{op}: the numbers on this tape have been freed (backward_once, optim::backward); `backward` leaves them"
    )]
    TapeSpent {
        /// What asked for them.
        op: &'static str,
    },
    /// A layer observer has recorded on the tape that is being swept, or begun another sweep of it.
    #[error(
        "{op}: this tape is being swept; an observer may read it, and records on another tape (or computes on `Tensor`s)"
    )]
    TapeSwept {
        /// What was asked of it.
        op: &'static str,
    },
    /// Two inputs of one op belong to different tapes.
    #[error("{op}: inputs from two different tapes")]
    TapeMismatch {
        /// The op.
        op: &'static str,
    },
    /// A backward pass was asked from a value that no tape recorded.
    #[error("{op}: this Var is not recorded on the tape (made on `Tape::off()`, or a constant)")]
    NotRecorded {
        /// The call.
        op: &'static str,
    },
    /// The op has no rule for being differentiated a second time.
    #[error("{op} is not twice differentiable")]
    NotTwiceDifferentiable {
        /// The op.
        op: &'static str,
    },
    /// The op has rules for two derivatives, and a third one was asked for.
    #[error("{op} has a first and a second derivative, but no third")]
    NoThirdDerivative {
        /// The op.
        op: &'static str,
    },
    /// A trainable parameter without a gradient reached an optimizer.
    #[error(
        "parameter `{param}` has no gradient: it was not used in the loss (use it, freeze it, or skip it with \
         `Unused::Skip`: `Gradients::set_unused`)"
    )]
    MissingGradient {
        /// Its path in the model.
        param: String,
    },
    /// A gradient of a parameter that the model does not own.
    #[error(
        "a gradient of shape {shape} (of a parameter used by `{op}`) belongs to no parameter of the model: name the \
         field in `parameters!`, or, if it is another model's, use that inside `Tape::fixed` or take its gradients \
         out with `Gradients::split_off`"
    )]
    Unowned {
        /// The parameter's shape.
        shape: Shape,
        /// An op that used it, or the call that set its gradient.
        op: &'static str,
    },
    /// A parameter that no curvature factor covers.
    #[error(
        "parameter `{param}` is used by `{op}`, which is not a layer: no curvature factor covers it"
    )]
    Uncovered {
        /// Its path in the model.
        param: String,
        /// The op that used it.
        op: &'static str,
    },
    /// A number that is neither finite nor expected: training cannot go on.
    #[error("{op}: the first value that is not finite came out of record {record} ({shape})")]
    NotFinite {
        /// The op that made it.
        op: &'static str,
        /// Its place on the tape.
        record: usize,
        /// The output's shape.
        shape: Shape,
    },
    /// A loss that has grown instead of falling: training cannot go on.
    #[error("{op}: diverges: the loss began at {first} and is {loss} now; try {instead}")]
    Diverged {
        /// The optimizer.
        op: &'static str,
        /// The loss at the first step.
        first: f64,
        /// The loss now.
        loss: f64,
        /// What may help.
        instead: &'static str,
    },
    /// A matrix routine failed.
    #[error("{routine}: {reason}")]
    Linalg {
        /// The routine.
        routine: &'static str,
        /// What it said.
        reason: String,
    },
    /// A file whose contents are not what its format or use demands.
    #[error("{}: expected {expected}, got {got}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What was expected there.
        expected: String,
        /// What is there.
        got: String,
    },
    /// The operating system refused a file.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// A checkpoint of another model or optimizer.
    #[error("{}: {}", file.display(), lists::differences(missing, unexpected, misshapen))]
    Checkpoint {
        /// The file.
        file: PathBuf,
        /// Names that the model has and the file lacks.
        missing: Vec<String>,
        /// Names that the file has and the model lacks.
        unexpected: Vec<String>,
        /// Name, the model's shape, the file's shape.
        misshapen: Vec<(String, Shape, Shape)>,
    },
    /// A run's folder that was made with other settings: its numbers would be said of these.
    #[error("{}", runs::settings(folder, differences, *stretched))]
    Settings {
        /// The run's folder.
        folder: PathBuf,
        /// Name, what the run was made with, what is asked for.
        differences: Vec<(String, String, String)>,
        /// Whether nothing but the budget differs, over which the schedule stretches.
        stretched: bool,
    },
    /// A run's folder in which another process is writing.
    #[error(
        "{} is in use by {holder}: wait for its end, or use another folder (`--out`)", folder.display()
    )]
    InUse {
        /// The run's folder.
        folder: PathBuf,
        /// Process, machine, since when.
        holder: String,
    },
    /// A run that was saved, and nothing of that is whole.
    #[error("{}", runs::lost(folder, files))]
    Lost {
        /// The run's folder.
        folder: PathBuf,
        /// Its files, and what is wrong with each.
        files: Vec<(PathBuf, String)>,
    },
    /// A folder without a run, in which files have the names of a run's.
    #[error(
        "{} holds no run, and files that a run would write over ({}): use another folder (`--out`), or move them",
        folder.display(), files.join(", ")
    )]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// The names of those files.
        files: Vec<String>,
    },
    /// A snapshot that is whole, and not of this model or optimizer.
    #[error("{}: the run in it cannot go on ({source}): {WAYS_OUT}", folder.display())]
    Resume {
        /// The run's folder.
        folder: PathBuf,
        /// Why not.
        source: Box<Self>,
    },
    /// A file of a run that another version of the library wrote.
    #[error(
        "{}: a file of format {found}, and this version goes on from format {known}: go on with the version that wrote it, {WAYS_OUT}",
        file.display()
    )]
    Format {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: String,
        /// The format of this version.
        known: u32,
    },
    /// What went wrong in an op, rule, loss or data source of your own.
    #[error("{op}: {source}")]
    Custom {
        /// Its name.
        op: String,
        /// The error, of a type of your own: `downcast_ref` gets it back.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// An error inside a layer of a model.
    #[error("{path}: {source}")]
    InLayer {
        /// The layer's path, like `encoder.3.attention.query`.
        path: String,
        /// What happened there.
        source: Box<Self>,
    },
}

impl Error {
    /// Whether what was asked for is at fault (an unknown name, an option outside its range, a device
    /// that is not there) and nothing that happened on the way: programs exit with 2 for these.
    #[must_use]
    pub const fn asked_wrongly(&self) -> bool {
        let asked =
            matches!(self, Self::Unknown { .. } | Self::Argument { .. } | Self::NoDevice { .. });
        asked || self.refuses_the_folder()
    }

    /// Whether a run's folder does not take this run.
    const fn refuses_the_folder(&self) -> bool {
        matches!(self, Self::Settings { .. } | Self::InUse { .. } | Self::Foreign { .. })
            || matches!(self, Self::Lost { .. } | Self::Format { .. } | Self::Resume { .. })
    }

    /// The same error, located in a layer; paths of nested layers are joined by dots.
    #[must_use]
    pub fn in_layer(self, name: &str) -> Self {
        match self {
            Self::InLayer { path, source } => {
                Self::InLayer { path: format!("{name}.{path}"), source }
            }
            other => Self::InLayer { path: name.to_owned(), source: Box::new(other) },
        }
    }

    /// The same error of a CUDA device, in the name of an op.
    #[cfg(feature = "cuda")]
    pub(crate) fn of_op(self, op: &'static str) -> Self {
        match self {
            Self::Cuda { source, .. } => Self::Cuda { op, source },
            other => other,
        }
    }

    /// Main memory that was refused to an op.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Error;
    /// let refused = kernels::pool::expect_room(1 << 50).map_err(Error::no_memory("step"));
    /// assert!(matches!(refused, Err(Error::OutOfMemory { op: "step", bytes: 0x4_0000_0000_0000 })));
    /// ```
    pub const fn no_memory(op: &'static str) -> impl Fn(kernels::pool::OutOfMemory) -> Self + Copy {
        move |kernels::pool::OutOfMemory { bytes }| Self::OutOfMemory { op, bytes }
    }

    /// A shape error; `got` are the shapes of all inputs.
    #[must_use]
    pub fn shape(op: &'static str, expected: impl Into<String>, got: &[&Shape]) -> Self {
        Self::Shape { op, expected: expected.into(), got: got.iter().map(|&&s| s).collect() }
    }

    /// An error of your own op, rule, loss or data source, which stays what it is.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Error;
    /// let own = "half".parse::<f64>().unwrap_err();
    /// let error = Error::custom("my_op", own.clone());
    /// assert_eq!(error.to_string(), "my_op: invalid float literal");
    /// let Error::Custom { source, .. } = error else { unreachable!() };
    /// assert_eq!(source.downcast_ref(), Some(&own));
    /// ```
    #[must_use]
    pub fn custom(
        op: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Custom { op: op.into(), source: Arc::new(source) }
    }

    /// An error of the operating system about a file.
    #[must_use]
    pub fn io(file: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { file: file.into(), source: Arc::new(source) }
    }
}

#[cfg(feature = "cuda")]
impl From<kernels::cuda::CudaError> for Error {
    fn from(source: kernels::cuda::CudaError) -> Self {
        match source {
            kernels::cuda::CudaError::Index { op, index, at, bound } => {
                crate::op::targets::noted(op, index, at).unwrap_or(Self::Index {
                    op,
                    index,
                    at,
                    bound,
                })
            }
            other => Self::Cuda { op: "cuda", source: other },
        }
    }
}
