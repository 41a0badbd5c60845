//! Stand-ins for NVIDIA's driver, run-time compiler, cuBLAS, cuBLASLt and cuDNN that run CUDA kernels on the CPU.
//!
//! For tests only. The unmodified CUDA code of Alcyon loads these libraries in place of NVIDIA's,
//! compiles the unmodified kernel texts (with the machine's C++ compiler, behind a shim) and runs
//! them, one fiber for each CUDA thread. What it checks that a GPU does not:
//!
//! - threads that wait at different barriers, warps at different warp operations, deadlocks;
//! - writes just outside an allocation or a block's dynamic shared memory (both have guard zones);
//! - reads of memory that nobody wrote: fresh memory is all ones, which is NaN;
//! - missing barriers: lanes run forward, in reverse or shuffled
//!   (`ALCYON_EMULATOR_ORDER`: `forward`, `reverse`, `shuffled`).
//!
//! Under AddressSanitizer (`scripts/emulator-asan.sh`) reads outside of those end the process, too.
//!
//! It says nothing about speed, tensor cores, memory ordering between warps, or the last bits of the
//! device's functions. What ran here ran on `cuda:0 (emulated)`, never on a GPU.

use std::path::Path;

/// Whether it was compiled with AddressSanitizer, which ends the process at the first access outside an
/// allocation or a block's shared memory, reads included.
#[must_use]
pub const fn is_sanitized() -> bool {
    option_env!("EMULATOR_SANITIZED").is_some()
}

/// The folder with the libraries; to be searched before anything else is.
///
/// # Errors
/// Why there is none: no C++ compiler, or a machine that the emulator is not written for.
pub fn folder() -> Result<&'static Path, &'static str> {
    match (option_env!("EMULATOR_FOLDER"), option_env!("EMULATOR_MISSING")) {
        (Some(folder), _) => Ok(Path::new(folder)),
        (None, reason) => Err(reason.unwrap_or("it has not been built")),
    }
}
