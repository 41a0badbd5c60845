//! `Gpu`: an opened device, with its one stream, its memory and its programs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::{CudaContext, CudaStream, result};

use super::affine::Light;
use super::cache::Cache;
use super::conv::cudnn::Dnn;
use super::error::{CudaError, Result, driver};
use super::fault::Faults;
use super::gemm::Blas;
use super::graph::{Capturing, Queueing};
use super::memory::{Buffer, Memory};
use super::module::Modules;
use super::operand::{length, on_device, scalar};
use super::program::Program;
use super::slice::{Slice, SliceMut};
use super::{DeviceInfo, probe};

/// An opened CUDA device. There is one in a process for each device, as there is one context.
#[derive(Debug)]
pub struct Gpu {
    info: DeviceInfo,
    stream: Arc<CudaStream>,
    memory: Memory,
    modules: Modules,
    blas: Blas,
    light: Light,
    dnn: Dnn,
    faults: Faults,
    capturing: Capturing,
    reads: AtomicU64,
    launches: AtomicU64,
    tf32: AtomicBool,
}

/// Devices that have been opened, by number. They stay open: closing one while the process ends
/// would call into libraries that are being unloaded.
static OPEN: Mutex<Vec<Arc<Gpu>>> = Mutex::new(Vec::new());

impl Gpu {
    /// Opens a device, or returns it if it is open already.
    ///
    /// # Errors
    /// [`CudaError::Absent`] with the reason why it cannot be used.
    pub fn open(ordinal: usize) -> Result<Arc<Self>> {
        Self::open_with(ordinal, Cache::of_user())
    }

    /// The same, keeping compiled kernels in another place if the device is not open yet.
    ///
    /// # Errors
    /// As [`Gpu::open`].
    pub fn open_with(ordinal: usize, cache: Cache) -> Result<Arc<Self>> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gpu) = open.iter().find(|gpu| gpu.info.ordinal == ordinal) {
            return Ok(Arc::clone(gpu));
        }
        let info = probe(ordinal)?;
        let context = CudaContext::new(ordinal).map_err(driver("cuDevicePrimaryCtxRetain"))?;
        // SAFETY: events are for several streams; there is one. No buffer of cudarc's is made.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(driver("cuStreamCreate"))?;
        let gpu = Arc::new(Self {
            memory: Memory::new(Arc::clone(&context)),
            modules: Modules::new(context, info.compute_capability, cache),
            blas: Blas::new(&stream)?,
            light: Light::new()?,
            dnn: Dnn::default(),
            faults: Faults::default(),
            capturing: Capturing::default(),
            stream,
            info,
            reads: AtomicU64::new(0),
            launches: AtomicU64::new(0),
            tf32: AtomicBool::new(false),
        });
        open.push(Arc::clone(&gpu));
        Ok(gpu)
    }

    /// What the probe found out about it.
    #[must_use]
    pub const fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// Its allocator.
    #[must_use]
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// How often the host has waited for numbers: a training step should not.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// How many kernels have been queued; a graph's count as one.
    #[must_use]
    pub fn launches(&self) -> u64 {
        self.launches.load(Ordering::Relaxed)
    }

    /// Whether products of f32 may round their operands to TF32's 10 bits of mantissa, which tensor cores
    /// multiply several times as fast; sums stay f32. Off at first, so that the device agrees with the
    /// CPU. It holds for all that is queued on this device from now on.
    pub fn allow_tf32(&self, allowed: bool) {
        self.tf32.store(allowed, Ordering::Relaxed);
    }

    /// What [`Gpu::allow_tf32`] has set.
    #[must_use]
    pub fn allows_tf32(&self) -> bool {
        self.tf32.load(Ordering::Relaxed)
    }

    /// All programs that have been used so far, each with one of its kernels that has been used.
    #[must_use]
    pub fn programs(&self) -> Vec<(Program, &'static str)> {
        self.modules.programs()
    }

    /// Copies numbers to the device. What is written while a graph is captured is a constant of the graph.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`], or what the driver refuses.
    pub fn write<T: bytemuck::Pod>(&self, values: &[T]) -> Result<Buffer> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let beside = self.capturing.stream_beside();
        let buffer = self.memory.allocate_for(bytes.len(), beside.is_some())?;
        let _open = self.bind()?;
        match beside {
            None => self.copy_in(buffer.pointer(), bytes, &self.stream)?,
            Some(beside) => {
                self.copy_in(buffer.pointer(), bytes, &beside)?;
                beside.synchronize().map_err(driver("cuStreamSynchronize"))?;
            }
        }
        Ok(buffer)
    }

    /// Writes other numbers to where a graph reads: as many as are there, from its next launch on. Who shares the
    /// memory sees them too, so it takes who has it alone.
    ///
    /// # Errors
    /// [`CudaError::Length`]; what the driver refuses; [`CudaError::Captured`] while capturing.
    pub fn refill<T: bytemuck::Pod>(&self, to: &SliceMut<'_>, values: &[T]) -> Result<()> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        length("refill", "bytes", bytes.len(), &[to.len(), to.scalar().bytes()])?;
        self.capturing.refuse("cuMemcpyHtoD")?;
        let _open = self.bind()?;
        self.copy_in(to.on(self, "refill")?, bytes, &self.stream)
    }

    /// The same with numbers that are on the device.
    ///
    /// # Errors
    /// [`CudaError::Length`] or [`CudaError::Scalar`]; what the
    /// driver refuses.
    pub fn refill_from(&self, to: &SliceMut<'_>, from: Slice<'_>) -> Result<()> {
        length("refill", "what comes", from.len(), &[to.len()])?;
        scalar("refill", "what comes", from.scalar(), to.scalar())?;
        let (at, source) = (to.on(self, "refill")?, from.on(self, "refill")?);
        if to.is_empty() {
            return Ok(());
        }
        let _open = self.bind()?;
        let bytes = to.len() * to.scalar().bytes();
        // SAFETY: both runs lie in buffers (`slice::fits`), as long as asked above; all that uses them is on this stream.
        unsafe { result::memcpy_dtod_async(at, source, bytes, self.stream.cu_stream()) }
            .map_err(driver("cuMemcpyDtoD"))
    }

    /// The copy alone, for who has called [`Gpu::bind`].
    pub(super) fn copy_in(&self, to: u64, bytes: &[u8], stream: &CudaStream) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: there is room for as many bytes; the driver has copied the source (which is not
        // pinned) to memory of its own before it returns.
        unsafe { result::memcpy_htod_async(to, bytes, stream.cu_stream()) }
            .map_err(driver("cuMemcpyHtoD"))
    }

    /// Copies numbers from the device, from byte `offset` of a buffer on. Waits for all that is
    /// queued, and counts.
    ///
    /// # Errors
    /// What the driver refuses; [`CudaError::Captured`] while a graph is
    /// captured, when there are no numbers yet. What went wrong in kernels queued before shows here, an index out of
    /// range too ([`CudaError::Index`]).
    pub fn read<T: bytemuck::Pod>(
        &self,
        buffer: &Buffer,
        offset: usize,
        values: &mut [T],
    ) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        self.capturing.refuse("cuMemcpyDtoH")?;
        self.reads.fetch_add(1, Ordering::Relaxed);
        let _open = self.bind()?;
        self.fetch(buffer, offset, values)?;
        self.faults.look(self)
    }

    /// The copy alone, for who has called [`Gpu::bind`].
    pub(super) fn fetch<T: bytemuck::Pod>(
        &self,
        buffer: &Buffer,
        offset: usize,
        values: &mut [T],
    ) -> Result<()> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(values);
        let (call, count, have) = ("cuMemcpyDtoH", bytes.len(), buffer.bytes());
        on_device(self, call, buffer.device())?;
        if offset.checked_add(count).is_none_or(|end| end > have) {
            return Err(CudaError::Range { call, from: offset, count, have });
        }
        let from = buffer.pointer() + offset as u64;
        // SAFETY: the source lies in the buffer (asked above, without wrapping); the target outlives the copy,
        // which is over when the stream has been waited for.
        unsafe { result::memcpy_dtoh_async(bytes, from, self.stream.cu_stream()) }
            .map_err(driver("cuMemcpyDtoH"))?;
        self.wait()
    }

    /// Waits for all that is queued.
    ///
    /// # Errors
    /// The failure of any kernel queued before.
    pub fn synchronize(&self) -> Result<()> {
        self.capturing.refuse("cuStreamSynchronize")?;
        let _open = self.bind()?;
        self.wait()
    }

    /// The same for who has called [`Gpu::bind`].
    pub(super) fn wait(&self) -> Result<()> {
        self.stream.synchronize().map_err(driver("cuStreamSynchronize"))
    }

    pub(super) const fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    pub(super) const fn faults(&self) -> &Faults {
        &self.faults
    }

    pub(super) const fn capturing(&self) -> &Capturing {
        &self.capturing
    }

    pub(super) const fn modules(&self) -> &Modules {
        &self.modules
    }

    pub(super) const fn blas(&self) -> &Blas {
        &self.blas
    }

    pub(super) const fn light(&self) -> &Light {
        &self.light
    }

    pub(super) const fn dnn(&self) -> &Dnn {
        &self.dnn
    }

    pub(super) fn count_launch(&self) {
        self.launches.fetch_add(1, Ordering::Relaxed);
    }

    /// Makes the device's context the thread's. What comes back is to be held while something is queued, by no
    /// more than one at a time in a thread: the second would wait for who waits for the first.
    pub(super) fn bind(&self) -> Result<Queueing<'_>> {
        let open = self.capturing.enter()?;
        self.stream.context().bind_to_thread().map_err(driver("cuCtxSetCurrent"))?;
        Ok(open)
    }
}
