//! Whether a CUDA device can be used, and if not, why.
//!
//! `cudarc` panics at the first call into a library that cannot be loaded, so each library is asked
//! for by name before it is touched. The order matters: driver library, devices, driver version,
//! context, then the libraries that kernels need. cuDNN, which is optional, is asked for when it is first needed.

use std::path::PathBuf;

use cudarc::driver::{CudaContext, DriverError, sys};
use cudarc::{cublas, nvrtc};

use super::library;

/// The oldest driver interface that is accepted, as `cuDriverGetVersion` counts: CUDA 12.8.
/// The bindings are those of 13.0; on drivers older than this, symbols they look up are missing.
const OLDEST_DRIVER: i32 = 12_080;

/// A CUDA device that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its number, from 0.
    pub ordinal: usize,
    /// The name that the driver gives it.
    pub name: String,
    /// Major and minor compute capability: (9, 0) for the Hopper generation.
    pub compute_capability: (i32, i32),
    /// Its memory in bytes.
    pub memory: usize,
    /// The driver's CUDA version as 1000·major + 10·minor: 13000 for 13.0.
    pub driver: i32,
}

/// Why a CUDA device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoDevice {
    /// The driver's library cannot be loaded: no NVIDIA driver is installed.
    #[error("no CUDA driver library (libcuda.so) can be loaded")]
    NoDriver,
    /// There is a driver, but no device of that number.
    #[error("the CUDA driver sees {found} device(s)")]
    NoDevice {
        /// The number of devices.
        found: usize,
    },
    /// The driver is too old for the bindings.
    #[error("the CUDA driver is of version {have}, {need} or newer is needed")]
    OldDriver {
        /// The driver's version, 1000·major + 10·minor.
        have: i32,
        /// The oldest version that would do.
        need: i32,
    },
    /// The device is there, and the driver refuses to open it.
    #[error("the CUDA driver refuses the device: {code}")]
    Refused {
        /// The driver's own name for the reason.
        code: String,
    },
    /// A library that kernels need cannot be loaded.
    #[error(
        "the CUDA library {name} cannot be loaded ({}); name its folder in {}",
        listed(tried),
        library::FOLDERS
    )]
    NoLibrary {
        /// Its file name.
        name: &'static str,
        /// Files in the named folders that were tried; after them, the system's own search.
        tried: Vec<PathBuf>,
    },
}

fn listed(files: &[PathBuf]) -> String {
    let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    if files.is_empty() {
        "no folder was named".into()
    } else {
        format!("tried: {}", files.join(", "))
    }
}

impl From<DriverError> for NoDevice {
    fn from(error: DriverError) -> Self {
        Self::Refused { code: format!("{:?}", error.0) }
    }
}

/// Looks whether the `ordinal`-th CUDA device can be used. It is opened and closed again,
/// which is not free where there is one, so ask once.
///
/// # Errors
/// [`NoDevice`], with the first reason found. Never a panic, whatever is or is not installed.
///
/// # Example
/// ```
/// use alcyon_kernels::cuda::probe;
/// match probe(0) {
///     Ok(device) => assert_eq!(device.ordinal, 0),
///     Err(reason) => assert!(!reason.to_string().is_empty()),
/// }
/// ```
pub fn probe(ordinal: usize) -> Result<DeviceInfo, NoDevice> {
    let tried = library::preload();
    // SAFETY: this and the two like it below only load and unload a library of NVIDIA's by its
    // name, which runs its initialisers; these have no preconditions.
    if !unsafe { sys::is_culib_present() } {
        return Err(NoDevice::NoDriver);
    }
    // A driver without a device answers with an error: that, too, is no device.
    let found = CudaContext::device_count().map_or(0, |count| usize::try_from(count).unwrap_or(0));
    if ordinal >= found {
        return Err(NoDevice::NoDevice { found });
    }
    let driver = driver_version()?;
    if driver < OLDEST_DRIVER {
        return Err(NoDevice::OldDriver { have: driver, need: OLDEST_DRIVER });
    }
    let context = CudaContext::new(ordinal)?;
    for (name, present) in [
        // SAFETY: as above.
        ("libcublas.so", unsafe { cublas::sys::is_culib_present() }),
        // SAFETY: as above.
        ("libnvrtc.so", unsafe { nvrtc::sys::is_culib_present() }),
    ] {
        if !present {
            return Err(NoDevice::NoLibrary { name, tried });
        }
    }
    Ok(DeviceInfo {
        ordinal,
        name: context.name()?,
        compute_capability: context.compute_capability()?,
        memory: context.total_mem()?,
        driver,
    })
}

/// The driver's version, 1000·major + 10·minor. The library must have been found present.
fn driver_version() -> Result<i32, DriverError> {
    let mut version = 0;
    // SAFETY: the caller has seen that the driver's library loads; `version` outlives the call,
    // which writes one integer to it.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result()?;
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_answers_on_every_machine_and_never_panics() {
        match probe(0) {
            Ok(device) => {
                assert!(!device.name.is_empty());
                assert!(device.memory > 0);
                assert!(device.driver >= OLDEST_DRIVER);
            }
            Err(reason) => assert_eq!(reason.to_string().lines().count(), 1, "{reason}"),
        }
    }

    #[test]
    fn without_a_driver_library_the_reason_is_just_that() {
        // SAFETY: loads and unloads the driver's library, nothing else.
        let driver = unsafe { sys::is_culib_present() };
        assert_eq!(probe(0) == Err(NoDevice::NoDriver), !driver);
    }

    #[test]
    fn a_number_that_no_machine_reaches_is_no_device() {
        let answer = probe(1_000_000);
        assert!(
            matches!(answer, Err(NoDevice::NoDriver | NoDevice::NoDevice { .. })),
            "{answer:?}"
        );
    }
}
