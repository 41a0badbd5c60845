//! Whether a step is taken, by a number that stays on the device: the squares of its gradients, all added up.
//!
//! The host does not wait for a gradient, so it cannot refuse one. The kernels of a step look at the sum first. If it
//! is larger than a bound, or no number, they change nothing and note that: the next read fails with
//! [`CudaError::NotTaken`].

use super::device::Gpu;
use super::error::{CudaError, Result};
use super::inner::inner;
use super::launch::{Arg, Grid};
use super::memory::Buffer;
use super::operand::length;
use super::program::{Program, Text};
use super::slice::{Scalar, Slice, SliceMut};

const TEXT: Text = Text { name: "verdict", source: include_str!("../../cuda/verdict.cu") };

/// The sum of squares of a step's gradients, and the largest that is taken.
#[derive(Debug)]
pub struct Verdict {
    squares: Buffer,
    most: f64,
}

impl Verdict {
    /// Adds the squares of all gradients, in f64. Nothing is read back.
    ///
    /// # Errors
    /// As [`inner()`].
    pub fn of(gpu: &Gpu, gradients: &[Slice<'_>], most: f64) -> Result<Self> {
        let mut squares = gpu.memory().numbers(Scalar::F64, &[1])?;
        let pairs: Vec<_> = gradients.iter().map(|&g| (g, g)).collect();
        inner(gpu, &pairs, &SliceMut::new(&mut squares, Scalar::F64, 1))?;
        Ok(Self { squares, most })
    }

    /// Asks that the step is taken, where the host waits anyway: reads the number.
    ///
    /// # Errors
    /// [`CudaError::NotTaken`]; what the driver refuses.
    pub fn demand(&self, gpu: &Gpu, rule: &'static str) -> Result<()> {
        let mut squares = [0.0_f64];
        gpu.read(&self.squares, 0, &mut squares)?;
        if squares[0] <= self.most { Ok(()) } else { Err(CudaError::NotTaken { rule }) }
    }
}

/// Makes new numbers the old ones again where a step, of a rule of this name, is not taken.
///
/// # Errors
/// What the driver or the compiler refuses.
pub fn settle(
    gpu: &Gpu,
    verdict: &Verdict,
    rule: &'static str,
    old: Slice<'_>,
    new: &SliceMut<'_>,
) -> Result<()> {
    length("settle", "old", old.len(), &[new.len()])?;
    if new.is_empty() {
        return Ok(());
    }
    asked(gpu, Some(verdict), rule, |verdict| {
        let arguments = [&[new.len().into()], &verdict[..], &[old.into(), new.into()]].concat();
        gpu.launch(&Program::new(TEXT, new.scalar()), "settle", Grid::over(new.len()), &arguments)
    })
}

/// Lets `queue` launch a kernel that asks a verdict, with the arguments that the kernel asks it by: none is a null.
pub(super) fn asked(
    gpu: &Gpu,
    verdict: Option<&Verdict>,
    rule: &'static str,
    queue: impl FnOnce([Arg; 4]) -> Result<()>,
) -> Result<()> {
    let Some(Verdict { squares, most }) = verdict else {
        return queue([Arg::Pointer(0), 0.0.into(), Arg::Pointer(0), 0_usize.into()]);
    };
    let squares = Slice::new(squares, Scalar::F64, 0, 1);
    gpu.faults().asked_by(gpu, rule, |asker, note| {
        queue([squares.into(), (*most).into(), note, asker.into()])
    })
}
