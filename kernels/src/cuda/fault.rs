//! What kernels find wrong with the numbers themselves. They note it in a few words of device memory,
//! which the next read looks at.

use std::sync::{Mutex, PoisonError};

use super::device::Gpu;
use super::error::{CudaError, Result};
use super::launch::Arg;
use super::memory::Buffer;

/// What was found: 0 nothing, 1 an index with its place and bound in the next words, 2 a step that is not taken. The
/// last says who asked.
const WORDS: usize = 5;

/// The note on a device, and the names of those who may write it.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Notes>);

#[derive(Debug, Default)]
struct Notes {
    /// Allocated when first needed.
    words: Option<Buffer>,
    askers: Vec<&'static str>,
    /// Whether anyone may have written since the last look.
    pending: bool,
}

impl Faults {
    /// Lets `queue` launch a check that may write the note, in the name of `op`. It may have to wait for another
    /// thread's capture, which asks here too: nothing is locked meanwhile.
    pub(super) fn asked_by(
        &self,
        gpu: &Gpu,
        op: &'static str,
        queue: impl FnOnce(usize, Arg) -> Result<()>,
    ) -> Result<()> {
        let (asker, words) = self.place(gpu, op)?;
        queue(asker, Arg::Pointer(words))?;
        self.set_pending(true);
        Ok(())
    }

    /// The number of who asks, and where the note is.
    fn place(&self, gpu: &Gpu, op: &'static str) -> Result<(usize, u64)> {
        self.prepare(gpu)?;
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let asker =
            notes.askers.iter().position(|&known| known == op).unwrap_or(notes.askers.len());
        if asker == notes.askers.len() {
            notes.askers.push(op);
        }
        Ok((asker, notes.words.as_ref().map_or(0, Buffer::pointer)))
    }

    /// Makes room for the note.
    pub(super) fn prepare(&self, gpu: &Gpu) -> Result<()> {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.words.is_none() {
            notes.words = Some(gpu.write(&[0_i64; WORDS])?);
        }
        Ok(())
    }

    /// Whether somebody has asked since the last look: sets it, and returns what it was.
    pub(super) fn set_pending(&self, pending: bool) -> bool {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut notes.pending, pending)
    }

    /// Looks at the note, if it may have been written, and clears it. For who has called [`Gpu::bind`], since a
    /// capture would have to wait for the lock.
    pub(super) fn look(&self, gpu: &Gpu) -> Result<()> {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Notes { words, askers, pending } = &mut *notes;
        let Some(words) = words.as_ref().filter(|_| *pending) else { return Ok(()) };
        let mut found = [0_i64; WORDS];
        gpu.fetch(words, 0, &mut found)?;
        *pending = false;
        let [kind, index, at, bound, asker] = found;
        if kind == 0 {
            return Ok(());
        }
        // In the same place: graphs write there.
        gpu.copy_in(words.pointer(), bytemuck::bytes_of(&[0_i64; WORDS]), gpu.stream())?;
        let op = askers.get(asker as usize).copied().unwrap_or("index");
        match kind {
            2 => Err(CudaError::NotTaken { rule: op }),
            _ => Err(CudaError::Index { op, index, at: at as usize, bound: bound as usize }),
        }
    }
}
