//! Moving a tensor to another device.

use super::Tensor;
#[cfg(feature = "cuda")]
use crate::dtype::for_element;
use crate::{Device, Error, Result, Storage};

impl Tensor {
    /// The same numbers on another device; the tensor itself if it is there. Nothing moves by
    /// itself: to read from a GPU, the host waits.
    ///
    /// # Errors
    /// [`Error::NoDevice`] for a device that cannot be used, [`Error::NoKernel`] for a tensor without
    /// numbers (meta device).
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0_f32, 2.0], [2])?;
    /// assert_eq!(x.to_device(Device::Cpu)?.to_vec::<f32>()?, [1.0, 2.0]);
    /// assert_eq!(x.to_device(Device::Meta)?.shape(), x.shape());
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn to_device(&self, device: Device) -> Result<Self> {
        self.storage().made()?;
        if self.device() == device {
            return Ok(self.clone());
        }
        match (self.storage(), device) {
            (_, Device::Meta) => Ok(Self::meta(self.shape(), self.dtype())),
            (Storage::Meta(_), _) => Err(Error::NoKernel { op: "to_device", device: Device::Meta }),
            #[cfg(feature = "cuda")]
            (Storage::Cuda(_), _) => self.copied()?.to_device(device),
            #[cfg(feature = "cuda")]
            (Storage::Cpu(_), Device::Cuda(ordinal)) => self.on_gpu(ordinal),
            #[cfg(not(feature = "cuda"))]
            (Storage::Cpu(_), Device::Cuda(ordinal)) => {
                Device::cuda(ordinal).and_then(|device| self.to_device(device))
            }
            (Storage::Cpu(_) | Storage::Refused(_), _) => Ok(self.clone()),
        }
    }

    /// A copy in main memory, without gaps.
    #[cfg(feature = "cuda")]
    fn copied(&self) -> Result<Self> {
        for_element!(self.dtype(), T => Self::from_vec(self.to_vec::<T>()?, self.shape()))
    }

    #[cfg(feature = "cuda")]
    fn on_gpu(&self, ordinal: usize) -> Result<Self> {
        let gpu = crate::device::open(ordinal)?;
        // A view would bring its whole storage along.
        let whole = self.layout().is_contiguous()
            && self.numel() * self.dtype().bytes() == self.storage().bytes();
        let plain = if whole { self.clone() } else { self.copied()? };
        match plain.storage() {
            Storage::Cpu(cpu) => {
                let storage = crate::storage::CudaStorage::from_cpu(&gpu, cpu)?;
                Ok(Self::from_cuda(storage, *self.shape()))
            }
            Storage::Cuda(_) | Storage::Meta(_) | Storage::Refused(_) => Ok(plain),
        }
    }
}
