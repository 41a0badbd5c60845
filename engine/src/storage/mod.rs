//! Where the numbers are: an enum of devices, each with its dtypes.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

pub use cpu::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
pub use cuda::{CudaStorage, CudaView};

use crate::{DType, Device, Error, Result};

/// The memory behind one or more tensors.
#[derive(Debug)]
pub enum Storage {
    /// Main memory.
    Cpu(CpuStorage),
    /// A CUDA device's memory.
    #[cfg(feature = "cuda")]
    Cuda(CudaStorage),
    /// No memory: a shape and a dtype, for dry runs.
    Meta(DType),
    /// No memory, and why: every op and every read returns the error.
    Refused(Box<Refused>),
}

/// A tensor's memory that there is not.
#[derive(Debug)]
pub struct Refused {
    /// Where it should have been.
    pub device: Device,
    /// Of what.
    pub dtype: DType,
    /// Why it is not there.
    pub error: Error,
}

impl Storage {
    /// The device.
    #[must_use]
    pub fn device(&self) -> Device {
        match self {
            Self::Cpu(_) => Device::Cpu,
            #[cfg(feature = "cuda")]
            Self::Cuda(s) => s.device(),
            Self::Meta(_) => Device::Meta,
            Self::Refused(refused) => refused.device,
        }
    }

    /// Whether it is there.
    ///
    /// # Errors
    /// Why it is not.
    pub fn made(&self) -> Result<()> {
        match self {
            Self::Refused(refused) => Err(refused.error.clone()),
            _ => Ok(()),
        }
    }

    /// The opened device of memory on one.
    #[cfg(feature = "cuda")]
    pub(crate) const fn gpu(&self) -> Option<&std::sync::Arc<kernels::cuda::Gpu>> {
        match self {
            Self::Cuda(s) => Some(s.gpu()),
            Self::Cpu(_) | Self::Meta(_) | Self::Refused(_) => None,
        }
    }

    /// The element type.
    #[must_use]
    pub const fn dtype(&self) -> DType {
        match self {
            Self::Cpu(s) => s.dtype(),
            #[cfg(feature = "cuda")]
            Self::Cuda(s) => s.dtype(),
            Self::Meta(dtype) => *dtype,
            Self::Refused(refused) => refused.dtype,
        }
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Cpu(s) => s.len() * s.dtype().bytes(),
            #[cfg(feature = "cuda")]
            Self::Cuda(s) => s.len() * s.dtype().bytes(),
            Self::Meta(_) | Self::Refused(_) => 0,
        }
    }
}
