//! `Device`: where a tensor's numbers live.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// Where a tensor lives. Ops run where their inputs are; nothing moves by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Device {
    /// Main memory.
    Cpu,
    /// The `n`-th CUDA device.
    Cuda(usize),
    /// Nowhere: a tensor with shape and dtype but no numbers. Ops on such tensors check
    /// everything and compute only shapes: a dry run of a model.
    Meta,
}

impl Device {
    /// The `ordinal`-th CUDA device, opened, if it can be used.
    ///
    /// # Errors
    /// [`Error::NoDevice`] with the reason: built without the `cuda` feature, no driver, no
    /// device, a driver that is too old, or a library that is missing.
    pub fn cuda(ordinal: usize) -> Result<Self> {
        open(ordinal).map(|_| Self::Cuda(ordinal))
    }

    /// The fastest device of this machine that Alcyon can use.
    #[must_use]
    pub fn best() -> Self {
        Self::cuda(0).unwrap_or(Self::Cpu)
    }

    /// The same device, opened if it needs to be: a program says at its start what it cannot have.
    ///
    /// # Errors
    /// As [`Device::cuda`].
    pub fn open(self) -> Result<Self> {
        match self {
            Self::Cuda(ordinal) => Self::cuda(ordinal),
            Self::Cpu | Self::Meta => Ok(self),
        }
    }

    /// Whether products of f32 on this device may round their operands to TF32's 10 bits of mantissa, which
    /// tensor cores multiply several times as fast. Off at first: the device agrees with the CPU. It holds
    /// for the whole process from now on; elsewhere than on a CUDA device there is nothing to allow.
    ///
    /// # Errors
    /// [`Error::NoDevice`] as [`Device::open`].
    pub fn allow_tf32(self, allowed: bool) -> Result<()> {
        #[cfg(feature = "cuda")]
        if let Self::Cuda(ordinal) = self {
            open(ordinal)?.allow_tf32(allowed);
        }
        let _ = allowed;
        self.open().map(drop)
    }

    /// Waits until the device has done all that was asked of it: before a clock is read. The CPU has
    /// nothing to wait for.
    ///
    /// # Errors
    /// [`Error::NoDevice`] as [`Device::open`]; [`Error::Cuda`] for a failure of what was queued.
    pub fn synchronize(self) -> Result<()> {
        #[cfg(feature = "cuda")]
        if let Self::Cuda(ordinal) = self {
            open(ordinal)?.synchronize()?;
        }
        self.open().map(drop)
    }
}

#[cfg(not(feature = "cuda"))]
fn open(ordinal: usize) -> Result<()> {
    Err(Error::NoDevice { ordinal, reason: "built without the `cuda` feature".into() })
}

/// The opened device behind [`Device::Cuda`].
#[cfg(feature = "cuda")]
pub(crate) fn open(ordinal: usize) -> Result<std::sync::Arc<kernels::cuda::Gpu>> {
    kernels::cuda::Gpu::open(ordinal)
        .map_err(|reason| Error::NoDevice { ordinal, reason: reason.to_string() })
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.pad("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
            Self::Meta => f.pad("meta"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    /// `cpu`, `cuda` (the first one), `cuda:N` or `meta`, as [`Device`] is displayed. Only read: whether it
    /// is there, [`Device::open`] says.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Device;
    /// assert_eq!("cuda:1".parse::<Device>()?, Device::Cuda(1));
    /// assert!("gpu".parse::<Device>().is_err());
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    fn from_str(text: &str) -> Result<Self> {
        let ordinal = |n: &str| n.bytes().all(|b| b.is_ascii_digit()).then(|| n.parse().ok())?;
        let device = match text {
            "cpu" => Some(Self::Cpu),
            "meta" => Some(Self::Meta),
            "cuda" => Some(Self::Cuda(0)),
            _ => text.strip_prefix("cuda:").and_then(ordinal).map(Self::Cuda),
        };
        let (op, name, expected) = ("device", "name", "cpu, cuda or cuda:N");
        device.ok_or_else(|| Error::Argument { op, name, expected, got: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_read_as_it_is_written_and_nothing_else_is_read() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(12), Device::Meta] {
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
        }
        assert_eq!("cuda".parse::<Device>().unwrap(), Device::Cuda(0));
        for wrong in [
            "",
            "gpu",
            "CPU",
            "cuda:",
            "cuda:+1",
            "cuda:-1",
            "cuda:1 ",
            "cuda:99999999999999999999",
        ] {
            let answer = wrong.parse::<Device>();
            assert!(matches!(&answer, Err(Error::Argument { got, .. }) if got == wrong), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_there_cannot_be_opened_nor_waited_for() {
        assert_eq!(Device::Cpu.open().unwrap(), Device::Cpu);
        Device::Cpu.synchronize().unwrap();
        let nowhere = Device::Cuda(1_000_000);
        assert!(matches!(nowhere.open(), Err(Error::NoDevice { ordinal: 1_000_000, .. })));
        assert!(nowhere.synchronize().unwrap_err().asked_wrongly());
    }

    #[test]
    fn a_cuda_device_that_cannot_be_used_says_why_and_the_cpu_is_best() {
        match Device::cuda(0) {
            Ok(device) => assert_eq!((device, Device::best()), (Device::Cuda(0), device)),
            Err(reason) => {
                let text = reason.to_string();
                assert!(text.starts_with("no device cuda:0: "), "{text}");
                assert_eq!(Device::best(), Device::Cpu);
            }
        }
    }
}
