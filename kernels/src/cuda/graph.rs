//! `Graph`: work that is captured once and from then on queued with one call.
//!
//! Queueing a kernel costs the host some microseconds, and a small network's step is a hundred kernels that
//! take less each. A graph is queued as a whole. What it reads and writes are the addresses of the capture,
//! so its memory belongs to it as long as it lives ([`memory`](super::memory)); to give it other numbers,
//! write them to where it reads ([`Gpu::refill`]). Numbers that kernels were handed by value stay as they
//! were, but for the seeds of random masks ([`Graph::shift_seeds`]).
//!
//! What other threads would queue meanwhile would be captured, too: they wait until the capture is over.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaGraph, CudaStream, DriverError};

use super::device::Gpu;
use super::error::{CudaError, Result, driver};
use super::launch::Arg;
use super::memory::{Buffer, Pool};
use super::slice::{Scalar, SliceMut};

/// Captured work, ready to be queued. It keeps the memory that it works in.
pub struct Graph {
    ready: CudaGraph,
    gpu: Arc<Gpu>,
    pool: Arc<Pool>,
    /// What is added to the seeds of random masks, if any are drawn.
    shift: Option<Mutex<Buffer>>,
    /// Whether a kernel in it may find an index out of range.
    checks: bool,
}

/// Whether a graph is being captured, by whom, and what is different then.
#[derive(Debug, Default)]
pub(super) struct Capturing {
    /// Held for reading while something is queued, for writing while a graph is captured.
    gate: RwLock<()>,
    any: AtomicBool,
    by: Mutex<Option<Capture>>,
}

/// Held while something is queued. The thread that captures needs no more than its capture.
#[must_use = "others may begin a capture as soon as it is dropped"]
#[derive(Debug)]
pub(super) struct Queueing<'a>(
    #[allow(dead_code, reason = "dropped last")] Option<RwLockReadGuard<'a, ()>>,
);

/// How long others wait: they may be what the captured work waits for.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Capture {
    thread: ThreadId,
    /// For what is to happen now.
    beside: Arc<CudaStream>,
    shift: u64,
    /// Whether a kernel has asked for the shift.
    draws: bool,
}

impl Gpu {
    /// Captures what `work` queues on this device: nothing is computed, and what it returns has no numbers
    /// before the graph's first launch. Do the same work once without capturing, so that its kernels are
    /// compiled and loaded. Other threads that use the device wait meanwhile.
    ///
    /// # Errors
    /// What `work` refuses; [`CudaError::Captured`] if it reads, waits or captures in turn; what the
    /// driver refuses.
    pub fn capture<R, E: From<CudaError>>(
        self: &Arc<Self>,
        work: impl FnOnce() -> std::result::Result<R, E>,
    ) -> std::result::Result<(R, Graph), E> {
        let open = Open::begin(self)?;
        let result = work();
        let graph = open.end();
        // What `work` says is the cause of what the driver says.
        let result = result?;
        Ok((result, graph?))
    }
}

/// A capture that ends, whatever happens.
struct Open<'a> {
    gpu: &'a Arc<Gpu>,
    /// Shut until the capture has ended.
    gate: Option<RwLockWriteGuard<'a, ()>>,
    /// Until it passes to a graph.
    pool: Option<Arc<Pool>>,
    shift: Option<Buffer>,
    /// Whether a check was pending before.
    pending: bool,
}

/// What a capture came to.
struct Ended {
    ready: std::result::Result<Option<CudaGraph>, DriverError>,
    /// Whether kernels may find an index out of range.
    checks: bool,
    /// Whether kernels draw random masks.
    draws: bool,
}

impl<'a> Open<'a> {
    fn begin(gpu: &'a Arc<Gpu>) -> Result<Self> {
        gpu.capturing().refuse("cuStreamBeginCapture")?;
        gpu.faults().prepare(gpu)?;
        gpu.blas().prepare_for_capture(gpu)?;
        let shift = gpu.write(&[0_u64])?;
        let beside = gpu.stream().context().new_stream().map_err(driver("cuStreamCreate"))?;
        let gate = gpu.capturing().gate.write().unwrap_or_else(PoisonError::into_inner);
        // Constants are written beside the stream: to memory that earlier work must have left.
        gpu.wait()?;
        let (thread, at) = (std::thread::current().id(), shift.pointer());
        let capture = Capture { thread, beside, shift: at, draws: false };
        // In this mode memory may be asked for meanwhile.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        gpu.stream().begin_capture(mode).map_err(driver("cuStreamBeginCapture"))?;
        *gpu.capturing().by() = Some(capture);
        gpu.capturing().any.store(true, Ordering::Release);
        let (pool, pending) = (gpu.memory().begin_capture(), gpu.faults().set_pending(false));
        Ok(Self { gpu, gate: Some(gate), pool: Some(pool), shift: Some(shift), pending })
    }

    fn end(mut self) -> Result<Graph> {
        let Ended { ready, checks, draws } = self.stop();
        let nothing = || CudaError::Captured { call: "cuStreamEndCapture" };
        let ready = ready.map_err(driver("cuStreamEndCapture"))?.ok_or_else(nothing)?;
        let pool = self.pool.take().ok_or_else(nothing)?;
        let shift = self.shift.take().filter(|_| draws).map(Mutex::new);
        Ok(Graph { ready, gpu: Arc::clone(self.gpu), pool, shift, checks })
    }

    fn stop(&mut self) -> Ended {
        let gpu = self.gpu;
        let ready = gpu.stream().end_capture(CUgraphInstantiate_flags(0));
        gpu.memory().end_capture();
        gpu.capturing().any.store(false, Ordering::Release);
        let draws = gpu.capturing().by().take().is_some_and(|capture| capture.draws);
        let checks = gpu.faults().set_pending(false);
        if checks || self.pending {
            gpu.faults().set_pending(true); // Other threads' checks look like ours.
        }
        self.gate = None;
        Ended { ready, checks, draws }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if self.gate.is_some() {
            let _ = self.stop(); // `work` has panicked: that is what will be told.
        }
        if let Some(pool) = &self.pool {
            pool.close();
        }
    }
}

impl Capturing {
    fn by(&self) -> MutexGuard<'_, Option<Capture>> {
        self.by.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this thread is capturing.
    fn is_here(&self) -> bool {
        let thread = std::thread::current().id();
        self.any.load(Ordering::Acquire)
            && self.by().as_ref().is_some_and(|capture| capture.thread == thread)
    }

    /// Refuses what cannot be captured to the thread that captures.
    pub(super) fn refuse(&self, call: &'static str) -> Result<()> {
        if self.is_here() { Err(CudaError::Captured { call }) } else { Ok(()) }
    }

    /// To be held while something is queued. Other threads than the one that captures wait for it here.
    pub(super) fn enter(&self) -> Result<Queueing<'_>> {
        if self.is_here() {
            return Ok(Queueing(None));
        }
        let mut since = None;
        loop {
            match self.gate.try_read() {
                Ok(open) => return Ok(Queueing(Some(open))),
                Err(TryLockError::Poisoned(open)) => {
                    return Ok(Queueing(Some(open.into_inner())));
                }
                Err(TryLockError::WouldBlock) => {}
            }
            if since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                return Err(CudaError::Captured { call: "use by another thread" });
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Where to do what is to happen now, if this thread is capturing.
    pub(super) fn stream_beside(&self) -> Option<Arc<CudaStream>> {
        if !self.is_here() {
            return None;
        }
        self.by().as_ref().map(|capture| Arc::clone(&capture.beside))
    }

    /// Where a kernel finds what to add to its seed; null outside of a capture.
    pub(super) fn seed_shift(&self) -> Arg {
        let mut by = if self.is_here() { Some(self.by()) } else { None };
        let asked = by.as_mut().and_then(|by| by.as_mut()).map(|capture| {
            capture.draws = true;
            capture.shift
        });
        Arg::Pointer(asked.unwrap_or(0))
    }
}

impl Graph {
    /// Queues all of it.
    ///
    /// # Errors
    /// What the driver refuses; [`CudaError::Captured`] while another is captured.
    pub fn launch(&self) -> Result<()> {
        self.gpu.capturing().refuse("cuGraphLaunch")?;
        self.gpu.count_launch();
        let _open = self.gpu.capturing().enter()?;
        self.ready.launch().map_err(driver("cuGraphLaunch"))?;
        if self.checks {
            self.gpu.faults().set_pending(true);
        }
        Ok(())
    }

    /// Adds a number (mod 2⁶⁴) to every seed that the captured work drew random masks from, from the next
    /// launch on: its masks are then those of that other seed.
    ///
    /// # Errors
    /// As [`Gpu::refill`].
    pub fn shift_seeds(&self, by: u64) -> Result<()> {
        let Some(shift) = &self.shift else { return Ok(()) };
        let mut shift = shift.lock().unwrap_or_else(PoisonError::into_inner);
        self.gpu.refill(&SliceMut::new(&mut shift, Scalar::I64, 1), &[by])
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        self.pool.close();
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph").field("checks", &self.checks).finish_non_exhaustive()
    }
}
