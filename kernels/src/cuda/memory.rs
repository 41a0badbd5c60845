//! A caching allocator of device memory.
//!
//! Asking the driver for memory costs as much as many kernels, and may wait for all of them. So a
//! freed block is kept and handed out again: at once, because all work is queued on one stream and
//! the block's last reader is queued before its next writer.
//!
//! Sizes are rounded up to 512 bytes below 1 MiB, and to 2 MiB above, so that a training step finds
//! on its second round what it freed in its first. When the driver has no memory left, everything
//! cached is given back to it and the request made once more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::{CudaContext, DriverError, result, sys};

use super::error::{CudaError, Result, driver};

const SMALL: usize = 512;
const LARGE: usize = 2 << 20;
/// From here on blocks are rounded to [`LARGE`].
const THRESHOLD: usize = 1 << 20;

/// What an allocator holds. Bytes are those of blocks, rounding included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Bytes in buffers that are in use.
    pub live: usize,
    /// The largest that `live` has been.
    pub peak: usize,
    /// Bytes kept for the next request.
    pub cached: usize,
    /// Requests that the driver answered.
    pub from_driver: u64,
    /// Requests that the cache answered.
    pub reused: u64,
}

/// The allocator of one device. Clones are the same allocator.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    context: Arc<CudaContext>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Freed blocks by size.
    free: BTreeMap<usize, Vec<u64>>,
    caching: bool,
    statistics: Statistics,
}

/// A run of device memory, given back to its allocator when dropped. Contents start unspecified.
#[derive(Debug)]
pub struct Buffer {
    pointer: u64,
    /// Bytes asked for.
    bytes: usize,
    /// Bytes of the block.
    block: usize,
    memory: Memory,
}

impl Memory {
    pub(super) fn new(context: Arc<CudaContext>) -> Self {
        let state =
            State { free: BTreeMap::new(), caching: true, statistics: Statistics::default() };
        Self(Arc::new(Shared { context, state: Mutex::new(state) }))
    }

    /// Memory of unspecified contents.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`] when neither the cache nor the driver has it.
    pub fn allocate(&self, bytes: usize) -> Result<Buffer> {
        if bytes == 0 {
            return Ok(Buffer { pointer: 0, bytes, block: 0, memory: self.clone() });
        }
        let mut state = self.state();
        let block = if state.caching { rounded(bytes) } else { bytes };
        let (pointer, block) = match state.take(block) {
            Some(found) => found,
            None => (self.ask_driver(&mut state, bytes, block)?, block),
        };
        let statistics = &mut state.statistics;
        statistics.live += block;
        statistics.peak = statistics.peak.max(statistics.live);
        Ok(Buffer { pointer, bytes, block, memory: self.clone() })
    }

    /// What is in use and what is kept.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.state().statistics
    }

    /// Gives everything cached back to the driver.
    ///
    /// # Errors
    /// [`CudaError::Call`] when the driver refuses.
    pub fn release(&self) -> Result<()> {
        self.give_back(&mut self.state())
    }

    /// Whether freed memory is kept (the default). Without, every buffer is its own allocation of
    /// its exact size, so that a memory checker sees where it ends. Slow: for such checks only.
    ///
    /// # Errors
    /// [`CudaError::Call`] when the driver refuses to take back what was cached.
    pub fn set_caching(&self, caching: bool) -> Result<()> {
        let mut state = self.state();
        state.caching = caching;
        self.give_back(&mut state)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask_driver(&self, state: &mut State, wanted: usize, block: usize) -> Result<u64> {
        self.0.context.bind_to_thread().map_err(driver("cuCtxSetCurrent"))?;
        state.statistics.from_driver += 1;
        let full = |e: &DriverError| e.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY;
        // SAFETY: a context is bound; the block is owned by the `Buffer` that is made of it.
        match unsafe { result::malloc_sync(block) } {
            Ok(pointer) => return Ok(pointer),
            Err(e) if !full(&e) => return Err(driver("cuMemAlloc")(e)),
            Err(_) => self.give_back(state)?,
        }
        // SAFETY: as above.
        unsafe { result::malloc_sync(block) }.map_err(|e| {
            let (free, total) = result::mem_get_info().unwrap_or_default();
            let live = state.statistics.live;
            let out = CudaError::OutOfMemory { wanted, live, free, total };
            if full(&e) { out } else { driver("cuMemAlloc")(e) }
        })
    }

    fn give_back(&self, state: &mut State) -> Result<()> {
        self.0.context.bind_to_thread().map_err(driver("cuCtxSetCurrent"))?;
        for pointer in std::mem::take(&mut state.free).into_values().flatten() {
            // SAFETY: the block is from `malloc_sync`, nobody holds it any more, and freeing waits
            // for the kernels that may still use it.
            unsafe { result::free_sync(pointer) }.map_err(driver("cuMemFree"))?;
        }
        state.statistics.cached = 0;
        Ok(())
    }
}

impl State {
    /// A cached block of at least this size, and not so large that half of it would be wasted.
    fn take(&mut self, block: usize) -> Option<(u64, usize)> {
        let (&size, pointers) = self.free.range_mut(block..=block + block / 2).next()?;
        let pointer = pointers.pop()?;
        if pointers.is_empty() {
            self.free.remove(&size);
        }
        self.statistics.cached -= size;
        self.statistics.reused += 1;
        Some((pointer, size))
    }
}

/// The size of the block for so many bytes.
fn rounded(bytes: usize) -> usize {
    bytes.next_multiple_of(if bytes < THRESHOLD { SMALL } else { LARGE })
}

impl Buffer {
    /// The device's address.
    #[must_use]
    pub const fn pointer(&self) -> u64 {
        self.pointer
    }

    /// Bytes asked for.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.block == 0 {
            return;
        }
        let mut state = self.memory.state();
        state.statistics.live -= self.block;
        state.statistics.cached += self.block;
        state.free.entry(self.block).or_default().push(self.pointer);
        if !state.caching {
            // A driver that refuses here refuses the next call, too, and says so there.
            let _ = self.memory.give_back(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_multiples_of_512_bytes_and_large_ones_of_two_mebibytes() {
        assert_eq!([1, 512, 513, 3000].map(rounded), [512, 512, 1024, 3072]);
        assert_eq!([THRESHOLD, LARGE, LARGE + 1].map(rounded), [LARGE, LARGE, 2 * LARGE]);
    }

    #[test]
    fn a_cached_block_is_taken_if_it_fits_and_is_not_much_too_large() {
        let free = BTreeMap::from([(1024, vec![7]), (4096, vec![8])]);
        let statistics = Statistics { cached: 5120, ..Statistics::default() };
        let mut state = State { free, caching: true, statistics };
        assert_eq!(state.take(2048), None);
        assert_eq!(state.take(1024), Some((7, 1024)));
        assert_eq!(state.take(1024), None);
        assert_eq!(state.take(3072), Some((8, 4096)));
        assert_eq!((state.statistics.cached, state.statistics.reused), (0, 2));
    }
}
