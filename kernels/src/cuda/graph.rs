//! `Graph`: work that is captured once and from then on queued with one call.
//!
//! Queueing a kernel costs the host some microseconds, and a small network's step is a hundred kernels that
//! take less each. A graph is queued as a whole. What it reads and writes are the addresses of the capture,
//! so its memory belongs to it as long as it lives ([`memory`](super::memory)); to give it other numbers,
//! write them to where it reads ([`Gpu::refill`]). Numbers that kernels were handed by value stay as they
//! were, but for the seeds of random masks ([`Graph::shift_seeds`]).

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaGraph, CudaStream};

use super::device::Gpu;
use super::error::{CudaError, Result, driver};
use super::launch::Arg;
use super::memory::{Buffer, Pool};
use super::slice::{Scalar, Slice};

/// Captured work, ready to be queued. It keeps the memory that it works in.
pub struct Graph {
    ready: CudaGraph,
    gpu: Arc<Gpu>,
    pool: Arc<Pool>,
    /// What is added to the seeds of random masks.
    shift: Buffer,
    /// Whether a kernel in it may find an index out of range.
    checks: bool,
}

/// Whether a graph is being captured, by whom, and what is different then.
#[derive(Debug, Default)]
pub(super) struct Capturing {
    /// Looked at before each launch.
    any: AtomicBool,
    by: Mutex<Option<Capture>>,
}

#[derive(Debug)]
struct Capture {
    thread: ThreadId,
    /// For what is to happen now.
    beside: Arc<CudaStream>,
    shift: u64,
}

impl Gpu {
    /// Captures what `work` queues on this device: nothing is computed, and what it returns has no numbers
    /// before the graph's first launch. Do the same work once without capturing, so that its kernels are
    /// compiled and loaded. No other thread may use the device meanwhile.
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
    pool: Arc<Pool>,
    shift: Option<Buffer>,
    /// Whether a check was pending before.
    pending: bool,
    ended: bool,
}

impl<'a> Open<'a> {
    fn begin(gpu: &'a Arc<Gpu>) -> Result<Self> {
        gpu.faults().prepare(gpu)?;
        gpu.blas().prepare_for_capture(gpu)?;
        let shift = gpu.write(&[0_u64])?;
        let beside = gpu.stream().context().new_stream().map_err(driver("cuStreamCreate"))?;
        // Constants are written beside the stream: to memory that earlier work must have left.
        gpu.synchronize()?;
        let capture =
            Capture { thread: std::thread::current().id(), beside, shift: shift.pointer() };
        // In this mode memory may be asked for meanwhile.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        gpu.stream().begin_capture(mode).map_err(driver("cuStreamBeginCapture"))?;
        *gpu.capturing().by() = Some(capture);
        gpu.capturing().any.store(true, Ordering::Release);
        let (pool, pending) = (gpu.memory().begin_capture(), gpu.faults().set_pending(false));
        Ok(Self { gpu, pool, shift: Some(shift), pending, ended: false })
    }

    fn end(mut self) -> Result<Graph> {
        let (ready, checks) = self.stop();
        let refused = || CudaError::Captured { call: "cuStreamEndCapture" };
        let ready = ready?.ok_or_else(refused)?;
        let shift = self.shift.take().ok_or_else(refused)?;
        let (gpu, pool) = (Arc::clone(self.gpu), Arc::clone(&self.pool));
        Ok(Graph { ready, gpu, pool, shift, checks })
    }

    /// The graph, and whether there are checks in it.
    fn stop(&mut self) -> (Result<Option<CudaGraph>>, bool) {
        self.ended = true;
        let gpu = self.gpu;
        let ready = gpu.stream().end_capture(CUgraphInstantiate_flags(0));
        gpu.memory().end_capture();
        gpu.capturing().any.store(false, Ordering::Release);
        *gpu.capturing().by() = None;
        let checks = gpu.faults().set_pending(self.pending);
        (ready.map_err(driver("cuStreamEndCapture")), checks)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.stop(); // `work` has panicked: that is what will be told.
        }
        if self.shift.is_some() {
            self.pool.close();
        }
    }
}

impl Capturing {
    fn by(&self) -> MutexGuard<'_, Option<Capture>> {
        self.by.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Whether this thread is capturing.
    fn is_here(&self) -> bool {
        let thread = std::thread::current().id();
        self.any() && self.by().as_ref().is_some_and(|capture| capture.thread == thread)
    }

    /// Refuses what cannot be captured.
    pub(super) fn refuse(&self, call: &'static str) -> Result<()> {
        if self.any() { Err(CudaError::Captured { call }) } else { Ok(()) }
    }

    /// Refuses other threads than the one that captures.
    pub(super) fn refuse_others(&self) -> Result<()> {
        let refused = self.any() && !self.is_here();
        if refused { Err(CudaError::Captured { call: "use by another thread" }) } else { Ok(()) }
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
        let here = if self.is_here() { self.by().as_ref().map(|c| c.shift) } else { None };
        Arg::Pointer(here.unwrap_or(0))
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
        self.gpu.refill(Slice::new(&self.shift, Scalar::I64, 0, 1), &[by])
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
