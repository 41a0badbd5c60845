//! Memory of a CUDA device, and what a CUDA kernel gets to see of it.

use std::sync::Arc;

use kernels::cuda::memory::Buffer;
use kernels::cuda::{Gpu, Scalar, Slice, SliceMut, strided};

use super::CpuStorage;
use crate::dtype::for_element;
use crate::{DType, Device, Element, Layout, Number, Result};

/// A run of numbers in a CUDA device's memory.
#[derive(Debug)]
pub struct CudaStorage {
    gpu: Arc<Gpu>,
    buffer: Buffer,
    dtype: DType,
    len: usize,
}

impl CudaStorage {
    /// Memory whose contents are unspecified: a kernel writes every element.
    ///
    /// # Errors
    /// [`Error::Cuda`](crate::Error::Cuda) when the device has no memory left.
    pub fn unspecified(gpu: &Arc<Gpu>, dtype: DType, len: usize) -> Result<Self> {
        let buffer = gpu.memory().allocate(len * dtype.bytes())?;
        Ok(Self { gpu: Arc::clone(gpu), buffer, dtype, len })
    }

    /// The same number everywhere, rounded to the dtype.
    ///
    /// # Errors
    /// As [`CudaStorage::unspecified`].
    pub fn filled(gpu: &Arc<Gpu>, dtype: DType, len: usize, value: Number) -> Result<Self> {
        // Rounded once, here: the device gets a double, which holds all but large integers.
        let (rounded, exact) = for_element!(dtype, T => {
            let value = T::of_number(value);
            (value.to_f64(), <T as Element>::from_f64(value.to_f64()) == value || value.to_f64().is_nan())
        });
        if !exact {
            let mut cpu = CpuStorage::unspecified(dtype, len);
            for_element!(dtype, T => cpu.slice_mut::<T>().fill(T::of_number(value)));
            return Self::from_cpu(gpu, &cpu);
        }
        let mut storage = Self::unspecified(gpu, dtype, len)?;
        strided::fill(gpu, rounded, &storage.slice_mut())?;
        Ok(storage)
    }

    /// Numbers from main memory, copied.
    pub(crate) fn from_cpu(gpu: &Arc<Gpu>, cpu: &CpuStorage) -> Result<Self> {
        let buffer = match cpu {
            CpuStorage::F32(values) => gpu.write::<f32>(values),
            CpuStorage::F64(values) => gpu.write::<f64>(values),
            CpuStorage::I64(values) => gpu.write::<i64>(values),
            CpuStorage::F16(values) => gpu.write::<half::f16>(values),
            CpuStorage::BF16(values) => gpu.write::<half::bf16>(values),
        }?;
        Ok(Self { gpu: Arc::clone(gpu), buffer, dtype: cpu.dtype(), len: cpu.len() })
    }

    /// `len` elements from element `start` on, copied to main memory: the host waits.
    pub(crate) fn read<T: Element>(&self, start: usize, len: usize) -> Result<Vec<T>> {
        debug_assert_eq!(T::DTYPE, self.dtype, "checked by the caller");
        let mut values = crate::room::zeros::<T>("to_vec", len)?;
        self.gpu.read(&self.buffer, start * self.dtype.bytes(), &mut values)?;
        Ok(values)
    }

    /// The element type.
    #[must_use]
    pub const fn dtype(&self) -> DType {
        self.dtype
    }

    /// The number of elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The opened device.
    #[must_use]
    pub const fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// The device, as a value.
    #[must_use]
    pub fn device(&self) -> Device {
        Device::Cuda(self.gpu.info().ordinal)
    }

    /// All elements, to be read by a kernel.
    #[must_use]
    pub fn slice(&self) -> Slice<'_> {
        Slice::new(&self.buffer, scalar(self.dtype), 0, self.len)
    }

    /// All elements, to be written by a kernel.
    #[must_use]
    pub fn slice_mut(&mut self) -> SliceMut<'_> {
        SliceMut::new(&mut self.buffer, scalar(self.dtype), self.len)
    }
}

/// The kernels' name of a dtype.
pub(crate) const fn scalar(dtype: DType) -> Scalar {
    match dtype {
        DType::F32 => Scalar::F32,
        DType::F64 => Scalar::F64,
        DType::I64 => Scalar::I64,
        DType::F16 => Scalar::F16,
        DType::BF16 => Scalar::BF16,
    }
}

/// One input of an op on a CUDA device: storage and the layout of the tensor in it.
#[derive(Debug, Clone, Copy)]
pub struct CudaView<'a> {
    storage: &'a CudaStorage,
    layout: &'a Layout,
}

impl<'a> CudaView<'a> {
    pub(crate) const fn new(storage: &'a CudaStorage, layout: &'a Layout) -> Self {
        Self { storage, layout }
    }

    /// The opened device.
    #[must_use]
    pub const fn gpu(&self) -> &'a Arc<Gpu> {
        &self.storage.gpu
    }

    /// The element type.
    #[must_use]
    pub const fn dtype(&self) -> DType {
        self.storage.dtype
    }

    /// Shape, strides, offset.
    #[must_use]
    pub const fn layout(&self) -> &'a Layout {
        self.layout
    }

    /// The sizes.
    #[must_use]
    pub fn shape(&self) -> &'a [usize] {
        self.layout.shape()
    }

    /// The tensor's elements in row-major order. Only for ops that do not take strides.
    ///
    /// # Panics
    /// When the view is not contiguous: a bug of ours.
    #[must_use]
    pub fn slice(&self) -> Slice<'a> {
        assert!(
            self.layout.is_contiguous(),
            "a kernel asked for a contiguous slice of a strided view"
        );
        self.storage.slice().part(self.layout.offset(), self.layout.shape().numel())
    }

    /// The storage from the layout's offset on, to be read through its strides.
    #[must_use]
    pub fn strided(&self) -> Slice<'a> {
        let offset = self.layout.offset().min(self.storage.len);
        self.storage.slice().part(offset, self.storage.len - offset)
    }
}
