//! `Device`: where a tensor's numbers live.

use std::fmt;

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

#[cfg(test)]
mod tests {
    use super::*;

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
