//! Targets that are probabilities: what a loss may be given, checked where they are.
//!
//! On a GPU the host does not wait for the check: what it finds is noted there, as a wrong label is, and
//! becomes the error of the next read.

use crate::{DType, Error, FloatElement, Result};
#[cfg(feature = "cuda")]
use crate::{
    op::Saved,
    storage::{CudaStorage, CudaView},
};

/// A loss that asks for probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Targets {
    /// Each by itself.
    Each,
    /// Rows that sum to 1, as nearly as numbers of a type can.
    Rows(DType),
}

impl Targets {
    const fn op(self) -> &'static str {
        match self {
            Self::Each => "binary_cross_entropy",
            Self::Rows(_) => "soft_cross_entropy",
        }
    }

    /// How far from 1 a row's sum may be. In f32 and f64: what probabilities of three decimals leave. In 16
    /// bits each is rounded, and may have been before: four times that.
    pub(crate) fn tolerance(self) -> f64 {
        match self {
            Self::Rows(DType::F16) => 4.0 * 2_f64.powi(-11),
            Self::Rows(DType::BF16) => 4.0 * 2_f64.powi(-8),
            _ => 1.5e-3,
        }
    }

    fn of_entry(self, got: f64, at: usize) -> Error {
        Error::Target { op: self.op(), expected: "a probability from 0 to 1", got, at }
    }

    fn of_row(self, got: f64, at: usize) -> Error {
        Error::Target { op: self.op(), expected: "probabilities of a row that sum to 1", got, at }
    }

    /// Looks at all targets.
    ///
    /// # Errors
    /// [`Error::Target`] for the first that is none.
    pub(crate) fn check<T: FloatElement>(self, targets: &[T], width: usize) -> Result<()> {
        let most = 1.0 + if self == Self::Each { 0.0 } else { self.tolerance() };
        let within = |t: &T| (0.0..=most).contains(&kernels::Float::to_f64(*t));
        if let Some(at) = targets.iter().position(|t| !within(t)) {
            return Err(self.of_entry(kernels::Float::to_f64(targets[at]), at));
        }
        if self == Self::Each {
            return Ok(());
        }
        let sums = targets
            .chunks_exact(width)
            .map(|row| row.iter().map(|&t| kernels::Float::to_f64(t)).sum());
        let far = |&(_, sum): &(usize, f64)| (sum - 1.0).abs() > self.tolerance();
        sums.enumerate().find(far).map_or(Ok(()), |(at, sum)| Err(self.of_row(sum, at)))
    }

    /// The same on a CUDA device: a wrong number is noted as an index out of range, by its bits.
    #[cfg(feature = "cuda")]
    pub(crate) fn check_there(self, targets: &CudaView<'_>, width: usize) -> Result<Saved> {
        use kernels::cuda::pairs::{self, Formula};
        use kernels::cuda::{index, reduce};
        let (gpu, t) = (targets.gpu(), targets.slice());
        let look = |asker, formula: Formula, x: kernels::cuda::Slice<'_>| {
            let mut codes = CudaStorage::unspecified(gpu, DType::I64, x.len())?;
            pairs::alike(gpu, formula, x, x, &codes.slice_mut())?;
            Ok::<(), Error>(index::check(gpu, asker, codes.slice(), 1)?)
        };
        let entries = "a >= T(0) && a <= T(1.02) ? 0 : __double_as_longlong(a)";
        let strict = "a >= T(0) && a <= T(1) ? 0 : __double_as_longlong(a)";
        let formula = if self == Self::Each { strict } else { entries };
        look(self.asker(), Formula("probability", formula), t)?;
        let near = match self {
            Self::Each => return Ok(Saved::new()),
            Self::Rows(DType::F16) => "fabs(a - 1.0) <= 4.0 / 2048 ? 0 : __double_as_longlong(a)",
            Self::Rows(DType::BF16) => "fabs(a - 1.0) <= 4.0 / 256 ? 0 : __double_as_longlong(a)",
            Self::Rows(_) => "fabs(a - 1.0) <= 1.5e-3 ? 0 : __double_as_longlong(a)",
        };
        let rows = t.len().checked_div(width).unwrap_or(0);
        let mut sums = CudaStorage::unspecified(gpu, targets.dtype(), rows)?;
        reduce::sum(gpu, t, (rows, width, 1), 1.0, &sums.slice_mut())?;
        look(SUMS, Formula("sum of probabilities", near), sums.slice())?;
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    const fn asker(self) -> &'static str {
        match self {
            Self::Each => EACH,
            Self::Rows(_) => ROWS,
        }
    }
}

/// Whose note is about targets, not about an index.
#[cfg(feature = "cuda")]
const EACH: &str = "targets of binary_cross_entropy";
#[cfg(feature = "cuda")]
const ROWS: &str = "targets of soft_cross_entropy";
#[cfg(feature = "cuda")]
const SUMS: &str = "sums of targets of soft_cross_entropy";

/// What a note of a device says, if it is about targets.
#[cfg(feature = "cuda")]
pub(crate) fn noted(asker: &str, index: i64, at: usize) -> Option<Error> {
    let got = f64::from_bits(index as u64);
    match asker {
        EACH => Some(Targets::Each.of_entry(got, at)),
        ROWS => Some(Targets::Rows(DType::F32).of_entry(got, at)),
        SUMS => Some(Targets::Rows(DType::F32).of_row(got, at)),
        _ => None,
    }
}
