//! Every op of the registry on a CUDA device against the CPU. The device is the emulated one
//! (`kernels/emulator`), which says nothing about a GPU, unless [`DEVICE`] asks for a real one.
#![cfg(feature = "cuda")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may do as tests do"
)]

mod nvrtc;
mod parity;
mod transfers;

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kernels::cuda::cache::Cache;
use kernels::cuda::{Gpu, library};

/// To the terminal itself: what the `print` macros say is kept back while a test passes.
fn loudly(text: &str) {
    let _ = writeln!(std::io::stderr(), "\n*** {text} ***"); // A closed terminal hears nothing.
}

/// Names the device to test: `gpu` for a real one. What passed there is evidence about that one alone.
const DEVICE: &str = "ALCYON_TEST_DEVICE";

/// The emulated device, or `None`, loudly, where there is no C++ compiler. One test at a time has it.
fn emulated() -> Option<(Arc<Gpu>, MutexGuard<'static, ()>)> {
    static ONE: Mutex<()> = Mutex::new(());
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    if std::env::var_os(DEVICE).is_some_and(|device| device == "gpu") {
        let gpu = Gpu::open(0).unwrap();
        loudly(&format!("on a real device: {:?}", gpu.info()));
        return Some((gpu, guard));
    }
    let folder = match alcyon_emulator::folder() {
        Ok(folder) => folder,
        Err(reason) => {
            loudly(&format!("SKIPPED: no CUDA emulator here: {reason}"));
            return None;
        }
    };
    library::search_in(folder);
    let gpu = Gpu::open_with(0, Cache::new(None)).unwrap();
    assert_eq!(gpu.info().name, "emulated", "a real device must not take these tests' place");
    // Every tensor is an allocation of its exact size, full of NaN, with guards around it.
    gpu.memory().set_caching(false).unwrap();
    Some((gpu, guard))
}
