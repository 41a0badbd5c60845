//! A caching allocator of device memory.
//!
//! Asking the driver for memory costs as much as many kernels, and may wait for all of them. So a
//! freed block is kept and handed out again: at once, because all work is queued on one stream and
//! the block's last reader is queued before its next writer.
//!
//! Sizes are rounded up to 512 bytes below 1 MiB, and to 2 MiB above, so that a training step finds
//! on its second round what it freed in its first. When the driver has no memory left, everything
//! cached is given back to it and the request made once more.
//!
//! While a graph is captured ([`Graph`](super::Graph)), what is handed out goes to the graph's own
//! pool: its launches will write there, so nobody else gets it while the graph lives. Nor does anybody get what
//! else it has the address of, when the buffer there is dropped first.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use cudarc::driver::{CudaContext, DriverError, result, sys};

use super::error::{CudaError, Result, driver};
use super::slice::Scalar;
use crate::sizes::product;

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
    /// Bytes that are in no buffer and belong to graphs.
    pub graphs: usize,
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
    /// Whether a graph is being captured: addresses that are asked for then may be in it.
    capturing: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: Blocks,
    caching: bool,
    /// The pool of the graph that a thread is capturing.
    capturing: Option<(ThreadId, Arc<Pool>)>,
    /// Graphs that have addresses in memory which was not made for them, by block.
    held: HashMap<u64, Vec<Arc<Pool>>>,
    statistics: Statistics,
}

/// Freed blocks by size.
#[derive(Debug, Default)]
struct Blocks(BTreeMap<usize, Vec<u64>>);

/// The memory of a graph. Dropped, it leaves its free blocks to everybody; those in buffers follow.
#[derive(Debug)]
pub(super) struct Pool {
    memory: Memory,
    blocks: Mutex<Owned>,
}

#[derive(Debug, Default)]
struct Owned {
    /// May be handed out while capturing: the graph has written what it will read there.
    free: Blocks,
    /// May not, since what lies there is read and nothing in the graph writes it first.
    kept: Blocks,
    /// Whether the graph is gone.
    closed: bool,
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
    /// Of the graph that it was made for, and whether its numbers came from the host.
    pool: Option<(Arc<Pool>, bool)>,
}

impl Memory {
    pub(super) fn new(context: Arc<CudaContext>) -> Self {
        let (free, statistics) = (Blocks::default(), Statistics::default());
        let state =
            State { free, caching: true, capturing: None, held: HashMap::new(), statistics };
        let (capturing, state) = (AtomicBool::new(false), Mutex::new(state));
        Self(Arc::new(Shared { context, capturing, state }))
    }

    /// Memory of unspecified contents.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`] when neither the cache nor the driver has it.
    pub fn allocate(&self, bytes: usize) -> Result<Buffer> {
        self.allocate_for(bytes, false)
    }

    /// Memory for numbers, as many as sizes say.
    ///
    /// # Errors
    /// As [`Memory::allocate`], for sizes whose product wraps too.
    pub fn numbers(&self, scalar: Scalar, sizes: &[usize]) -> Result<Buffer> {
        let bytes = product(sizes).and_then(|len| len.checked_mul(scalar.bytes()));
        self.allocate(bytes.unwrap_or(usize::MAX))
    }

    /// The same; for a `constant`, which is written once, of what no graph has written.
    pub(super) fn allocate_for(&self, bytes: usize, constant: bool) -> Result<Buffer> {
        if bytes == 0 {
            return Ok(Buffer { pointer: 0, bytes, block: 0, memory: self.clone(), pool: None });
        }
        let mut state = self.state();
        let pool = state.pool();
        let block = if state.caching { rounded(bytes) } else { Some(bytes) };
        let Some(block) = block else { return Err(self.full(&state, bytes)) };
        let own =
            pool.as_ref().filter(|_| !constant).and_then(|pool| pool.owned().free.take(block));
        let (pointer, block) = if let Some((pointer, block)) = own {
            state.statistics.graphs -= block;
            (pointer, block)
        } else if let Some((pointer, block)) = state.free.take(block) {
            state.statistics.cached -= block;
            state.statistics.reused += 1;
            (pointer, block)
        } else {
            (self.ask_driver(&mut state, bytes, block)?, block)
        };
        let statistics = &mut state.statistics;
        statistics.live += block;
        statistics.peak = statistics.peak.max(statistics.live);
        let pool = pool.map(|pool| (pool, constant));
        Ok(Buffer { pointer, bytes, block, memory: self.clone(), pool })
    }

    /// From here on, up to [`Memory::end_capture`], what this thread asks for belongs to a graph.
    pub(super) fn begin_capture(&self) -> Arc<Pool> {
        let pool = Arc::new(Pool { memory: self.clone(), blocks: Mutex::default() });
        self.state().capturing = Some((std::thread::current().id(), Arc::clone(&pool)));
        self.0.capturing.store(true, Ordering::Release);
        pool
    }

    pub(super) fn end_capture(&self) {
        self.0.capturing.store(false, Ordering::Release);
        self.state().capturing = None;
    }

    /// Notes that the graph which this thread is capturing, if any, may have a buffer's address.
    fn note(&self, buffer: &Buffer) {
        if buffer.block == 0 || !self.0.capturing.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.state();
        let Some(pool) = state.pool() else { return };
        let is = |other: &Arc<Pool>| Arc::ptr_eq(other, &pool);
        if buffer.pool.as_ref().is_some_and(|(own, _)| is(own)) {
            return;
        }
        let pools = state.held.entry(buffer.pointer).or_default();
        pools.retain(|pool| !pool.owned().closed);
        if !pools.iter().any(is) {
            pools.push(pool);
        }
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
        unsafe { result::malloc_sync(block) }
            .map_err(|e| if full(&e) { self.full(state, wanted) } else { driver("cuMemAlloc")(e) })
    }

    fn full(&self, state: &State, wanted: usize) -> CudaError {
        let bound = self.0.context.bind_to_thread();
        let (free, total) = bound.and_then(|()| result::mem_get_info()).unwrap_or_default();
        CudaError::OutOfMemory { wanted, live: state.statistics.live, free, total }
    }

    fn give_back(&self, state: &mut State) -> Result<()> {
        self.0.context.bind_to_thread().map_err(driver("cuCtxSetCurrent"))?;
        for pointer in std::mem::take(&mut state.free.0).into_values().flatten() {
            // SAFETY: the block is from `malloc_sync`, nobody holds it any more, and freeing waits
            // for the kernels that may still use it.
            unsafe { result::free_sync(pointer) }.map_err(driver("cuMemFree"))?;
        }
        state.statistics.cached = 0;
        Ok(())
    }
}

impl State {
    /// Of the graph that this thread is capturing.
    fn pool(&self) -> Option<Arc<Pool>> {
        let (thread, pool) = self.capturing.as_ref()?;
        (*thread == std::thread::current().id()).then(|| Arc::clone(pool))
    }

    /// Leaves a block to everybody, or to a graph that has its address.
    fn release(&mut self, pointer: u64, block: usize) {
        let mut pools = self.held.remove(&pointer).unwrap_or_default();
        while let Some(pool) = pools.pop() {
            if pool.keep(self, pointer, block, true) {
                self.held.insert(pointer, pools);
                return;
            }
        }
        self.statistics.cached += block;
        self.free.put(pointer, block);
    }
}

impl Blocks {
    /// A block of at least this size, and not so large that half of it would be wasted.
    fn take(&mut self, block: usize) -> Option<(u64, usize)> {
        let (&size, pointers) = self.0.range_mut(block..=block.saturating_add(block / 2)).next()?;
        let pointer = pointers.pop()?;
        if pointers.is_empty() {
            self.0.remove(&size);
        }
        Some((pointer, size))
    }

    fn put(&mut self, pointer: u64, block: usize) {
        self.0.entry(block).or_default().push(pointer);
    }

    fn drain(&mut self) -> impl Iterator<Item = (u64, usize)> + use<> {
        let all = std::mem::take(&mut self.0).into_iter();
        all.flat_map(|(size, pointers)| pointers.into_iter().map(move |pointer| (pointer, size)))
    }
}

impl Pool {
    fn owned(&self) -> MutexGuard<'_, Owned> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a block that is in no buffer any more, unless the graph is gone: to `keep` what lies there.
    fn keep(&self, state: &mut State, pointer: u64, block: usize, keep: bool) -> bool {
        let mut owned = self.owned();
        if !owned.closed {
            state.statistics.graphs += block;
            let Owned { free, kept, .. } = &mut *owned;
            if keep { kept } else { free }.put(pointer, block);
        }
        !owned.closed
    }

    /// The graph is gone: leaves what is free to everybody.
    pub(super) fn close(&self) {
        let mut state = self.memory.state();
        let mut owned = self.owned();
        owned.closed = true;
        let Owned { free, kept, .. } = &mut *owned;
        let blocks: Vec<_> = free.drain().chain(kept.drain()).collect();
        drop(owned);
        for (pointer, block) in blocks {
            state.statistics.graphs -= block;
            state.release(pointer, block);
        }
    }
}

/// The size of the block for so many bytes, if there can be one.
fn rounded(bytes: usize) -> Option<usize> {
    bytes.checked_next_multiple_of(if bytes < THRESHOLD { SMALL } else { LARGE })
}

impl Buffer {
    /// The device's address. Asked for while a graph is captured, it is the graph's too: nobody else gets the
    /// memory before both the buffer and the graph are gone.
    #[must_use]
    pub fn pointer(&self) -> u64 {
        self.memory.note(self);
        self.pointer
    }

    /// Bytes asked for.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of the device whose memory it is.
    #[must_use]
    pub fn device(&self) -> usize {
        self.memory.0.context.ordinal()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.block == 0 {
            return;
        }
        let mut state = self.memory.state();
        state.statistics.live -= self.block;
        // Of a graph's own; or of others, which the graph being captured may have read.
        let (pool, keep) = match self.pool.take() {
            Some((pool, constant)) => (Some(pool), constant),
            None => (state.pool(), true),
        };
        if pool.is_some_and(|pool| pool.keep(&mut state, self.pointer, self.block, keep)) {
            return;
        }
        state.release(self.pointer, self.block);
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
        assert_eq!([1, 512, 513, 3000].map(rounded), [512, 512, 1024, 3072].map(Some));
        assert_eq!([THRESHOLD, LARGE, LARGE + 1].map(rounded), [LARGE, LARGE, 2 * LARGE].map(Some));
        assert_eq!(rounded(usize::MAX), None);
    }

    #[test]
    fn a_cached_block_is_taken_if_it_fits_and_is_not_much_too_large() {
        let mut free = Blocks(BTreeMap::from([(1024, vec![7]), (4096, vec![8])]));
        assert_eq!(free.take(2048), None);
        assert_eq!(free.take(1024), Some((7, 1024)));
        assert_eq!(free.take(1024), None);
        assert_eq!(free.take(3072), Some((8, 4096)));
        free.put(9, 512);
        assert_eq!(free.drain().collect::<Vec<_>>(), [(9, 512)]);
    }
}
