//! The CUDA code as it is, over stand-ins for NVIDIA's libraries that run kernels on the CPU
//! (`kernels/emulator`). Nothing here says anything about a GPU.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used, reason = "helpers of tests may do as tests do")]

mod cached;
mod convolutions;
mod curvature;
mod failures;
mod faults;
mod graphs;
mod hostile;
mod indices;
mod long;
mod memory;
mod products;
mod steps;

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alcyon_kernels::cuda::cache::Cache;
use alcyon_kernels::cuda::memory::Buffer;
use alcyon_kernels::cuda::{Gpu, library};

/// The emulated device, or `None`, loudly, where there is no C++ compiler. One test at a time has it:
/// its statistics are part of what is tested.
fn device() -> Option<(Arc<Gpu>, MutexGuard<'static, ()>)> {
    static ONE: Mutex<()> = Mutex::new(());
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = match alcyon_emulator::folder() {
        Ok(folder) => folder,
        Err(reason) => {
            // To the terminal itself: what the `print` macros say is kept back while a test passes.
            let _ = writeln!(std::io::stderr(), "\n*** SKIPPED: no CUDA emulator: {reason} ***");
            return None;
        }
    };
    library::search_in(folder);
    let gpu = Gpu::open_with(0, Cache::new(None)).unwrap();
    assert_eq!(gpu.info().name, "emulated", "a real device must not take these tests' place");
    Some((gpu, guard))
}

/// What a device buffer holds.
fn read<T: bytemuck::Pod>(gpu: &Gpu, buffer: &Buffer, len: usize) -> Vec<T> {
    let mut values = vec![T::zeroed(); len];
    gpu.read(buffer, 0, &mut values).unwrap();
    values
}
