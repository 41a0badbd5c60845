//! Whether a CUDA device can be used, and if not, why.
//!
//! `cudarc` panics at the first call into a library that cannot be loaded, or that lacks what is called, so each
//! library and its functions are asked for before they are called ([`symbols`](super::symbols)). The order matters:
//! driver library, devices, driver version, its other functions, context, then the libraries that kernels need.
//! cuDNN, which is optional, is asked for when it is first needed.
//!
//! What is asked first is asked by a thread of its own: what loads under NVIDIA's names may be anything, and may
//! never come back.

use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use cudarc::driver::{CudaContext, DriverError};
use libloading::{Library, Symbol};

use super::library;
use super::symbols::{CUBLAS, DRIVER, Functions, NVRTC, Unusable};

/// How long a driver may take to answer. One that has to wake eight devices takes ten seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// The oldest driver interface that is accepted, as `cuDriverGetVersion` counts: CUDA 12.8.
/// The bindings are those of 13.0; on drivers older than this, symbols they look up are missing.
const OLDEST_DRIVER: i32 = 12_080;

/// What the driver's library answers where it finds no device: `CUDA_ERROR_NO_DEVICE`.
const NO_DEVICE: u32 = 100;

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
    /// A library loads, but is not NVIDIA's, or of a version that is not known.
    #[error("the CUDA library {name} lacks {function}: it is broken, or of another version")]
    Broken {
        /// Its file name.
        name: &'static str,
        /// A function that it should have.
        function: &'static str,
    },
    /// The driver's library does not come back from being loaded and asked.
    #[error("the CUDA driver has not answered for {seconds} s")]
    NoAnswer {
        /// For how long it was waited.
        seconds: u64,
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
    let (tried, driver) = within(PATIENCE, move || {
        let tried = library::preload();
        Ok((tried, ask_driver(ordinal)?))
    })?;
    let context = CudaContext::new(ordinal)?;
    for library in [&CUBLAS, &NVRTC] {
        usable(library, || NoDevice::NoLibrary { name: library.file, tried: tried.clone() })?;
    }
    Ok(DeviceInfo {
        ordinal,
        name: context.name()?,
        compute_capability: context.compute_capability()?,
        memory: context.total_mem()?,
        driver,
    })
}

/// What `ask` answers, if it does in time.
fn within<T: Send + 'static>(
    patience: Duration,
    ask: impl FnOnce() -> Result<T, NoDevice> + Send + 'static,
) -> Result<T, NoDevice> {
    let silent = NoDevice::NoAnswer { seconds: patience.as_secs() };
    let (answer, answered) = mpsc::channel();
    // Who does not come back is left alone: nothing can end it.
    let asking = thread::Builder::new().spawn(move || drop(answer.send(ask())));
    asking.map_err(|error| NoDevice::Refused { code: error.to_string() })?;
    answered.recv_timeout(patience).unwrap_or(Err(silent))
}

/// The driver's version, 1000·major + 10·minor, if there is a driver that is not too old and sees the device.
fn ask_driver(ordinal: usize) -> Result<i32, NoDevice> {
    type Asked = unsafe extern "C" fn(*mut i32) -> u32;
    type Init = unsafe extern "C" fn(u32) -> u32;
    // Never unloaded: it has threads of its own once it has been called.
    let driver: &'static Library = Box::leak(Box::new(DRIVER.library().ok_or(NoDevice::NoDriver)?));
    let broken = |function| move |_| NoDevice::Broken { name: DRIVER.file, function };
    // SAFETY: functions of these names take and return what these types say, by NVIDIA's documentation. Codes
    // are taken as numbers: those of an unknown library may be none of the bindings'.
    let (init, count, version) = unsafe {
        (
            driver.get::<Init>(b"cuInit").map_err(broken("cuInit"))?,
            driver.get::<Asked>(b"cuDeviceGetCount").map_err(broken("cuDeviceGetCount"))?,
            driver.get::<Asked>(b"cuDriverGetVersion").map_err(broken("cuDriverGetVersion"))?,
        )
    };
    let refused =
        |call: &str, code: u32| NoDevice::Refused { code: format!("{call}: code {code}") };
    let ask = |call: &str, function: &Symbol<'_, Asked>| {
        let mut answer = 0;
        // SAFETY: the integer outlives the call, which writes it.
        match unsafe { function(&raw mut answer) } {
            0 => Ok(answer),
            code => Err(refused(call, code)),
        }
    };
    // SAFETY: to be called before all others, with 0.
    match unsafe { init(0) } {
        0 => {}
        NO_DEVICE => return Err(NoDevice::NoDevice { found: 0 }),
        code => return Err(refused("cuInit", code)),
    }
    let found = usize::try_from(ask("cuDeviceGetCount", &count)?).unwrap_or(0);
    if ordinal >= found {
        return Err(NoDevice::NoDevice { found });
    }
    let have = ask("cuDriverGetVersion", &version)?;
    if have < OLDEST_DRIVER {
        return Err(NoDevice::OldDriver { have, need: OLDEST_DRIVER });
    }
    usable(&DRIVER, || NoDevice::NoDriver)?;
    Ok(have)
}

fn usable(library: &Functions, absent: impl Fn() -> NoDevice) -> Result<(), NoDevice> {
    library.check().map_err(|unusable| match unusable {
        Unusable::Absent => absent(),
        Unusable::Lacks(function) => NoDevice::Broken { name: library.file, function },
    })
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
        let driver = DRIVER.library().is_some();
        assert_eq!(probe(0) == Err(NoDevice::NoDriver), !driver);
    }

    #[test]
    fn what_never_comes_back_is_no_answer() {
        let patience = Duration::from_millis(20);
        let forever = || {
            thread::sleep(Duration::from_secs(3600));
            Ok(())
        };
        let silent = Err(NoDevice::NoAnswer { seconds: 0 });
        assert_eq!(within(patience, forever), silent);
        assert_eq!(within(Duration::from_secs(60), || Ok(7)), Ok(7));
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
