//! Where the numbers are: an enum of devices, each with its dtypes.

mod cpu;

pub use cpu::{CpuStorage, CpuView};

use crate::{DType, Device};

/// The memory behind one or more tensors.
#[derive(Debug, Clone)]
pub enum Storage {
    /// Main memory.
    Cpu(CpuStorage),
    /// No memory: a shape and a dtype, for dry runs.
    Meta(DType),
}

impl Storage {
    /// The device.
    #[must_use]
    pub const fn device(&self) -> Device {
        match self {
            Self::Cpu(_) => Device::Cpu,
            Self::Meta(_) => Device::Meta,
        }
    }

    /// The element type.
    #[must_use]
    pub const fn dtype(&self) -> DType {
        match self {
            Self::Cpu(s) => s.dtype(),
            Self::Meta(dtype) => *dtype,
        }
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Cpu(s) => s.len() * s.dtype().bytes(),
            Self::Meta(_) => 0,
        }
    }
}
