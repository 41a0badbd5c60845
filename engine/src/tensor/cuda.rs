//! What a kernel on a CUDA device gets to see of a tensor.

use std::sync::Arc;

use kernels::cuda::{Gpu, Slice, SliceMut, strided};

use super::Tensor;
use crate::storage::CudaStorage;
use crate::{Error, Result, Storage};

impl Tensor {
    /// The CUDA device that the elements are on, opened; `None` for those elsewhere.
    #[must_use]
    pub fn gpu(&self) -> Option<&Arc<Gpu>> {
        self.cuda().map(CudaStorage::gpu)
    }

    /// The elements, to be read by a kernel, if they are on a CUDA device and lie contiguously.
    #[must_use]
    pub fn cuda_slice(&self) -> Option<Slice<'_>> {
        let storage = self.cuda().filter(|_| self.layout().is_contiguous())?;
        Some(storage.slice().part(self.layout().offset(), self.numel()))
    }

    /// The elements, to be written in place by a kernel. If the memory is shared or strided it is copied
    /// first, on the device, so no other tensor changes.
    ///
    /// # Errors
    /// [`Error::NoKernel`] for elements elsewhere; [`Error::Cuda`] when the device has no memory left.
    pub fn make_cuda_mut(&mut self) -> Result<SliceMut<'_>> {
        self.storage().made()?;
        let elsewhere = Error::NoKernel { op: "make_cuda_mut", device: self.device() };
        let whole = self.layout().is_contiguous()
            && self.numel() * self.dtype().bytes() == self.storage().bytes();
        if !whole || Arc::get_mut(&mut self.storage).is_none() {
            let plain = crate::op::contiguous(self)?;
            let (Some(gpu), Some(from)) = (plain.gpu(), plain.cuda_slice()) else {
                return Err(elsewhere);
            };
            let mut copy = CudaStorage::unspecified(gpu, plain.dtype(), plain.numel())?;
            strided::copy(gpu, &[plain.numel()], &[1], from, &copy.slice_mut())?;
            *self = Self::from_cuda(copy, *self.shape());
        }
        match self.storage_mut() {
            Some(Storage::Cuda(storage)) => Ok(storage.slice_mut()),
            _ => Err(elsewhere),
        }
    }

    fn cuda(&self) -> Option<&CudaStorage> {
        match self.storage() {
            Storage::Cuda(storage) => Some(storage),
            Storage::Cpu(_) | Storage::Meta(_) | Storage::Refused(_) => None,
        }
    }
}
