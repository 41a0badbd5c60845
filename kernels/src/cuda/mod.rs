//! CUDA through `cudarc`, which loads every library at run time: this compiles and starts on any
//! machine. Behind the feature `cuda`.

mod probe;

pub use probe::{DeviceInfo, NoDevice, probe};
