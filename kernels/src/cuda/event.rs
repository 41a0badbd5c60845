//! Time, by the device's own clock.

use cudarc::driver::{CudaEvent, sys};

use super::device::Gpu;
use super::error::{Result, driver};

impl Gpu {
    /// Seconds between the beginning and the end of what `queue` queues. Waits for the end, and is not
    /// counted among the reads.
    ///
    /// # Errors
    /// What `queue` and the driver refuse; [`CudaError::Captured`](super::CudaError::Captured) while capturing.
    pub fn timed(&self, queue: impl FnOnce() -> Result<()>) -> Result<f64> {
        let begin = self.mark()?;
        queue()?;
        let end = self.mark()?;
        let milliseconds = begin.elapsed_ms(&end).map_err(driver("cuEventElapsedTime"))?;
        Ok(f64::from(milliseconds) / 1e3)
    }

    /// A point of the stream.
    fn mark(&self) -> Result<CudaEvent> {
        self.capturing().refuse("cuEventRecord")?;
        let _open = self.bind()?;
        let with_time = sys::CUevent_flags::CU_EVENT_DEFAULT;
        self.stream().record_event(Some(with_time)).map_err(driver("cuEventRecord"))
    }
}
